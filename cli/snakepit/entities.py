"""What commands are about: `user:ann`, `group:ml`, `node:n0`, `node:n0:1`, `job:17`, `alias:gtx1070`, `shared`, `home`.

`me` and `~` are whoever asks, and a number alone is a job. `home` and `shared` are places: only commands for files take
them, so that nobody's account is meant by a word for files. Whether there is what was named is the server's to say.
"""

import re
from dataclasses import dataclass

from pfs.errors import Kind, PfsError
from pfs.names import check_group_name, check_user_name

KINDS = ("user", "group", "node", "job", "alias")
OWN = ("me", "~")
SELF = "~"


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing.

    Attributes:
        kind: one of `KINDS`, or `shared`.
        name: "" of what there is only one of; `SELF` is the user who asks.
        index: of a GPU of a node.
    """

    kind: str
    name: str = ""
    index: str | None = None


def parse(text: str) -> Entity:
    """Return what somebody named.

    Raises:
        PfsError: INVALID for what is no entity.
    """
    if text in OWN:
        return Entity("user", SELF)
    if text.isascii() and text.isdigit():
        return Entity("job", checked_name("job", text))
    kind, colon, rest = text.partition(":")
    if kind not in KINDS or not colon:
        raise PfsError(Kind.INVALID, f'Unsupported entity type "{kind}"')
    name, colon, index = rest.partition(":")
    if kind == "user" and name in OWN:
        name = SELF
    return Entity(kind, checked_name(kind, name), _index(kind, index) if colon else None)


def parse_place(text: str) -> Entity:
    """Return what somebody named as the place of files.

    Raises:
        PfsError: INVALID for what is none.
    """
    if text == "home":
        return Entity("user", SELF)
    return Entity("shared") if text == "shared" else parse(text)


def job_number(text: str) -> str:
    """Return the number of a job, also of one that is named as an entity.

    Raises:
        PfsError: INVALID.
    """
    return checked_name("job", text.removeprefix("job:"))


def folder_of(text: str) -> str:
    """Return the folder of the tree with the files of an entity.

    Raises:
        PfsError: INVALID for what is no entity, or one that has no files.
    """
    entity = parse_place(text)
    if entity.index is not None:
        raise PfsError(Kind.INVALID, f"Indices not allowed for {entity.kind} entities")
    match entity.kind:
        case "user":
            return f"home/{'me' if entity.name == SELF else entity.name}"
        case "group":
            return f"groups/{entity.name}"
        case "job":
            return f"jobs/{entity.name}"
        case "shared":
            return "shared"
    raise PfsError(Kind.INVALID, f'Unsupported entity type "{entity.kind}"')


def named(path: str, user: str) -> str:
    """Return a path of the tree with the name of the user who asks, for where the link from `me` is not followed."""
    return re.sub("^home/me(?=/|$)", f"home/{user}", path)


def checked_name(kind: str, name: str) -> str:
    """Return a name if something of its kind can be called that at all.

    Raises:
        PfsError: INVALID.
    """
    right = bool(re.fullmatch("[1-9][0-9]{0,17}", name)) if kind == "job" else bool(re.fullmatch(r"[^/\0]+", name))
    checks = {"user": check_user_name, "group": check_group_name}
    try:
        if kind in checks and name != SELF:
            checks[kind](name)
    except PfsError:
        right = False
    if not right or name in (".", ".."):
        raise PfsError(Kind.INVALID, f"Wrong {kind} id format")
    return name


def _index(kind: str, index: str) -> str:
    if kind != "node":
        raise PfsError(Kind.INVALID, f"Indices not allowed for {kind} entities")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", index):
        raise PfsError(Kind.INVALID, "Wrong resource index format")
    return index
