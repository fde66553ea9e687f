"""Which node fails one job after the other, whoever's they are: a black hole, into which a whole queue would fall.

A job fails *fast* when a process of it ends badly, or cannot be started, soon after its start. What counts against a
node is a row of different jobs that failed fast there and nowhere else, with none between them that did well or went
on for a while. Somebody who submits a broken job ten times, or an array of a thousand broken tasks, is no reason to
close a node for all:

* jobs of one name of one user count once: they are one job that is tried again, or tasks of one array;
* of one user at most `OF_ONE_USER_MAX` count, so that two are needed at least;
* what failed fast on another node as well counts no more: the job is broken, not the node.

What was ended by somebody, by a limit, for want of memory or by the owner of the node says nothing of the node.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobd.life.events import Ended, Event, StartFailed
from jobd.life.life import Life, told

FAST_S = 60.0
FAILURES = 5
OF_ONE_USER_MAX = 3
REMEMBERED_MAX = 1000  # of each row; it is much longer than what makes a black hole

# how the reason of a task begins that the owner of its node does not want there
BY_POLICY = "the policy of node"


def did_well(life: Life, event: Event) -> tuple[bool, str] | None:
    """Return whether what happened to a job is a sign that its node does well, and the node; None for no sign.

    Args:
        life: how the job stood before.
    """
    match event:
        case Ended(worker=worker) if not told(life, worker) and not event.out_of_memory:
            since_ns = life.processes[worker].started_at_ns
            lasted_s = 0.0 if since_ns is None else (event.time_ns - since_ns) / 1e9
            well, reason = event.code == 0 or lasted_s > FAST_S, event.reason
        case StartFailed(worker=worker, text=reason) if not told(life, worker):
            well = False
        case _:
            return None
    return None if reason.startswith(BY_POLICY) else (well, life.processes[worker].node)


@dataclass(frozen=True, slots=True)
class Tried:
    """What ran on a node: jobs of a user under a name."""

    user: str
    name: str


@dataclass(slots=True)
class _Row:
    """What failed fast on a node, one after the other; `since_ns` is when that began."""

    since_ns: int
    failed: dict[Tried, None] = field(default_factory=dict)


class Rows:
    """The rows of failures on all nodes."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def did_well(self, node_id: str) -> None:
        """A process ended as it should, or went on for a while: the node can run jobs."""
        self._rows.pop(node_id, None)

    def failed(self, node_id: str, tried: Tried, time_ns: int, going_on: Iterable[int] = ()) -> bool:
        """A process failed fast; tells whether its node is a black hole now.

        Args:
            going_on: when the processes that run there now were started.
        """
        row = self._rows.get(node_id)
        if row is None or any(row.since_ns <= start_ns < time_ns - FAST_S * 1e9 for start_ns in going_on):
            row = self._rows[node_id] = _Row(time_ns)
        if len(row.failed) < REMEMBERED_MAX:
            row.failed[tried] = None
        return self._count(node_id) >= FAILURES

    def forget(self, node_id: str) -> None:
        """Somebody has looked after a node: what was counts no more."""
        self._rows.pop(node_id, None)

    def _count(self, node_id: str) -> int:
        elsewhere = [row.failed for other, row in self._rows.items() if other != node_id]
        alone = [tried for tried in self._rows[node_id].failed if not any(tried in failed for failed in elsewhere)]
        users = Counter(tried.user for tried in alone)
        return sum(min(count, OF_ONE_USER_MAX) for count in users.values())
