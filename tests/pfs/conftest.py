"""What the tests of pfs share: a small datacenter on a temporary disk, and the descriptors that are open."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pfs.disk import quick
from pfs.disk.domains import DiskDomain
from pfs.sql import Database
from tests.pfs.world import World, make_tables


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A datacenter; outside its data root stands a secret."""
    (tmp_path / "secret").write_bytes(b"secret")
    made = World(tmp_path / "root")
    yield made
    made.disk.close()


@pytest.fixture
def home(world: World) -> Path:
    """Where ann's files lie."""
    return world.path / "home/ann"


@pytest.fixture
def ann(world: World) -> DiskDomain:
    """ann's files."""
    return world.disk.domain("home/ann", None)


@pytest.fixture
def open_files(tmp_path: Path) -> Callable[[], set[str]]:
    """What the descriptors of this process lead to below the test's own directory."""

    def look() -> set[str]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
            except FileNotFoundError:  # the one that we list with
                continue
        return {each for each in found if f" {tmp_path}/" in each}

    return look


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call to the disk is made in a worker thread, as on a file system that is not of this machine."""
    monkeypatch.setattr(quick, "LOCAL_TYPES", frozenset())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the tables of accounts, and nothing in them."""
    made = Database(f"sqlite:///{tmp_path}/pfs.sqlite")
    make_tables(made)
    yield made
    made.close()
