"""The scheduler: what holds for every cluster and queue; single plans are pinned in scripts/scheduler."""

from hypothesis import given
from hypothesis import strategies as st

from jobd.scheduling.scheduler import DOCKER, SANDBOX, NodeView, Pending, plan, refuse

GIB = 2**30

jobs = st.builds(
    Pending,
    job_id=st.integers(1, 1000),
    priority=st.integers(0, 100),
    needs_image=st.booleans(),
    cpus=st.none() | st.sampled_from([0.5, 1.0, 2.0, 8.0]),
    memory_bytes=st.none() | st.sampled_from([GIB, 4 * GIB, 32 * GIB]),
    gpus=st.sampled_from([(), (), ((1, None),)]),
)
queues = st.lists(jobs, max_size=8, unique_by=lambda job: job.job_id)
runtimes = st.sets(st.sampled_from([DOCKER, SANDBOX])).map(frozenset)
nodes = st.builds(
    NodeView,
    node_id=st.text("abc", min_size=3, max_size=6),
    name=st.text("xyz", min_size=1, max_size=2),
    online=st.booleans(),
    runtimes=runtimes,
    cpus=st.sampled_from([1.0, 4.0, 8.0]),
    memory_bytes=st.sampled_from([2 * GIB, 16 * GIB]),
    max_processes=st.integers(0, 3),
    used_cpus=st.sampled_from([0.0, 1.0, 4.0]),
    used_memory_bytes=st.sampled_from([0, GIB]),
    used_processes=st.integers(0, 2),
)
clusters = st.lists(nodes, max_size=4, unique_by=lambda node: node.node_id)


@given(queues, clusters)
def test_every_job_starts_or_has_its_reason(queue: list[Pending], cluster: list[NodeView]) -> None:
    made = plan(queue, cluster)
    started = [placement.job_id for placement in made.starts]
    assert len(started) == len(set(started))
    assert set(started) | set(made.reasons) == {job.job_id for job in queue}
    assert not set(started) & set(made.reasons)
    assert all(made.reasons.values())


@given(queues, clusters)
def test_nothing_is_given_away_twice(queue: list[Pending], cluster: list[NodeView]) -> None:
    made = plan(queue, cluster)
    asked = {job.job_id: job for job in queue}
    for node in cluster:
        here = [asked[placement.job_id] for placement in made.starts if placement.node_id == node.node_id]
        if not here:
            continue
        assert node.online
        assert node.used_processes + len(here) <= node.max_processes
        if any(job.cpus is not None for job in here):
            assert node.used_cpus + sum(job.cpus or 0 for job in here) <= node.cpus
        if any(job.memory_bytes is not None for job in here):
            assert node.used_memory_bytes + sum(job.memory_bytes or 0 for job in here) <= node.memory_bytes
        assert all((DOCKER if job.needs_image else SANDBOX) in node.runtimes for job in here)


@given(queues, clusters)
def test_a_job_waits_only_for_jobs_before_it(queue: list[Pending], cluster: list[NodeView]) -> None:
    made = plan(queue, cluster)
    first = min(queue, key=lambda job: (-job.priority, job.job_id), default=None)
    if first is not None and first.job_id in made.reasons:
        assert first.job_id in plan([first], cluster).reasons


@given(queues, clusters)
def test_the_order_of_queue_and_nodes_does_not_matter(queue: list[Pending], cluster: list[NodeView]) -> None:
    assert plan(queue, cluster) == plan(queue[::-1], cluster)
    assert plan(queue, cluster).starts == plan(queue, cluster[::-1]).starts


@given(jobs, clusters)
def test_what_starts_anywhere_was_never_refused(job: Pending, cluster: list[NodeView]) -> None:
    if plan([job], cluster).starts:
        assert refuse(job, cluster) is None


@given(jobs, clusters)
def test_what_is_in_use_or_off_line_does_not_refuse(job: Pending, cluster: list[NodeView]) -> None:
    idle = [
        NodeView(node.node_id, node.name, True, node.runtimes, node.cpus, node.memory_bytes, max_processes=1)
        for node in cluster
    ]
    assert refuse(job, cluster) == refuse(job, idle)
    able = [node for node in idle if (DOCKER if job.needs_image else SANDBOX) in node.runtimes]
    if refuse(job, idle) is None and able:
        assert plan([job], idle).starts


def test_a_thousand_jobs_on_a_hundred_nodes_are_planned_in_one_go() -> None:
    cluster = [
        NodeView(f"n{number}", f"n{number}", True, frozenset({SANDBOX}), 8, 16 * GIB, max_processes=4)
        for number in range(100)
    ]
    made = plan([Pending(number, 50, False) for number in range(1, 1001)], cluster)
    assert [placement.job_id for placement in made.starts] == list(range(1, 401))
    assert len(made.reasons) == 600
