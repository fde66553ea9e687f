"""`pit add`, `remove`, `set`, `get`, `add-group`, `remove-group` and `passwd`: what users and administrators decide.

    user, group     doors of the server (`pfs.server.administering`)
    alias           aliases/<alias>: its text is the model of GPUs
    node            nodes/<node>/ctl: for which groups it is; a machine joins by itself, with a token of the server's
    job             jobs/<id>/ctl: with which groups it is shared

What a command needs and nobody said is asked for. Who changes a password, or makes an administrator, is asked for
their own, where they have not said it before; who removes their own account is asked whether they mean that. The words
are those of Snakepit's client; what it did right prints nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from cli.snakepit import show
from cli.snakepit.asking import ask
from cli.snakepit.connection import new_email, new_password
from cli.snakepit.entities import SELF, Entity, checked_name, parse
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit

NODE_TOKENS_URL = "/api/v1/nodes/tokens"
NEW = {"user": ("fullname", "email", "password", "admin"), "group": ("title",), "alias": ("name",), "node": ()}
SET = {"user": (*NEW["user"], "autoshare"), "group": ("title",), "alias": ("name",)}
REMOVED = ("user", "group", "node", "job", "alias")
SHARED = ("user", "node", "job")
ANSWERS = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
NOT_THERE = "no such file or directory"
JOINING = """\
Run this on the machine that shall be the node {name}, as root and within an hour:

    gradient-node --apiKey {token} --name {name}
"""
LEAVING = "Do you want to remove your own account, and end your jobs (yN)? "

Properties = dict[str, Any]


# ---- commands


def add(client: "Pit", text: str, words: Sequence[str]) -> None:
    """Let there be a user, a group, an alias, or, once its machine has joined, a node.

    Raises:
        PfsError: INVALID for what cannot be, EXISTS for what is there, DENIED for who is no administrator.
    """
    kind = text.partition(":")[0]
    if kind not in NEW:
        raise PfsError(Kind.INVALID, f'Unknown entity type "{kind}"')
    entity, said = _whole(text), _properties(kind, words, NEW)
    adders = {"user": _add_user, "group": _add_group, "alias": _add_alias, "node": _add_node}
    adders[kind](client, entity.name, said)


def remove(client: "Pit", text: str) -> None:
    """Let a user, a group, an alias, a node that is away, or a job that is over, be gone.

    Raises:
        PfsError: NOT_FOUND, BUSY for what is needed still, DENIED for who may not.
        SystemExit: somebody does not want to remove themselves after all.
    """
    entity = _whole(text)
    _check_kind(entity, REMOVED)
    try:
        if entity.kind == "user" and entity.name in (SELF, client.who.name):
            _check_meant(client, entity)
        if entity.kind in show.URLS:
            client.call("DELETE", show.url_of(entity), b"")
        else:
            client.remove(f"{show.FOLDERS[entity.kind]}/{entity.name}")
    except PfsError as error:
        if entity.kind == "job" and error.kind is Kind.BUSY:
            raise PfsError(error.kind, "Only stopped jobs can be deleted") from None
        raise _named(entity, error) from None


def change(client: "Pit", text: str, words: Sequence[str]) -> None:
    """Let a user, a group or an alias have other properties.

    Raises:
        PfsError: NOT_FOUND, INVALID for what cannot be, DENIED for who may not.
    """
    entity = _whole(text)
    _check_kind(entity, SET)
    said = _properties(entity.kind, words, SET)
    if not said:
        raise PfsError(Kind.INVALID, f"which properties? {_offered(entity.kind, SET)}")
    try:
        if entity.kind == "alias":
            if entity.name not in show.names(client, "aliases"):
                raise show.missing("alias")
            _write_alias(client, entity.name, said["name"])
        else:
            _send(client, "POST", show.url_of(entity), said)
    except PfsError as error:
        raise _named(entity, error) from None


def get(client: "Pit", text: str, name: str) -> str:
    """Return a property of an entity as text, as programs want it: one that is no text in JSON.

    Raises:
        PfsError: NOT_FOUND, INVALID for what is no entity.
    """
    _, told = show.read(client, text)
    if name not in told:
        return "undefined"
    value = told[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def let_in(client: "Pit", text: str, group: str) -> None:
    """Let a user be in a group, let a node or a GPU be for it, or let its members see a job.

    Raises:
        PfsError: NOT_FOUND, INVALID for a group that cannot be, DENIED for who may not.
    """
    _regroup(client, parse(text), group, "PUT", {"node": "reserve", "job": "share"})


def let_out(client: "Pit", text: str, group: str) -> None:
    """Take back what `let_in` did."""
    _regroup(client, parse(text), group, "DELETE", {"node": "unreserve", "job": "unshare"})


def change_password(client: "Pit", name: str | None) -> None:
    """Ask for one's own password, and for another one: for oneself, or as an administrator for somebody else.

    Raises:
        PfsError: DENIED when the password is not one's own, or for who may not, NOT_FOUND.
    """
    entity = Entity("user", SELF) if name is None else _whole(f"user:{name}")
    _check_private(client)
    try:
        client.call("GET", show.url_of(entity), b"")  # who is not there, or away, is told of before anything is asked
        own = client.own_password()
        new = new_password(client.who.name if entity.name == SELF else entity.name)
        _call(client, "POST", show.url_of(entity), {"password": new, "verification": own})
    except PfsError as error:
        raise _named(entity, error) from None


def _check_meant(client: "Pit", own: Entity) -> None:
    client.call("GET", show.url_of(own), b"")  # a server that is away is told of before anything is asked
    if ask(LEAVING).strip().lower() not in ("yes", "y"):
        raise SystemExit(0)


# ---- what is made


def _add_user(client: "Pit", name: str, said: Properties) -> None:
    _check_private(client)
    if name in show.names(client, "users"):  # before anything is asked: a server that is away is told of by this, too
        raise PfsError(Kind.EXISTS, "User already existing")
    if "fullname" not in said:
        said["fullname"] = ask("Full name: ").strip()
    if "email" not in said:
        said["email"] = new_email()
    if "password" not in said:
        said["password"] = new_password(name)
    _send(client, "PUT", show.url_of(Entity("user", name)), said, is_new=True)


def _add_group(client: "Pit", name: str, said: Properties) -> None:
    if "title" not in said:
        show.names(client, "groups")  # a server that is away is told of before anything is asked
    title = said["title"] if "title" in said else ask("Group title: ").strip()
    _call(client, "PUT", show.url_of(Entity("group", name)), {"title": title})


def _add_alias(client: "Pit", name: str, said: Properties) -> None:
    if name in show.names(client, "aliases"):
        raise PfsError(Kind.EXISTS, f"there is an alias {name!r} already; change it with: pit set alias:{name} name=…")
    _write_alias(client, name, said["name"] if "name" in said else ask("Exact resource name: ").strip())


def _add_node(client: "Pit", name: str, said: Properties) -> None:
    if name in show.names(client, "nodes"):
        raise PfsError(Kind.EXISTS, "Node with same id already registered")
    made = _call(client, "POST", NODE_TOKENS_URL, {"node": name})
    click.echo(JOINING.format(name=name, token=made["token"]), nl=False)


def _write_alias(client: "Pit", name: str, model: str) -> None:
    client.write(f"aliases/{name}", f"{model}\n".encode())


# ---- groups


def _regroup(client: "Pit", entity: Entity, group: str, method: str, words: Mapping[str, str]) -> None:
    _check_kind(entity, SHARED)
    if entity.index is not None and entity.kind != "node":
        raise PfsError(Kind.INVALID, f"Indices not allowed for {entity.kind} entities")
    checked_name("group", group)
    try:
        if entity.kind == "user":
            user = client.who.name if entity.name == SELF else entity.name
            url = f"{show.url_of(Entity('group', group))}/members/{quote(user, safe='')}"
            client.call(method, url, b"")
        else:
            line = " ".join([words[entity.kind], group, *([] if entity.index is None else [entity.index])])
            client.write(f"{show.FOLDERS[entity.kind]}/{entity.name}/ctl", f"{line}\n".encode())
    except PfsError as error:
        # of a group that is not there, or that somebody is not in, the server tells itself
        is_entity = error.message == NOT_THERE if entity.kind != "user" else method == "PUT"
        raise (_named(entity, error) if is_entity else error) from None


# ---- what is said


def _whole(text: str) -> Entity:
    """Return an entity of which no part is named."""
    entity = parse(text)
    if entity.index is not None:
        raise PfsError(Kind.INVALID, f"Indices not allowed for {entity.kind} entities")
    return entity


def _check_kind(entity: Entity, kinds: Sequence[str] | Mapping[str, object]) -> None:
    if entity.kind not in kinds:
        raise PfsError(Kind.INVALID, f'Unsupported entity type "{entity.kind}"')


def _properties(kind: str, words: Sequence[str], known: Mapping[str, Sequence[str]]) -> Properties:
    """Return what `name=value` words say; a value is all that is behind the first `=`."""
    readers: dict[str, Callable[[str], object]] = {"admin": _answer, "autoshare": _list}
    said: Properties = {}
    for word in words:
        name, is_said, value = word.partition("=")
        if not is_said:
            raise PfsError(Kind.INVALID, f'"{word}" is no assignment; write it as name=value')
        if name not in known[kind]:
            raise PfsError(Kind.INVALID, f'Unknown property "{name}" of {kind} entities; {_offered(kind, known)}')
        said[name] = readers.get(name, str)(value)
    return said


def _offered(kind: str, known: Mapping[str, Sequence[str]]) -> str:
    return f"there are: {', '.join(known[kind])}" if known[kind] else "there are none"


def _answer(text: str) -> bool:
    if text.lower() not in ANSWERS:
        raise PfsError(Kind.INVALID, f'admin is yes or no, and not "{text}"')
    return ANSWERS[text.lower()]


def _list(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


# ---- what is sent


def _send(client: "Pit", method: str, url: str, said: Properties, *, is_new: bool = False) -> None:
    """Send what is said of an account or a group, with one's own password where that is needed."""
    if said.get("admin") or ("password" in said and not is_new):
        _check_private(client)
        if not is_new:
            client.call("GET", url, b"")
        said["verification"] = client.own_password()
    _call(client, method, url, said)


def _call(client: "Pit", method: str, url: str, said: Mapping[str, object]) -> Any:
    return client.call(method, url, json.dumps(said).encode())


def _check_private(client: "Pit") -> None:
    from cli.sdk.reaching import check_private

    check_private(client.where.endpoint)


def _named(entity: Entity, error: PfsError) -> PfsError:
    return show.missing(entity.kind) if error.kind is Kind.NOT_FOUND else error
