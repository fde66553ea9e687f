"""The spool: what is in it, and how much of each stream, is the same after any kill."""

from contextlib import closing
from pathlib import Path

import pytest

from jobd.node.spool import _RECORD, END_BYTES, LINE_BYTES, START_BYTES, Spool

PARTS = [(1, b"out\n"), (2, b"e"), (2, b"rr\n"), (1, b"more"), (2, b"\xff\0")]


def fill(directory: Path) -> None:
    with closing(Spool(directory)) as spool:
        for stream, data in PARTS:
            spool.append(stream, data)


def test_bytes_stay_in_their_order_and_are_counted_by_stream(tmp_path: Path) -> None:
    fill(tmp_path)
    assert (tmp_path / "output").read_bytes() == b"out\nerr\nmore\xff\0"
    with closing(Spool(tmp_path)) as spool:
        assert spool.counts == {1: 8, 2: 6}
        spool.append(1, b"!")
    with closing(Spool(tmp_path)) as spool:
        assert spool.counts == {1: 9, 2: 6}


@pytest.mark.parametrize("size", range(15))
def test_a_kill_between_record_and_bytes_leaves_counts_of_what_is_there(tmp_path: Path, size: int) -> None:
    fill(tmp_path)
    with open(tmp_path / "output", "r+b") as file:
        file.truncate(size)
    whole = b"".join(bytes([stream]) * len(data) for stream, data in PARTS)
    for _ in range(2):
        with closing(Spool(tmp_path)) as spool:
            assert {stream: spool.counts.get(stream, 0) for stream in (1, 2)} == {
                stream: whole[:size].count(stream) for stream in (1, 2)
            }


def test_a_record_that_was_cut_is_no_record(tmp_path: Path) -> None:
    fill(tmp_path)
    with open(tmp_path / "streams", "ab") as file:
        file.write(b"\1\0\0")
    with closing(Spool(tmp_path)) as spool:
        spool.append(2, b"x")
    with closing(Spool(tmp_path)) as spool:
        assert spool.counts == {1: 8, 2: 7}


def test_very_many_records_are_counted(tmp_path: Path) -> None:
    records = b"".join(_RECORD.pack(1 + number % 2, 1) for number in range(10_001))
    (tmp_path / "streams").write_bytes(records)
    (tmp_path / "output").write_bytes(b"x" * 10_001)
    with closing(Spool(tmp_path)) as spool:
        assert spool.counts == {1: 5001, 2: 5000}
    assert (tmp_path / "streams").read_bytes() == records


def test_the_last_bytes_of_each_stream_are_at_hand(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        for stream, data in PARTS:
            spool.append(stream, data)
        assert spool.ends == {1: b"out\nmore", 2: b"err\n\xff\0"}
        spool.append(1, b"x" * END_BYTES + b"y")
        assert spool.ends[1] == b"x" * (END_BYTES - 1) + b"y"


def test_the_first_bytes_of_each_stream_are_at_hand_also_later(tmp_path: Path) -> None:
    fill(tmp_path)
    with closing(Spool(tmp_path)) as spool:
        assert spool.starts == {1: b"out\nmore", 2: b"err\n\xff\0"}
        spool.append(1, b"x" * START_BYTES)
        assert spool.starts[1] == b"out\nmore" + b"x" * (START_BYTES - 8)
    with closing(Spool(tmp_path)) as spool:
        assert spool.starts[1] == b"out\nmore" + b"x" * (START_BYTES - 8)


def test_a_program_that_writes_to_one_stream_has_one_record(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(Spool(tmp_path)) as spool:
            for _ in range(1000):
                spool.append(2, b".")
    assert (tmp_path / "streams").read_bytes() == _RECORD.pack(2, 2000)


def test_what_is_beyond_the_cap_is_let_go(tmp_path: Path) -> None:
    bytes_max = 20 + LINE_BYTES
    with closing(Spool(tmp_path, bytes_max)) as spool:
        spool.append(1, b"12345\n")
        assert not spool.is_full
        spool.append(2, b"abcdefghijklmnop")
        assert spool.is_full
        spool.append(1, b"lost")
        # what came last is known all the same: it tells whether the engine has more
        assert spool.ends == {1: b"12345\nlost", 2: b"abcdefghijklmnop"}
    assert (tmp_path / "output").read_bytes() == b"12345\nabcdefghijklmnop"
    with closing(Spool(tmp_path, bytes_max)) as spool:
        assert spool.is_full
        assert spool.counts == {1: 6, 2: 16}
