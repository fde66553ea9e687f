"""Which GPUs are well enough for new work, and what of what they do is worth telling the server.

A GPU that its driver cannot reach, or of whose memory it says that it fails, is given to nobody: a job on it would lose
its work, or compute something wrong. It is well again as soon as the driver says nothing of the kind any more, which is
after a reset or a restart of the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jobd.wire import GpuReading, NodeGpu

LOST = "it is lost: its driver does not reach it any more"
RESET_NEEDED = "its driver says that it has to be reset"

UTIL_STEP_PERCENT = 10
TEMPERATURE_STEP_C = 3
MEMORY_STEPS = 64  # of the GPU's memory

# what the driver wants done after an error (an XID) that the GPU does not get over by itself
_RECOVERY = {
    1: RESET_NEEDED,
    2: "its driver says that the machine has to be restarted",
    3: "its driver says that its links to other GPUs fail",
    4: RESET_NEEDED,
    6: RESET_NEEDED,
    7: "its driver says that the machine has to be restarted",
}


@dataclass(frozen=True, slots=True)
class Signs:
    """What the driver tells of how a GPU does; what it does not tell is as if all were well.

    Attributes:
        uncorrected: errors of the memory since the driver was loaded that could not be corrected.
        remap_pending, remap_failed: a row of the memory that failed waits to be replaced by a spare one, or cannot be.
        retirement_pending: a page of the memory that failed is used until the next restart.
        recovery: what the driver wants done, by its number; 0 for nothing.
    """

    uncorrected: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    retirement_pending: bool = False
    recovery: int = 0


def ailment(signs: Signs) -> str:
    """Say why a GPU is not well, the worst first; "" while it is."""
    if signs.remap_failed:
        return "a row of its memory fails and there is no spare one"
    if signs.recovery:
        return _RECOVERY.get(signs.recovery, "its driver says that something has to be done about it")
    if signs.remap_pending or signs.retirement_pending:
        return "a part of its memory fails and is replaced when it is reset"
    if signs.uncorrected:
        errors = "1 error" if signs.uncorrected == 1 else f"{signs.uncorrected} errors"
        return f"{errors} of its memory could not be corrected since the driver was loaded"
    return ""


def is_news(
    gpus: Mapping[str, NodeGpu],
    before: Mapping[str, GpuReading],
    now: Mapping[str, GpuReading],
) -> bool:
    """Tell whether GPUs do so much else than before that it is worth telling."""
    if before.keys() != now.keys():
        return True
    return any(_differs(gpus[uuid].memory_bytes, before[uuid], now[uuid]) for uuid in now if uuid in gpus)


def _differs(memory_bytes: int, before: GpuReading, now: GpuReading) -> bool:
    return (
        before.processes.keys() != now.processes.keys()
        or _moved(before.util_percent, now.util_percent, UTIL_STEP_PERCENT)
        or _moved(before.temperature_c, now.temperature_c, TEMPERATURE_STEP_C)
        or _moved(before.used_bytes, now.used_bytes, memory_bytes / MEMORY_STEPS)
    )


def _moved(before: int | None, now: int | None, step: float) -> bool:
    if before is None or now is None:
        return before is not now
    # idle is another thing than a little
    return abs(now - before) >= step or (before == 0) != (now == 0)
