"""Folders of a datacenter, each asked for as a whole: what is below them, files in, and files out."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from cli.files.plan import Node, is_own
from pfs.client.http11 import Body, Told
from pfs.errors import Kind, PfsError
from pfs.path import split
from pfs.protocol.parcels import FOLDER, Parcel, Row, Unpacker, Verb, pack, unpack_row
from pfs.protocol.wire import BELOW_PATH, CONTENTS_PATH, RANGES_PATH, SUMS_PATH, decode_error

BODY_BYTES = 256 * 1024  # parcels are put together up to that before they are sent
NAMES_BYTES_MAX = 512 * 1024  # of one request for files
NAMES_MAX = 4096


class Client(Protocol):
    """Whom the folders are asked of (`pfs.client.web.WebClient`)."""

    def read(self, path: str) -> bytes: ...

    def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any: ...

    def answered(
        self, method: str, url: str, content: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Iterator[bytes]]: ...


def _url(top: str, path: str, **said: int) -> str:
    return f"{top}/{quote(path, errors='surrogateescape')}{'?' if said else ''}{urlencode(said)}"


# ---- what there is


def look(client: Client, path: str) -> Node | None:
    """Return what stands at a path; None for nothing."""
    return below(client, path, deep=0)[0]


def below(client: Client, path: str, **said: int) -> tuple[Node | None, dict[str, Node]]:
    """Return what stands at a path, None for nothing, and what is below it, with what helps copying."""
    try:
        rows = list(_rows(client, _url(BELOW_PATH, path, **said)))
    except PfsError as error:
        if error.kind in (Kind.NOT_FOUND, Kind.NOT_DIR):
            return None, {}
        raise
    found: dict[str, Node] = {}
    for row in rows:
        parent = found.get(row.path.rpartition("/")[0])
        if row.path in found or (row.path and (parent is None or parent.kind != FOLDER)):
            raise PfsError(Kind.INVALID, f"the server lists {row.path!r} where it cannot be")
        found[row.path] = Node(row.kind, row.size, row.mtime_ns, row.mode, row.target)
    top = found.pop("", None)
    return top, found


def _rows(client: Client, url: str) -> Iterator[Row]:
    rest = b""
    with client.answered("GET", url) as pieces:
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                row = unpack_row(line)
                split(row.path)  # what a server says names nothing outside of the folder
                yield row
    if rest:
        raise PfsError(Kind.UNREACHABLE, "the listing of the server ends in the middle of a line")


def copied(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Return those of these that are part of a folder, and do not only help copying."""
    return {path: node for path, node in nodes.items() if not is_own(path.rpartition("/")[2])}


# ---- files in


def send(client: Client, path: str, parcels: Iterable[tuple[Parcel, bytes]]) -> list[PfsError]:
    """Send parcels for what is below a path; return what was refused, each with its path."""
    answer = client.call("POST", _url(BELOW_PATH, path), _packed(parcels))
    try:
        refused, failed = int(answer["refused"]), [decode_error(each) for each in answer["failed"]]
    except (KeyError, TypeError, ValueError):
        raise PfsError(Kind.UNSUPPORTED, "this server takes no folders; ask for a newer one") from None
    if refused > len(failed):
        failed.append(PfsError(Kind.IO, f"and {refused - len(failed)} more that the server refused"))
    return failed


def _packed(parcels: Iterable[tuple[Parcel, bytes]]) -> Iterator[bytes]:
    buffer = bytearray()
    for parcel, data in parcels:
        buffer += pack(parcel)
        buffer += data
        if len(buffer) >= BODY_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def send_rest(client: Client, path: str, offset: int, size: int, pieces: Iterable[bytes]) -> None:
    """Let the file at a path, made where it is not there, have these bytes from an offset on, and no others behind."""
    answer = client.call("PUT", _url(RANGES_PATH, path, offset=offset), Told(size, pieces))
    if not isinstance(answer, dict) or answer.get("size") != offset + size:
        raise PfsError(Kind.IO, "the server did not keep all that it was sent", path)


# ---- files out


def fetch(client: Client, path: str, names: Iterable[str]) -> Iterator[tuple[str, Node, bytes]]:
    """Yield small files below a path, in any order; those that cannot be had like that are left out."""
    for group in _groups(names):
        asked, unpacker = set(group), Unpacker()
        body = json.dumps({"names": group}, separators=(",", ":")).encode()
        with client.answered("POST", _url(CONTENTS_PATH, path), body) as pieces:
            for piece in pieces:
                for parcel, data in unpacker.feed(piece):
                    if parcel.verb is not Verb.FILE or parcel.path not in asked:
                        raise PfsError(Kind.INVALID, f"the server sends {parcel.path!r}, which was not asked for")
                    asked.remove(parcel.path)
                    yield parcel.path, Node("f", len(data), parcel.mtime_ns or 0, parcel.mode), data
        unpacker.end()


def _groups(names: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name in names:
        size += 6 * len(name) + 3  # at most, as JSON has it
        if group and (size > NAMES_BYTES_MAX or len(group) >= NAMES_MAX):
            yield group
            group, size = [], 6 * len(name) + 3
        group.append(name)
    if group:
        yield group


def fetch_rest(client: Client, path: str, offset: int) -> AbstractContextManager[Iterator[bytes]]:
    """Give the bytes of a file from an offset on that is not its end."""
    return client.answered("GET", _url(RANGES_PATH, path), headers={"range": f"bytes={offset}-"})


def sums(client: Client, path: str, offset: int, size: int, chunk: int) -> list[str]:
    """Return the checksums (SHA-256) of the chunks of a part of a file."""
    answer = client.call("GET", _url(SUMS_PATH, path, offset=offset, size=size, chunk=chunk), b"")
    try:
        return [str(each) for each in answer["sums"]]
    except (KeyError, TypeError):
        raise PfsError(Kind.UNSUPPORTED, "this server tells no checksums; ask for a newer one") from None
