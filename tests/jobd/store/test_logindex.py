"""The index of a log: what is read is what was written, up to where that ends."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jobd.store.logindex import RECORD_BYTES, Record, RecordKind, pack_record, read_records

U32 = st.integers(0, 2**32 - 1)
records = st.lists(
    st.builds(
        Record,
        st.sampled_from(RecordKind),
        st.integers(-2, 2**31 - 1),
        U32,
        U32,
        U32,
        st.integers(0, 255),
        st.integers(0, 2**64 - 1),
    ),
    max_size=8,
)


@given(records, st.integers(0, RECORD_BYTES - 1))
def test_whole_records_are_read_as_they_were_written(tmp_path_factory, written: list[Record], cut: int) -> None:
    path = tmp_path_factory.getbasetemp() / "index"
    part = pack_record(Record(RecordKind.NOTE))[:cut]
    path.write_bytes(b"".join(map(pack_record, written)) + part)
    assert list(read_records(str(path))) == written


def test_a_record_never_lies_across_two_pages() -> None:
    assert 4096 % RECORD_BYTES == 0


def test_what_is_no_record_ends_the_index(tmp_path: Path) -> None:
    good = Record(RecordKind.OUTPUT, 0, 1, 5, 40, 10)
    for bad in (bytes(RECORD_BYTES), b"\xff" * RECORD_BYTES):
        (tmp_path / "index").write_bytes(pack_record(good) + bad + pack_record(good))
        assert list(read_records(str(tmp_path / "index"))) == [good]


def test_no_index_is_an_empty_one(tmp_path: Path) -> None:
    assert list(read_records(str(tmp_path / "index"))) == []
