"""The tree over the network: `pfs.api.FileSystem` for the mount, and channels for whoever else talks to a server.

Small questions go over one connection (`pfs.client.connection`), large ranges of open files beside it
(`pfs.client.transfer`); on the server's own machine files are read directly (`pfs.protocol.nearby`).
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

import trio

from pfs.api import (
    Attr,
    Broken,
    Changes,
    Content,
    Entry,
    NodeType,
    OpenFile,
    OpenFlags,
    Owner,
    RenameMode,
    Space,
    Standing,
    XattrMode,
)
from pfs.client.connection import Connection, only
from pfs.client.openfile import NEWS_S, RemoteFile, SeenText, SoFar
from pfs.client.transfer import Transfer
from pfs.errors import PfsError
from pfs.keys import Pair
from pfs.protocol.answers import (
    decode_attr,
    decode_contents,
    decode_opening,
    decode_outcomes,
    decode_page,
    decode_space,
    decode_target,
    decode_xattrs,
)
from pfs.protocol.steps import Outcome, Step, encode_steps
from pfs.protocol.wire import (
    Json,
    encode_changes,
    encode_flags,
    encode_owner,
)
from pfs.tagged import Tagged

LISTED_MAX = 100_000  # entries of listings that are not complete; then one of these goes on, and the others wait
SEEN_MAX, SEEN_BYTES_MAX = 64, 16 * 1024  # texts that were told with their attributes, and how large each may be
TAGGED_MAX = 4  # of what the server makes, to be shown again if it says that they are the same


@asynccontextmanager
async def open_filesystem(
    endpoint: str,
    token: str,
    ca: str | None = None,
    *,
    shortcut: bool = True,
    streams: bool = True,
    own: Pair | None = None,
    patient: bool = False,
) -> AsyncIterator["RemoteFileSystem"]:
    """Give the tree of the server at `endpoint` as the owner of `token` may see it, while the block runs.

    Args:
        shortcut: read files of a server on this machine directly.
        streams: streams are streams; else they are files that hold what there is so far.
        own: a certificate that tells who we are, beside a token or instead of one ("").
        patient: the block begins at once; `RemoteFileSystem.begun` tells what comes of the first contact.

    Raises:
        PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID at the first contact; later losses are healed.
    """
    failure: PfsError | None = None
    try:
        async with Transfer(endpoint, token, ca, own) as transfer, trio.open_nursery() as nursery:
            connection = Connection(endpoint, token, ca, transfer, shortcut=shortcut, own=own)
            nursery.start_soon(connection.run)
            try:
                if not patient:
                    await connection.begun()
                yield RemoteFileSystem(connection, streams=streams)
            finally:
                await connection.say_bye()
                nursery.cancel_scope.cancel()
    except* PfsError as group:
        failure = only(group)
    if failure is not None:
        raise failure


class _Seen(NamedTuple):
    """A text as it was looked at, and until when it is used."""

    attr: Attr
    text: bytes
    until_s: float


class RemoteFileSystem:
    """`pfs.api.FileSystem` of a server."""

    def __init__(self, connection: Connection, *, streams: bool = True) -> None:
        self._connection = connection
        self._streams = streams
        self._listed = 0
        self._seen: dict[str, _Seen] = {}  # what was looked at last, by path
        self._tagged: dict[str, Tagged] = {}  # those that the server made last, by path
        self._long_listing = trio.Lock()

    async def begun(self) -> None:
        """Return when the server has been reached for the first time.

        Raises:
            PfsError: the first attempt has failed, and why; further ones follow until it is given up.
        """
        await self._connection.begun()

    def give_up(self) -> None:
        """Look for the server no more, which has not been reached yet."""
        self._connection.give_up()

    def trusted(self) -> bool:
        return self._connection.trusted()

    def is_near(self) -> bool:
        return self._connection.near

    def standing(self) -> Standing:
        return self._connection.standing()

    def is_away(self) -> bool:
        return self._connection.is_away()

    async def look_out(self) -> None:
        await self._connection.look_out()

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        self._connection.listen(broken, lapsed, returned)

    async def _ask(self, op: str, args: Json, *, again: bool) -> Json:
        return (await self._connection.ask(op, args, again=again))[0]

    async def getattr(self, path: str) -> Attr:
        result, body = await self._connection.ask("getattr", {"path": path, "text": True}, again=True)
        attr = self._shown(decode_attr(result))
        made = (attr.volatile and attr.valid_s == 0.0) or attr.settled
        if made and result.get("whole") is True and len(body) <= SEEN_BYTES_MAX:
            self._see(path, _Seen(attr, body, trio.current_time() + NEWS_S))
        return attr

    def _see(self, path: str, seen: "_Seen") -> None:
        """Keep a text for who opens it now: open(2) looks anew at a name that holds for no time, and then opens it."""
        self._seen.pop(path, None)
        self._seen[path] = seen
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]

    def _shown(self, attr: Attr) -> Attr:
        return replace(attr, stream=False) if attr.stream and not self._streams else attr

    async def listdir(self, path: str) -> Sequence[Entry]:
        entries: list[Entry] = []
        try:
            more = True
            while more and self._listed <= LISTED_MAX:
                more = await self._list_more(path, entries)
            if more:
                if self._long_listing.locked():  # who waits begins anew, and holds nothing meanwhile
                    self._listed -= len(entries)
                    entries.clear()
                async with self._long_listing:
                    while more:
                        more = await self._list_more(path, entries)
        finally:
            self._listed -= len(entries)
        return entries

    async def _list_more(self, path: str, entries: list[Entry]) -> bool:
        args: Json = {"path": path, "after": entries[-1].name if entries else ""}
        known = None if entries else self._tagged.pop(path, None)
        if known is not None:
            args["known"] = known.tag
        result, body = await self._connection.ask("listdir", args, again=True)
        page: list[Entry]
        if known is not None and result.get("same") is True:
            page, more = known, False
        else:
            page, more = decode_page(result, body, args["after"], len(entries))
            page = page if self._streams else [replace(entry, attr=self._shown(entry.attr)) for entry in page]
        if isinstance(tag := result.get("tag"), str):
            self._keep_tagged(path, Tagged(page, tag))
        entries += page
        self._listed += len(page)
        return more

    def _keep_tagged(self, path: str, listing: Tagged) -> None:
        self._tagged[path] = listing
        if len(self._tagged) > TAGGED_MAX:
            del self._tagged[next(iter(self._tagged))]

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        args = {"path": path, "names": list(names), "size_max": size_max}
        return decode_contents((await self._connection.ask("contents", args, again=True))[1])

    async def readlink(self, path: str) -> str:
        return decode_target(await self._ask("readlink", {"path": path}, again=True))

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        args = {"path": path, "mode": mode, "owner": encode_owner(owner)}
        return decode_attr(await self._ask("mkdir", args, again=False))

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        args = {"path": path, "target": target, "owner": encode_owner(owner)}
        return decode_attr(await self._ask("symlink", args, again=False))

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        args = {"path": path, "type": type_.value, "mode": mode, "owner": encode_owner(owner)}
        return decode_attr(await self._ask("mknod", args, again=False))

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        args = {"path": path, "mode": mode, "changes": encode_changes(changes)}
        return decode_attr((await self._connection.ask("make_file", args, data, again=False))[0])

    async def batch(self, steps: Sequence[Step]) -> Sequence[Outcome]:
        args, body = encode_steps(steps)
        return decode_outcomes((await self._connection.ask("batch", args, body, again=False))[0], len(steps))

    async def link(self, source: str, target: str) -> Attr:
        return decode_attr(await self._ask("link", {"path": source, "target": target}, again=False))

    async def unlink(self, path: str) -> None:
        await self._ask("unlink", {"path": path}, again=False)

    async def rmdir(self, path: str) -> None:
        await self._ask("rmdir", {"path": path}, again=False)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        await self._ask("rename", {"path": source, "target": target, "mode": mode.value}, again=False)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        args = {"path": path, "changes": encode_changes(changes)}
        return decode_attr(await self._ask("setattr", args, again=True))

    async def getxattr(self, path: str, name: str) -> bytes:
        return (await self._connection.ask("getxattr", {"path": path, "name": name}, again=True))[1]

    async def listxattr(self, path: str) -> Sequence[str]:
        return decode_xattrs(await self._ask("listxattr", {"path": path}, again=True))

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        args = {"path": path, "name": name, "mode": mode.value}
        await self._connection.ask("setxattr", args, value, again=mode is not XattrMode.CREATE)

    async def removexattr(self, path: str, name: str) -> None:
        await self._ask("removexattr", {"path": path, "name": name}, again=False)

    async def statfs(self, path: str) -> Space:
        return decode_space(await self._ask("statfs", {"path": path}, again=True))

    async def fsyncdir(self, path: str) -> None:
        await self._ask("fsyncdir", {"path": path}, again=True)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        seen = self._seen.pop(path, None)
        if seen is not None and flags == OpenFlags.READ and trio.current_time() < seen.until_s:
            return SeenText(self._connection, path, seen.attr, seen.text)
        args = {"path": path, "flags": encode_flags(flags), "mode": mode, "owner": encode_owner(owner)}
        return self._opened(
            *await self._connection.ask("open", args, again=OpenFlags.EXCLUSIVE not in flags), flags=flags
        )

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        args = {"path": path, "node_id": node_id, "flags": encode_flags(flags)}
        return self._opened(*await self._connection.ask("reopen", args, again=True), flags=flags)

    def _opened(self, result: Json, body: bytes, *, flags: OpenFlags) -> OpenFile:
        handle, attr = decode_opening(result)
        if attr.stream and not self._streams:
            return SoFar(self._connection, handle, self._shown(attr), flags)
        return RemoteFile(self._connection, handle, attr, flags, body if result.get("whole") is True else None)
