"""The watchdog: ends tasks that the server starts elsewhere when it has not heard of this node for long enough.

It is a process of its own, which outlives the daemon: a node whose daemon is gone, or which is cut off, must not go on
with what runs on another machine by then. The server waits for half a minute longer than the watchdog, so TERM comes
first, and KILL while there is still time. What is not there yet, since its image is being fetched, is not started by
the daemon when its time is over, and the watchdog goes on looking for it. In the state directory:

    watchdog/lock          held while a watchdog lives
    watchdog/contact       when the last question was asked that the server answered: boot id, and boot time
    watchdog/<task>        how to reach the task, how long it may be without contact, whether it was ended for that

No task outlives a restart of the machine, so nothing here needs to: none of it waits for a disk.
"""

import contextlib
import fcntl
import http.client
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from jobd.node import record, supervisor
from jobd.node.state import boot_id, boottime

GRACE_S = 15.0
AGAIN_S = 2.0
CALL_TIMEOUT_S = 10.0
_CONTACT, _LOCK = "contact", "lock"


@dataclass(frozen=True, slots=True)
class Ward:
    """A task that is watched.

    Attributes:
        within_s: how long it may be without contact.
        reach: what its runtime gave to reach it by (`Runtime.reach`).
        ended: the watchdog has begun to end it.
    """

    within_s: float
    reach: Mapping[str, str]
    ended: bool = False


class Standing(Enum):
    """How a task stands; one that is gone without a trace might come yet."""

    NOT_YET = "not yet"
    THERE = "there"
    OVER = "over"


class Watchdog:
    """The daemon's side: says what is watched and that there was contact, and sees that a watchdog runs.

    Args:
        state: the daemon's state directory.
        spawn: starts a watchdog for a state directory and returns its process id.
    """

    def __init__(self, state: Path, spawn: Callable[[Path], int] | None = None) -> None:
        self._directory = state / "watchdog"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._spawn = spawn or _spawn
        self._pid: int | None = None
        if _boot(self._directory) != boot_id():
            for path in self._directory.iterdir():
                path.unlink()
        self._watched = {task_id for task_id, _ in _wards(self._directory)}

    def watch(self, task_id: str, within_s: float, reach: Mapping[str, str]) -> None:
        """Have a task ended when there was no contact for so long."""
        if not self._watched:
            self._note_contact(boottime())
        self._watched.add(task_id)
        _put(self._directory, task_id, Ward(within_s, dict(reach)))
        self._see_that_one_runs()

    def drop(self, task_id: str) -> None:
        """Watch a task no more."""
        if task_id in self._watched:
            self._watched.discard(task_id)
            with _changing(self._directory):
                (self._directory / task_id).unlink(missing_ok=True)

    def keep_only(self, tasks: Collection[str]) -> None:
        """Watch nothing but these tasks: one that was never made would be looked for as long as the machine runs."""
        for task_id in self._watched.difference(tasks):
            self.drop(task_id)

    def has_ended(self, task_id: str) -> bool:
        """Tell whether the watchdog has begun to end a task."""
        return task_id in self._watched and _ward(self._directory / task_id).ended

    def is_overdue(self, task_id: str) -> bool:
        """Tell whether a task may not be without contact any longer."""
        if task_id not in self._watched:
            return False
        return _contact(self._directory) + _ward(self._directory / task_id).within_s <= boottime()

    def contact(self, asked_s: float) -> None:
        """Note that the server answered what was asked at `asked_s` (boot time)."""
        if self._watched:
            self._note_contact(asked_s)
            self._see_that_one_runs()

    def _note_contact(self, asked_s: float) -> None:
        _replace(self._directory / _CONTACT, f"{boot_id()} {asked_s!r}")

    def _see_that_one_runs(self) -> None:
        if self._pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)
        lock = _lock(self._directory)
        if lock is not None:
            os.close(lock)
            self._pid = self._spawn(self._directory.parent)


def run(state: Path, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = boottime) -> None:
    """Watch until nothing is left to be watched, or there is another watchdog."""
    directory = state / "watchdog"
    lock = _lock(directory)
    if lock is None:
        return
    while (pause_s := _look(directory, clock())) < math.inf:
        sleep(pause_s)


def _look(directory: Path, now_s: float) -> float:
    """Do what is due; return how long nothing will be, infinity when nothing will ever be."""
    pause_s = math.inf
    for task_id, ward in _wards(directory):
        left_s = _contact(directory) + ward.within_s - now_s
        if left_s > 0:
            pause_s = min(pause_s, left_s)
            continue
        standing = _standing(ward.reach)
        if standing is Standing.OVER:
            continue
        if standing is Standing.THERE:
            if not ward.ended and not _note_end(directory, task_id, ward):
                continue
            _send(ward.reach, signal.SIGTERM if left_s > -GRACE_S else signal.SIGKILL)
        pause_s = min(pause_s, AGAIN_S)
    return pause_s


def _wards(directory: Path) -> Iterator[tuple[str, Ward]]:
    for path in sorted(directory.iterdir()):
        # task ids hold dots, and so do the names of files that are not yet whole
        if path.name not in (_CONTACT, _LOCK) and not path.name.endswith(".new"):
            with contextlib.suppress(FileNotFoundError):
                yield path.name, _ward(path)


def _ward(path: Path) -> Ward:
    return Ward(**json.loads(path.read_text()))


def _put(directory: Path, task_id: str, ward: Ward) -> None:
    _replace(directory / task_id, json.dumps(asdict(ward)))


def _note_end(directory: Path, task_id: str, ward: Ward) -> bool:
    """Note that a task is ended for its lack of contact; False when it is watched no more."""
    with _changing(directory):
        if not (directory / task_id).exists():
            return False
        _put(directory, task_id, replace(ward, ended=True))
        return True


@contextlib.contextmanager
def _changing(directory: Path) -> Iterator[None]:
    """Keep the other side from noting an end, or from dropping a task, meanwhile."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.rename(path)


def _contact(directory: Path) -> float:
    return float((directory / _CONTACT).read_text().split()[1])


def _boot(directory: Path) -> str:
    try:
        return (directory / _CONTACT).read_text().partition(" ")[0]
    except FileNotFoundError:
        return ""


def _lock(directory: Path) -> int | None:
    """Take the lock of the one watchdog; None when there is one."""
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _standing(reach: Mapping[str, str]) -> Standing:
    """Tell how a task stands; what an engine does not tell counts as there."""
    if "directory" in reach:
        directory = Path(reach["directory"])
        if not (directory / record.NAME).exists():
            return Standing.NOT_YET
        return Standing.OVER if record.is_over(directory) else Standing.THERE
    try:
        status, answer = _ask(reach["engine"], "GET", f"/containers/{reach['container']}/json")
    except OSError:
        return Standing.THERE
    if status == http.client.NOT_FOUND:
        return Standing.NOT_YET
    state = json.loads(answer)["State"] if status == http.client.OK else {}
    if state.get("Status") == "created":
        return Standing.NOT_YET
    return Standing.OVER if state.get("Running") is False else Standing.THERE


def _send(reach: Mapping[str, str], number: int) -> None:
    if "directory" in reach:
        found = supervisor.supervisor_of(Path(reach["directory"]))
        if found is not None:
            supervisor.send(found, number)
        return
    # an engine that does not answer is asked again
    with contextlib.suppress(OSError):
        _ask(reach["engine"], "POST", f"/containers/{reach['container']}/kill?signal={number}")


def _ask(engine: str, method: str, path: str) -> tuple[int, bytes]:
    connection = _Connection(engine)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an engine, `unix:///path` or `tcp://host:port`."""

    def __init__(self, engine: str) -> None:
        scheme, _, rest = engine.partition("://")
        self._path = rest if scheme == "unix" else None
        super().__init__("engine" if scheme == "unix" else rest, timeout=CALL_TIMEOUT_S)

    def connect(self) -> None:
        """Connect."""
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_TIMEOUT_S)
        self.sock.connect(self._path)


def _spawn(state: Path) -> int:
    """Start a watchdog that no daemon's end and no terminal's concerns."""
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    command = [sys.executable, "-m", "jobd.node.watchdog", str(state)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=streams, setsid=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
