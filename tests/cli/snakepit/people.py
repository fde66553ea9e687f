"""What a pit answers of accounts and groups: a few are there, and what is to be changed is kept."""

import json
from typing import Any
from urllib.parse import unquote

from pfs.errors import Kind, PfsError

ACCOUNTS, GROUPS, TOKENS = "/api/v1/accounts", "/api/v1/groups", "/api/v1/nodes/tokens"
OWN_PASSWORD = "correct horse battery staple"


def account(name: str, fullname: str | None = None, *, admin: bool = False, **more: Any) -> dict[str, Any]:
    told = {"id": name, "fullname": fullname, "email": None, "groups": [], "autoshare": [], "admin": admin}
    return told | more


class People:
    """Answers as the doors do, for tilman, an administrator."""

    def __init__(self) -> None:
        own = {"email": "t@example.org", "groups": ["a", "b"], "autoshare": ["a"], "admin": True}
        self.accounts = {"tilman": account("tilman", "Tilman Kamp", **own), "ann": account("ann")}
        titles = {"a": "All", "b": None}
        self.groups = {name: {"id": name, "title": title, "members": ["tilman"]} for name, title in titles.items()}

    def answers(self, url: str) -> bool:
        return url.startswith((ACCOUNTS, GROUPS, TOKENS))

    def call(self, method: str, url: str, content: bytes) -> tuple[Any, str]:
        """Return the answer, and what is to be kept of the question; "" for nothing."""
        said = json.loads(content) if content else {}
        path = [unquote(part) for part in url.removeprefix("/api/v1/").split("/")]
        if "verification" in said and said["verification"] != OWN_PASSWORD:
            raise PfsError(Kind.DENIED, "this is not your own password; nothing was changed")
        asked = "" if method == "GET" else f"{method} {json.dumps(said)}"
        if method == "PUT" and len(path) == 2 and path[1] in self.accounts:
            raise PfsError(Kind.EXISTS, f"there is a user {path[1]!r} already")
        if method == "PUT" or path == ["nodes", "tokens"]:
            return {"token": "pfs1.join"}, asked
        if len(path) == 1:
            listed = {"accounts": list(self.accounts.values()), "groups": list(self.groups)}
            return {path[0]: listed[path[0]]}, asked
        known = self.accounts if path[0] == "accounts" else self.groups
        name = "tilman" if path[1] == "~" else path[1]
        if name not in known:
            raise PfsError(Kind.NOT_FOUND, f"there is no {path[0].rstrip('s')} {name!r}")
        return known[name], asked
