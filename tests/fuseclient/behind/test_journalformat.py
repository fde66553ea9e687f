"""The bytes of a journal: what was written is found, and what was not written whole is not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fuseclient.behind.journalformat import MAGIC, decode, encode_failed, encode_kept, encode_promise
from fuseclient.behind.queue import Promise, Version
from pfs.api import Changes
from pfs.errors import Kind, PfsError
from pfs.protocol.steps import Step, Verb

STEP = Step(Verb.MAKE_FILE, "home/ann/f", mode=0o644, data=b"text", changes=Changes(mtime_ns=-5, mode=0o600))
versions = st.none() | st.builds(Version, st.integers(1, 2**63), st.integers(0, 2**40), st.integers(-(2**62), 2**62))
steps = st.builds(
    Step,
    st.sampled_from(Verb),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace").decode() or "x"),
    st.sampled_from(["", "a/b", "\udcff"]),
    st.integers(0, 0o7777),
    st.binary(max_size=50),
    st.builds(Changes, mode=st.none() | st.integers(0, 0o777), mtime_ns=st.none() | st.integers(0, 2**60)),
    st.booleans(),
)
promises = st.lists(st.tuples(steps, st.integers(1, 2**63), versions, versions), min_size=1, max_size=8).map(
    lambda parts: [Promise(number, *part) for number, part in enumerate(parts, start=1)]
)


def journal(*records: bytes) -> bytes:
    return MAGIC + b"".join(records)


@settings(max_examples=25)
@given(promises)
def test_what_was_promised_is_found(made: list[Promise]) -> None:
    found = decode(journal(*map(encode_promise, made)))
    assert list(found.promises.values()) == made
    assert found.last == len(made)


@settings(max_examples=25)
@given(promises, st.data())
def test_a_torn_end_is_cut_off(made: list[Promise], data: st.DataObject) -> None:
    records = [encode_promise(each) for each in made]
    whole = journal(*records)
    cut = data.draw(st.integers(len(whole) - len(records[-1]), len(whole) - 1))
    found = decode(whole[:cut])
    assert list(found.promises.values()) == made[:-1]
    assert found.whole_bytes == len(whole) - len(records[-1])


@settings(max_examples=30)
@given(promises, st.data())
def test_no_changed_byte_is_taken_for_a_promise(made: list[Promise], data: st.DataObject) -> None:
    whole = bytearray(journal(*map(encode_promise, made)))
    at = data.draw(st.integers(len(MAGIC), len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    found = list(decode(bytes(whole)).promises.values())
    assert found == made[: len(found)]
    assert len(found) < len(made)


def test_what_is_kept_is_not_done_again() -> None:
    made = [encode_promise(Promise(number, STEP, 100 + number)) for number in (1, 2, 3)]
    found = decode(journal(*made, encode_kept([1, 3], {101: 7})))
    assert list(found.promises) == [2]
    assert found.real == {101: 7}
    assert found.last == 3


def test_what_failed_is_tried_again() -> None:
    failed = encode_failed(1, PfsError(Kind.NO_SPACE, "no room"))
    assert list(decode(journal(encode_promise(Promise(1, STEP, 5)), failed)).promises) == [1]


def test_other_bytes_are_no_journal() -> None:
    assert decode(b"").whole_bytes == 0
    assert decode(b"something else\n" * 100).whole_bytes == 0
    assert decode(MAGIC).whole_bytes == len(MAGIC)
