"""README's table of what is done in a mount, by `paddle pfs` and over HTTP: each cell is typed, and does the same."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, WAIT_S, Box, box, wait_until

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTION = README.split("\n## Without a mount\n", 1)[1].split("\n## ", 1)[0]
COLUMNS = ("mount", "paddle", "http")
# what is typed, by what stands in the first column
ROWS = {
    cells[0]: dict(zip(COLUMNS, cells, strict=True))
    for cells in (
        [cell.replace("\\|", "|") for cell in re.findall(r"`((?:[^`])*)`", line)]
        for line in re.findall(r"^\| `.*$", SECTION, re.MULTILINE)
    )
}
SPEC = "command: echo seventeen\nhold: true\n"


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node()
        made.mount()
        (made.root / "a.yaml").write_text(SPEC)
        yield made


def type_in(world: Box, column: str, row: str, job: str = "17") -> subprocess.CompletedProcess[str]:
    """Type what stands in a cell of the table."""
    script = re.sub(r"\b17\b", job, ROWS[row][column])
    if column == "http":
        script = 'curl() { command curl -sS --fail-with-body -H "Authorization: Bearer $TOKEN" "$@"; }\n' + script
    env = {**world.env, "PATH": f"{BIN}:{os.environ['PATH']}", "TOKEN": world.token, "fs": f"{world.url}/api/v1/fs"}
    cwd = world.dc if column == "mount" else world.root
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, timeout=2 * WAIT_S, check=False
    )


def numbers(world: Box) -> set[str]:
    return {name for name in os.listdir(world.dc / "jobs") if name.isdigit()}


@pytest.mark.parametrize("column", COLUMNS)
def test_each_cell_of_the_table_does_what_the_mount_does(world: Box, column: str) -> None:
    if column == "http" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    jobs, home, rows = world.dc / "jobs", world.dc / "home/demo", list(ROWS)

    def follow(row: str, job: str = "17") -> str:
        assert rows.pop(0) == row  # in the order of the table, and none is left out
        done = type_in(world, column, row, job)
        assert done.returncode == 0, (row, done.stderr)
        return done.stdout

    if column == "mount":
        shutil.copy(world.root / "a.yaml", home / "a.yaml")
        ROWS["cp a.yaml jobs/"]["mount"] = "cp home/me/a.yaml jobs/a.yaml"
    before = numbers(world)
    follow("cp a.yaml jobs/")
    [job] = numbers(world) - before
    assert "a.yaml" in follow("ls jobs")
    follow("mv jobs/a.yaml jobs/b.yaml")
    assert ((jobs / "b.yaml").read_text(), (jobs / "a.yaml").exists()) == (SPEC, False)
    follow("rm jobs/b.yaml")
    assert not (jobs / "b.yaml").exists()
    assert numbers(world) - before == {job}  # nothing of this was another job, nor the end of one
    follow('echo "priority 80" > jobs/17/ctl', job)
    assert "priority 80\n" in (jobs / job / "status").read_text()
    follow("echo drain > nodes/n0/ctl")
    assert (world.dc / "nodes/n0/state").read_text() in ("DRAINING\n", "DRAINED\n")
    follow("echo resume > nodes/n0/ctl")
    assert (world.dc / "nodes/n0/state").read_text() == "ONLINE\n"
    follow("echo release > jobs/17/ctl", job)
    assert "[worker 0] seventeen\n" in follow("cat jobs/17/log", job)
    follow("mkdir home/me/new")
    assert (home / "new").is_dir()
    follow("rmdir home/me/new")
    assert not (home / "new").exists()
    assert rows == []


@pytest.mark.parametrize("column", COLUMNS)
def test_a_command_that_is_wrong_or_a_spec_that_is_refused_fails_whatever_writes_it(world: Box, column: str) -> None:
    if column == "http" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    wrong = {
        "mount": "echo explode > nodes/n0/ctl",
        "paddle": "echo explode | paddle pfs cp - /pfs/dc1/nodes/n0/ctl",
        "http": "curl -X PUT -d explode $fs/nodes/n0/ctl",
    }
    ROWS["wrong"] = wrong
    done = type_in(world, column, "wrong")
    assert done.returncode != 0
    if column != "mount":  # there it is only an errno
        assert "explode" in done.stdout + done.stderr
    (world.root / "a.yaml").write_text("comand: x\n")
    if column != "mount":
        done = type_in(world, column, "cp a.yaml jobs/")
        assert done.returncode != 0
        assert "did you mean command" in done.stdout + done.stderr
    wait_until(lambda: (world.dc / "nodes/n0/state").read_text() == "ONLINE\n")
