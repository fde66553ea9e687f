"""The lines of the audit log: what they hold, and that nobody changes one unnoticed."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.audit.record import FIRST_HASH, LINE_BYTES_MIN, Chain, Record, follow_all, hash_in, line_of, record_in
from pfs.errors import Kind, PfsError

AT_NS = 1_769_860_800_000_001_000
SUBMITTED = Record(AT_NS, "ann", "10.0.0.7#3fa9", "job.submit", "jobs/17", more={"name": "digits"})

any_text = st.text(st.characters(), max_size=30)
# what comes off a line: without lone surrogates but those that stand for bytes, which is what names of files are
texts = st.binary(max_size=30).map(lambda data: data.decode("utf-8", "surrogateescape"))
records = st.builds(
    Record,
    time_ns=st.integers(0, 4 * 10**9).map(lambda us: us * 1000 * 10**6),
    who=texts,
    source=texts,
    what=st.just("login"),
    on=texts,
    result=st.sampled_from(["done", *Kind]),
    more=st.dictionaries(st.text(string.ascii_lowercase, min_size=1, max_size=5), texts, max_size=3),
)


def lines_of(records: list[Record]) -> list[str]:
    lines, before = [], FIRST_HASH
    for number, record in enumerate(records, 1):
        lines.append(line_of(number, record, before))
        before = hash_in(lines[-1])
    return lines


def three() -> list[str]:
    return lines_of([SUBMITTED, Record(AT_NS, "bob", "local", "login", "users/bob"), SUBMITTED])


def fault(lines: list[str], known: str = "") -> str:
    with pytest.raises(PfsError) as caught:
        follow_all(lines, known)
    return caught.value.message


def test_a_record_is_a_line_that_grep_and_people_read() -> None:
    line = line_of(17, SUBMITTED, FIRST_HASH)
    start, _, digest = line.rpartition(" ")
    assert start == "17 2026-01-31T12:00:00.000001Z ann 10.0.0.7#3fa9 job.submit jobs/17 done name=digits"
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "-"),
        ("-", "%2D"),
        ("a b", "a%20b"),
        ("a\n18 2026-01-31T12:00:00.000001Z root", "a%0A18%202026-01-31T12:00:00.000001Z%20root"),
        ("\x1b]0;you are root\x07", "%1B]0%3Byou%20are%20root%07"),
        ("\u202e", "%E2%80%AE"),
        ("é", "%C3%A9"),
        ("x" * 500, "x" * 199 + "%E2%80%A6"),
    ],
)
def test_what_users_choose_is_one_word_without_power_over_terminals_and_lines(text: str, shown: str) -> None:
    assert line_of(1, Record(0, text, "local", "login", "x"), FIRST_HASH).split(" ")[2] == shown


@given(records)
def test_a_line_says_what_its_record_said_in_printable_ascii(record: Record) -> None:
    line = line_of(3, record, FIRST_HASH)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) >= LINE_BYTES_MIN
    assert record_in(line) == record


@given(any_text)
def test_what_is_no_record_is_refused_as_such(line: str) -> None:
    with pytest.raises(PfsError):
        record_in(line)


def test_a_chain_that_is_whole_ends_with_its_last_hash() -> None:
    lines = three()
    assert follow_all(lines) == Chain(3, hash_in(lines[2]))
    assert follow_all([]) == Chain(0, FIRST_HASH)


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_a_change_of_any_character_is_found_there_or_in_the_next_record(
    made: list[Record], data: st.DataObject
) -> None:
    lines = lines_of(made)
    which = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[which]) - 1))
    letter = data.draw(st.sampled_from(string.ascii_letters + string.digits + " %\n"))
    changed = lines[which][:at] + letter + lines[which][at + 1 :]
    if changed != lines[which]:
        said = fault([*lines[:which], changed, *lines[which + 1 :]])
        assert said.startswith((f"record {which + 1} is broken", f"record {which + 2} is broken"))


def test_a_record_that_is_missing_moved_or_put_in_is_named() -> None:
    first, second, third = three()
    assert fault([second, third]) == "record 1 is broken: in its place stands '2'"
    assert fault([first, third]) == "record 2 is broken: in its place stands '3'"
    assert fault([second, first, third]).startswith("record 1 is broken")
    forged = line_of(2, SUBMITTED, hash_in(first))
    assert fault([first, forged, third]).startswith("record 3 is broken")
    assert fault([first, second, third, "and so on"]).startswith("record 4 is broken")


def test_a_chain_that_was_cut_or_written_anew_lacks_what_was_noted_down_elsewhere() -> None:
    lines = three()
    noted = hash_in(lines[2])
    assert follow_all(lines, noted).number == 3
    assert "records are missing" in fault(lines[:2], noted)
    assert "records are missing" in fault(lines_of([SUBMITTED] * 3), noted)
