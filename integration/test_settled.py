"""What a job that is over has left is kept by the kernel, and can be mapped, like ordinary files: on a real mount."""

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import Box, box, wait_until
from integration.memory import STATUS

LINES = 20_000  # of its log: more than a read of the kernel, or an answer of the server, holds


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node()
        made.mount()
        yield made


def submit(world: Box, name: str, command: str) -> Path:
    """Drop a job; return its directory."""
    (world.dc / "jobs" / f"{name}.yaml").write_text(f"command: {command!r}\n")
    return world.dc / "jobs" / os.readlink(world.dc / "jobs" / name)


def given(world: Box) -> int:
    """Return how many bytes the kernel has had from the mount."""
    return int(json.loads(os.getxattr(world.mountpoint, STATUS))["read_bytes"])


def test_the_log_of_a_job_that_is_over_is_mapped_and_read_once(world: Box) -> None:
    job = submit(world, "printed", f"seq {LINES}")
    assert (job / "wait").read_text() == "0\n"
    before = given(world)
    with open(job / "log.txt", "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        text = bytes(mapped)
    stat = os.stat(job / "log.txt")
    assert (stat.st_size, stat.st_blocks) == (len(text), -(-len(text) // 512))
    assert text.count(b"\n") >= LINES
    assert given(world) - before == len(text)
    for _ in range(2):
        assert (job / "log.txt").read_bytes() == text  # from the kernel's own memory, also through another opening
    assert given(world) - before == len(text)
    assert (job / "log").read_bytes() == text


@pytest.mark.parametrize("name", ["spec.yaml", "exit_code", "wait", "processes/0.0/log.txt", "processes/0.0/exit_code"])
def test_what_stays_is_read_once(world: Box, name: str) -> None:
    job = submit(world, name.translate(str.maketrans("/._", "---")), "echo hello")
    assert (job / "wait").read_text() == "0\n"
    text = (job / name).read_bytes()
    assert text
    before = given(world)
    assert (job / name).read_bytes() == text
    assert given(world) == before


def test_who_follows_a_log_reads_all_of_it_and_who_comes_later_the_same(world: Box) -> None:
    job = submit(world, "followed", "echo one; until [ -e $USER_DIR/go ]; do sleep 0.05; done; echo two")
    wait_until(lambda: b"one\n" in (job / "log.txt").read_bytes())
    with open(job / "log", "rb", buffering=0) as stream, open(job / "log.txt", "rb", buffering=0) as so_far:
        assert os.fstat(stream.fileno()).st_size == 0
        seen = stream.read(1 << 16)
        growing = so_far.read(1 << 16)
        assert b"one\n" in seen
        (world.data / "home/demo/go").touch()
        while piece := stream.read(1 << 16):
            seen += piece
        # another opening has the end in the kernel's memory; this one still asks, and goes on where it was
        assert (job / "log").read_bytes() == (job / "log.txt").read_bytes() == seen
        assert growing + so_far.read(1 << 16) == seen
    assert b"two\n" in seen
    assert os.stat(job / "log").st_size == len(seen)
