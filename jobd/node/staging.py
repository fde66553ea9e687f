"""Mounts of opened paths where only this daemon can change them, for as long as a task takes to start.

A container engine and bubblewrap are given paths, and take them again when they mount them. Whoever may rename
something on the way to such a path could lead them elsewhere in between. So what was opened and judged is mounted,
from its descriptor, at a path of this daemon's own; it is that path which they are given, and afterwards it goes.
What is mounted so gives nobody devices or another user's rights (`nodev`, `nosuid`), whatever lies in it.

For that the daemon has to be root, and whoever mounts it on has to see this daemon's mounts. A daemon killed in
between leaves mounts behind, which the next one finds.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobd.node.mounting import attach, clone_of, detach, mounted_at, restrict
from jobd.node.ownlimits import peer

log = logging.getLogger(__name__)


class Staging:
    """A place for such mounts.

    Args:
        directory: root's alone, and on no disk: one that is emptied by force would take what is mounted there along.
        instance: tells this daemon's mounts from those of others.
    """

    def __init__(self, directory: Path, instance: str) -> None:
        self._directory = directory
        self._instance = instance
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob(f"{instance}.*"):
            _take_down(left)

    @contextmanager
    def shown(self, task_id: str, sources: Sequence[tuple[int, bool]]) -> Iterator[list[str]]:
        """Give paths that lead to what descriptors do while the block runs; for one task they are always the same.

        Args:
            sources: descriptors, and whether what they lead to can only be read there.

        Raises:
            OSError: it cannot be done.
        """
        places = [self._directory / f"{self._instance}.{task_id}.{number}" for number in range(len(sources))]
        try:
            for place, (descriptor, read_only) in zip(places, sources, strict=True):
                _put_up(place, descriptor, read_only=read_only)
            yield [str(place) for place in places]
        finally:
            for place in places:
                _take_down(place)


def shares_mounts(engine_url: str) -> bool:
    """Tell whether what listens at a Unix socket sees the mounts of this process."""
    try:
        return os.path.samestat(os.stat(f"/proc/{peer(engine_url)}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
    except OSError:
        return False


def _put_up(place: Path, descriptor: int, *, read_only: bool) -> None:
    if os.path.isdir(f"/proc/self/fd/{descriptor}"):
        place.mkdir(mode=0o700, exist_ok=True)
    else:
        place.touch(mode=0o600)
    clone = clone_of(descriptor, recursive=True)
    try:
        restrict(clone, read_only=read_only, recursive=True)
        attach(clone, str(place))
    finally:
        os.close(clone)


def _take_down(place: Path) -> None:
    """Unmount and remove a place; one that stays is found again by the next daemon."""
    try:
        while mounted_at(place):
            detach(str(place))
        # never by force: what is mounted still keeps its place
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be taken away: %s", place, error.strerror)
