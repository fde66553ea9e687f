"""Jobs and machines as the parts of the engine see them, without an engine: all at times that the test holds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jobd.engine.fleet import Fleet
from jobd.engine.submitting import terms_of
from jobd.job import Job
from jobd.life.events import Ended, Event, Place, Placed, Prepared, Started, Submitted
from jobd.life.life import update
from jobd.spec.spec import parse_spec
from jobd.store.tables import NodeRow
from tests.jobd.conftest import CLUSTER, SECOND_NS, Link

NOW_S = 1_700_000_000.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return int(self.now_s * SECOND_NS)


def waiting(number: int, text: str = "command: x\n", *, user: str = "ann", at_s: float = NOW_S, **of: Any) -> Job:
    """Return a job that waits for nodes; `of` tells of which array it is a task."""
    spec = parse_spec(text.encode(), "a")
    submitted = Submitted(time_ns=int(at_s * SECOND_NS), terms=terms_of(spec, is_array=False))
    life = update(update(None, submitted), Prepared(time_ns=submitted.time_ns))
    return Job(number, user, spec, life, **of)


def after(job: Job, *events: Event) -> Job:
    """Return a job as these events leave it."""
    life = job.life
    for event in events:
        life = update(life, event)
    return replace(job, life=life)


def placed(job: Job, *nodes: str, gpus: Mapping[int, tuple[str, ...]] | None = None, at_s: float = NOW_S) -> Job:
    """Return a job whose processes have places on these nodes, and by worker index these GPUs."""
    places = tuple(Place(node, (gpus or {}).get(worker, ())) for worker, node in enumerate(nodes))
    return after(job, Placed(time_ns=int(at_s * SECOND_NS), places=places))


def started(job: Job, *, at_s: float = NOW_S) -> Job:
    """Return a job whose processes run."""
    workers = range(len(job.life.processes))
    return after(job, *(Started(time_ns=int(at_s * SECOND_NS), worker=worker) for worker in workers))


def over(job: Job, *, code: int = 0, at_s: float = NOW_S) -> Job:
    """Return a job whose processes are over."""
    workers = range(len(job.life.processes))
    return after(job, *(Ended(time_ns=int(at_s * SECOND_NS), worker=worker, code=code) for worker in workers))


def machine(name: str = "n0", *, gpus: int = 0, **attrs: Any) -> NodeRow:
    """Return what a machine tells of itself."""
    found = [{"uuid": f"{name}-{n}", "index": n, "model": "GTX", "memory_bytes": 8 << 30} for n in range(gpus)]
    return NodeRow(
        id=f"cm{name}",
        entry_id=f"cm{name}",
        name=name,
        cluster_id=CLUSTER.id,
        attrs={"offerCpus": 4, "offerMemory": 8 << 30, "maxProcesses": 64, **attrs},
        runtimes=["sandbox"],
        gpus=found,
        boot_id="boot",
        registered_at_ns=0,
        seen_at_ns=0,
    )


def fleet_of(clock: Clock, *rows: NodeRow, busy: frozenset[str] = frozenset()) -> Fleet:
    """Return machines that are connected.

    Args:
        busy: the ids of those on which jobs have places.
    """
    fleet = Fleet(clock, busy.__contains__)
    fleet.clusters = (CLUSTER,)
    for row in rows:
        fleet.register(row)
        fleet.connect(row.id, Link())
    return fleet
