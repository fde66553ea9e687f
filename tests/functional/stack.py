"""A server and a mount in one process, in a thread of their own: only the kernel and the network are missing.

fuse handlers ── ops, files ── making, cached ── client ─ bytes of frames ─ session ── leased ── service ── disk
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar, cast
from unittest import mock

import pyfuse3
import trio

from fuseclient.behind.making import MakingFileSystem
from fuseclient.kernel import fuse, identity
from fuseclient.kernel.ops import Ops
from fuseclient.kernel.recall import Recall
from pfs.accounts.store import Identity, KeyKind
from pfs.api import Owner
from pfs.client.connection import Connection
from pfs.client.filesystem import RemoteFileSystem
from pfs.client.transfer import Transfer
from pfs.errors import PfsError
from pfs.protocol.channel import Channel, Handler
from pfs.protocol.wire import Answer, Ask, Json, decode_frame, encode_frame
from pfs.server.mounts import Mounts
from tests.pfs.world import ANN, World

LISTED_AT_ONCE = 7
T = TypeVar("T")


class Wire(Connection):
    """A connection to a server in this process; what is said passes through frames.

    Args:
        handler: what the server says to a mount.
    """

    def __init__(self, handler: Handler) -> None:
        super().__init__("http://here", "token", None, cast(Transfer, None), shortcut=False)
        self._handler = handler

    def trusted(self) -> bool:
        return True

    def is_away(self) -> bool:
        return False

    async def ask(
        self, op: str, args: Json, body: bytes = b"", *, again: bool, patient: bool = False
    ) -> tuple[Json, bytes]:
        asked = decode_frame(encode_frame(Ask(1, op, args, body)))
        assert isinstance(asked, Ask)
        try:
            answer = Answer(1, *await self._handler(asked.op, asked.args, asked.body))
        except PfsError as error:
            answer = Answer(1, {}, error=error)
        told = decode_frame(encode_frame(answer))
        assert isinstance(told, Answer)
        if told.error is not None:
            raise told.error
        return told.result, told.body


class Stack:
    """A server and a mount, running in a thread of their own.

    Args:
        leased: the server can lease its nodes; otherwise every answer is asked for.
    """

    def __init__(self, path: Path, *, leased: bool) -> None:
        self._path = path
        self._leased = leased
        self._started: list[trio.lowlevel.TrioToken] = []
        self._end: trio.Event
        self.operations: fuse.Operations
        self.ops: Ops
        self._thread = Thread(target=trio.run, args=(self._run,), daemon=True)

    @contextmanager
    def running(self) -> Iterator["Stack"]:
        with (
            mock.patch.object(fuse, "forget_attributes", _nothing),
            mock.patch.object(pyfuse3, "readdir_reply", _take),
        ):
            self._thread.start()
            while not self._started and self._thread.is_alive():
                self._thread.join(0.001)
            try:
                yield self
            finally:
                self.call(self._stop)
                self._thread.join()

    def call(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an async function there; what is refused is an OSError here."""
        try:
            return trio.from_thread.run(ask, *arguments, trio_token=self._started[0])
        except pyfuse3.FUSEError as error:
            raise OSError(error.errno, os.strerror(error.errno)) from None

    async def _stop(self) -> None:
        self._end.set()

    async def _run(self) -> None:
        world = World(self._path)
        world.disk.watch = lambda fd: self._leased
        mounts = Mounts(lambda identity: world.fs(identity.subject), "")
        async with mounts.conversation(Identity(KeyKind.USER, ANN), lambda: cast(Channel, Alone())) as handler:
            await handler("hello", {"mount": "this"}, b"")
            remote = RemoteFileSystem(Wire(handler))
            filesystem = MakingFileSystem(remote, trio.current_time, "dc1", None)
            owners = identity.Identity(identity.Ids.SQUASHED, Owner(os.getuid(), os.getgid()))
            self.ops = Ops({"dc1": filesystem}, owners)
            self.operations = fuse.Operations(self.ops)
            recall = Recall(self.ops.tree, "dc1", filesystem, _nothing, _nothing)
            filesystem.tell(recall.adopted, recall.undone)
            self._end = trio.Event()
            async with trio.open_nursery() as nursery:
                filesystem.nursery = nursery
                self._started.append(trio.lowlevel.current_trio_token())
                await self._end.wait()
                await self.ops.files.release_all()
                nursery.cancel_scope.cancel()
        world.disk.close()


def _nothing(*of_the_kernel: object) -> None:
    """There is no kernel that could forget anything."""


def _take(taken: list[tuple[bytes, int]], name: bytes, attributes: pyfuse3.EntryAttributes, offset: int) -> bool:
    """Take an entry, in place of pyfuse3, unless the answer is full."""
    if len(taken) == LISTED_AT_ONCE:
        return False
    taken.append((name, offset))
    return True


class Alone:
    """The channel to a mount that is the only one: nobody else changes what it has copies of."""

    async def drained(self) -> None:
        return None
