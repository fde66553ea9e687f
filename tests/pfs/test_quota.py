"""Quotas: what counts, what is refused, and that the sum is right whatever happens at once."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from pfs.errors import Kind, PfsError
from pfs.quota import DOUBTED_NS, TRUSTED_NS, Amount, Growth, Limits, Usage, bounded

ONE, OTHER = (1, 5), (1, 6)
BYTES_MAX, FILES_MAX = 100, 6


def usage(size_bytes: int | None = BYTES_MAX, files: int | None = FILES_MAX) -> Usage:
    return Usage("home/ann", Limits(size_bytes, files))


def refused(made: Usage, size_bytes: int, files: int = 0) -> str:
    with pytest.raises(PfsError) as caught:
        made.check(size_bytes, files)
    assert caught.value.kind is Kind.QUOTA
    return caught.value.message


def test_who_is_refused_is_told_the_use_the_limit_and_what_to_do() -> None:
    made = usage(10_000, 1_000)
    made.begin(ONE, 0, 0, 9_000)
    assert refused(made, 1_001) == (
        "ann's quota has 9,000 of 10,000 bytes in use, and 1,001 more do not fit; "
        "remove something, or ask an administrator for more"
    )
    made.check(1_000, 0)
    for number in range(1_000):
        made.made((1, number))
    assert "1,000 of 1,000 files in use, and one more does not fit" in refused(made, 0, 1)


def test_a_limit_that_is_not_there_refuses_nothing() -> None:
    made = usage(None, None)
    made.check(2**80, 2**80)
    assert made.begin(ONE, 0, 0, 2**62).size_bytes == 2**62


def test_above_the_limit_what_makes_nothing_larger_goes_on() -> None:
    made = usage()
    made.finish(made.begin(ONE, 0, 0, 100), doubtful=False)
    made.limits = Limits(10, 0)
    for offset, count in ((0, 100), (99, 1), (1_000, 0), (None, 0)):
        assert not made.finish(made.begin(ONE, 100, offset, count), doubtful=False)
    assert made.used == Amount(100, 0)
    with pytest.raises(PfsError):
        made.begin(ONE, 100, None, 1)


def test_what_is_refused_has_not_begun() -> None:
    made = usage()
    with pytest.raises(PfsError):
        made.begin(ONE, 0, 0, 101)
    growth = made.begin(ONE, 0, 0, 100)
    assert growth.writers == 1
    assert made.used == Amount(100, 0)


def test_those_who_write_the_same_bytes_count_them_once() -> None:
    made = usage()
    first, second = made.begin(ONE, 0, 0, 60), made.begin(ONE, 0, 20, 60)
    assert first is second
    assert made.used.size_bytes == 80
    assert not made.finish(first, doubtful=True)  # what another one writes is not known yet
    assert made.finish(second, doubtful=False)
    made.settle(second, 60)
    assert made.used.size_bytes == 60


@pytest.mark.parametrize("writers", [((0, 60), (None, 10)), ((None, 10), (0, 60))])
def test_who_writes_at_the_end_and_who_says_where_have_room_in_either_order(
    writers: list[tuple[int | None, int]],
) -> None:
    made = usage()
    [growth, _] = [made.begin(ONE, 0, offset, count) for offset, count in writers]
    assert made.used.size_bytes == 70
    assert not made.finish(growth, doubtful=False)
    assert made.finish(growth, doubtful=False)
    made.settle(growth, 60)
    assert made.used.size_bytes == 60


def test_the_whole_is_counted_when_it_may_be_wrong_and_now_and_then() -> None:
    made = usage()
    assert made.due_ns() == 0
    for begun_ns in (7, 8):  # changes that were on their way when the first count began may be missing
        assert made.due_ns() <= 7 + DOUBTED_NS
        made.begin_count(begun_ns)
        made.end_count()
    assert made.due_ns() == 8 + TRUSTED_NS
    for doubt in (made.doubt, lambda: refused(made, 101)):
        doubt()
        assert made.due_ns() == 8 + DOUBTED_NS
        made.begin_count(8)
        made.end_count()
        assert made.due_ns() == 8 + TRUSTED_NS
    made.moves(directory=True)
    assert made.due_ns() == 8 + TRUSTED_NS
    made.begin_count(8)
    made.moves(directory=True)  # whoever looks may miss what is in it
    made.end_count()
    assert made.due_ns() == 8 + DOUBTED_NS


def test_while_it_is_counted_for_the_first_time_what_was_seen_counts() -> None:
    made = usage()
    made.begin_count(1)
    made.see(ONE, 60)
    assert refused(made, 41)
    made.end_count()
    made.begin_count(2)
    assert made.used == Amount(60, 1)  # until the second count is over, the first one counts
    made.see(OTHER, 7)
    assert made.used == Amount(60, 1)
    made.end_count()
    assert made.used == Amount(7, 1)


def test_what_is_on_its_way_when_the_whole_is_counted_counts_as_it_will_be() -> None:
    made = usage()
    for size in (10, 40):
        growth = made.begin(ONE, size, None, 30)
        made.begin_count(1)
        made.see(ONE, size)
        assert not made.finish(growth, doubtful=False)
        made.end_count()
        assert made.used == Amount(size + 30, 1)


def test_what_changes_while_the_whole_is_counted_counts_once_whoever_meets_it_first() -> None:
    for seen_first in (False, True):
        made = usage()
        made.begin_count(1)
        if seen_first:
            made.see(ONE, 10)
        made.finish(made.begin(ONE, 10, None, 5), doubtful=False)
        made.made(OTHER)
        made.see(ONE, 15)
        made.see(OTHER, 0)
        assert made.used == Amount(15, 2)
        made.removed(ONE, 15)
        made.end_count()
        assert made.used == Amount(0, 1)


@pytest.mark.parametrize(
    ("limit", "used", "told"),
    [
        (None, 10, (1_000, 500)),
        (100, 40, (100, 60)),
        (100, 140, (100, 0)),
        (900, 40, (900, 500)),
        (5_000, 0, (1_000, 500)),
    ],
)
def test_room_is_what_both_disk_and_limit_leave(limit: int | None, used: int, told: tuple[int, int]) -> None:
    assert bounded(limit, used, 1_000, 500) == told


class Domain(RuleBasedStateMachine):
    """A domain on a make-believe disk: steps of all who change and look at it come in any order."""

    writes = Bundle("writes")

    @initialize(sizes=st.lists(st.integers(0, 20), max_size=3))
    def begin(self, sizes: list[int]) -> None:
        self.usage = usage()
        self.files = {(1, number * 4_000): size for number, size in enumerate(sizes)}
        self.left: list[tuple[int, int]] | None = None
        self.look()
        self.finish_looking()

    @rule(number=st.integers(0, 3))
    def make(self, number: int) -> None:
        key = (1, number * 4_000)
        if key in self.files:
            return
        try:
            self.usage.check(0, 1)
        except PfsError:
            assert len(self.files) + 1 > FILES_MAX
            return
        self.files[key] = 0
        self.usage.made(key)

    @rule(target=writes, data=st.data(), offset=st.none() | st.integers(0, 60), count=st.integers(0, 60))
    def start(self, data: st.DataObject, offset: int | None, count: int) -> object:
        if not self.files:
            return None
        key = data.draw(st.sampled_from(sorted(self.files)))
        try:
            return self.usage.begin(key, self.files[key], offset, count), offset, count
        except PfsError:
            return None

    @rule(write=consumes(writes), part=st.sampled_from([0.0, 0.5, 1.0]))
    def end(self, write: tuple[Growth, int | None, int] | None, part: float) -> None:
        if write is None:
            return
        growth, offset, count = write
        done = int(count * part)
        if done and growth.key in self.files and not growth.gone:
            size = self.files[growth.key]
            self.files[growth.key] = max(size, (size if offset is None else offset) + done)
        if self.usage.finish(growth, doubtful=done < count):
            self.usage.settle(growth, self.files[growth.key])

    @rule(data=st.data(), size=st.integers(0, 60))
    def resize(self, data: st.DataObject, size: int) -> None:
        if not self.files:
            return
        key = data.draw(st.sampled_from(sorted(self.files)))
        try:
            growth = self.usage.begin(key, self.files[key], 0, size)
        except PfsError:
            assert size > self.files[key]
            return
        self.files[key] = size
        if self.usage.finish(growth, doubtful=True):
            self.usage.settle(growth, size)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.files:
            key = data.draw(st.sampled_from(sorted(self.files)))
            self.usage.see(key, self.files[key])
            self.usage.removed(key, self.files.pop(key))

    @precondition(lambda self: self.left is None)
    @rule()
    def look(self) -> None:
        self.usage.begin_count(1)
        self.left = sorted(self.files)

    @precondition(lambda self: self.left)
    @rule()
    def see(self) -> None:
        assert self.left is not None
        if (key := self.left.pop()) in self.files:
            self.usage.see(key, self.files[key])

    @precondition(lambda self: self.left is not None)
    @rule()
    def finish_looking(self) -> None:
        while self.left:
            self.see()
        self.usage.end_count()
        self.left = None

    @invariant()
    def is_within_limits(self) -> None:
        assert sum(self.files.values()) <= self.usage.used.size_bytes <= BYTES_MAX
        assert len(self.files) == self.usage.used.files
        if not self.usage._growing:
            assert sum(self.files.values()) == self.usage.used.size_bytes


TestDomain = Domain.TestCase
TestDomain.settings = settings(stateful_step_count=20)
