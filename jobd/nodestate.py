"""How a node stands: whether it is heard of, and whether somebody keeps new work from it.

    ONLINE     it is heard of, and takes new work
    SUSPECT    it was not heard of for a while: no new work
    UNKNOWN    nor for long: its jobs go on for all that is known
    OFFLINE    its daemon said that it ends, or was not heard of for a day; jobs outlive it there
    DRAINING   an administrator wants no new work on it, and jobs are there still
    DRAINED    the same, and no job is there any more
    SETASIDE   it failed one job after the other: no new work until somebody has looked after it

Whoever drains a node, or sets it aside, ends nothing that runs there.
"""

from dataclasses import dataclass
from enum import StrEnum


class NodeState(StrEnum):
    """What is shown of a node."""

    ONLINE = "ONLINE"
    SUSPECT = "SUSPECT"
    UNKNOWN = "UNKNOWN"
    OFFLINE = "OFFLINE"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"
    SETASIDE = "SETASIDE"


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a node takes no new work.

    Attributes:
        by: who drained it; "" where the service set it aside.
    """

    by: str
    why: str
    since_ns: int

    @property
    def text(self) -> str:
        """What is said of the node: "drained by ann: new disk"."""
        if not self.by:
            return f"set aside: {self.why}"
        return f"drained by {self.by}: {self.why}" if self.why else f"drained by {self.by}"


def state_of(contact: NodeState, closed: Closed | None, *, busy: bool) -> NodeState:
    """Return what is shown of a node.

    Args:
        contact: ONLINE, SUSPECT, UNKNOWN or OFFLINE, which says more of a node than what people want of it.
        busy: whether a job has a place there.
    """
    if contact is not NodeState.ONLINE or closed is None:
        return contact
    if not closed.by:
        return NodeState.SETASIDE
    return NodeState.DRAINING if busy else NodeState.DRAINED
