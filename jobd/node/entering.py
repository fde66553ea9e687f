"""A program beside a task in its sandbox, from outside: begun by a keeper of its own (`jobd.node.keeper`).

What goes to and fro are three pipes, or a terminal that was made in the sandbox. They are read as fast as somebody
takes what was read: a program whose asker is slow waits.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf

import trio

from jobd.attach import PIECE_BYTES_MAX, STDERR, STDOUT, Program, Terminal, encode_program
from jobd.node import keeper, processes
from jobd.node.inmemory import in_memory
from jobd.node.processes import Process
from pfs.errors import Kind, PfsError

# what others hold open of a program that is over is read for so long after its last word
LINGER_S = 1.0
END_S = 5.0
_WORDS_MAX = 4096
END_OF_INPUT = b"\x04"  # as it is typed


@asynccontextmanager
async def entered(process: Process, program: Program) -> AsyncIterator["Entered"]:
    """Run a program in the sandbox of a process while the block runs.

    Args:
        process: of a task, in its sandbox.

    Raises:
        PfsError: NOT_FOUND, DENIED: it cannot be run; BUSY: the process is over.
    """
    descriptor = processes.open_pidfd(process)
    if descriptor is None:
        raise PfsError(Kind.BUSY, keeper.PROCESS_IS_OVER)
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = trio.socket.from_stdlib_socket(own)
    pipes = None if program.terminal is not None else _Pipes()
    order = in_memory(json.dumps(encode_program(program)).encode())
    handed = [other.fileno(), order, descriptor, *([] if pipes is None else pipes.others)]
    try:
        kept = await trio.lowlevel.open_process(
            [sys.executable, "-m", keeper.__name__, str(process.pid), *map(str, handed)],
            pass_fds=handed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        control.close()
        if pipes is not None:
            pipes.close()
        raise
    finally:
        for each in handed[1:]:
            os.close(each)
        other.close()
    try:
        inside = await _begun(control, pipes)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inside.run)
                try:
                    yield inside
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            inside.close()
    finally:
        if pipes is not None:
            pipes.close()
        control.close()
        with trio.move_on_after(END_S, shield=True):
            await kept.wait()


async def _begun(control: trio.socket.SocketType, pipes: "_Pipes | None") -> "Entered":
    """Return the program once it has begun."""
    master: int | None = None
    try:
        while True:
            data, given, _, _ = await control.recvmsg(_WORDS_MAX, socket.CMSG_SPACE(4))
            word, _, rest = data.decode().partition(" ")
            if given:
                master = int.from_bytes(given[0][2][:4], sys.byteorder)
            if word == keeper.BEGAN:
                return Entered(control, pipes, master)
            if word != keeper.TERMINAL:
                kind, _, words = rest.partition(" ")
                raise PfsError(Kind(kind or Kind.IO), words or "what begins programs in sandboxes was killed")
    except BaseException:
        if master is not None:
            os.close(master)
        raise


class _Pipes:
    """Standard input, output and error of a program."""

    def __init__(self) -> None:
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = (os.pipe() for _ in range(3))
        self.others = (in_read, out_write, err_write)
        self.input = trio.lowlevel.FdStream(in_write)
        self.outputs = {STDOUT: trio.lowlevel.FdStream(out_read), STDERR: trio.lowlevel.FdStream(err_read)}

    def close(self) -> None:
        """Let go of this side's ends."""
        for stream in (self.input, *self.outputs.values()):
            stream.close()


class Entered:
    """A program that runs in a sandbox; see `jobd.node.runtime.Attached`."""

    def __init__(self, control: trio.socket.SocketType, pipes: _Pipes | None, master: int | None) -> None:
        self._control = control
        self._master = master
        if pipes is not None:
            self._input, self._outputs = pipes.input, pipes.outputs
        else:
            assert master is not None
            self._input = trio.lowlevel.FdStream(master)
            self._outputs = {STDOUT: self._input}
        self._read, self._received = trio.open_memory_channel[tuple[int, bytes]](0)
        self._patience: set[trio.CancelScope] = set()
        self._over = trio.Event()
        # without a word the keeper was killed, and with it the program
        self._code = 128 + signal.SIGKILL

    async def run(self) -> None:
        """Read what it says until it is over."""
        async with self._read, trio.open_nursery() as nursery:
            nursery.start_soon(self._end)
            for number, stream in self._outputs.items():
                nursery.start_soon(self._read_all, number, stream)

    def close(self) -> None:
        """Let go of its terminal."""
        if self._master is not None:
            self._input.close()

    async def _end(self) -> None:
        with suppress(ConnectionError):
            _, _, code = (await self._control.recv(_WORDS_MAX)).partition(b" ")
            self._code = int(code or self._code)
        self._over.set()
        for patience in self._patience:
            patience.deadline = trio.current_time() + LINGER_S

    async def _read_all(self, number: int, stream: trio.lowlevel.FdStream) -> None:
        while data := await self._next(stream):
            await self._read.send((number, data))

    async def _next(self, stream: trio.lowlevel.FdStream) -> bytes:
        """Return what a stream gives next; nothing at its end."""
        patience = trio.CancelScope(deadline=trio.current_time() + LINGER_S if self._over.is_set() else inf)
        self._patience.add(patience)
        try:
            with patience:
                return bytes(await stream.receive_some(PIECE_BYTES_MAX))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a terminal that nobody has open any more ends in an error
        finally:
            self._patience.discard(patience)
        return b""

    async def send(self, data: bytes) -> None:
        """Give it input; see `Attached`."""
        try:
            await self._input.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PfsError(Kind.BUSY, "the program reads no more") from None

    async def send_eof(self) -> None:
        """Give it no more input; see `Attached`."""
        if self._master is not None:
            await self.send(END_OF_INPUT)
        else:
            self._input.close()

    async def receive(self) -> tuple[int, bytes] | None:
        """Return what it says next; see `Attached`."""
        try:
            return await self._received.receive()
        except trio.EndOfChannel:
            return None

    async def resize(self, terminal: Terminal) -> None:
        """Tell it how large its terminal is; see `Attached`."""
        if self._master is not None:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, keeper.size(terminal.columns, terminal.lines))

    async def signal(self, number: int) -> None:
        """Send a signal to it and its children; see `Attached`."""
        with suppress(ConnectionError):  # it is over
            await self._control.send(bytes([number]))

    async def wait(self) -> int:
        """Return its exit code; see `Attached`."""
        await self._over.wait()
        return self._code
