"""Copies of a large file and of a folder of small ones that are cut in the middle, by kill -9 on either side."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, Box, box
from integration.ways import Way

HOME = "/pfs/dc1/home/demo"
LARGE_BYTES, CHUNK_BYTES = 80_000_000, 16 * 1024 * 1024
SMALL_FILES, SMALL_BYTES = 1500, 20_000
HANG_S = 240


class Held(Way):
    """A way that passes on so many bytes, and then nothing until it is let go.

    Attributes:
        passed: bytes that came from either side.
        stopped: set when nothing passes any more.
    """

    def __init__(self, port: int, most: int) -> None:
        self.passed = 0
        self.most = most
        self.stopped, self._let_go = threading.Event(), threading.Event()
        super().__init__(port)

    def lets_pass(self, size_bytes: int, *, up: bool) -> bool:
        """Hold back what is too much."""
        self.passed += size_bytes
        if self.passed > self.most and not self._let_go.is_set():
            self.stopped.set()
            self._let_go.wait(HANG_S)
        return True

    def let_go(self) -> None:
        self._let_go.set()

    def close(self) -> None:
        self.let_go()
        super().close()


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with a server, and no mount."""
    with box() as made:
        made.start_server()
        yield made


@pytest.fixture(params=["large", "small"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a folder with one large file, or with many small ones."""
    made = tmp_path / request.param
    made.mkdir()
    if request.param == "large":
        (made / "file").write_bytes(os.urandom(LARGE_BYTES))
    for number in range(SMALL_FILES if request.param == "small" else 0):
        below = made / f"d{number % 7}"
        below.mkdir(exist_ok=True)
        (below / str(number)).write_bytes(os.urandom(SMALL_BYTES))
    return made


def contents(folder: Path) -> dict[str, str]:
    """Return the checksums of the files in a folder that are seen there."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@contextlib.contextmanager
def syncing(world: Box, source: str, target: str, most: int, tmp_path: Path) -> Iterator[tuple[Held, subprocess.Popen]]:
    """Start a copy, and wait until about so many bytes have passed; whoever gets it decides how it goes on."""
    way = Held(world.port, most)
    config = tmp_path / "config"
    config.write_text((world.root / "paddle-config").read_text().replace(f":{world.port}", f":{way.port}"))
    env = {**world.env, "PADDLE_CONFIG": str(config)}
    command = [str(BIN / "paddle"), "sync", "--json", source, target]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        with subprocess.Popen(command, env=env, **pipes) as process:  # type: ignore[call-overload]
            try:
                assert way.stopped.wait(HANG_S), process.communicate()
                yield way, process
            finally:
                process.kill()
    finally:
        way.close()


def sync(world: Box, source: str, target: str) -> int:
    """Copy to the end; return how many bytes travelled."""
    command = [str(BIN / "paddle"), "sync", "--json", source, target]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["bytes"])


def check_cut(source: Path, cut: Path) -> int:
    """Make sure that what is seen of a cut copy is whole, and that there is something of it; return its bytes."""
    there, whole = contents(cut), contents(source)
    assert len(there) < len(whole), "it was not cut in the middle"
    assert there == {name: whole[name] for name in there}
    return sum(path.lstat().st_size for path in cut.rglob("*") if path.is_file())


def test_a_copy_whose_client_is_killed_goes_on_where_it_was_in_both_directions(
    world: Box, folder: Path, tmp_path: Path
) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    there, back = f"{HOME}/{folder.name}", tmp_path / "back"
    on_disk = world.data / "home/demo" / folder.name
    for source, target, here, cut in ((str(folder), there, folder, on_disk), (there, str(back), on_disk, back)):
        with syncing(world, source, target, size * 3 // 4, tmp_path) as (_, process):
            process.send_signal(signal.SIGKILL)
            process.wait(HANG_S)
        had = check_cut(here, cut)
        assert had > size // 4
        travelled = sync(world, source, target)
        assert travelled <= size - had + CHUNK_BYTES
        assert contents(cut) == contents(folder)
        assert hidden(cut) == []
        assert sync(world, source, target) == 0


@pytest.mark.parametrize("way_down", [False, True], ids=["up", "down"])
def test_a_copy_whose_server_is_killed_goes_on_by_itself(
    world: Box, folder: Path, tmp_path: Path, way_down: bool
) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    there, back = f"{HOME}/killed-{folder.name}", tmp_path / "back"
    source, target = str(folder), there
    if way_down:
        sync(world, str(folder), there)
        source, target = there, str(back)
    with syncing(world, source, target, size // 2, tmp_path) as (way, process):
        world.end("server", signal.SIGKILL)
        world.start_server()
        way.let_go()
        out, err = process.communicate(timeout=HANG_S)
        assert process.returncode == 0, err
    assert json.loads(out)["failed"] == []
    assert contents(back if way_down else world.data / "home/demo" / f"killed-{folder.name}") == contents(folder)
    assert way.passed < size * 3 // 2 + CHUNK_BYTES
