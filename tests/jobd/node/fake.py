"""A runtime in memory, for tests: the same promises as the real ones, held to them by the same conformance suite.

A `FakeMachine` is what outlives a daemon; any number of `FakeRuntime`s may stand for its restarts. A program is an
async function that is found by the last word of `argv` (the text for `sh -c`) and sees a `FakeProcess`.
"""

import math
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio
from trio.testing import memory_stream_pair

from jobd import attach
from jobd.node.ends import exit_of
from jobd.node.runtime import Attached, Consent, Exit, Launch, RuntimeFailure, Tell, granted, untold
from pfs.errors import Kind, PfsError

Program = Callable[["FakeProcess"], Awaitable[int]]
# what is run beside a task
Beside = Callable[["FakeAttached"], Awaitable[int]]
Serve = Callable[[trio.abc.HalfCloseableStream], Awaitable[None]]

_DEADLY = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class FakeProcess:
    """What a program sees of the world, and how it acts on it.

    Attributes:
        ignored: signals that the program does not die of; each is told by `signalled`.
        tmp: the task's own /tmp, by file name.
        ports: what serves those who connect, by port.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.ignored: set[int] = set()
        self.tmp: dict[str, bytes] = {}
        self.ports: dict[int, Serve] = {}
        self._output = bytearray()
        self._changed = trio.Event()
        self._signals, self._signalled = trio.open_memory_channel[int](math.inf)

    def write(self, data: bytes) -> None:
        """Write to standard output."""
        self._output += data
        self._wake()

    async def signalled(self) -> int:
        """Wait for the next ignored signal and return its number."""
        return await self._signalled.receive()

    def real(self, path: str, *, writing: bool = False) -> Path:
        """Return where a path of one of the task's volumes lies.

        Raises:
            OSError: it is in none, or shall be written and may not.
        """
        for volume in self.launch.volumes:
            if path.startswith(volume.target + "/"):
                if writing and volume.read_only:
                    raise OSError(f"{path}: read-only file system")
                return Path(volume.source, path[len(volume.target) + 1 :])
        raise FileNotFoundError(path)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class FakeAttached:
    """A program beside a task: what it sees of the world, and what the world sees of it (`Attached`)."""

    def __init__(self, program: attach.Program, process: FakeProcess) -> None:
        self.program = program
        self.process = process
        self.terminal = program.terminal
        self.over = trio.Event()
        self.code = 0
        self._is_sending = False
        self._input, self._given = trio.open_memory_channel[bytes](0)
        self._output, self._said = trio.open_memory_channel[tuple[int, bytes]](0)
        self._scope = trio.CancelScope()

    async def run(self, does: Beside) -> None:
        """Run it to its end."""
        with self._scope:
            self.code = await does(self)
        self._given.close()
        self._output.close()
        self.over.set()

    async def end_with(self, task: "_Task") -> None:
        """Kill it when a task is over."""
        await task.over.wait()
        await self.signal(signal.SIGKILL)

    async def read(self) -> bytes:
        """Return what comes to standard input; nothing at the end."""
        try:
            return await self._given.receive()
        except trio.EndOfChannel:
            return b""

    def close_input(self) -> None:
        """Read no more."""
        self._given.close()

    async def write(self, data: bytes, stream: int = attach.STDOUT) -> None:
        """Write; returns when that was read."""
        await self._output.send((stream, data))

    async def send(self, data: bytes) -> None:
        """Give it input; see `Attached`. Two at once are a defect, as with the streams of the real ones."""
        if self._is_sending:
            raise trio.BusyResourceError
        self._is_sending = True
        try:
            await self._input.send(data)
        except trio.BrokenResourceError:
            raise PfsError(Kind.BUSY, "the program reads no more") from None
        finally:
            self._is_sending = False

    async def send_eof(self) -> None:
        """Give it no more input; see `Attached`."""
        await trio.lowlevel.checkpoint()
        self._input.close()

    async def receive(self) -> tuple[int, bytes] | None:
        """Return what it says next; see `Attached`."""
        try:
            return await self._said.receive()
        except trio.EndOfChannel:
            return None

    async def resize(self, terminal: attach.Terminal) -> None:
        """Tell it how large its terminal is; see `Attached`."""
        await trio.lowlevel.checkpoint()
        self.terminal = terminal

    async def signal(self, number: int) -> None:
        """Send it a signal, of which it dies; see `Attached`."""
        await trio.lowlevel.checkpoint()
        if not self.over.is_set():
            self.code = 128 + number
            self._scope.cancel()

    async def wait(self) -> int:
        """Return its exit code; see `Attached`."""
        await self.over.wait()
        return self.code


class _Task:
    def __init__(self, launch: Launch) -> None:
        self.process = FakeProcess(launch)
        self.scope = trio.CancelScope()
        self.killed_by: int | None = None
        self.exit: Exit | None = None
        self.over = trio.Event()


class FakeMachine:
    """The machine below one or more fake runtimes.

    Args:
        nursery: runs the programs.
        programs: by the last word of their command.
        images: the images that can be had.
        beside: programs that can be run beside tasks, by the last word of their command.

    Attributes:
        starts: what was started, in order.
        held: starts wait for this event, if there is one.
        failure: what every start fails with, if it shall.
        waits_for: what every start says that it waits for.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        programs: Mapping[str, Program],
        images: Sequence[str] = (),
        beside: Mapping[str, Beside] | None = None,
    ) -> None:
        self.beside = beside or {}
        self.nursery = nursery
        self.programs = programs
        self.images = images
        self.tasks: dict[str, _Task] = {}
        self.starts: list[str] = []
        self.held: trio.Event | None = None
        self.failure = ""
        self.waits_for: Sequence[str] = ()

    async def run(self, task: _Task) -> None:
        """Run one task to its end."""
        process = task.process
        program = self.programs.get(process.launch.argv[-1])
        code = 127
        with task.scope:
            if program is None:
                process.write(f"sh: {process.launch.argv[-1]}: not found\n".encode())
            else:
                code = await program(process)
        task.exit = exit_of(code if task.killed_by is None else 128 + task.killed_by)
        task.over.set()
        process._wake()


class FakeRuntime:
    """A `Runtime` over a fake machine."""

    def __init__(self, machine: FakeMachine, name: str = "fake") -> None:
        self.name = name
        self.trouble = ""
        self._machine = machine

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        """Start the task; see `Runtime`."""
        await trio.lowlevel.checkpoint()
        if launch.task_id in self._machine.tasks:
            return
        for text in self._machine.waits_for:
            tell(text)
        if self._machine.held is not None:
            await self._machine.held.wait()
        if self._machine.failure:
            raise RuntimeFailure(self._machine.failure)
        if launch.image is not None and launch.image not in self._machine.images:
            raise RuntimeFailure(f"no image {launch.image!r}")
        image = await consent(launch.image or "")
        launch = replace(launch, image=image or None)
        for volume in launch.volumes:
            if not await trio.Path(volume.source).is_dir():
                raise RuntimeFailure(f"no directory {volume.source}")
        task = self._machine.tasks[launch.task_id] = _Task(launch)
        self._machine.starts.append(launch.task_id)
        self._machine.nursery.start_soon(self._machine.run, task)

    async def tasks(self) -> Sequence[str]:
        """Return the ids of all tasks; see `Runtime`."""
        await trio.lowlevel.checkpoint()
        return sorted(self._machine.tasks)

    async def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the task's output; see `Runtime`."""
        task = self._machine.tasks[task_id]
        process = task.process
        while True:
            changed, over = process._changed, task.over.is_set()
            await trio.lowlevel.checkpoint()
            if data := bytes(process._output[offset:]):
                offset += len(data)
                yield data
            elif over:
                return
            else:
                await changed.wait()

    async def wait(self, task_id: str) -> Exit:
        """Return when the task is over; see `Runtime`."""
        task = self._machine.tasks[task_id]
        await task.over.wait()
        assert task.exit is not None
        return task.exit

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to the task; see `Runtime`."""
        await trio.lowlevel.checkpoint()
        task = self._machine.tasks.get(task_id)
        if task is None or task.over.is_set():
            return
        if number in task.process.ignored and number != signal.SIGKILL:
            task.process._signals.send_nowait(number)
        elif number in _DEADLY:
            task.killed_by = number
            task.scope.cancel()

    def image(self, task_id: str) -> str:
        """Return the image of a task; see `Runtime`."""
        return self._machine.tasks[task_id].process.launch.image or ""

    async def inside(self, task_id: str) -> int | None:
        """Return nothing: nobody looks into these tasks; see `Runtime`."""
        return None

    @asynccontextmanager
    async def attach(self, task_id: str, program: attach.Program) -> AsyncIterator[Attached]:
        """Run a program beside the task; see `Runtime`."""
        task = self._running(task_id)
        does = self._machine.beside.get(program.argv[-1])
        if does is None:
            raise PfsError(Kind.NOT_FOUND, f"no such program: {program.argv[0]}")
        async with trio.open_nursery() as nursery:
            inside = FakeAttached(program, task.process)
            nursery.start_soon(inside.run, does)
            nursery.start_soon(inside.end_with, task)
            try:
                yield inside
            finally:
                nursery.cancel_scope.cancel()

    async def dial(self, task_id: str, port: int) -> trio.abc.HalfCloseableStream:
        """Return a connection to a port of the task; see `Runtime`."""
        await trio.lowlevel.checkpoint()
        serve = self._running(task_id).process.ports.get(port)
        if serve is None:
            raise PfsError(Kind.UNREACHABLE, "nothing listens there")
        own, other = memory_stream_pair()
        self._machine.nursery.start_soon(serve, other)
        return own

    def _running(self, task_id: str) -> _Task:
        task = self._machine.tasks.get(task_id)
        if task is None or task.over.is_set():
            raise PfsError(Kind.BUSY, "the process is over")
        return task

    def reach(self, task_id: str) -> Mapping[str, str]:
        """Return what nobody can use; see `Runtime`."""
        return {"fake": task_id}

    async def remove(self, task_id: str) -> None:
        """End and forget the task; see `Runtime`."""
        await self.signal(task_id, signal.SIGKILL)
        task = self._machine.tasks.pop(task_id, None)
        if task is not None:
            await task.over.wait()
