"""The GPUs of a node as the service knows them: those that it tells of, and those that it does not tell of any more.

A GPU that falls off the bus may be gone without a word when its machine or the daemon there is started again. It is
remembered as one that is not well, so that jobs wait for it, and people find out, until somebody says that it is gone.
A GPU that was divided into instances, or is whole again, is not gone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jobd.wire import NodeGpu

GONE = "its node does not tell of it any more"


def remembered(known: Iterable[NodeGpu], told: Sequence[NodeGpu]) -> tuple[NodeGpu, ...]:
    """Return all GPUs of a node: those that it tells of, and then those that are gone.

    Args:
        known: what was returned before.
        told: what the node says now.
    """
    there = {gpu.uuid for gpu in told}
    families = {gpu.parent or gpu.uuid for gpu in told}
    gone = [gpu for gpu in known if gpu.uuid not in there and (gpu.parent or gpu.uuid) not in families]
    taken = {gpu.index for gpu in told}
    numbers = iter(range(max([*taken, *(gpu.index for gpu in gone)], default=0) + 1, 2**31))
    moved = {index: next(numbers) if index in taken else index for index in sorted({gpu.index for gpu in gone})}
    return (*told, *(replace(gpu, index=moved[gpu.index], ill=GONE) for gpu in gone))
