"""Turns: priority, fair share, arrival, number; against sorting everything each time."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.scheduling.model import Need, Pending, Running, Use
from jobd.scheduling.order import Queue
from jobd.scheduling.tally import AHEAD_S
from tests.jobd.scheduling.worlds import USERS, queues

ONE = (Need(),)
# few cohorts of many jobs
equal = queues(st.sampled_from([ONE, (Need(gpus=((1, "A"),)),)]), size=12).map(
    lambda queue: [replace(job, groups=frozenset(), max_duration_s=None) for job in queue]
)


def job(job_id: int, user: str, **changes: object) -> Pending:
    return Pending(job_id, user, **{"priority": 50, "arrived": float(job_id), "needs": ONE, **changes})  # type: ignore[arg-type]


def naive_order(queue: Queue, share: dict[str, float]) -> list[int]:
    """Take one job after the other, charging each to its user."""
    left, share, order = list(queue.jobs.values()), dict(share), []
    while left:
        first = min(left, key=lambda job: (-job.priority, share.get(job.user, 0.0), job.arrived, job.job_id))
        left.remove(first)
        parts = sum(need.count * (1 + 8 * sum(count for count, _ in need.gpus)) for need in first.needs)
        share[first.user] = share.get(first.user, 0.0) + AHEAD_S * parts / 8
        order.append(first.job_id)
    return order


@given(queues(size=12), st.sampled_from([0.0, 450.0, 5000.0]))
def test_the_order_is_that_of_taking_one_after_the_other_and_charging_its_user(
    waiting: list[Pending], past: float
) -> None:
    queue = Queue()
    for each in waiting:
        queue.add(each)
    queue.set_past("ann", past)
    assert queue.ordered() == naive_order(queue, {"ann": past})
    assert [queue.place(job_id) for job_id in queue.ordered()] == list(range(1, len(waiting) + 1))
    for gone in waiting[::2]:
        queue.remove(gone.job_id)
    assert queue.ordered() == naive_order(queue, {"ann": past})
    queue.reserved = [job.job_id for job in waiting[1::3]]
    assert [queue.place(job_id) for job_id in queue.ordered()] == list(range(1, len(waiting) // 2 + 1))


@settings(max_examples=40)
@given(equal, st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 9)), min_size=3), st.data())
def test_the_next_of_a_cohort_is_the_first_of_all_its_jobs(
    waiting: list[Pending], usage: list[tuple[str, int]], data: st.DataObject
) -> None:
    queue, past, running = Queue(), dict[str, float](), list[Running]()
    for each in waiting:
        queue.add(each)
    for user, value in usage:
        kind = data.draw(st.sampled_from(["past", "start", "end", "remove"]))
        if kind == "past":
            past[user] = float(value * 450)
            queue.set_past(user, past[user])
        elif kind == "start":
            running.append(
                Running(
                    100 + len(running),
                    user,
                    (Use("n", processes=value + 1),),
                    array=value % 3 + 1 + 10 * USERS.index(user),
                )
            )
            queue.start(running[-1])
        elif kind == "end" and running:
            queue.end(running.pop(value % len(running)))
        elif queue.jobs:
            queue.remove(sorted(queue.jobs)[value % len(queue.jobs)])
        for cohort in queue.cohorts.values():
            turns = []
            for job_id in cohort.job_ids():
                each = queue.jobs[job_id]
                tasks = sum(each.array is not None and r.array == each.array[0] for r in running)
                if each.array is None or each.array[1] is None or tasks < each.array[1]:
                    parts = sum(use.processes for r in running if r.user == each.user for use in r.uses)
                    share = past.get(each.user, 0.0) + AHEAD_S * parts / 8
                    turns.append((-each.priority, share, each.arrived, job_id))
            assert cohort.next() == min(turns, default=None)


def test_who_has_had_less_all_at_once_is_next_again() -> None:
    queue = Queue()
    queue.add(job(1, "ann"))
    queue.add(job(2, "bob"))
    (cohort,) = queue.cohorts.values()
    queue.set_past("ann", 1000.0)
    assert (cohort.next() or [0])[-1] == 2
    queue.set_past("ann", 0.0)
    assert (cohort.next() or [0])[-1] == 1


def test_a_full_array_is_passed_over_until_one_of_its_tasks_ends() -> None:
    queue = Queue()
    task = Running(91, "ann", (Use("n"),), array=7)
    queue.start(task)
    queue.add(job(1, "ann", array=(7, 1)))
    queue.add(job(2, "ann"))
    (cohort,) = queue.cohorts.values()
    assert (cohort.next() or [0])[-1] == 2
    queue.end(task)
    assert (cohort.next() or [0])[-1] == 1


def test_a_gpu_counts_eight_times_as_much_as_a_process() -> None:
    queue = Queue()
    queue.start(Running(91, "ann", (Use("n", gpus=("a",), processes=1),)))
    queue.start(Running(92, "bob", (Use("n", processes=8),)))
    queue.add(job(1, "ann"))
    queue.add(job(2, "bob"))
    assert queue.ordered() == [2, 1]


def test_nothing_is_kept_of_jobs_that_are_gone() -> None:
    queue = Queue()
    for number in range(50):
        queue.add(job(number, f"user{number % 5}", array=(1, 2)))
        queue.set_past("user1", float(number % 7))
    for number in range(50):
        queue.remove(number)
    assert [queue.jobs, queue.cohorts, queue._ranks._rows, queue._line_of, queue._levels_of] == [{}, {}, {}, {}, {}]


def test_a_users_share_that_goes_up_and_down_does_not_make_the_heap_grow() -> None:
    queue = Queue()
    for number in range(10):
        queue.add(job(number, f"user{number}"))
    (cohort,) = queue.cohorts.values()
    for number in range(1000):
        queue.set_past(f"user{number % 10}", float(number * 7919 % 1000))
        cohort.next()
    assert len(cohort.levels[0]._heap) < 100


def test_the_jobs_of_who_has_own_nodes_are_not_equal_to_those_of_others() -> None:
    queue = Queue()
    for number, user in ((1, "ann"), (2, "bob"), (3, "ann")):
        queue.add(job(number, user))
    queue.set_owner("ann", has_nodes=True)
    assert {cohort.owner: sorted(cohort.job_ids()) for cohort in queue.cohorts.values()} == {"": [2], "ann": [1, 3]}
    queue.add(job(4, "ann"))
    assert queue.ordered() == [1, 2, 3, 4]
    queue.set_owner("ann", has_nodes=False)
    assert [sorted(cohort.job_ids()) for cohort in queue.cohorts.values()] == [[1, 2, 3, 4]]
