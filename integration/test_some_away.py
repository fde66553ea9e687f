"""Two datacenters in one mount of which one is away: the other is there at once, and the one as soon as it answers."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import WAIT_S, Box, box, is_mounted, wait_until
from tests.functional.posix import errno_of

LARGE = os.urandom(1 << 20) * 3  # more than goes over the connection for small questions
AT_ONCE_S = 20.0  # much less than who waits for a server is made to wait


@pytest.fixture(scope="module")
def boxes() -> Iterator[tuple[Box, Box]]:
    """Two servers that vouch for themselves: what to trust of the second one has to be asked of it, too."""
    with box(scheme="https") as here, box(scheme="https") as there:
        texts = [(each.root / "paddle-config").read_text() for each in (here, there)]
        (here.root / "paddle-config").write_text(texts[0] + texts[1].replace("dc1:", "dc2:"))
        here.mountpoint.mkdir()
        here.start_server()
        there.start_server()
        yield here, there


@pytest.fixture
def mounted(boxes: tuple[Box, Box]) -> Iterator[subprocess.CompletedProcess[str]]:
    """What `paddle mount` says while the second server is away."""
    here, there = boxes
    there.end("server")
    yield here.run("paddle", "mount", str(here.mountpoint), "--json", "-o", "noshortcut")
    if is_mounted(here.mountpoint):
        assert here.run("paddle", "umount", str(here.mountpoint)).returncode == 0
    if "server" not in there.processes:
        there.start_server()


def listed(path: Path) -> tuple[int, list[str]]:
    """Return what ls(1) says of a folder, in time."""
    done = subprocess.run(["ls", str(path)], capture_output=True, text=True, timeout=AT_ONCE_S, check=False)
    return done.returncode, done.stdout.split()


def test_what_is_there_is_mounted_and_what_is_away_comes_when_its_server_does(
    boxes: tuple[Box, Box], mounted: subprocess.CompletedProcess[str]
) -> None:
    here, there = boxes
    point = here.mountpoint
    assert mounted.returncode == 0, mounted.stderr
    assert mounted.stderr == (
        f"dc2 is away: no connection to the server at {there.url}: Connection refused; its folder is there, "
        "and works as soon as the server answers\n"
    )
    assert json.loads(mounted.stdout)["datacenters"] == ["dc1", "dc2"]
    assert listed(point) == (0, ["dc1", "dc2"])
    assert listed(point / "dc1/home")[0] == 0
    assert subprocess.run(["df", str(point)], capture_output=True, timeout=AT_ONCE_S, check=False).returncode == 0
    assert errno_of(lambda: os.listdir(point / "dc2")) == errno.ETIMEDOUT
    assert errno_of(lambda: (point / "dc2/home/me/x").write_text("x")) == errno.ETIMEDOUT
    (point / "dc1/home/me/x").write_text("written meanwhile")
    status = here.run("paddle", "mount", "--status", str(point)).stdout
    assert f"dc2: {there.url}, away for " in status
    there.start_server()
    wait_until(lambda: errno_of(lambda: os.listdir(point / "dc2")) is None)
    (point / "dc2/home/me/large").write_bytes(LARGE)
    assert (there.data / "home/demo/large").read_bytes() == LARGE
    assert (here.data / "home/demo/x").read_text() == "written meanwhile"


def test_what_was_never_there_keeps_no_mount_from_its_end(
    boxes: tuple[Box, Box], mounted: subprocess.CompletedProcess[str]
) -> None:
    here, _ = boxes
    ended = subprocess.run(
        ["timeout", str(WAIT_S), "umount", str(here.mountpoint)], capture_output=True, text=True, check=False
    )
    assert (mounted.returncode, ended.returncode) == (0, 0), ended.stderr
    assert here.run("paddle", "umount", str(here.mountpoint)).returncode == 1
    wait_until(lambda: "has ended" in next((here.root / "state/pfs").glob("*.log")).read_text())


def test_where_none_is_there_nothing_is_mounted_and_a_line_tells_of_each(boxes: tuple[Box, Box]) -> None:
    here, there = boxes
    for each in boxes:
        each.end("server")
    try:
        done = here.run("paddle", "mount", str(here.mountpoint))
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            *(
                f"{name}: no connection to the server at {each.url}: Connection refused"
                for name, each in zip(("dc1", "dc2"), boxes, strict=True)
            ),
            "paddle: none of these datacenters can be mounted",
        ]
        assert not is_mounted(here.mountpoint)
    finally:
        here.start_server()
        there.start_server()


def test_who_is_not_let_in_by_one_has_the_others(boxes: tuple[Box, Box], tmp_path: Path) -> None:
    here, there = boxes
    config = tmp_path / "config"
    config.write_text((here.root / "paddle-config").read_text().replace(there.token, there.token[:-4] + "AAAA"))
    env = {**here.env, "PADDLE_CONFIG": str(config)}
    done = here.run("paddle", "mount", str(here.mountpoint), env=env)
    try:
        assert done.returncode == 0, done.stderr
        assert done.stderr == (
            f"dc2 is left out: the server at {there.url} does not accept the token; "
            "get another with `paddle login --dc dc2`, and mount again\n"
        )
        assert listed(here.mountpoint) == (0, ["dc1"])
    finally:
        here.umount()
