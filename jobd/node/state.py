"""The node daemon's own directory: what a restarted daemon must know and no runtime remembers.

    lock              held while a daemon runs: two on one directory would run everything twice
    instance          tells this node's containers from those of another daemon on the same engine
    key               the machine's own key (`jobd.node.ownkey`)
    stops/<task>      a stop that was asked for, and the moment at which patience ends
    gates/<task>/     what holds its program back until the server lets it begin (`jobd.node.gate`)
    files/<task>/     what it has at the top of what it sees (`jobd.node.topfiles`)
    docker/ sandbox/  the runtimes' own

Times are those of CLOCK_BOOTTIME: setting the clock moves no deadline, and no task outlives a restart of the machine.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Container
from pathlib import Path
from types import TracebackType

from pfs.errors import Kind, PfsError


def boot_id() -> str:
    """Return what is different after each restart of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boottime() -> float:
    """Return seconds since the machine started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def keep_only_of(directory: Path, tasks: Container[str]) -> None:
    """Remove what a directory, if it is there, has for all other tasks, each under its id."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name not in tasks:
            shutil.rmtree(path, ignore_errors=True)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill -9 in between, sees the old or the new one whole."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


class StateDir:
    """The directory, locked for this process.

    Raises:
        PfsError: BUSY when another daemon has it, DENIED or IO when it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            (path / "stops").mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            text = f"no right to keep the node's state in {path}; use sudo, or see --state-dir"
            raise PfsError(Kind.DENIED, text) from None
        except OSError as error:
            raise PfsError(Kind.IO, f"cannot keep the node's state in {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise PfsError(Kind.BUSY, f"another gradient-node runs with the state in {path}") from None
        try:
            self.instance = self._instance()
        except OSError as error:
            os.close(self._lock)
            raise PfsError(Kind.IO, f"cannot keep the node's state in {path}: {error.strerror}") from None

    def __enter__(self) -> "StateDir":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let another daemon have the directory."""
        os.close(self._lock)

    def _instance(self) -> str:
        file = self.path / "instance"
        if not file.exists():
            replace_file(file, secrets.token_hex(8))
        return file.read_text()

    def put_stop(self, task_id: str, deadline_s: float) -> None:
        """Keep that the task is to be over at `deadline_s` (boot time)."""
        replace_file(self.path / "stops" / task_id, json.dumps({"boot_id": boot_id(), "deadline_s": deadline_s}))

    def stop_deadline_s(self, task_id: str) -> float | None:
        """Return the boot time at which a stop asked for earlier ends with KILL; None when none was asked for."""
        try:
            stop = json.loads((self.path / "stops" / task_id).read_text())
            return float(stop["deadline_s"]) if stop["boot_id"] == boot_id() else 0.0
        except FileNotFoundError:
            return None

    def drop_stop(self, task_id: str) -> None:
        """Forget the stop of a task that is over."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "stops" / task_id).unlink()
