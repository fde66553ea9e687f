"""The log: pieces of one process, and the text of several sources."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobd.logformat import PIECE_BYTES_MAX, MergeState, Splitter, close, format_piece

STAMP = "2026-01-31 09:30:00"
PREFIX = re.compile(rb"\[2026-01-31 09:30:00\] \[([a-z0-9 ]+)\] ")
outputs = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\xff\x00", b" "]), max_size=30).map(b"".join)


def split(chunks: list[bytes]) -> list[bytes]:
    splitter = Splitter()
    pieces = [piece for number, chunk in enumerate(chunks) for _, piece in splitter.feed(chunk, number)]
    return pieces + [piece for _, piece in splitter.flush()]


def merge(pieces: list[tuple[str, bytes]]) -> bytes:
    state, text = MergeState(), b""
    for source, data in pieces:
        state, added = format_piece(state, source, STAMP, data)
        text += added
    return text + close(state)


def test_pieces_end_at_line_ends_and_carriage_returns() -> None:
    assert split([b"a\nb\rc\r\nd"]) == [b"a\n", b"b\r", b"c\r", b"\n", b"d"]


def test_a_piece_has_the_time_of_its_first_byte() -> None:
    splitter = Splitter()
    assert splitter.feed(b"a", 1) == []
    assert splitter.pending
    assert splitter.feed(b"b\nc", 2) == [(1, b"ab\n")]
    assert splitter.flush() == [(2, b"c")]
    assert not splitter.pending
    assert splitter.flush() == []


def test_a_gigabyte_without_a_newline_comes_in_pieces_of_64_kib() -> None:
    splitter = Splitter()
    pieces = splitter.feed(b"x" * (3 * PIECE_BYTES_MAX + 5), 0)
    assert [len(piece) for _, piece in pieces] == [PIECE_BYTES_MAX] * 3
    assert splitter.flush() == [(0, b"x" * 5)]


def test_a_line_end_right_after_64_kib_is_a_piece_of_its_own() -> None:
    assert split([b"x" * PIECE_BYTES_MAX + b"\n"]) == [b"x" * PIECE_BYTES_MAX, b"\n"]


@given(outputs, st.lists(st.integers(0, 60)))
def test_chunks_do_not_matter(output: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    assert split([output[begin:end] for begin, end in pairwise(places)]) == split([output])


@given(outputs)
def test_pieces_lose_nothing(output: bytes) -> None:
    assert b"".join(split([output])) == output


def test_lines_get_stamp_and_source() -> None:
    assert merge([("worker 0", b"a\n"), ("daemon", b"b\n")]) == (
        b"[2026-01-31 09:30:00] [worker 0] a\n[2026-01-31 09:30:00] [daemon] b\n"
    )


def test_a_piece_that_goes_on_with_its_line_gets_nothing() -> None:
    assert merge([("worker 0", b"a"), ("worker 0", b"b\n")]) == b"[2026-01-31 09:30:00] [worker 0] ab\n"


def test_another_source_first_ends_an_unended_line() -> None:
    assert merge([("worker 0", b"a"), ("worker 1", b"b\n"), ("worker 0", b"c\n")]) == (
        b"[2026-01-31 09:30:00] [worker 0] a\n[2026-01-31 09:30:00] [worker 1] b\n[2026-01-31 09:30:00] [worker 0] c\n"
    )


def test_a_progress_bar_gets_a_stamp_at_each_turn() -> None:
    assert merge([("worker 0", b"10%\r"), ("worker 0", b"20%\r\n")]) == (
        b"[2026-01-31 09:30:00] [worker 0] 10%\r[2026-01-31 09:30:00] [worker 0] 20%\r\n"
    )


def test_a_line_end_of_two_bytes_stays_one() -> None:
    assert merge([("worker 0", b"a\r"), ("worker 0", b"\n"), ("worker 0", b"b\n")]) == (
        b"[2026-01-31 09:30:00] [worker 0] a\r\n[2026-01-31 09:30:00] [worker 0] b\n"
    )


def test_a_piece_of_several_lines_gets_a_prefix_at_each() -> None:
    assert merge([("prepare", b"a\nb\n")]) == b"[2026-01-31 09:30:00] [prepare] a\n[2026-01-31 09:30:00] [prepare] b\n"


def test_the_text_of_a_job_that_is_over_ends_its_last_line() -> None:
    assert merge([("worker 0", b"a")]).endswith(b"a\n")
    assert merge([]) == b""


@given(outputs, st.lists(st.integers(0, 60)))
def test_without_prefixes_one_source_is_what_it_wrote(output: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    text = merge([("worker 0", output[begin:end]) for begin, end in pairwise(places)])
    restored = PREFIX.sub(b"", text)
    assert restored in (output, output + b"\n")


@given(outputs, st.lists(st.integers(0, 60)))
def test_how_output_is_cut_into_pieces_does_not_show(output: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    cut = merge([("worker 0", output[begin:end]) for begin, end in pairwise(places)])
    assert cut == merge([("worker 0", piece) for piece in split([output])])


@given(st.lists(st.tuples(st.sampled_from(["worker 0", "worker 1", "daemon"]), outputs), max_size=8))
def test_every_source_is_restored_but_for_the_ends_of_its_unended_lines(written: list[tuple[str, bytes]]) -> None:
    parts = PREFIX.split(merge(written))
    restored: dict[bytes, bytes] = {}
    for source, text in zip(parts[1::2], parts[2::2], strict=True):
        restored[source] = restored.get(source, b"") + text
    for source in {source for source, data in written if data}:
        wrote = b"".join(data for other, data in written if other == source)
        assert restored[source.encode()].replace(b"\n", b"") == wrote.replace(b"\n", b"")
