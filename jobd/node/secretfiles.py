"""The secrets of a task as files: at `/run/secrets/<name>`, for its owner to read, in memory and on no disk.

    /dev/shm/pfs-node-<instance>/<task>/<name>
    /dev/shm/pfs-node-<instance>/.state          leads to the daemon's own directory

The directory of a task is made before its start and removed when the task is forgotten. What a daemon left behind that
was killed goes with the start of the next one; where its own directory is gone, so that it will never be back, with the
start of any other on the machine; and all of it with the machine. Nobody but root and the task's owner can read it;
containers and sandboxes have a `/dev/shm` of their own.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jobd.node.runtime import Files, Launch, RuntimeFailure, Volume
from jobd.wire import SECRETS, Assignment

MEMORY = Path("/dev/shm")
_PREFIX, _STATE = "pfs-node-", ".state"


class WithSecrets:
    """A way to the tree (`jobd.node.runtime.Files`), with the secrets of each task beside it.

    Args:
        instance: tells this daemon from others on the machine.
        state: the daemon's own directory (`jobd.node.state`).
        memory: a file system in memory.
    """

    def __init__(self, files: Files, instance: str, state: Path, memory: Path = MEMORY) -> None:
        self._files = files
        self._state = state
        self._memory = memory
        self._directory = memory / f"{_PREFIX}{instance}"
        self.mark = files.mark

    def launch(self, assignment: Assignment) -> Launch:
        """Return what a runtime has to start; its secrets are there.

        Raises:
            RuntimeFailure: it cannot be had, and why.
        """
        launch = self._files.launch(assignment)
        if not assignment.secrets:
            return launch
        try:
            place = self._lay_out(launch, assignment.secrets)
        except OSError as error:
            raise RuntimeFailure(f"the secrets cannot be laid out in {self._memory}: {error.strerror}") from None
        return replace(launch, volumes=(*launch.volumes, Volume(str(place), SECRETS, read_only=True)))

    def _lay_out(self, launch: Launch, secrets: Mapping[str, bytes]) -> Path:
        if not _is_in_memory(self._memory):
            raise RuntimeFailure(f"the job has secrets, and this node has no file system in memory at {self._memory}")
        self._directory.mkdir(mode=0o711, exist_ok=True)
        found = self._directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise RuntimeFailure(f"the directory {self._directory} is somebody else's")
        self._directory.chmod(0o711)  # the owner has to come through
        self._say_whose()
        place = self._directory / launch.task_id
        self._clear(launch.task_id)
        place.mkdir(mode=0o700)
        for name, text in secrets.items():
            _write(place / name, text, launch)
        if launch.uid is not None and os.geteuid() == 0:
            os.chown(place, launch.uid, launch.uid if launch.gid is None else launch.gid)
        place.chmod(0o500)
        return place

    def _say_whose(self) -> None:
        """Note where this daemon's own directory is, which may have been moved since the last time."""
        link, new = self._directory / _STATE, self._directory / f"{_STATE}.new"
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(self._state):
                return
        new.unlink(missing_ok=True)
        new.symlink_to(self._state)
        new.rename(link)

    def _clear(self, task_id: str) -> None:
        shutil.rmtree(self._directory / task_id, ignore_errors=True)

    async def bring(self, assignment: Assignment) -> None:
        """Return when what the task shall see is there.

        Raises:
            RuntimeFailure: it cannot be had, and why.
        """
        await self._files.bring(assignment)

    async def leave(self, task_id: str) -> None:
        """A task is gone, and its secrets with it."""
        self._clear(task_id)
        if self._directory.is_dir() and [path.name for path in self._directory.iterdir()] == [_STATE]:
            shutil.rmtree(self._directory, ignore_errors=True)  # it was the last one
        await self._files.leave(task_id)

    async def take_up(self, tasks: Sequence[str]) -> None:
        """Go on with what these tasks of a daemon before this one have, and end what all others had."""
        if self._directory.is_dir():
            self._say_whose()
            for task_id in {place.name for place in self._directory.iterdir()} - {_STATE, *tasks}:
                self._clear(task_id)
        for place in self._memory.glob(f"{_PREFIX}*"):
            if place != self._directory and _is_abandoned(place):
                shutil.rmtree(place, ignore_errors=True)
        await self._files.take_up(tasks)


def _is_abandoned(place: Path) -> bool:
    """Tell whether the daemon that made this place can never be back, since its own directory is gone."""
    try:
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        state = os.readlink(place / _STATE)
    except OSError:
        return False
    try:
        return Path(state, "instance").read_text().strip() != place.name.removeprefix(_PREFIX)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _write(path: Path, text: bytes, launch: Launch) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with open(descriptor, "wb") as file:
        file.write(text)
        if launch.uid is not None and os.geteuid() == 0:
            os.fchown(descriptor, launch.uid, launch.uid if launch.gid is None else launch.gid)


def _is_in_memory(path: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return any(mount[1] == str(path) and mount[2] in ("tmpfs", "ramfs") for mount in mounts)
