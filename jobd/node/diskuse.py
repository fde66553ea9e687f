"""How much of the machine's disk a task has written outside its mounts, looked at as seldom as it takes long.

Of a container that is what its image was changed by, `/tmp` among it, and the volumes that the image asks for: not the
job's files, which have their own limits, and nothing in memory. Blocks are counted, not lengths, so that a hole is
free, and what has several names counts once. A look goes over all the files, so the next one waits the longer the
longer that took; in between a program can write more than it may.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from jobd.node.collector import ENDED
from jobd.node.containers import written_at
from jobd.node.engine import Engine, Refusal
from jobd.node.processes import belongs_to
from jobd.node.runtime import RuntimeAway
from jobd.node.state import replace_file

log = logging.getLogger(__name__)

LABEL = "pfs.disk"  # of a container: how many bytes it may write

LOOK_EVERY_S = 5.0
PAUSE_FACTOR, PAUSE_MOST_S = 20.0, 600.0
BREATHE_EVERY, BREATHE_S = 1000, 0.001
THREADS_MAX = 2

_BLOCK_BYTES = 512
_GIB = 1 << 30

_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("disk")


def used_bytes(directories: Sequence[str]) -> int:
    """Return what the files below some directories take; what goes while it is looked at counts or not."""
    total = looked = 0
    counted: set[tuple[int, int]] = set()
    left = list(directories)
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    looked += 1
                    if looked % BREATHE_EVERY == 0:
                        time.sleep(BREATHE_S)  # it is in nobody's way
                    total += _size(entry, counted)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except OSError:
            continue
    return total


def _size(entry: os.DirEntry[str], counted: set[tuple[int, int]]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
        name = found.st_dev, found.st_ino
        if name in counted:
            return 0
        counted.add(name)
    return found.st_blocks * _BLOCK_BYTES


async def end_when_too_large(engine: Engine, container: str, directory: Path) -> None:
    """End a container once it has written more than its label allows; why is noted in the task's directory first."""
    told: dict[str, Any] = {}
    while not (told and told["State"]["Running"]):
        # most are over by then
        await trio.sleep(LOOK_EVERY_S)
        with contextlib.suppress(RuntimeAway, Refusal):
            told = await engine.call(lambda client: client.inspect_container(container))
    most, directories = int(told["Config"]["Labels"].get(LABEL, 0)), written_at(told, _mounts_of(told))
    if not most:
        return
    if not any(map(os.path.isdir, directories)):
        log.warning("%s: the limit of its disk is not kept, since nobody tells where it writes", container)
        return
    used = await exceeded(directories, most)
    replace_file(directory / ENDED, in_words(used, most))
    while True:
        with contextlib.suppress(RuntimeAway, Refusal):
            await engine.call(lambda client: client.kill(container, signal.SIGKILL))
        await trio.sleep(LOOK_EVERY_S)


def _mounts_of(told: Mapping[str, Any]) -> str:
    """Return what the kernel tells of a container's mounts; "" where it does not run on this machine."""
    pid = int(told["State"]["Pid"])
    try:
        return Path(f"/proc/{pid}/mountinfo").read_text() if belongs_to(pid, str(told["Id"])) else ""
    except OSError:
        return ""


async def exceeded(directories: Sequence[str], most_bytes: int) -> int:
    """Return how much is used, once that is more than `most_bytes`."""
    while True:
        began_s = trio.current_time()
        used = await trio.to_thread.run_sync(used_bytes, directories, limiter=_limiter())
        if used > most_bytes:
            return used
        took_s = trio.current_time() - began_s
        await trio.sleep(max(LOOK_EVERY_S, min(PAUSE_FACTOR * took_s, PAUSE_MOST_S)))


def in_words(used: int, most: int) -> str:
    """Say why a task is ended."""
    return f"disk: {used / _GIB:.3g} GiB written outside the mounts, {most / _GIB:.3g} GiB allowed"


def _limiter() -> trio.CapacityLimiter:
    """Return what keeps a machine with many tasks from looking at all of them at once."""
    try:
        return _threads.get()
    except LookupError:
        _threads.set(trio.CapacityLimiter(THREADS_MAX))
        return _threads.get()
