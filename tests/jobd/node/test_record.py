"""A task's record: what its lines say, at every moment in which a reader, or a kill -9, may come."""

import os
from pathlib import Path

import pytest

from jobd.node import record
from jobd.node.record import Record

WHOLE = "boot b1 e1\npid 17 4711\nstarted\nexit 3\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Record()),
        ("boot b1", Record()),
        ("boot b1 e1\n", Record("b1", "e1")),
        ("boot b1 e1\npid 17 47", Record("b1", "e1")),
        ("boot b1 e1\npid 17 4711\n", Record("b1", "e1", (17, 4711))),
        ("boot b1 e1\npid 17 4711\nstarted\nexit 1", Record("b1", "e1", (17, 4711), True)),
        (WHOLE, Record("b1", "e1", (17, 4711), True, 3)),
    ],
)
def test_a_line_counts_once_it_is_whole(text: str, found: Record) -> None:
    assert record.parse(text) == found


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert record.read(tmp_path) is None
    descriptor = record.take(tmp_path)
    assert descriptor is not None
    record.begin(descriptor, "b0", "e0")
    record.begin(descriptor, "b1", "e1")
    os.write(descriptor, b"pid 17 4711\n")
    os.close(descriptor)
    assert record.read(tmp_path) == Record("b1", "e1", (17, 4711))


def test_a_task_is_over_when_nobody_holds_its_record_or_its_end_is_written(tmp_path: Path) -> None:
    assert record.is_over(tmp_path)
    descriptor = record.take(tmp_path)
    assert descriptor is not None
    assert record.take(tmp_path) is None
    assert not record.is_over(tmp_path)
    os.write(descriptor, WHOLE.encode())
    assert record.is_over(tmp_path)
    os.ftruncate(descriptor, 0)
    assert not record.is_over(tmp_path)
    os.close(descriptor)
    assert record.is_over(tmp_path)
