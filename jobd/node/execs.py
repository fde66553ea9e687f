"""A program beside a task in its container, as the engine runs it: with the container's user, walls and limits.

The engine gives what it says over the connection by which it was begun, and takes its input there. It knows no way to
end what it has begun. So that is done from outside: all of the program's session is killed when the block ends. A
daemon without root has a shell in the container kill the program's group. What runs on another machine is not reached,
and ends with its container at the latest. Which programs there are is written down, so that a daemon that comes after
one that was killed ends what that one has left.
"""

import logging
import re
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import trio

from jobd.attach import PIECE_BYTES_MAX, STDOUT, Program, Terminal
from jobd.node import processes
from jobd.node.dialing import connected, dial, nothing_listens
from jobd.node.engine import CONFLICT, NOT_FOUND, Engine, Refusal
from jobd.node.enginestreams import Frames
from jobd.node.entering import END_OF_INPUT
from jobd.node.keeper import PROCESS_IS_OVER
from jobd.node.runtime import RuntimeAway
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

EXECS = "execs"  # in a task's directory
PAUSE_FIRST_S, PAUSE_MOST_S = 0.01, 0.5
END_S = 5.0
_MISSING = ("executable file not found", "no such file or directory")


@asynccontextmanager
async def executed(engine: Engine, container: str, directory: Path, program: Program) -> AsyncIterator["Executed"]:
    """Run a program in a container while the block runs.

    Args:
        directory: the task's.

    Raises:
        PfsError: NOT_FOUND, DENIED: it cannot be run; BUSY: the container does not run.
        RuntimeAway
    """
    state = await engine.state(container)
    if state is None or not state["Running"]:
        raise PfsError(Kind.BUSY, PROCESS_IS_OVER)
    has_terminal = program.terminal is not None
    try:
        made = await engine.call(
            lambda client: client.exec_create(
                container, list(program.argv), stdin=True, tty=has_terminal, environment=dict(program.env)
            )
        )
        mark = _noted(directory / EXECS, str(made["Id"]))
        wish: dict[str, Any] = {"Detach": False, "Tty": has_terminal}
        if program.terminal is not None:  # older engines do not know this, and are told once it runs
            wish["ConsoleSize"] = [program.terminal.lines, program.terminal.columns]
        stream = await engine.upgraded(f"/exec/{made['Id']}/start", wish)
    except Refusal as refusal:
        if refusal.status in (NOT_FOUND, CONFLICT):
            raise PfsError(Kind.BUSY, PROCESS_IS_OVER) from None
        raise RuntimeAway(str(refusal)) from None
    inside = Executed(engine, str(made["Id"]), str(state["Id"]), stream, has_terminal=has_terminal)
    async with stream:
        try:
            await inside.begin(program)
            yield inside
        finally:
            with trio.move_on_after(END_S, shield=True):
                await end(engine, mark, str(state["Id"]))


async def end(engine: Engine, mark: Path, container: str) -> None:
    """End a program with all of its session, as far as this daemon can, and strike it off."""
    try:
        told = await engine.ask(f"/exec/{mark.name}/json")
        if not told["Pid"]:
            return _strike_off(mark)  # it was never begun
        try:
            await trio.to_thread.run_sync(processes.end_session, int(told["Pid"]), container)
        except PermissionError:
            await _signal_by_shell(engine, container, int(told["Pid"]), signal.SIGKILL)
    except Refusal as refusal:
        log.debug("%s", refusal)  # its container is gone, and the program with it
    except RuntimeAway as error:
        log.warning("%s", error)
        return
    _strike_off(mark)


def _noted(directory: Path, name: str) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    mark = directory / name
    mark.touch(0o600)
    return mark


def _strike_off(mark: Path) -> None:
    mark.unlink(missing_ok=True)


async def _signal_by_shell(engine: Engine, container: str, pid: int, number: int) -> None:
    """Send a signal to a group of processes in a container by a shell there, which may what this daemon may not."""
    status = await trio.to_thread.run_sync(_status, pid)
    inside = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
    if inside is None:
        return  # it is over

    def shell(client: docker.APIClient) -> bool:
        made = client.exec_create(container, ["sh", "-c", f"kill -{number} -- -{inside[1]}"])
        client.exec_start(made["Id"])
        return bool(client.exec_inspect(made["Id"])["ExitCode"] == 0)

    if not await engine.call(shell):
        log.warning("a program in container %s cannot be reached by this daemon, which is not root", container)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


async def end_left(engine: Engine, container: str, directory: Path) -> None:
    """End the programs that a daemon which was killed has left in a container."""
    marks = list((directory / EXECS).glob("*"))
    if not marks:
        return
    try:
        state = await engine.state(container)
    except RuntimeAway as error:
        log.warning("%s", error)
        return
    for mark in marks:
        if state is None:
            _strike_off(mark)  # they are gone with it
        else:
            await end(engine, mark, str(state["Id"]))


async def dialled(engine: Engine, container: str, port: int) -> trio.SocketStream:
    """Return a connection to a port of a container's own loopback, or of its address where nobody gets to that.

    Raises:
        PfsError: UNREACHABLE: nothing listens there; BUSY: the container does not run.
        RuntimeAway
    """
    state = await engine.state(container)
    if state is None or not state["Running"]:
        raise PfsError(Kind.BUSY, PROCESS_IS_OVER)
    if processes.belongs_to(int(state["Pid"]), str(state["Id"])):
        with suppress(PermissionError):
            return await dial(int(state["Pid"]), port, own=False)
    try:
        told = await engine.ask(f"/containers/{state['Id']}/json")
    except Refusal as refusal:
        raise RuntimeAway(str(refusal)) from None
    for network in (told["NetworkSettings"].get("Networks") or {}).values():
        if address := network.get("IPAddress"):
            with suppress(OSError):
                return await connected(socket.socket(), str(address), port)
    raise nothing_listens()


class Executed:
    """A program that runs in a container; see `jobd.node.runtime.Attached`."""

    def __init__(
        self, engine: Engine, name: str, container: str, stream: trio.SocketStream, *, has_terminal: bool
    ) -> None:
        self._engine = engine
        self._name = name
        self._container = container
        self._stream = stream
        self._has_terminal = has_terminal
        self._frames = Frames(self._some)
        self._ready: deque[tuple[int, bytes]] = deque()
        self._pid = 0

    async def begin(self, program: Program) -> None:
        """Return once it runs, or has run.

        Raises:
            PfsError: it cannot be run.
        """
        # one that is yet to be begun does not run either, but has no exit code
        told = await self._told(lambda told: told["Pid"] or told["ExitCode"] is not None)
        self._pid = int(told["Pid"])
        if not self._pid:
            words = ""
            while (piece := await self.receive()) is not None:
                words += piece[1].decode(errors="replace")
            raise refused(program.argv[0], words)
        if program.terminal is not None:
            await self.resize(program.terminal)

    async def _told(self, enough: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return what the engine tells of it once that is enough."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                told = await self._engine.ask(f"/exec/{self._name}/json")
            except Refusal as refusal:
                if refusal.status == NOT_FOUND:  # with its container
                    return {"Pid": self._pid, "Running": False, "ExitCode": 137}
                raise RuntimeAway(str(refusal)) from None
            if enough(told):
                return dict(told)
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MOST_S)

    async def _some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(PIECE_BYTES_MAX))
        except trio.BrokenResourceError:
            return b""

    async def send(self, data: bytes) -> None:
        """Give it input; see `Attached`."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PfsError(Kind.BUSY, "the program reads no more") from None

    async def send_eof(self) -> None:
        """Give it no more input; see `Attached`."""
        if self._has_terminal:
            await self.send(END_OF_INPUT)
        else:
            await self._stream.send_eof()

    async def receive(self) -> tuple[int, bytes] | None:
        """Return what it says next; see `Attached`."""
        if self._has_terminal:
            data = await self._some()
            return (STDOUT, data) if data else None
        if not self._ready:
            self._ready += await self._frames.next()
        return self._ready.popleft() if self._ready else None

    async def resize(self, terminal: Terminal) -> None:
        """Tell it how large its terminal is; see `Attached`."""
        if self._has_terminal and terminal.lines and terminal.columns:
            try:
                await self._engine.call(lambda client: client.exec_resize(self._name, terminal.lines, terminal.columns))
            except Refusal as refusal:
                log.debug("%s", refusal)  # it is over

    async def signal(self, number: int) -> None:
        """Send a signal to it and its children; see `Attached`."""
        if not processes.belongs_to(self._pid, self._container) and processes.find(self._pid) is not None:
            raise PfsError(Kind.UNSUPPORTED, "the container engine of this node is on another machine")
        try:
            await trio.to_thread.run_sync(processes.send_to_group, self._pid, number, self._container)
        except PermissionError:
            await _signal_by_shell(self._engine, self._container, self._pid, number)

    async def wait(self) -> int:
        """Return its exit code; see `Attached`."""
        told = await self._told(lambda told: told["ExitCode"] is not None)
        return int(told["ExitCode"])


def refused(program: str, words: str) -> PfsError:
    """Return what is said of a program that the engine could not begin."""
    if any(missing in words for missing in _MISSING):
        return PfsError(Kind.NOT_FOUND, f"no such program: {program}")
    found = re.search(r'exec: "[^"]*": (.*?)(?:: unknown)?\s*$', words)
    return PfsError(Kind.DENIED, f"{program} cannot be run here: {found[1] if found else words.strip()}")
