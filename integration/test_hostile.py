"""Bad input from programs and users: paths without end, directories without bottom, links in circles and links out."""

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from integration.box import Box, box, wait_until
from integration.swaps import race
from pfs.api import OpenFlags, RenameMode
from pfs.client.filesystem import open_filesystem
from pfs.errors import Kind, PfsError
from pfs.path import PATH_BYTES_MAX
from tests.functional.posix import errno_of

SWAPS, RACED_OPERATIONS = 10_000, 500
DEPTH = 1000
TEST_SECONDS_MAX = 300


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.mount()
        yield made


@pytest.fixture
def home(made: Box, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of the test's own; whoever hangs in the mount is let go by its end."""
    watchdog = threading.Timer(TEST_SECONDS_MAX, lambda: made.run("paddle", "umount", "--lazy", str(made.mountpoint)))
    watchdog.start()
    directory = made.dc / "home/demo" / request.node.name[:40]
    directory.mkdir()
    yield directory
    watchdog.cancel()
    assert "Traceback" not in made.log_of("server"), made.log_of("server")


def dig(top: Path, name: str, depth: int) -> int:
    """Make so many directories, one in the other; return how many it became until one was refused."""
    fd = os.open(top, os.O_DIRECTORY)
    try:
        for level in range(depth):
            if (met := errno_of(lambda: os.mkdir(name, dir_fd=fd))) is not None:  # noqa: B023 - called at once
                assert met == errno.ENAMETOOLONG
                return level
            below = os.open(name, os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        return depth
    finally:
        os.close(fd)


def fill_in(top: Path, name: str) -> int:
    """Go all the way up from the bottom, removing what was left behind; return how many directories there were."""
    fds = [os.open(top, os.O_DIRECTORY)]
    try:
        while name in os.listdir(fds[-1]):
            fds.append(os.open(name, os.O_DIRECTORY, dir_fd=fds[-1]))
        depth = len(fds) - 1
        for below, above in zip(reversed(fds), list(reversed(fds))[1:], strict=False):
            assert os.fstat(below).st_nlink == 2
            os.rmdir(name, dir_fd=above)
        return depth
    finally:
        for fd in fds:
            os.close(fd)


def test_a_thousand_directories_one_in_the_other_are_made_walked_and_removed(home: Path) -> None:
    assert dig(home, "d", DEPTH) == DEPTH
    deepest = home / "/".join("d" * DEPTH)
    (deepest / "f").write_text("down here")
    assert (deepest / "f").read_text() == "down here"
    found = subprocess.run(["find", home, "-type", "d", "-size", "-9G"], capture_output=True, check=True, timeout=60)
    assert found.stdout.count(b"\n") == DEPTH + 1
    (deepest / "f").unlink()
    assert fill_in(home, "d") == DEPTH
    assert os.listdir(home) == []


def test_a_path_ends_at_4095_bytes_and_what_is_above_is_of_use_still(made: Box, home: Path) -> None:
    name = "x" * 100
    inside = len(f"home/demo/{home.name}/")
    assert dig(home, name, DEPTH) == (PATH_BYTES_MAX + 1 - inside) // (len(name) + 1)
    (home / name / "f").write_text("f")
    assert errno_of(os.stat, home / "/".join(["x"] * 3000)) == errno.ENAMETOOLONG  # that is the kernel's own word
    (home / name / "f").unlink()
    assert fill_in(home, name) > 30
    assert os.listdir(home) == []


def test_what_stands_deeper_than_a_path_reaches_on_the_servers_disk_harms_nobody(made: Box, home: Path) -> None:
    name = "y" * 200
    there = made.data / "home/demo" / home.name
    assert dig(there, name, 30) == 30  # without a mount nobody counts
    wait_until(lambda: os.listdir(home) == [name])
    fds = [os.open(home, os.O_DIRECTORY)]
    with contextlib.ExitStack() as stack:
        while True:
            stack.callback(os.close, fds[-1])
            if (met := errno_of(os.listdir, fds[-1])) is not None:
                assert met == errno.ENAMETOOLONG
                break
            fds.append(os.open(name, os.O_DIRECTORY, dir_fd=fds[-1]))
    assert len(fds) > 15
    (home / "beside").write_text("fine")
    assert (home / "beside").read_text() == "fine"


def test_a_directory_that_becomes_too_deep_by_a_rename_comes_back_with_its_name(home: Path) -> None:
    depth = dig(home, "z" * 100, DEPTH)
    (home / ("z" * 100) / "f").write_text("f")
    (home / ("z" * 100)).rename(home / ("Z" * 255))
    below = os.open(home / ("Z" * 255), os.O_DIRECTORY)
    for _ in range(depth - 3):
        deeper = os.open("z" * 100, os.O_DIRECTORY, dir_fd=below)
        os.close(below)
        below = deeper
    deeper = os.open("z" * 100, os.O_DIRECTORY, dir_fd=below)  # the kernel knows it from before: nobody is asked
    assert errno_of(lambda: os.mkdir("new", dir_fd=deeper)) == errno.ENAMETOOLONG
    os.close(deeper)
    os.close(below)
    (home / ("Z" * 255)).rename(home / ("z" * 100))
    assert (home / ("z" * 100) / "f").read_text() == "f"


def test_links_in_a_circle_are_told_as_such(home: Path) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    (home / "self").symlink_to("self/self")
    calls: list[Callable[[Path], object]] = [os.stat, os.listdir, Path.read_text, os.chdir]
    for name in ("a", "b", "self"):
        for call in calls:
            assert errno_of(call, home / name) == errno.ELOOP
        assert os.path.islink(home / name)
    previous = "end"
    (home / previous).write_text("found")
    for number in range(60):
        (home / f"l{number}").symlink_to(previous)
        previous = f"l{number}"
    assert (home / "l30").read_text() == "found"
    assert errno_of(os.stat, home / "l59") == errno.ELOOP


def test_a_link_out_of_the_domain_leads_the_server_nowhere(made: Box, home: Path) -> None:
    (made.root / "secret").write_text("secret")
    (home / "out").symlink_to(made.root)
    (home / "up").symlink_to("../../../../secret")
    where = f"home/demo/{home.name}"

    async def main() -> list[Kind | None]:
        met: list[Kind | None] = []
        async with open_filesystem(made.url, made.token) as fs:
            for ask in (
                lambda: fs.open(f"{where}/out/secret", OpenFlags.READ, 0),
                lambda: fs.open(f"{where}/up", OpenFlags.READ, 0),
                lambda: fs.open(f"{where}/up", OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE, 0),
                lambda: fs.listdir(f"{where}/out"),
                lambda: fs.getattr(f"{where}/out/secret"),
                lambda: fs.unlink(f"{where}/out/secret"),
                lambda: fs.rename(f"{where}/out/secret", f"{where}/x", RenameMode.REPLACE),
            ):
                try:
                    await ask()
                    met.append(None)
                except PfsError as error:
                    met.append(error.kind)
        return met

    assert set(trio.run(main)) <= {Kind.LOOP, Kind.NOT_DIR}
    assert (made.root / "secret").read_text() == "secret"
    assert (home / "up").lstat().st_size == len("../../../../secret")


def test_no_swap_of_a_directory_with_a_link_leads_out_of_the_domain(made: Box) -> None:
    done = race(made, SWAPS, RACED_OPERATIONS)
    print(f"{done.swaps} swaps, {done.operations} operations")
    assert done.swaps >= SWAPS
    assert done.count(None) > RACED_OPERATIONS // 20
    assert done.count(Kind.LOOP, Kind.NOT_DIR) > RACED_OPERATIONS // 20
