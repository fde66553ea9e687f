"""The limits of a task's processes that every process has for itself (`ulimit`), in containers and sandboxes alike.

    nofile    open files: loaders of data in many processes need more than the 1024 of old
    stack     of a thread: numeric libraries on many CPUs end without a word in the 8 MiB of old
    memlock   locked memory: what GPUs and fast networks copy from has to be locked; no limit for a task that has GPUs
    core      none: what is left of a large program that was killed would fill the disk

The owner of a node may lower them (`ulimits` in the policy file). No task can raise them again. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jobd.node.runtime import Launch

UNLIMITED = -1
NOFILE, STACK, MEMLOCK, CORE = "nofile", "stack", "memlock", "core"

_MIB = 1 << 20
# as a shell's `ulimit` knows them
_OPTIONS = {NOFILE: ("n", 1), STACK: ("s", 1024), MEMLOCK: ("l", 1024), CORE: ("c", 512)}


@dataclass(frozen=True, slots=True)
class Limit:
    """What a process may use, and how far it may raise that itself; `UNLIMITED` for no limit."""

    soft: int
    hard: int

    def within(self, most: int) -> "Limit":
        """Return the limit as it is below another one."""
        return Limit(_least(self.soft, most), _least(self.hard, most))


def limits(launch: Launch, most: Mapping[str, int]) -> Mapping[str, Limit]:
    """Return a task's limits; what is not among them stays what the machine gives.

    Args:
        most: what whoever starts it can give.
    """
    found = {
        NOFILE: Limit(65_536, 1_048_576),
        STACK: Limit(64 * _MIB, UNLIMITED),
        CORE: Limit(0, 0),
    }
    if launch.gpus or MEMLOCK in launch.ulimits:
        found[MEMLOCK] = Limit(UNLIMITED, UNLIMITED)
    for each in (launch.ulimits, most):
        found = {name: limit.within(each.get(name, UNLIMITED)) for name, limit in found.items()}
    return found


def script(limits: Mapping[str, Limit]) -> list[str]:
    """Return the lines by which a shell limits itself."""
    lines = []
    for name, limit in limits.items():
        option, unit_bytes = _OPTIONS[name]
        # the lower one first: neither may be on the wrong side of the other at any time
        for which, value in (("S", limit.soft), ("H", limit.hard)):
            text = "unlimited" if value == UNLIMITED else str(value // unit_bytes)
            lines.append(f"ulimit -{which} -{option} {text}")
    return lines


def _least(one: int, other: int) -> int:
    return max(one, other) if UNLIMITED in (one, other) else min(one, other)
