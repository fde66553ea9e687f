"""Which GPUs are well, and which changes are worth telling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.node.health import Signs, ailment, is_news
from jobd.wire import GpuReading, NodeGpu

GPU = NodeGpu("GPU-1", 0, "NVIDIA H200", 64 << 30)
READING = GpuReading(50, 60, 32 << 30, {7: 1 << 30})

readings = st.builds(
    GpuReading,
    st.none() | st.integers(0, 100),
    st.none() | st.integers(20, 90),
    st.none() | st.integers(0, 64 << 30),
    st.dictionaries(st.integers(1, 3), st.none() | st.integers(0, 9)),
)


def news(before: GpuReading, now: GpuReading) -> bool:
    return is_news({"GPU-1": GPU}, {"GPU-1": before}, {"GPU-1": now})


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        (Signs(), ""),
        (Signs(uncorrected=1), "1 error of its memory could not be corrected since the driver was loaded"),
        (Signs(uncorrected=3), "3 errors of its memory could not be corrected since the driver was loaded"),
        (Signs(remap_pending=True), "a part of its memory fails and is replaced when it is reset"),
        (Signs(retirement_pending=True), "a part of its memory fails and is replaced when it is reset"),
        (Signs(recovery=1), "its driver says that it has to be reset"),
        (Signs(recovery=2), "its driver says that the machine has to be restarted"),
        (Signs(recovery=99), "its driver says that something has to be done about it"),
        (Signs(5, True, True, True, 1), "a row of its memory fails and there is no spare one"),
    ],
)
def test_a_gpu_is_well_unless_its_driver_says_otherwise_and_the_worst_is_told(signs: Signs, words: str) -> None:
    assert ailment(signs) == words


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (READING, False),
        (GpuReading(59, 62, (32 << 30) + 1, {7: 2 << 30}), False),
        (GpuReading(60, 60, 32 << 30, {7: 1}), True),
        (GpuReading(50, 57, 32 << 30, {7: 1}), True),
        (GpuReading(50, 60, 33 << 30, {7: 1}), True),
        (GpuReading(50, 60, 32 << 30, {8: 1 << 30}), True),
        (GpuReading(None, 60, 32 << 30, {7: 1}), True),
    ],
)
def test_only_what_changed_by_some_is_news(now: GpuReading, told: bool) -> None:
    assert news(READING, now) is told


def test_that_a_gpu_fell_idle_is_news_however_little_it_did() -> None:
    assert news(GpuReading(3), GpuReading(0))
    assert not news(GpuReading(3), GpuReading(1))


def test_a_gpu_that_is_there_no_more_is_news() -> None:
    assert is_news({}, {"GPU-1": READING}, {})


@given(readings, readings)
def test_nothing_new_is_no_news_and_news_is_so_both_ways(one: GpuReading, other: GpuReading) -> None:
    assert not news(one, one)
    assert news(one, other) == news(other, one)
