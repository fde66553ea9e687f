"""The log: pieces of one process, and the text of several sources."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobd.logformat import PIECE_BYTES_MAX, MergeState, Splitter, close, format_piece

STAMP = "2026-01-31 09:30:00"
PREFIX = re.compile(rb"\[2026-01-31 09:30:00\] \[([a-z0-9 ]+)\] ")
LINE = re.compile(rb"[^\r\n]*(?:\r\n|[\r\n])|[^\r\n]+")
LOOKS_LIKE_ONE = f"[{STAMP}] [worker 1] ".encode()
parts = [b"a", b"bc", b"\n", b"\r", b"\r\n", b"\xff\x00", b" ", LOOKS_LIKE_ONE]
outputs = st.lists(st.sampled_from(parts), max_size=30).map(b"".join)
sources = st.sampled_from(["worker 0", "worker 1", "worker 10", "daemon"])


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


def test_lines_that_came_together_are_one_piece_and_an_unended_one_another() -> None:
    assert split([b"a\nb\rc\r\nd"]) == [b"a\nb\rc\r\n", b"d"]


def test_a_piece_has_the_time_of_its_first_byte() -> None:
    splitter = Splitter()
    assert splitter.feed(b"a", 1) == []
    assert splitter.pending
    assert splitter.feed(b"b\nc", 2) == [(1, b"ab\n")]
    assert splitter.flush() == [(2, b"c")]
    assert not splitter.pending
    assert splitter.flush() == []


def test_the_lines_after_one_that_was_held_have_their_own_time() -> None:
    splitter = Splitter()
    assert splitter.feed(b"a\nb", 1) == [(1, b"a\n")]
    assert splitter.feed(b"c\r\nd\ne", 2) == [(1, b"bc\r\n"), (2, b"d\n")]
    assert splitter.flush() == [(2, b"e")]


def test_of_a_gigabyte_without_a_newline_no_more_than_64_kib_are_held() -> None:
    splitter = Splitter()
    for time_ns in range(0, 40, 4):
        for number in range(3):
            assert splitter.feed(b"x" * (PIECE_BYTES_MAX // 4), time_ns + number) == []
        assert splitter.feed(b"x" * (PIECE_BYTES_MAX // 4), time_ns + 3) == [(time_ns, b"x" * PIECE_BYTES_MAX)]
        assert not splitter.pending
    assert splitter.feed(b"x" * PIECE_BYTES_MAX * 3, 41) == [(41, b"x" * PIECE_BYTES_MAX * 3)]


@given(outputs, st.lists(st.integers(0, 60)))
def test_chunks_do_not_show_in_the_text(output: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    chunks = [output[begin:end] for begin, end in pairwise(places)]
    assert merge([("worker 0", piece) for piece in split(chunks)]) == merge([("worker 0", output)])


@given(st.lists(outputs, max_size=6))
def test_the_first_byte_of_each_line_has_the_time_at_which_it_came(chunks: list[bytes]) -> None:
    splitter = Splitter()
    pieces = [piece for number, chunk in enumerate(chunks) for piece in splitter.feed(chunk, number)]
    pieces += splitter.flush()
    came = [number for number, chunk in enumerate(chunks) for _ in chunk]
    start = 0
    for time_ns, data in pieces:
        for line in LINE.finditer(data):
            assert time_ns == came[start + line.start()]
        start += len(data)


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


@given(st.lists(st.tuples(sources, outputs), max_size=12))
def test_without_prefixes_every_source_is_byte_for_byte_what_it_wrote(written: list[tuple[str, bytes]]) -> None:
    restored: dict[str, bytes] = {}
    state = MergeState()
    for source, data in written:
        after, text = format_piece(state, source, STAMP, data)
        if text and not state.ended and state.source != source:
            assert text.startswith(b"\n")
            text = text[1:]
        lines = LINE.findall(text)
        goes_on = state.source == source and (not state.ended or (state.last + data).startswith(b"\r\n"))
        restored[source] = restored.get(source, b"") + b"".join(lines[:goes_on])
        for line in lines[goes_on:]:
            prefix = f"[{STAMP}] [{source}] ".encode()
            assert line.startswith(prefix)
            restored[source] += line.removeprefix(prefix)
        state = after
    for source, text in restored.items():
        assert text == b"".join(data for other, data in written if other == source)


@given(st.lists(st.tuples(sources, outputs), max_size=12))
def test_every_line_of_the_text_says_whose_it_is(written: list[tuple[str, bytes]]) -> None:
    for line in LINE.findall(merge(written)):
        assert PREFIX.match(line)


@given(outputs, st.lists(st.integers(0, 60)))
def test_how_output_is_cut_into_pieces_does_not_show(output: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    cut = merge([("worker 0", output[begin:end]) for begin, end in pairwise(places)])
    assert cut == merge([("worker 0", output)])
