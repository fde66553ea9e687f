"""What the state of a job wants done: whoever does it, in any order, brings every job to its end.

Single answers are pinned in scripts/lifecycle/actions.txt. Here a model of nodes does at random what is asked, forgets
half of it, loses connections and machines, and people interfere; afterwards all is well and every job has to end.
"""

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.life import events as happened
from jobd.life.actions import (
    FETCH,
    Action,
    EndPatience,
    EndTime,
    Facts,
    GiveUp,
    LetGo,
    Prepare,
    Queue,
    StartTask,
    StopTask,
    actions,
    begins_together,
)
from jobd.life.events import Event, Place, Submitted, Terms
from jobd.life.life import ON_NODES, IllegalEvent, Life, State, missing, told, update
from tests.jobd.life.histories import NODES, terms

TROUBLE_STEPS, PEACE_STEPS = 60, 3000


class World:
    """One job, its nodes, and somebody who does what is to be done."""

    def __init__(self, terms: Terms, dice: random.Random) -> None:
        self.dice = dice
        self.life: Life = update(None, Submitted(time_ns=0, terms=terms, held_by=dice.choice(("", "ann"))))
        self.trouble = True
        self.connected = set(NODES)
        # node → worker → its code, or None while it runs; of the present attempt
        self.tasks: dict[str, dict[int, int | None]] = {node: {} for node in NODES}
        self.known: set[int] = set()
        self.begun: set[int] = set()
        self.runs: list[tuple[int, int]] = []

    def happens(self, event: Event) -> None:
        before = self.life
        self.life = update(before, event)
        if self.life.attempt != before.attempt:
            left = {worker for tasks in self.tasks.values() for worker, code in tasks.items() if code is None}
            assert left == set(), "the next attempt begins while processes of this one run"
            self.tasks = {node: {} for node in NODES}
            self.known = set()
            self.begun = set()
        for worker in range(len(self.life.processes)):
            if self.life.run(worker) != before.run(worker) and self.life.attempt == before.attempt:
                assert all(tasks.get(worker, 0) is not None for tasks in self.tasks.values()), "two in one place"
                for tasks in self.tasks.values():
                    tasks.pop(worker, None)
                self.known.discard(worker)
                self.begun.discard(worker)

    def node_of(self, worker: int) -> str:
        return self.life.processes[0 if worker == FETCH else worker].node

    def facts(self) -> Facts:
        workers = (*range(len(self.life.processes)), FETCH) if self.life.processes else ()
        denied = {
            worker
            for worker in workers
            if self.node_of(worker) in self.connected and worker not in self.tasks[self.node_of(worker)]
        }
        return Facts(frozenset(self.connected), frozenset(self.known), frozenset(denied), frozenset(self.begun))

    def do(self, action: Action) -> None:
        dice = self.dice
        match action:
            case Prepare():
                failed = dice.random() < 0.1
                self.happens(
                    happened.PreparationFailed(time_ns=0, text="no") if failed else happened.Prepared(time_ns=0)
                )
            case Queue():
                places = tuple(Place(dice.choice(NODES)) for _ in self.life.terms.services)
                least = self.life.terms.least
                if least is not None and not any(self.life.terms.services):
                    places = (*places[:least], *[Place("")] * len(places[least:]))
                self.happens(happened.Placed(time_ns=0, places=places))
            case StartTask(worker=worker, node=node):
                assert not told(self.life, worker if worker != FETCH else 0)
                self.start(worker, node)
            case StopTask(worker=worker, node=node):
                if worker not in self.tasks[node]:
                    self.failed(worker)
                elif self.tasks[node][worker] is None:
                    self.tasks[node][worker] = 143
            case LetGo(worker=worker, node=node):
                assert all(p.started_at_ns is not None or p.over for p in self.life.processes)
                if worker in self.tasks[node]:
                    self.begun.add(worker)
            case GiveUp(worker=worker):
                self.happens(happened.NodeLost(time_ns=0, worker=worker, text="not there"))
            case EndPatience():
                self.happens(happened.PatienceOver(time_ns=0))
            case EndTime():
                self.happens(happened.TimeLimitReached(time_ns=0))

    def start(self, worker: int, node: str) -> None:
        if worker not in self.tasks[node]:
            if self.dice.random() < 0.05:
                self.failed(worker)
                return
            self.tasks[node][worker] = None
            self.runs.append((self.life.attempt, worker))
        if not self.trouble or self.dice.random() < 0.8:  # else the answer is lost
            self.known.add(worker)

    def failed(self, worker: int) -> None:
        if worker == FETCH:
            self.happens(happened.FetchFailed(time_ns=0, text="no"))
        else:
            self.happens(happened.StartFailed(time_ns=0, worker=worker, text="no"))

    def report(self, node: str, worker: int) -> None:
        """Have a node tell of a task; what the server has taken is forgotten, sometimes only after it is repeated."""
        code = self.tasks[node][worker]
        if worker == FETCH:
            if code is None:
                return
            failed = happened.FetchFailed(time_ns=0, text="no")
            self.happens(failed if code else happened.Fetched(time_ns=0))
        elif code is None:
            self.happens(happened.Started(time_ns=0, worker=worker))
        else:
            self.happens(happened.Ended(time_ns=0, worker=worker, code=code))
        if code is not None and self.dice.random() < 0.7:
            self.tasks[node].pop(worker, None)

    def work(self) -> None:
        """Let some process go on: those that are no services come to their end by themselves."""
        running = [
            (node, worker)
            for node, tasks in self.tasks.items()
            for worker, code in tasks.items()
            if code is None and (worker == FETCH or not begins_together(self.life, worker) or worker in self.begun)
        ]
        if running:
            node, worker = self.dice.choice(running)
            service = worker != FETCH and self.life.terms.services[worker]
            if not service or self.dice.random() < 0.1:
                self.tasks[node][worker] = self.dice.choice((0, 0, 1))

    def tell(self) -> None:
        there = [(node, worker) for node in sorted(self.connected) for worker in self.tasks[node]]
        if there:
            self.report(*self.dice.choice(there))

    def act(self) -> None:
        wanted = actions(self.life, self.facts())
        if wanted:
            self.do(self.dice.choice(wanted))
        if self.life.fetched and (lacking := missing(self.life)):
            self.fill(self.dice.choice(lacking))

    def fill(self, worker: int) -> None:
        self.happens(happened.Filled(time_ns=0, worker=worker, place=Place(self.dice.choice(NODES))))

    def stretch(self) -> None:
        """Have the job get what it can do without, or give it up."""
        there = [(n, each) for n, each in enumerate(self.life.processes)]
        if self.life.state in (State.STARTING, State.RUNNING) and self.life.fetched:
            if open_ones := [n for n, each in there if each.is_open]:
                self.fill(self.dice.choice(open_ones))
        elif there and self.life.state in ON_NODES:
            return
        with suppress(IllegalEvent):
            worker = self.dice.choice(there)[0] if there else 0
            self.happens(happened.Retired(time_ns=0, worker=worker, text="for others"))

    def disturb(self) -> None:
        dice = self.dice
        node = dice.choice(NODES)
        match dice.randrange(8):
            case 4:
                self.stretch()
            case 0:
                self.connected.discard(node)
            case 1:
                self.connected.add(node)
                on_it = set(self.tasks[node])
                self.known = {w for w in self.known if self.life.processes and self.node_of(w) != node} | on_it
            case 2:
                self.lose(node)
            case 3:
                self.known.clear()
            case _:
                self.interfere()

    def lose(self, node: str) -> None:
        """Have a machine go for good, with all that runs on it."""
        self.tasks[node].clear()
        self.known = {w for w in self.known if self.life.processes and self.node_of(w) != node}
        runs = [self.life.run(worker) for worker in range(len(self.life.processes))]
        for worker, process in enumerate(self.life.processes):
            if process.node == node and self.life.state in ON_NODES:
                self.happens(happened.NodeLost(time_ns=0, worker=worker, attempt=runs[worker], text="lost"))

    def interfere(self) -> None:
        wishes = [
            happened.KillRequested(time_ns=0, by="ann"),
            happened.RequeueRequested(time_ns=0, by="ann"),
            happened.Held(time_ns=0, by="ann"),
            happened.Released(time_ns=0, by="ann"),
            happened.Extended(time_ns=0, by="ann", by_s=1.0),
        ]
        try:
            self.happens(self.dice.choices(wishes, (1, 4, 2, 4, 1))[0])
        except IllegalEvent:
            return

    def make_peace(self) -> None:
        self.trouble = False
        self.connected = set(NODES)
        self.known = {worker for tasks in self.tasks.values() for worker in tasks}
        if self.life.held_by:
            self.happens(happened.Released(time_ns=0, by="ann"))


@given(terms.filter(lambda terms: not terms.is_array), st.integers(0, 2**32))
@settings(max_examples=120)
def test_whoever_does_what_is_wanted_brings_every_job_to_its_end(terms: Terms, seed: int) -> None:
    world = World(terms, random.Random(seed))
    if world.life.state is State.PENDING:
        world.happens(happened.PreparationStarted(time_ns=0))
    for _ in range(TROUBLE_STEPS):
        world.dice.choice((world.act, world.act, world.tell, world.tell, world.work, world.disturb))()
    world.make_peace()
    for _ in range(PEACE_STEPS):
        if world.life.state.over:
            break
        world.dice.choice((world.act, world.tell, world.work))()
    assert world.life.state.over
    assert actions(world.life, world.facts()) == ()


@given(terms, st.sets(st.sampled_from(NODES)).map(frozenset))
def test_nothing_is_wanted_of_a_node_that_is_not_there(terms: Terms, connected: frozenset[str]) -> None:
    life = update(None, Submitted(time_ns=0, terms=terms))
    if terms.is_array:
        assert actions(life, Facts(connected)) == ()
        return
    places = tuple(Place(NODES[worker % 3]) for worker in range(len(terms.services)))
    for event in (happened.Prepared(time_ns=0), happened.Placed(time_ns=0, places=places)):
        life = update(life, event)
    for each in (life, update(life, happened.KillRequested(time_ns=0, by="ann"))):
        wanted = [action for action in actions(each, Facts(connected)) if isinstance(action, StartTask | StopTask)]
        assert {action.node for action in wanted} <= connected
