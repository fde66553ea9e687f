"""From what the server assigns to what a runtime is told: names under the data root become paths of this machine."""

import os
from collections.abc import Mapping
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
        try:
            self.mark = (path / ID_FILE).read_text().strip()
            self._owner = path.stat()
        except PermissionError:
            raise PfsError(Kind.DENIED, f"no right to read the data root {path}") from None
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
        return Launch(
            task_id=assignment.task_id,
            argv=assignment.argv,
            env={**_person(assignment), **assignment.env},
            workdir=assignment.workdir,
            hostname=assignment.hostname,
            image=assignment.image,
            uid=uid,
            gid=gid,
            volumes=tuple(Volume(self._find(v), v.target, v.read_only) for v in assignment.volumes),
            cpus=assignment.cpus,
            memory_bytes=assignment.memory_bytes,
            gpus=assignment.gpus,
            hosts=assignment.hosts,
            network=assignment.network,
            overlay=assignment.overlay,
            shm_bytes=assignment.shm_bytes,
        )

    def _find(self, volume: TaskVolume) -> str:
        """Return the path of a volume; every part of it is a directory, none a link that a user may have made."""
        descriptor = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in split(volume.source):
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(part, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except PfsError as error:
            raise RuntimeFailure(f"the volume {volume.source!r} is no path of the tree: {error}") from None
        except OSError as error:
            raise RuntimeFailure(f"the volume {volume.source!r} cannot be had: {error.strerror}") from None
        finally:
            os.close(descriptor)
        return str(self.path / volume.source)


def _person(assignment: Assignment) -> Mapping[str, str]:
    """Return the variables that tell programs who runs them; an image knows neither its user's name nor home."""
    name = assignment.env.get("PFS_USER", "user")
    return {"HOME": assignment.env.get("USER_DIR", assignment.workdir), "USER": name, "LOGNAME": name}
