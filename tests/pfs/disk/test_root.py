"""The data root: what the server makes in it for itself, and that a slow disk holds up nobody else."""

import os
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from pfs.disk.domains import Disk
from tests.pfs.world import World

Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_a_directory_of_the_servers_has_its_mode_whatever_the_umask(world: World) -> None:
    old = os.umask(0o077)
    try:
        for mode in (0o711, 0o755):  # also one that was there already
            world.disk.make_directory_now("jobs/18", mode, None)
            assert stat.S_IMODE((world.path / "jobs/18").stat().st_mode) == mode
    finally:
        os.umask(old)


def test_a_link_in_the_place_of_a_directory_of_the_servers_is_refused(world: World, tmp_path: Path) -> None:
    (world.path / "jobs/18").symlink_to(tmp_path)
    before = tmp_path.stat().st_mode
    with pytest.raises(OSError, match=r"irectory|symbolic"):
        world.disk.make_directory_now("jobs/18", 0o777, None)
    assert tmp_path.stat().st_mode == before


def test_a_file_of_the_servers_is_there_at_once_and_follows_no_link(world: World, tmp_path: Path) -> None:
    folder = world.path / "jobs/17/data"
    (folder / ".hosts.part").symlink_to(tmp_path / "secret")
    (folder / "hosts").symlink_to(tmp_path / "secret")
    world.disk.write_file_now("jobs/17/data", "hosts", b"127.0.0.1\n" * 10_000, None)
    assert not (folder / "hosts").is_symlink()
    assert (folder / "hosts").read_bytes() == b"127.0.0.1\n" * 10_000
    assert os.listdir(folder) == ["hosts"]
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_slow_disk_holds_nobody_up_but_who_asked(run: Run, world: World) -> None:
    async def main() -> None:
        go_on = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.disk.run, lambda: go_on.wait(5))
            began = time.monotonic()
            await world.disk.domain("home/ann", None).getattr("")
            assert time.monotonic() - began < 4
            go_on.set()

    run(main)


def test_a_data_root_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Disk(str(tmp_path / "missing"))
