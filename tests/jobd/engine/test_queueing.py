"""What the scheduler is told by the queue: what waits, what runs, on what, and for whom."""

import pytest

from jobd.engine.queueing import Queue
from jobd.life import events as happened
from jobd.store.nodes import Policy
from tests.jobd.engine.worlds import Clock, after, fleet_of, machine, over, placed, started, waiting

GPU = "command: x\nresources: '[1:GTX]'\n"


class World:
    """A queue with machines of its own.

    Attributes:
        at_once: how many tasks of an array may run at once, by its number.
    """

    def __init__(self, *rows, shares=None):
        self.clock = Clock()
        self.fleet = fleet_of(self.clock, *rows)
        self.at_once: dict[int, int] = {}
        self.queue = Queue(self.fleet, self.clock, self.at_once.get)
        self.queue.adopt(Policy())
        for row in rows:
            self.queue.see(row.id)

    def follow(self, *jobs):
        for job in jobs:
            self.queue.follow(job)

    def starts(self):
        """Return the jobs that start now, with the nodes of their processes."""
        return {start.job_id: [place.node_id for place in start.places] for start in self.queue.plan()}


@pytest.fixture
def world():
    return World(machine(gpus=1))


def test_a_job_that_waits_starts_where_it_fits_and_only_once(world):
    job = waiting(1, GPU)
    world.follow(job)
    assert world.queue.order() == [1]
    assert world.starts() == {1: ["cmn0"]}
    world.follow(job)  # what the ledger knows is still that it waits
    assert (world.queue.order(), world.starts()) == ([], {})


def test_telling_the_same_of_a_job_again_does_no_harm(world):
    first, second = placed(waiting(1, GPU), "cmn0", gpus={0: ("n0-0",)}), waiting(2, GPU)
    world.follow(first, first, second, second)
    assert (world.queue.order(), world.starts()) == ([2], {})
    done = over(started(first))
    world.follow(done, done)
    assert world.starts() == {2: ["cmn0"]}


def test_a_job_that_is_over_leaves_its_place_to_the_next(world):
    world.follow(waiting(1, GPU), waiting(2, GPU))
    assert world.starts() == {1: ["cmn0"]}
    running = started(placed(waiting(1, GPU), "cmn0", gpus={0: ("n0-0",)}))
    world.follow(running)
    assert world.starts() == {}
    world.follow(over(running))
    assert world.starts() == {2: ["cmn0"]}


def test_what_could_not_be_placed_leaves_its_place_and_waits_again(world):
    job = waiting(1, GPU)
    world.follow(job)
    world.starts()
    held = after(job, happened.Held(time_ns=1, by="ann"))
    world.queue.not_started(held)
    assert (world.queue.order(), world.starts()) == ([], {})
    world.queue.not_started(after(held, happened.Released(time_ns=2, by="ann")))
    assert world.starts() == {1: ["cmn0"]}


def test_a_job_killed_before_it_was_placed_leaves_its_place(world):
    job = waiting(1, GPU)
    world.follow(job)
    world.starts()
    world.follow(after(job, happened.KillRequested(time_ns=1, by="ann")), waiting(2, GPU))
    assert world.starts() == {2: ["cmn0"]}


def test_who_is_held_is_not_in_the_queue(world):
    job = waiting(1)
    held = after(job, happened.Held(time_ns=1, by="ann"))
    world.follow(job, held)
    assert (world.queue.order(), world.queue.why(1), world.starts()) == ([], None, {})
    world.follow(after(held, happened.Released(time_ns=2, by="ann")))
    assert world.queue.order() == [1]


def test_another_priority_is_another_turn(world):
    first, second = waiting(1, GPU), waiting(2, GPU)
    world.follow(first, second)
    assert world.queue.order() == [1, 2]
    world.follow(after(first, happened.PriorityChanged(time_ns=1, by="ann", priority=10)))
    assert world.queue.order() == [2, 1]


def test_who_had_more_of_late_comes_later(world):
    world.queue.load_share("ann", 1e6)
    world.follow(waiting(1, GPU), waiting(2, GPU, user="bob"))
    assert world.queue.order() == [2, 1]


def test_what_runs_counts_for_its_owner(world):
    world.follow(started(placed(waiting(1, GPU), "cmn0", gpus={0: ("n0-0",)})))
    world.follow(waiting(2, GPU), waiting(3, GPU, user="bob"))
    assert world.queue.order() == [3, 2]


def test_what_ran_counts_for_its_owner_afterwards(world):
    running = started(placed(waiting(1, GPU), "cmn0", gpus={0: ("n0-0",)}))
    world.follow(running)
    world.clock.now_s += 3600
    world.follow(over(running, at_s=world.clock.now_s))
    world.follow(waiting(2, GPU), waiting(3, GPU, user="bob"))
    assert world.queue.order() == [3, 2]


def test_no_more_tasks_start_than_their_array_lets_run_at_once():
    world = World(machine())
    world.at_once[1] = 2
    tasks = [waiting(number, array_id=1, array_index=number) for number in (2, 3, 4)]
    world.follow(*tasks)
    first = world.starts()
    assert len(first) == 2
    for task in tasks[:2]:
        world.follow(started(placed(task, "cmn0")))
    assert world.starts() == {}
    world.follow(over(started(placed(tasks[0], "cmn0"))))
    assert world.starts() == {4: ["cmn0"]}


def test_a_node_that_falls_silent_gets_nothing_until_it_is_seen_again(world):
    world.follow(waiting(1))
    world.clock.now_s += 20
    world.queue.see("cmn0")
    assert world.starts() == {}
    world.fleet.heard("cmn0")
    world.queue.see("cmn0")
    assert world.starts() == {1: ["cmn0"]}


def test_a_job_that_waits_says_why_and_which_its_turn_is(world):
    world.follow(waiting(1, GPU), waiting(2, GPU))
    assert world.queue.why(1).place == 1
    world.starts()
    why = world.queue.why(2)
    assert why.place == 1
    assert why.text
    assert world.queue.why(1) is None  # it is being started


def test_what_no_machine_could_ever_run_is_refused_with_the_reason(world):
    assert world.queue.refuse(waiting(1, GPU)) is None
    assert "GTX" in world.queue.refuse(waiting(1, "command: x\nresources: '[2:GTX]'\n"))


def test_an_alias_stands_for_its_model(world):
    job = waiting(1, "command: x\nresources: '[1:fast]'\n")
    world.queue.adopt(Policy(aliases={"fast": "GTX"}))
    world.follow(job)
    assert world.starts() == {1: ["cmn0"]}


def test_a_reservation_is_for_its_group_alone_and_a_right_that_is_lost_is_told(world):
    lab = frozenset({"lab"})
    reserved = {"cmn0": lab}
    world.queue.adopt(Policy(node_groups=reserved, members={"ann": lab}))
    world.fleet.disconnect("cmn0", world.fleet.link("cmn0"))
    world.queue.see("cmn0")
    world.follow(waiting(1, GPU))
    assert world.queue.lost() == {}
    assert world.queue.refuse(waiting(2, GPU, user="bob"))
    world.queue.adopt(Policy(node_groups=reserved))
    assert list(world.queue.lost()) == [1]


def test_nothing_starts_on_a_node_that_is_registered_no_more(world):
    world.fleet.forget("cmn0")
    for _ in range(2):
        world.queue.see("cmn0")
    world.follow(waiting(1))
    assert world.starts() == {}
