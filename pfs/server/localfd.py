"""Gives descriptors of open files to mounts on the server's own machine (`pfs.protocol.nearby` is the other side).

Anybody on the machine may connect; only who proves to know a session's secret, which was told over that session's
channel, is given something: a new descriptor, for reading alone, of an ordinary file that this session holds open for
reading. Rights were checked when it was opened. Whoever has it can read the file as long as he likes, as with any open
file.
"""

import contextlib
import hmac
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import trio

from pfs.api import OpenFile
from pfs.errors import Kind, PfsError
from pfs.protocol.nearby import QUESTION, for_reading, proof, reachable

BACKLOG = 128
QUESTION_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 256

log = logging.getLogger(__name__)

# given the name of a session: its secret, and its open files by handle
Named = Callable[[bytes], tuple[str, Callable[[int], OpenFile | None]] | None]


@runtime_checkable
class Lending(Protocol):
    """What an open file of a data domain offers besides `pfs.api.OpenFile`."""

    async def descriptor(self) -> int | None:
        """Return a new descriptor, opened for reading alone, which the caller closes; None where there is none.

        None is the answer for everything that is no ordinary file opened for reading.
        """


async def serve(path: str, named: Named, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Listen on a Unix socket at `path` until cancelled. What a killed server left there is replaced.

    Args:
        path: its folder must be there, and is what narrows who may connect: the socket itself lets everybody in.

    Raises:
        PfsError: INVALID when it cannot be made.
    """
    with _listening(path) as sock:
        giver = _Giver(named)
        task_status.started()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        await trio.serve_listeners(giver.converse, [listener])


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    """Make the socket under another name first: a rename takes the place of an old one in one step."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(reachable(path))
            part = f"{address}.{secrets.token_hex(4)}"
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.bind(part)
            os.chmod(part, 0o666)
            sock.listen(BACKLOG)
            made = os.stat(part)
            os.rename(part, address)
        except OSError as error:
            raise PfsError(Kind.INVALID, f"cannot listen on {path}: {error.strerror or error}") from None
        stack.callback(_remove_own, address, made)
        yield sock


def _remove_own(path: str, made: os.stat_result) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.stat(path), made):
            os.unlink(path)


class _Giver:
    """Answers one question per connection."""

    def __init__(self, named: Named) -> None:
        self._named = named
        self._connections = 0

    async def converse(self, stream: trio.SocketStream) -> None:
        """Hear a question and answer it; whatever goes wrong ends this connection alone."""
        self._connections += 1
        try:
            async with stream:
                if self._connections <= CONNECTIONS_MAX:
                    with trio.move_on_after(QUESTION_TIMEOUT_S):
                        await self._answer(stream)
        except (OSError, trio.BrokenResourceError):
            log.debug("somebody who asked for a descriptor has gone")
        except Exception:
            log.exception("defect while giving a descriptor")
        finally:
            self._connections -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        question = b""
        while len(question) < QUESTION.size:
            data = await stream.receive_some(QUESTION.size - len(question))
            if not data:
                return
            question += data
        name, handle, nonce, shown = QUESTION.unpack(question)
        found = self._named(name)
        if found is None:
            return
        secret, files = found
        if not hmac.compare_digest(shown, proof("ask", secret, handle, nonce)):
            return
        fd = await _lent(files(handle))
        if fd is None:
            return
        try:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))
            await stream.socket.sendmsg([proof("give", secret, handle, nonce)], [rights])
        finally:
            os.close(fd)


async def _lent(file: OpenFile | None) -> int | None:
    """Return a descriptor that may be given away, if the file offers one."""
    if not isinstance(file, Lending):
        return None
    try:
        fd = await file.descriptor()
    except PfsError as error:
        log.info("no descriptor is given: %s", error)
        return None
    if fd is None:
        return None
    if for_reading(fd):
        return fd
    os.close(fd)
    raise RuntimeError("an open file lends what is no ordinary file, or more than reading")
