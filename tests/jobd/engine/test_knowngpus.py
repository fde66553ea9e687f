"""Which GPUs of a node are remembered."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobd.engine.knowngpus import GONE, remembered
from jobd.wire import NodeGpu

WHOLE = [NodeGpu(f"GPU-{index}", index, "H200", 1) for index in range(3)]
PARTS = [NodeGpu(f"MIG-{number}", 0, "H200 MIG", 1, number, "GPU-0") for number in range(3)]

tellings = st.lists(st.sampled_from([*WHOLE, *PARTS]), unique_by=lambda gpu: gpu.uuid).filter(
    lambda gpus: not any(gpu.uuid == "GPU-0" for gpu in gpus) or not any(gpu.parent for gpu in gpus)
)


def test_a_gpu_that_is_not_told_of_any_more_is_gone_and_is_back_when_it_is_told_again() -> None:
    known = remembered(WHOLE, WHOLE[1:])
    assert known == (*WHOLE[1:], replace(WHOLE[0], ill=GONE))
    assert remembered(known, WHOLE[1:]) == known
    assert remembered(known, WHOLE) == tuple(WHOLE)


def test_a_gpu_that_moved_up_takes_the_number_of_one_that_is_gone() -> None:
    up = replace(WHOLE[1], index=0)
    assert remembered(WHOLE[:2], [up]) == (up, replace(WHOLE[0], index=1, ill=GONE))


def test_a_gpu_that_was_divided_or_is_whole_again_is_not_gone() -> None:
    assert remembered(WHOLE, [*PARTS, *WHOLE[1:]]) == (*PARTS, *WHOLE[1:])
    assert remembered([*PARTS, *WHOLE[1:]], WHOLE) == tuple(WHOLE)
    assert remembered(PARTS, PARTS[:1]) == tuple(PARTS[:1])


@given(st.lists(tellings, min_size=1))
def test_whatever_a_node_told_each_gpu_is_there_once_under_a_number_of_its_own(told: list[list[NodeGpu]]) -> None:
    known: tuple[NodeGpu, ...] = ()
    for now in told:
        known = remembered(known, now)
        assert len({gpu.uuid for gpu in known}) == len(known)
        assert len({(gpu.index, gpu.instance) for gpu in known}) == len(known)
        assert [gpu for gpu in known if not gpu.ill] == now
