"""What a mount may ask over its channel, and the files that it holds open.

A handle is good for one connection. When that ends, what was open is released; a text that was being given to the
server and not yet closed counts as cut, since nobody can tell whether more was to come.
"""

import itertools
import secrets
from collections.abc import Awaitable, Callable

import trio

from pfs.api import Closing, FileSystem, OpenFile, RenameMode
from pfs.errors import Kind, PfsError
from pfs.wire import (
    Json,
    decode_changes,
    decode_flags,
    encode_attr,
    encode_entries,
    encode_space,
)

READ_BYTES_MAX = 4 * 1024 * 1024
HANDLES_MAX = 65_536

Reply = tuple[Json, bytes]


class FileSession:
    """Answers the questions of one mount."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._fs = filesystem
        self._files: dict[int, OpenFile] = {}
        # numbers of an earlier connection, or of an earlier server, are never taken for ours
        self._numbers = itertools.count(secrets.randbits(46) << 16)
        self._ops: dict[str, Callable[[Json, bytes], Awaitable[Reply]]] = {
            "getattr": self._getattr,
            "listdir": self._listdir,
            "readlink": self._readlink,
            "mkdir": self._mkdir,
            "symlink": self._symlink,
            "unlink": self._unlink,
            "rmdir": self._rmdir,
            "rename": self._rename,
            "setattr": self._setattr,
            "statfs": self._statfs,
            "open": self._open,
            "read": self._read,
            "write": self._write,
            "truncate": self._truncate,
            "fgetattr": self._fgetattr,
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
            raise PfsError(Kind.UNSUPPORTED, f"the server does not know the operation {op!r}")
        try:
            return await answer(args, body)
        except (KeyError, TypeError, ValueError) as error:
            raise PfsError(Kind.INVALID, f"{op}: an argument is missing or wrong: {error}") from error

    async def end(self) -> None:
        """Release everything that is open."""
        with trio.CancelScope(shield=True):
            files, self._files = self._files, {}
            for file in files.values():
                if file.attr.commits:
                    await file.flush(Closing.DYING)
                await file.release()

    def _file(self, args: Json) -> OpenFile:
        try:
            return self._files[int(args["handle"])]
        except KeyError:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open here (any more)") from None

    async def _getattr(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._fs.getattr(_path(args))), b""

    async def _listdir(self, args: Json, body: bytes) -> Reply:
        return encode_entries(list(await self._fs.listdir(_path(args)))), b""

    async def _readlink(self, args: Json, body: bytes) -> Reply:
        return {"target": await self._fs.readlink(_path(args))}, b""

    async def _mkdir(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._fs.mkdir(_path(args), int(args["mode"]))), b""

    async def _symlink(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._fs.symlink(_path(args), str(args["target"]))), b""

    async def _unlink(self, args: Json, body: bytes) -> Reply:
        await self._fs.unlink(_path(args))
        return {}, b""

    async def _rmdir(self, args: Json, body: bytes) -> Reply:
        await self._fs.rmdir(_path(args))
        return {}, b""

    async def _rename(self, args: Json, body: bytes) -> Reply:
        await self._fs.rename(_path(args), str(args["target"]), RenameMode(args["mode"]))
        return {}, b""

    async def _setattr(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._fs.setattr(_path(args), decode_changes(args["changes"]))), b""

    async def _statfs(self, args: Json, body: bytes) -> Reply:
        return encode_space(await self._fs.statfs(_path(args))), b""

    async def _open(self, args: Json, body: bytes) -> Reply:
        if len(self._files) >= HANDLES_MAX:
            raise PfsError(Kind.TOO_MANY, f"a mount holds at most {HANDLES_MAX} files open")
        file = await self._fs.open(_path(args), decode_flags(args["flags"]), int(args["mode"]))
        number = next(self._numbers)
        self._files[number] = file
        return {"handle": number, "attr": encode_attr(file.attr)}, b""

    async def _read(self, args: Json, body: bytes) -> Reply:
        size = min(int(args["size"]), READ_BYTES_MAX)
        data = await self._file(args).read(_offset(args), size, wait=bool(args["wait"]))
        return {}, data

    async def _write(self, args: Json, body: bytes) -> Reply:
        return {"size": await self._file(args).write(_offset(args), body)}, b""

    async def _truncate(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._file(args).truncate(int(args["size"]))), b""

    async def _fgetattr(self, args: Json, body: bytes) -> Reply:
        return encode_attr(await self._file(args).getattr()), b""

    async def _flush(self, args: Json, body: bytes) -> Reply:
        await self._file(args).flush(Closing(args["closing"]))
        return {}, b""

    async def _fsync(self, args: Json, body: bytes) -> Reply:
        await self._file(args).fsync()
        return {}, b""

    async def _release(self, args: Json, body: bytes) -> Reply:
        file = self._file(args)
        del self._files[int(args["handle"])]
        await file.release()
        return {}, b""


def _path(args: Json) -> str:
    return str(args["path"])


def _offset(args: Json) -> int:
    offset = int(args["offset"])
    if offset < 0:
        raise ValueError("offset")
    return offset
