"""`script/bench fs` with tiny sizes: what it prints, that it notices wrong bytes, and that nothing outlives it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.bench import fsrows, fstable
from integration.bench.fsrows import ROWS, Work
from integration.bench.fstargets import ONLY
from integration.box import wait_until

ROOT = Path(__file__).parent.parent
TARGETS = ("plain", "pfs", "pfs write-behind", "pfs TLS")
BENCH = [sys.executable, "-m", "integration.bench.fs", "--big", "1", "--tree", "3"]
RUN_S = 300


def processes(directory: Path, word: str = "") -> list[int]:
    """Return the processes that name the directory, and the word, among their arguments."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(str(directory) in argument for argument in arguments) and (not word or word in arguments):
                found.append(int(process.name))
    return found


def left(directory: Path) -> tuple[list[str], list[str], list[int]]:
    """Return what is still in the directory, mounted below it, and running with it."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]
    return os.listdir(directory), mounts, processes(directory)


NOTHING: tuple[list[str], list[str], list[int]] = ([], [], [])


def test_a_run_prints_every_row_for_every_target(tmp_path: Path) -> None:
    disk, file = tmp_path / "disk", tmp_path / "figures.json"
    disk.mkdir()
    command = [*BENCH, "--targets", ",".join(TARGETS), "--rounds", "1", "--dir", str(disk)]
    command += ["--json", str(file), "--profile"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert ran.returncode == 0, ran.stderr
    tables = [[line.strip("| ").split(" | ") for line in part.splitlines()] for part in ran.stdout.split("\n\n")]
    open_table, encrypted = ([[cell.strip() for cell in line] for line in table] for table in tables[1:3])
    compared = ["× plain", "bar (wanted)"]
    assert open_table[0] == ["row", "unit", "plain", "pfs", *compared, "pfs write-behind", *compared]
    assert encrypted[0] == ["row", "unit", "plain", "pfs TLS", *compared]
    for table in (open_table, encrypted):
        assert [line[0] for line in table[2:]] == [row.title for row in ROWS]
        for line in table[2:]:
            assert all(float(cell.replace(",", "")) > 0 for cell in line[2:5]), line
    figures = json.loads(file.read_text())["values"]
    assert {target: {row: len(found) for row, found in rows.items()} for target, rows in figures.items()} == {
        target: {row.name: int(row.name in ONLY.get(target, {row.name})) for row in ROWS} for target in TARGETS
    }
    cost = {line[0].strip(): line for line in tables[4][2:]}
    assert set(cost) == {row.title for row in ROWS}
    assert left(disk) == NOTHING


@pytest.mark.parametrize("end", ["interrupted", "mount killed"])
def test_nothing_outlives_a_run_that_ends_early(end: str, tmp_path: Path) -> None:
    command = [*BENCH, "--targets", "plain,pfs", "--rounds", "1000", "--dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as bench:
        assert bench.stderr is not None
        assert "sequential write" in bench.stderr.readline()
        if end == "interrupted":
            bench.send_signal(signal.SIGINT)
            assert bench.wait(timeout=RUN_S) == 128 + signal.SIGINT
        else:
            wait_until(lambda: processes(tmp_path, "mount") != [])
            for mount in processes(tmp_path, "mount"):
                os.kill(mount, signal.SIGKILL)
            assert bench.wait(timeout=RUN_S) == 1
    assert left(tmp_path) == NOTHING


TREE = ("--no-docker", "--lines", "3", "--rounds", "1", "--waits", "2", "--readers", "0")
TREE_ROWS = (
    "a sandbox's write to `cat log`, p99",
    "`cat log` / `tail -f` of a file of this machine",
    "`wait`, by a read that waits, median",
    "`state`, by poll(2), median",
    "`state` / the return of the command",
    "ls -l jobs/, 30 active, cold",
    "ls -l jobs/, warm / directories of the disk",
    "ls -l jobs/by-state/WAITING/, 30 links, cold",
    "cat jobs/<id>/state among 200, median",
    "computed for one among many, by both sides",
)


def test_a_run_over_the_tree_prints_every_row() -> None:
    command = [sys.executable, "-m", "integration.bench.tree", *TREE]
    command += ["--active", "30", "--finished", "200", "--looks", "3"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [line for line in ran.stdout.splitlines() if line[52:]]
    found = {line[:52].strip(): float(line[52:].split()[0]) for line in rows}
    assert set(TREE_ROWS) <= set(found)
    assert all(value > 0 for name, value in found.items() if name in TREE_ROWS)


def test_wrong_bytes_fail(tmp_path: Path) -> None:
    work = Work(tmp_path, big_mib=1, tree_files=2)
    fsrows.write_big(work)
    fsrows.create_tree(work)
    readers = (fsrows.read_big, fsrows.read_randomly, fsrows.read_tree)
    for reader in readers:
        assert reader(work) > 0
    for name in ("big", "tree/d000/f00001"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[::-1])
    for reader in readers:
        with pytest.raises(AssertionError, match="wrong"):
            reader(work)


def test_a_ratio_is_taken_within_each_round() -> None:
    seq_write = next(row for row in ROWS if row.name == "seq_write")
    assert fstable.ratio(seq_write, [10, 100, 3000], [5, 50, 1000]) == 2
    unlink = next(row for row in ROWS if row.name == "unlink_big")
    assert fstable.ratio(unlink, [2, 2, 2], [6, 6, 6]) == 3, "half the time is twice as fast"


def test_a_bar_that_is_missed_is_said() -> None:
    def found(pfs: float) -> dict[str, dict[str, list[float]]]:
        figures = {"plain": 1000.0, "sshfs": 100.0, "pfs": pfs}
        return {target: {row.name: [figure] for row in ROWS} for target, figure in figures.items()}

    assert fstable.missed(found(pfs=900)) == []
    assert "MISSED" not in fstable.table(found(pfs=900))
    assert "pfs: sequential write: 1.50 of 2 × sshfs" in fstable.missed(found(pfs=150))
    line = next(line for line in fstable.table(found(pfs=150)).splitlines() if "sequential write" in line)
    assert re.search(r"\| +1,000 \| +100 \| +150 \| +0\.15 \| +1\.50 \| 2 \(3\) × sshfs: MISSED +\|$", line)


def test_copies_are_measured_and_what_travels_again_after_a_cut(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "integration.bench.transfers", "--big", "9", "--files", "30", "--rounds", "1"]
    command += ["--dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert ran.returncode in (0, 1), ran.stderr  # 1: one of these is slower than scp, as such small ones may be
    copies, cuts = (
        [line.strip("| ").split("|")[0].strip() for line in t.splitlines()] for t in ran.stdout.split("\n\n")
    )
    assert copies[2:] == ["tree up", "tree down", "big up", "big down"], ran.stderr
    assert cuts[2:] == copies[2:]
    assert left(tmp_path) == NOTHING
