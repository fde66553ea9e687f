"""Watching the disk of a real machine: changes out of other namespaces, and more of them than the kernel keeps."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pfs.disk.watch import Name, Node, Watch

WAIT_S = 60.0
QUEUE = Path("/proc/sys/fs/fanotify/max_queued_events")


class Told:
    """What a watch has said so far."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lost = 0

    def changed(self, nodes: set[Node], names: set[Name]) -> None:
        self.names |= {name for _, name in names}

    def lose(self) -> None:
        self.lost += 1


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[tuple[Watch, Told]]:
    told = Told()
    watch = Watch(told.changed, told.lose)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        assert add(watch, folder)
        with trio.fail_after(WAIT_S):
            yield watch, told
        nursery.cancel_scope.cancel()


def add(watch: Watch, folder: Path) -> bool:
    fd = os.open(folder, os.O_PATH)
    try:
        return watch.add(fd)
    finally:
        os.close(fd)


def do(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=WAIT_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize(
    "mount", ["mount --bind folder seen", "mount -t overlay -o lowerdir=lower,upperdir=folder,workdir=work none seen"]
)
def test_a_container_that_has_the_directory_mounted_is_seen(tmp_path: Path, mount: str) -> None:
    async def main() -> None:
        folder = tmp_path / "folder"
        for name in ("folder", "seen", "lower", "work"):
            (tmp_path / name).mkdir()
        async with watching(folder) as (_, told):
            script = f"{mount}; echo text > seen/new"
            do(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", script], tmp_path)
            while "new" not in told.names:
                await trio.sleep(0.01)

    trio.run(main)


def test_more_changes_than_the_kernel_keeps_mean_that_anything_may_have_changed(tmp_path: Path) -> None:
    async def main() -> None:
        async with watching(tmp_path) as (watch, told):
            do(["sh", "-c", f"seq {int(QUEUE.read_text()) + 1000} | xargs touch"], tmp_path)
            while not told.lost:
                await trio.sleep(0.01)
            assert len(watch) == 0
            assert add(watch, tmp_path)
            do(["touch", "afterwards"], tmp_path)
            while "afterwards" not in told.names:
                await trio.sleep(0.01)
            assert told.lost == 1

    trio.run(main)
