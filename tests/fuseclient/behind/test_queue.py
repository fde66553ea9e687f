"""Promises in their order, held against a plain list of them."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fuseclient.behind.queue import OVERHEAD_BYTES, BehindQueue, Promise
from pfs.protocol.steps import Step, Verb

PATHS = ["a", "a/b", "a/b/c", "a/bc", "d", "d/e", "a/b/c/f"]


def promise(number: int, path: str = "x", *, data: bytes = b"", node_id: int = 1, target: str = "") -> Promise:
    verb = Verb.RENAME if target else Verb.MAKE_FILE
    return Promise(number, Step(verb, path, target, data=data), node_id)


def near(path: str, other: str) -> bool:
    return path == other or path == "" or other == "" or path.startswith(other + "/") or other.startswith(path + "/")


class Model(RuleBasedStateMachine):
    """The queue beside a list of what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = BehindQueue(promises_max=8, bytes_max=8 * OVERHEAD_BYTES)
        self.waiting: list[Promise] = []
        self.in_flight: list[Promise] = []
        self.doubtful: set[int] = set()
        self.last = 0
        self.cancelled: list[Promise] = []

    @rule(path=st.sampled_from(PATHS), other=st.sampled_from(["", *PATHS]), node_id=st.integers(1, 3))
    def add(self, path: str, other: str, node_id: int) -> None:
        self.last += 1
        made = promise(self.last, path, node_id=node_id, target=other)
        self.queue.add(made)
        self.waiting.append(made)

    @precondition(lambda self: not self.in_flight)
    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        batch = self.queue.take(most)
        careful = bool(self.waiting) and self.waiting[0].number in self.doubtful
        assert batch.sure is not careful
        self.in_flight = self.waiting[: 1 if careful else most]
        assert list(batch.promises) == self.in_flight

    @precondition(lambda self: self.in_flight)
    @rule()
    def settle(self) -> None:
        settled = self.in_flight.pop(0)
        self.waiting.remove(settled)
        self.queue.settle(settled)
        assert self.queue.settled >= settled.number

    @rule(path=st.sampled_from(PATHS))
    def cancel(self, path: str) -> None:
        about = [each for each in self.waiting if any(near(path, other) for other in each.paths)]
        last = about[-1] if about else None
        alone = last is not None and last.paths == (path,)
        expected = last if alone and last not in self.in_flight and last.number not in self.doubtful else None
        assert self.queue.waiting_alone(path) == expected
        if expected is not None:
            self.waiting.remove(expected)
            self.queue.cancel(expected)
            self.cancelled.append(expected)

    @rule()
    def lose(self) -> None:
        self.queue.put_back()
        self.in_flight = []
        self.doubtful = {each.number for each in self.waiting}

    @rule()
    def doubt(self) -> None:
        self.queue.doubt()
        self.doubtful = {each.number for each in self.waiting}

    @invariant()
    def holds_what_waits(self) -> None:
        assert self.queue.promises() == self.waiting
        assert self.queue.bytes == OVERHEAD_BYTES * len(self.waiting)
        assert self.queue.has_room(0) == (len(self.waiting) < 8)

    @invariant()
    def knows_how_far_it_has_come(self) -> None:
        assert self.queue.settled == (self.waiting[0].number - 1 if self.waiting else self.last)

    @invariant()
    def knows_whom_to_wait_for(self) -> None:
        for path in ["", *PATHS]:
            about = [each for each in self.waiting if any(near(path, other) for other in each.paths)]
            last = max((each.number for each in about), default=0)
            found = self.queue.last_near([path])
            assert found >= last
            assert found == last or found in {each.number for each in self.cancelled}

    @invariant()
    def knows_the_last_of_a_node(self) -> None:
        for each in self.waiting:
            about = [*self.waiting, *self.cancelled]  # what was cancelled is still in the way
            later = [other for other in about if other.node_id == each.node_id and other.number > each.number]
            assert self.queue.is_last_of_node(each, each.node_id) is not bool(later)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_a_batch_ends_where_it_has_enough_bytes() -> None:
    queue = BehindQueue()
    for number in (1, 2, 3):
        queue.add(promise(number, data=bytes(1000)))
    assert [each.number for each in queue.take(10, 2 * (OVERHEAD_BYTES + 1000)).promises] == [1, 2]


def test_a_promise_larger_than_a_batch_goes_alone() -> None:
    queue = BehindQueue()
    queue.add(promise(1, data=bytes(1000)))
    queue.add(promise(2))
    assert [each.number for each in queue.take(10, 100).promises] == [1]


def test_into_an_empty_queue_goes_what_is_larger_than_it() -> None:
    queue = BehindQueue(bytes_max=100)
    assert queue.has_room(1000)
    queue.add(promise(1, data=bytes(1000)))
    assert not queue.has_room(0)


def test_only_one_batch_is_under_way() -> None:
    queue = BehindQueue()
    queue.add(promise(1))
    queue.take()
    queue.add(promise(2))
    assert queue.take().promises == ()


def test_what_is_on_its_way_cannot_be_cancelled() -> None:
    queue = BehindQueue()
    queue.add(promise(1))
    first = queue.take().promises[0]
    with pytest.raises(ValueError, match="on its way"):
        queue.cancel(first)


def test_it_is_getting_full_before_it_is() -> None:
    queue = BehindQueue(promises_max=8, bytes_max=1 << 20)
    queue.add(promise(1))
    assert not queue.is_getting_full()
    queue.add(promise(2))
    assert queue.is_getting_full()
    queue = BehindQueue(promises_max=100, bytes_max=4000)
    queue.add(promise(1, data=bytes(1000)))
    assert queue.is_getting_full()


def test_what_was_settled_long_ago_is_not_kept_in_mind() -> None:
    queue = BehindQueue(promises_max=4)
    queue.add(promise(1, "first", node_id=1))
    for number in range(2, 1000):
        queue.add(promise(number, f"d{number}/f", node_id=number))
        queue.settle(queue.take(1).promises[0])
    assert len(queue._at) + len(queue._below) + len(queue._of_node) < 100
    assert queue.last_near(["d999"]) == 999


def test_what_is_promised_after_a_doubt_is_sure() -> None:
    queue = BehindQueue()
    queue.add(promise(1))
    queue.doubt()
    queue.add(promise(2))
    first = queue.take()
    assert (len(first.promises), first.sure) == (1, False)
    queue.settle(first.promises[0])
    assert queue.take().sure


@pytest.mark.parametrize("number", [0, 5])
def test_numbers_only_grow(number: int) -> None:
    queue = BehindQueue()
    queue.add(promise(5))
    with pytest.raises(ValueError, match="comes after"):
        queue.add(promise(number))


def test_what_is_not_next_cannot_be_settled() -> None:
    queue = BehindQueue()
    queue.add(promise(1))
    queue.add(promise(2))
    _, second = queue.take().promises
    with pytest.raises(ValueError, match="not the next"):
        queue.settle(second)


def test_a_node_that_has_got_its_number_is_known_by_both() -> None:
    queue = BehindQueue()
    queue.add(promise(1, node_id=7))
    queue.add(promise(2, node_id=4711))
    first = queue.promises()[0]
    assert queue.is_last_of_node(first, 7)
    assert not queue.is_last_of_node(first, 4711)
