"""What a mount may ask over its channel, and the files that it holds open.

A handle is good for one connection. When that ends, what was open is flushed as by a dying writer, and released: a text
that was being given to the server and not yet closed counts as cut, since nobody can tell whether more was to come, and
an ordinary file is kept findable for the mount that comes back and opens it again (`pfs.disk.orphans`).
"""

import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeGuard, TypeVar

import trio

from pfs.api import (
    Awaited,
    Closing,
    FileSystem,
    Looking,
    NodeType,
    OpenFile,
    Pictured,
    RenameMode,
    XattrCall,
    XattrMode,
    XattrVerb,
)
from pfs.errors import Kind, PfsError
from pfs.protocol.listing import pack_contents, pack_page
from pfs.protocol.steps import decode_steps, encode_outcomes, take_steps
from pfs.protocol.wire import (
    Json,
    decode_changes,
    decode_flags,
    decode_owner,
    encode_attr,
    encode_space,
)
from pfs.tagged import Tagged

READ_BYTES_MAX = 4 * 1024 * 1024
HANDLES_MAX = 65_536
LOOK_BYTES_MAX = 4 * 1024  # of a text that is told with its attributes: whoever looks may not want it
SMALL_BYTES = 16 * 1024  # so much may be answered to as many questions as there are
STEPS_AT_ONCE = 16  # of a batch, before others are heard
LARGE, LARGE_AT_ONCE = frozenset({"listdir", "contents", "getxattr", "fxattr"}), 4
WITH_BODY = frozenset({"write", "setxattr", "fxattr", "make_file", "batch"})
PAGE_BYTES_MAX = 6 * 1024 * 1024
CONTENTS_BYTES_MAX = 12 * 1024 * 1024  # with the records; data domains give 8 MiB of data at once
MODE_MAX = 0o7777
INT_MAX, NODE_ID_MAX = 2**63 - 1, 2**64 - 1

log = logging.getLogger(__name__)
Word = TypeVar("Word", bound=StrEnum)

Reply = tuple[Json, bytes]
Drained = Callable[[], Awaitable[None]]


class FileSession:
    """Answers the questions of one mount.

    Args:
        drained: returns when the mount has taken most of the answers that it was given.
    """

    def __init__(self, filesystem: FileSystem, drained: Drained = trio.lowlevel.checkpoint) -> None:
        self._fs = filesystem
        self._looking = filesystem if isinstance(filesystem, Looking) else None
        self._drained = drained
        self._large = trio.CapacityLimiter(LARGE_AT_ONCE)
        self._files: dict[int, OpenFile] = {}
        self._news: dict[int, tuple[int, bytes]] = {}  # what was told of them as another text than was read
        # numbers of an earlier connection, or of an earlier server, are never taken for ours
        self._numbers = itertools.count(secrets.randbits(46) << 16)
        self._ops: dict[str, Callable[[Json, bytes], Awaitable[Reply]]] = {
            "getattr": self._getattr,
            "listdir": self._listdir,
            "contents": self._contents,
            "readlink": self._readlink,
            "mkdir": self._mkdir,
            "symlink": self._symlink,
            "mknod": self._mknod,
            "make_file": self._make_file,
            "batch": self._batch,
            "link": self._link,
            "unlink": self._unlink,
            "rmdir": self._rmdir,
            "rename": self._rename,
            "setattr": self._setattr,
            "getxattr": self._getxattr,
            "listxattr": self._listxattr,
            "setxattr": self._setxattr,
            "removexattr": self._removexattr,
            "statfs": self._statfs,
            "fsyncdir": self._fsyncdir,
            "open": self._open,
            "reopen": self._reopen,
            "read": self._read,
            "changed": self._changed,
            "write": self._write,
            "fsetattr": self._fsetattr,
            "fgetattr": self._fgetattr,
            "fxattr": self._fxattr,
            "flush": self._flush,
            "fsync": self._fsync,
            "release": self._release,
        }

    async def handle(self, op: str, args: Json, body: bytes) -> Reply:
        """Answer one question.

        Raises:
            PfsError: what the tree refuses with, or INVALID for a question that has no proper form.
        """
        answer = self._ops.get(op)
        if answer is None:
            raise PfsError(Kind.UNSUPPORTED, f"the server does not know the operation {op[:80]!r}")
        if body and op not in WITH_BODY:
            raise PfsError(Kind.INVALID, f"the operation {op!r} takes no bytes")
        if not self._is_large(op, args):
            return await answer(args, body)
        async with self._large:
            await self._drained()
            return await answer(args, body)

    def _is_large(self, op: str, args: Json) -> bool:
        """Tell whether an answer may be so large that only a few of them are made at once."""
        if op != "read":
            return op in LARGE
        size, file = args.get("size"), self._files.get(args["handle"]) if _is_number(args.get("handle")) else None
        return _is_number(size) and size > SMALL_BYTES and file is not None and not file.attr.stream

    async def end(self) -> None:
        """Release everything that is open."""
        with trio.CancelScope(shield=True):
            files, self._files = self._files, {}
            for file in files.values():
                await _quietly(file.flush(Closing.DYING))
                await _quietly(file.release())

    def opened(self, number: int) -> OpenFile | None:
        """Return an open file, None where there is none of that number."""
        return self._files.get(number)

    def _file(self, args: Json) -> OpenFile:
        file = self._files.get(_int(args, "handle"))
        if file is None:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open here (any more)")
        return file

    async def _getattr(self, args: Json, body: bytes) -> Reply:
        path = _text(args, "path")
        if args.get("text") is not True or self._looking is None:
            return encode_attr(await self._fs.getattr(path)), b""
        attr, text = await self._looking.look(path)
        if text is None or len(text) > LOOK_BYTES_MAX:
            return encode_attr(attr), b""
        return {**encode_attr(attr), "whole": True}, text

    async def _listdir(self, args: Json, body: bytes) -> Reply:
        after = _text(args, "after")
        entries = await self._fs.listdir(_text(args, "path"))
        tag = entries.tag if isinstance(entries, Tagged) and not after else None
        if tag is not None and args.get("known") == tag:
            return {"same": True, "tag": tag}, b""
        left = sorted((entry for entry in entries if entry.name > after), key=lambda entry: entry.name)
        page, more = pack_page(left, PAGE_BYTES_MAX)
        return {"more": more} if tag is None or more else {"more": False, "tag": tag}, page

    async def _contents(self, args: Json, body: bytes) -> Reply:
        names = args.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _wrong("names", names)
        found = await self._fs.contents(_text(args, "path"), names, _int(args, "size_max"))
        return {}, pack_contents(found, CONTENTS_BYTES_MAX)

    async def _readlink(self, args: Json, body: bytes) -> Reply:
        return {"target": await self._fs.readlink(_text(args, "path"))}, b""

    async def _mkdir(self, args: Json, body: bytes) -> Reply:
        mode, owner = _int(args, "mode", MODE_MAX), decode_owner(args.get("owner"))
        return encode_attr(await self._fs.mkdir(_text(args, "path"), mode, owner)), b""

    async def _symlink(self, args: Json, body: bytes) -> Reply:
        owner = decode_owner(args.get("owner"))
        return encode_attr(await self._fs.symlink(_text(args, "path"), _text(args, "target"), owner)), b""

    async def _mknod(self, args: Json, body: bytes) -> Reply:
        type_, mode = _word(NodeType, args, "type"), _int(args, "mode", MODE_MAX)
        owner = decode_owner(args.get("owner"))
        return encode_attr(await self._fs.mknod(_text(args, "path"), type_, mode, owner)), b""

    async def _make_file(self, args: Json, body: bytes) -> Reply:
        mode, changes = _int(args, "mode", MODE_MAX), decode_changes(args.get("changes"))
        return encode_attr(await self._fs.make_file(_text(args, "path"), mode, body, changes)), b""

    async def _batch(self, args: Json, body: bytes) -> Reply:
        steps, outcomes = decode_steps(args, body), []
        for begin in range(0, len(steps), STEPS_AT_ONCE):
            outcomes += await take_steps(self._fs, steps[begin : begin + STEPS_AT_ONCE])
            await trio.lowlevel.checkpoint()
        return encode_outcomes(outcomes), b""

    async def _link(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._fs.link(_text(args, "path"), _text(args, "target"))), b""

    async def _unlink(self, args: Json, body: bytes) -> Reply:
        await self._fs.unlink(_text(args, "path"))
        return {}, b""

    async def _rmdir(self, args: Json, body: bytes) -> Reply:
        await self._fs.rmdir(_text(args, "path"))
        return {}, b""

    async def _rename(self, args: Json, body: bytes) -> Reply:
        await self._fs.rename(_text(args, "path"), _text(args, "target"), _word(RenameMode, args, "mode"))
        return {}, b""

    async def _setattr(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._fs.setattr(_text(args, "path"), decode_changes(args.get("changes")))), b""

    async def _getxattr(self, args: Json, body: bytes) -> Reply:
        return {}, await self._fs.getxattr(_text(args, "path"), _text(args, "name"))

    async def _listxattr(self, args: Json, body: bytes) -> Reply:
        return {"names": list(await self._fs.listxattr(_text(args, "path")))}, b""

    async def _setxattr(self, args: Json, body: bytes) -> Reply:
        await self._fs.setxattr(_text(args, "path"), _text(args, "name"), body, _word(XattrMode, args, "mode"))
        return {}, b""

    async def _removexattr(self, args: Json, body: bytes) -> Reply:
        await self._fs.removexattr(_text(args, "path"), _text(args, "name"))
        return {}, b""

    async def _statfs(self, args: Json, body: bytes) -> Reply:
        return encode_space(await self._fs.statfs(_text(args, "path"))), b""

    async def _fsyncdir(self, args: Json, body: bytes) -> Reply:
        await self._fs.fsyncdir(_text(args, "path"))
        return {}, b""

    async def _open(self, args: Json, body: bytes) -> Reply:
        path, flags = _text(args, "path"), decode_flags(args.get("flags"))
        mode, owner = _int(args, "mode", MODE_MAX), decode_owner(args.get("owner"))
        return await self._hold(lambda: self._fs.open(path, flags, mode, owner))

    async def _reopen(self, args: Json, body: bytes) -> Reply:
        path, node_id, flags = _text(args, "path"), _int(args, "node_id", NODE_ID_MAX), decode_flags(args.get("flags"))
        return await self._hold(lambda: self._fs.reopen(path, node_id, flags))

    async def _hold(self, opening: Callable[[], Awaitable[OpenFile]]) -> Reply:
        if len(self._files) >= HANDLES_MAX:
            raise PfsError(Kind.TOO_MANY, f"a mount holds at most {HANDLES_MAX} files open")
        file = await opening()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:  # who asked has gone, and will not hear of the handle
            with trio.CancelScope(shield=True):
                await _quietly(file.release())
            raise
        number = next(self._numbers)
        self._files[number] = file
        opened: Json = {"handle": number, "attr": encode_attr(file.attr)}
        if file.attr.size <= SMALL_BYTES and isinstance(file, Pictured):
            return {**opened, "whole": True}, file.picture()
        return opened, b""

    async def _read(self, args: Json, body: bytes) -> Reply:
        size = min(_int(args, "size"), READ_BYTES_MAX)
        return {}, await self._file(args).read(_int(args, "offset"), size, wait=_wait(args))

    async def _changed(self, args: Json, body: bytes) -> Reply:
        file = self._file(args)
        if not isinstance(file, Awaited):
            raise PfsError(Kind.UNSUPPORTED, "nobody tells of changes of this file")
        handle, wait, news = args["handle"], _wait(args), _int(args, "read") if "read" in args else None
        if news is not None and isinstance(file, Pictured) and self._news.get(handle, (0, b""))[0] == news:
            file.was_read(self._news.pop(handle)[1])
        text = await file.changed(wait=wait)
        if text is None or len(text) > SMALL_BYTES or handle not in self._files:
            return {}, b""
        number = next(self._numbers)
        self._news[handle] = number, text
        return {"news": number}, text

    async def _write(self, args: Json, body: bytes) -> Reply:
        return {"size": await self._file(args).write(_int(args, "offset"), body)}, b""

    async def _fsetattr(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._file(args).setattr(decode_changes(args.get("changes")))), b""

    async def _fgetattr(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._file(args).getattr()), b""

    async def _fxattr(self, args: Json, body: bytes) -> Reply:
        verb, mode = _word(XattrVerb, args, "verb"), _word(XattrMode, args, "mode")
        return {}, await self._file(args).xattr(XattrCall(verb, _text(args, "name"), body, mode))

    async def _flush(self, args: Json, body: bytes) -> Reply:
        await self._file(args).flush(_word(Closing, args, "closing"))
        return {}, b""

    async def _fsync(self, args: Json, body: bytes) -> Reply:
        await self._file(args).fsync()
        return {}, b""

    async def _release(self, args: Json, body: bytes) -> Reply:
        file = self._file(args)
        del self._files[_int(args, "handle")]
        self._news.pop(args["handle"], None)
        await file.release()
        return {}, b""


async def _quietly(closing: Awaitable[None]) -> None:
    """Nobody is there any more to be told what goes wrong; the log is."""
    try:
        await closing
    except PfsError as error:
        log.info("while closing what a mount left open: %s", error)
    except Exception:
        log.exception("defect while closing what a mount left open")


def _wrong(name: str, value: object) -> PfsError:
    return PfsError(Kind.INVALID, f"the argument {name!r} is missing or wrong: {str(value)[:80]}")


def _text(args: Json, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise _wrong(name, value)
    return value


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _int(args: Json, name: str, most: int = INT_MAX) -> int:
    value = args.get(name)
    if not _is_number(value) or not 0 <= value <= most:
        raise _wrong(name, value)
    return value


def _wait(args: Json) -> bool:
    wait = args.get("wait")
    if not isinstance(wait, bool):
        raise _wrong("wait", wait)
    return wait


def _word(words: type[Word], args: Json, name: str) -> Word:
    try:
        return words(_text(args, name))
    except ValueError:
        raise _wrong(name, args[name]) from None
