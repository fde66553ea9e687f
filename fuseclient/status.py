"""What a mount says of itself, and how that travels: as JSON in an extended attribute of the mount's root.

`ATTRIBUTE` is answered by the mount and never asked of a server; it is not listed either, so that no program copies it.
"""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, TypeVar

from pfs.errors import Kind, PfsError

ATTRIBUTE = "user.pfs.status"
T = TypeVar("T")
_KINDS: dict[Any, tuple[type, ...]] = {
    **{kind: (kind,) for kind in (int, str, bool)},
    float: (int, float),
    list[str]: (list,),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """How often copies answered.

    Attributes:
        hits: without the server.
        asked: in all.
    """

    hits: int
    asked: int


@dataclass(frozen=True, slots=True)
class Server:
    """One datacenter.

    Attributes:
        url: where its server is.
        connected: whether there is a connection now.
        since_s: for how many seconds that has been so.
        leases: nodes whose copies hold until the server takes them back.
        attributes, listings, contents: how often copies answered; see `fuseclient.counters`.
        fetched_bytes, sent_bytes: contents that came from the server, and that it has confirmed.
        waiting_bytes: what programs have written and the server has not confirmed.
        waiting_operations: changes that the server has not confirmed; a file that is being written is one.
        refused: what the server did not take of what was promised by --write-behind, and why; the first few.
        conflicts: how often that was kept beside what somebody else had put there.
    """

    url: str
    connected: bool
    since_s: float
    leases: int
    attributes: Rate
    listings: Rate
    contents: Rate
    fetched_bytes: int
    sent_bytes: int
    waiting_bytes: int
    waiting_operations: int
    refused: list[str] = field(default_factory=list)
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is kept on the local disk; bytes are room there."""

    rate: Rate
    held_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """One mount.

    Attributes:
        version: of the program that serves it.
        pid: its process.
        mounted_s: for how many seconds it has been there.
        options: how it was mounted, as behind `-o`.
        open_files: files and directories that programs have open.
        inodes: what the kernel knows.
        read_bytes, written_bytes: what went through the mount; see `fuseclient.counters.Traffic`.
        servers: by the name of the datacenter.
        blocks: None where nothing is kept on the local disk.
    """

    version: str
    pid: int
    mounted_s: float
    options: str
    open_files: int
    inodes: int
    read_bytes: int
    written_bytes: int
    servers: dict[str, Server]
    blocks: Blocks | None

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what was encoded.

        Raises:
            PfsError: INVALID for what is no status, such as that of a mount of another version.
        """
        try:
            found = json.loads(data)
            servers = {str(name): _server(each) for name, each in found.pop("servers").items()}
            blocks = found.pop("blocks")
            return _checked(cls(servers=servers, blocks=None if blocks is None else _blocks(blocks), **found))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise PfsError(Kind.INVALID, "its status is not understood: is it served by another version?") from None


def _server(found: dict[str, Any]) -> Server:
    rates: dict[str, Any] = {name: _checked(Rate(**found.pop(name))) for name in ("attributes", "listings", "contents")}
    return _checked(Server(**rates, **found))


def _blocks(found: dict[str, Any]) -> Blocks:
    return _checked(Blocks(_checked(Rate(**found.pop("rate"))), **found))


def _checked(made: T) -> T:
    """Return what was made of an answer if its words and numbers are some: the mount may be anybody's."""
    for each in fields(made):  # type: ignore[arg-type]
        value = getattr(made, each.name)
        if each.type in _KINDS and type(value) not in _KINDS[each.type]:
            raise TypeError(each.name)
        if isinstance(value, int | float) and not math.isfinite(value):
            raise ValueError(each.name)
        if isinstance(value, list) and not all(isinstance(word, str) for word in value):
            raise TypeError(each.name)
    return made
