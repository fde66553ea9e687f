"""From what the server assigns to what a runtime is told: names under the data root become paths of this machine."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.wire import Assignment, TaskVolume
from pfs.errors import Kind, PfsError
from pfs.path import split

ID_FILE = ".pfs-id"


class DataRoot:
    """The server's tree as this machine reaches it.

    Attributes:
        mark: what tells this tree from every other.

    Raises:
        PfsError: INVALID when there is no such tree, DENIED when it may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark: str | None
        try:
            self.mark = (path / ID_FILE).read_text().strip()
            self._owner = path.stat()
        except PermissionError:
            raise PfsError(Kind.DENIED, f"no right to read the data root {path}; use sudo") from None
        except OSError:
            raise PfsError(Kind.INVALID, f"{path} is no data root: it holds no {ID_FILE}; see --data-root") from None

    def launch(self, assignment: Assignment) -> Launch:
        """Return what a runtime has to start.

        Raises:
            RuntimeFailure: a directory that the task shall see is not there, or not under the data root.
        """
        uid, gid = assignment.uid, assignment.gid
        if uid is None and os.geteuid() == 0:
            # the server serves one person, whose tree it is
            uid, gid = self._owner.st_uid, self._owner.st_gid
        volumes = tuple(Volume(self._find(v), v.target, v.read_only) for v in assignment.volumes)
        return launch_of(assignment, uid, gid, volumes)

    async def bring(self, assignment: Assignment) -> None:
        """The tree is there already."""

    async def leave(self, task_id: str) -> None:
        """The tree stays."""

    async def take_up(self, tasks: Sequence[str]) -> None:
        """The tree is there."""

    def has(self, volume: Volume) -> bool:
        """Tell whether a volume lies in this tree."""
        return volume.source.startswith(f"{self.path}/")

    def is_movable(self, volume: Volume) -> bool:
        """Tell whether the owner of a job could lead a volume elsewhere: not at the top of a domain."""
        match self._below(volume.source):
            case [_] | ["home" | "groups", _] | ["jobs", _, "data"]:
                return False
        return True

    def reopen(self, volume: Volume) -> int:
        """Open the directory of a volume, which cannot be led elsewhere after that.

        Raises:
            RuntimeFailure: it is not there any more.
        """
        return self._open("/".join(self._below(volume.source)))

    def _below(self, path: str) -> list[str]:
        return path.removeprefix(f"{self.path}/").split("/")

    def _find(self, volume: TaskVolume) -> str:
        """Return the path of a volume."""
        os.close(self._open(volume.source))
        return str(self.path / volume.source)

    def _open(self, source: str) -> int:
        try:
            return open_directory(self.path, source)
        except PfsError as error:
            raise RuntimeFailure(f"the volume {source!r} is no path of the tree: {error}") from None
        except OSError as error:
            raise RuntimeFailure(f"the volume {source!r} cannot be had: {error.strerror}") from None


def open_directory(tree: Path, source: str) -> int:
    """Open a directory of a tree; every part of its path is one, none a link that a user may have made.

    Raises:
        PfsError: INVALID when it is no path.
        OSError: there is no such directory.
    """
    descriptor = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in split(source):
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def launch_of(assignment: Assignment, uid: int | None, gid: int | None, volumes: tuple[Volume, ...]) -> Launch:
    """Return what a runtime has to start, as somebody and with volumes of this machine."""
    return Launch(
        task_id=assignment.task_id,
        argv=assignment.argv,
        env={**_person(assignment), **assignment.env},
        workdir=assignment.workdir,
        hostname=assignment.hostname,
        image=assignment.image,
        uid=uid,
        gid=gid,
        gids=() if uid is None else assignment.gids,
        volumes=volumes,
        cpus=assignment.cpus,
        memory_bytes=assignment.memory_bytes,
        gpus=assignment.gpus,
        hosts=assignment.hosts,
        network=assignment.network,
        overlay=assignment.overlay,
        shm_bytes=assignment.shm_bytes,
        credential=assignment.credential,
        pinned=assignment.pinned,
        extended=assignment.extended,
    )


def _person(assignment: Assignment) -> Mapping[str, str]:
    """Return the variables that tell programs who runs them; an image knows neither its user's name nor home."""
    name = assignment.env.get("PFS_USER", "user")
    return {"HOME": assignment.env.get("USER_DIR", assignment.workdir), "USER": name, "LOGNAME": name}
