"""The trash of the server: what jobs that their owners removed have on disk, until it is brought back or too old.

<data root>/server/trash/<id>      all that a job had in `jobs/<id>`, for `TRASH_KEPT_S`; its time says since when
<data root>/server/trash/<id>.…    what is on its way out, and what a crash left of that

Whether a job was removed stands in its row, and its files follow: they are moved while `turn` is held, from before the
row is read or written until they are where it says.
"""

import os
from collections.abc import Sequence

import trio

from pfs.disk.domains import Disk
from pfs.disk.removal import move_aside, remove_tree
from pfs.errors import Kind, PfsError

TRASH = "server/trash"
TRASH_KEPT_DAYS = 14
TRASH_KEPT_S = TRASH_KEPT_DAYS * 86_400.0
PARTS = ("src", "keep", "out", "tmp")
_AT = tuple(f"data/{part}" for part in PARTS)  # at which mounts may have looked


class Trash:
    """Takes what jobs have on disk out of sight, and brings it back.

    Attributes:
        turn: held by who moves what a job has after its row, or before it.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._is_made = False
        self.turn = trio.Lock()

    async def put(self, job_id: int) -> None:
        """Take everything that a job has on disk out of sight; `sweep` removes it after `TRASH_KEPT_S`."""
        self._make()
        if await move_aside(self._disk, f"jobs/{job_id}", f"{TRASH}/{job_id}", _AT):

            def work() -> None:
                with self._disk.directory(TRASH) as trash:
                    os.utime(str(job_id), dir_fd=trash, follow_symlinks=False)  # it tells since when it is there

            await self._disk.run(work)
            self._disk.counts.doubt()

    async def bring_back(self, job_id: int) -> None:
        """Let a job have again what `put` took; what is not there was never taken, or is back."""
        self._make()
        if await move_aside(self._disk, f"{TRASH}/{job_id}", f"jobs/{job_id}", _AT):
            self._disk.counts.doubt()

    async def sweep(self, now_s: float) -> None:
        """Remove what has been in the trash for long, and what a crash left on its way out.

        Args:
            now_s: seconds since the epoch.
        """

        def work() -> list[str]:
            self._make()
            with self._disk.directory(TRASH, os.O_RDONLY) as trash:
                ages = {name: os.stat(name, dir_fd=trash, follow_symlinks=False).st_mtime for name in os.listdir(trash)}
            due = [name for name, at_s in ages.items() if not name.isdigit() or at_s <= now_s - TRASH_KEPT_S]
            return sorted(due, key=str.isdigit)  # what a crash left comes first: the names are needed again

        for name in await self._disk.run(work, long=True):
            await remove_tree(self._disk, TRASH, name)

    async def remove(self, path: str, name: str, parts: Sequence[str] = ()) -> None:
        """Remove a directory for ever, by way of the trash, where it is called `name`."""
        self._make()
        try:
            moved = await move_aside(self._disk, path, f"{TRASH}/{name}", parts)
        except PfsError as error:
            if error.kind not in (Kind.NOT_EMPTY, Kind.EXISTS):
                raise
            await remove_tree(self._disk, TRASH, name)  # what a crash left of the same
            moved = await move_aside(self._disk, path, f"{TRASH}/{name}", parts)
        if moved:
            await remove_tree(self._disk, TRASH, name)

    def _make(self) -> None:
        if not self._is_made:
            self._disk.make_directory_now(TRASH, 0o700, None)
            self._is_made = True
