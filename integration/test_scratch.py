"""Scratch in `jobs/` goes after a day, by when it was written; what was dropped, and what is younger, stays."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from integration.box import Box, box, wait_until

DAY_NS, HOUR_NS = 86_400 * 10**9, 3_600 * 10**9
DROP = "command: 'true'\nhold: true\n"
OLD = ("old.tmp", ".old.yaml.swp", "old-link", "old-refused.yaml")
YOUNG = ("young.tmp", "young-refused.yaml")  # of nearly a day


@pytest.fixture
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.mount()
        yield made


def test_scratch_is_gone_after_a_day_and_neither_a_drop_nor_what_is_younger(world: Box) -> None:
    jobs = world.dc / "jobs"
    for name in (*OLD, *YOUNG):
        if name.endswith("-link"):
            (jobs / name).symlink_to("nowhere")
        elif name.endswith("-refused.yaml"):
            assert subprocess.run(["cp", "/dev/stdin", jobs / name], input=b"comand: x\n", check=False).returncode == 1
        else:
            (jobs / name).write_text("scratch\n")
    (jobs / "dropped.yaml").write_text(DROP)
    os.utime(jobs / "young.tmp", (0, 0))  # as `cp -p` does: it says nothing of when it came here
    assert {*OLD, *YOUNG, "dropped.yaml", "old-refused.yaml.error"} <= set(os.listdir(jobs))
    world.end("server")
    let_pass(world, DAY_NS + HOUR_NS, (*OLD, "dropped.yaml"))
    let_pass(world, DAY_NS - HOUR_NS, YOUNG)
    world.start_server()
    wait_until(lambda: not {*OLD, "old-refused.yaml.error"} & set(os.listdir(jobs)))
    assert {*YOUNG, "dropped.yaml", "dropped", "young-refused.yaml.error"} <= set(os.listdir(jobs))
    assert [(jobs / name).read_text() for name in ("young.tmp", "dropped.yaml")] == ["scratch\n", DROP]
    assert (jobs / "dropped/state").read_text() == "WAITING\n"


def let_pass(world: Box, time_ns: int, names: tuple[str, ...]) -> None:
    """Have texts, and why they were refused, be older by that than they are, while no server runs."""
    with closing(sqlite3.connect(world.data / "server/pfs.sqlite")) as database, database:
        for name in names:
            done = database.execute("UPDATE draft SET kept_at_ns = kept_at_ns - ? WHERE name = ?", (time_ns, name))
            assert done.rowcount == 1, name
            database.execute("UPDATE droperror SET time_ns = time_ns - ? WHERE name = ?", (time_ns, name))
