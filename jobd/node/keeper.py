"""A program: runs another one in a sandbox that stands, and sees to its end.

    python -m jobd.node.keeper PID CONTROL ORDER PIDFD [STREAM STREAM STREAM]     all but PID: descriptors

PID is a process of the sandbox, which PIDFD keeps from being another one. What is run gets the streams, or a terminal
of the sandbox's own; it is as confined as that process, in its directory, with its variables.

    daemon ── control ── keeper ─ ─ ─ door (enters the sandbox, and ends at once)
                            └───────────── program

The keeper itself stays outside. It is the program's parent, with whose death it dies, and buries it: a sandbox cannot
end before all that was in it is buried. It ends the whole session when the program is over, or the daemon is gone.

On `control` the daemon writes a byte for each signal that the program and its group shall get. It is told `terminal`,
with the descriptor of one; `began` or `refused KIND WORDS`; and last `over CODE`.
"""

import fcntl
import json
import os
import select
import socket
import struct
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jobd.node import processes
from jobd.node.confined import Confinement, adopt_orphans, become, confinement, filter_calls
from jobd.node.namespaces import USER, apart, enter
from pfs.errors import Kind

TERMINAL, BEGAN, REFUSED, OVER = "terminal", "began", "refused", "over"
PROCESS_IS_OVER = "the process is over"

# a sandbox's own shell, which sets the mark and becomes the task's program
_SHELL, _MARK = [b"sh", b"-s", b"--"], b"HOSTNAME="
_SET_UP_S, _LOOK_EVERY_S = 5.0, 0.01


@dataclass(frozen=True, slots=True)
class _Order:
    """What shall be run, and where.

    Attributes:
        program: the arguments of `attach.exec`.
        process: descriptor of a process of the sandbox.
        directory: descriptor of its directory.
        streams: descriptors of what the program reads and writes; none where it gets a terminal.
        kinds: of namespaces that have to be entered.
    """

    program: dict[str, Any]
    process: int
    directory: int
    streams: Sequence[int]
    kinds: int
    confinement: Confinement
    environment: dict[bytes, bytes]


def main(pid: int, control: socket.socket, order: int, process: int, *streams: int) -> None:
    """Do it."""
    for descriptor in (control.fileno(), order, process, *streams):
        os.set_inheritable(descriptor, False)
    adopt_orphans()
    with open(order, "rb") as file:
        program = json.load(file)
    try:
        directory = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        taken = _Order(program, process, directory, streams, apart(pid), confinement(pid), _environment(pid))
    except (FileNotFoundError, ProcessLookupError):
        return _tell(control, f"{REFUSED} {Kind.BUSY} {PROCESS_IS_OVER}")
    except OSError as error:
        return _tell(control, f"{REFUSED} {Kind.DENIED} the sandbox cannot be entered: {error.strerror}")
    trouble, begun = _begin(taken, control)
    words = _trouble(trouble, control)
    if words:
        _tell(control, f"{REFUSED} {words}")
    elif begun is not None:
        _tell(control, BEGAN)
        _stay(control, begun)
    if begun is not None:
        processes.end_session(begun)
        code = os.waitstatus_to_exitcode(os.waitpid(begun, 0)[1])
        _tell(control, f"{OVER} {code if code >= 0 else 128 - code}")


def _tell(control: socket.socket, text: str) -> None:
    with suppress(OSError):  # nobody listens any more
        control.send(text.encode())


def _environment(pid: int) -> dict[bytes, bytes]:
    """Return what a process began with, or one below it where it has written its title over that."""
    deadline_s = time.monotonic() + _SET_UP_S
    while _words_of(pid, "cmdline")[:3] == _SHELL and time.monotonic() < deadline_s:
        time.sleep(_LOOK_EVERY_S)  # it has just been started, and is not the task's program yet
    first = processes.find(pid)
    if first is None:
        raise ProcessLookupError
    found: list[bytes] = []
    for each in (pid, *(process.pid for process in processes.descendants(first))):
        with suppress(FileNotFoundError, ProcessLookupError):
            found = _words_of(each, "environ")
            if any(word.startswith(_MARK) for word in found):
                break
    pairs = [word.partition(b"=") for word in found]
    return {name: value for name, is_pair, value in pairs if name and is_pair}


def _words_of(pid: int, name: str) -> list[bytes]:
    return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")


def _begin(order: _Order, control: socket.socket) -> tuple[int, int | None]:
    """Begin the program; return a descriptor that tells what keeps it from that, and its number if there is one."""
    for stream in order.streams:
        os.fchown(stream, order.confinement.uid, order.confinement.gid)  # else it could not open them by their names
    trouble, told = os.pipe()
    number, numbered = os.pipe()
    wait, go = os.pipe()
    door = os.fork()
    if door == 0:
        try:
            enter(order.process, order.kinds)
            begun = os.fork()
            if begun != 0:
                os.write(numbered, str(begun).encode())
                os._exit(0)
            os.close(numbered)
            os.close(go)
            _become(order, control, wait)
        except OSError as error:
            os.write(told, _words(order, error).encode(errors="replace"))
        finally:
            os._exit(127)
    for descriptor in (told, numbered, wait, order.directory, *order.streams):
        os.close(descriptor)
    found = os.read(number, 32)
    os.close(number)
    os.waitpid(door, 0)
    # the program is this one's child from now on: the door was its parent
    os.write(go, b"!")
    os.close(go)
    return trouble, int(found) if found else None


def _become(order: _Order, control: socket.socket, wait: int) -> NoReturn:
    """Become the program."""
    if not os.read(wait, 1):
        os._exit(127)  # the keeper is gone
    os.setsid()
    become(order.confinement, has_ids=bool(order.kinds & USER))
    os.fchdir(order.directory)
    if order.program["tty"]:
        # opened by its owner, as all that is made in the sandbox
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size(order.program["columns"], order.program["lines"]))
        socket.send_fds(control, [TERMINAL.encode()], [master])
        os.login_tty(slave)
    for number, stream in enumerate(order.streams):
        os.dup2(stream, number)
    filter_calls()
    words = [os.fsencode(word) for word in order.program["argv"]]
    given = {os.fsencode(name): os.fsencode(value) for name, value in order.program["env"].items()}
    os.execvpe(words[0], words, {**order.environment, **given})


def _words(order: _Order, error: OSError) -> str:
    program = order.program["argv"][0]
    if isinstance(error, ProcessLookupError):
        return f"{Kind.BUSY} {PROCESS_IS_OVER}"
    if isinstance(error, FileNotFoundError | NotADirectoryError) and error.filename is not None:
        return f"{Kind.NOT_FOUND} no such program: {program}"
    return f"{Kind.DENIED} {program} cannot be run here: {error.strerror}"


def size(columns: int, lines: int) -> bytes:
    """Return how large a terminal is, as the kernel is told."""
    return struct.pack("HHHH", lines, columns, 0, 0)


def _trouble(trouble: int, control: socket.socket) -> str:
    """Return what keeps the program from beginning, or from going on where the daemon is gone; "" when it has begun."""
    poll = select.poll()
    poll.register(trouble, select.POLLIN)
    poll.register(control, select.POLLIN)
    ready = dict(poll.poll())
    if trouble not in ready:
        return f"{Kind.BUSY} the daemon is gone"  # before it has begun nothing else comes
    return os.read(trouble, 4096).decode()


def _stay(control: socket.socket, begun: int) -> None:
    """Pass signals on until the program is over or the daemon is gone."""
    end = os.pidfd_open(begun)
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.register(control, select.POLLIN)
    while end not in dict(poll.poll()):
        numbers = control.recv(1)
        if not numbers:
            return
        with suppress(ProcessLookupError):
            os.killpg(begun, numbers[0])


if __name__ == "__main__":
    task, channel, *others = map(int, sys.argv[1:])
    with socket.socket(fileno=channel) as opened:
        main(task, opened, *others)
