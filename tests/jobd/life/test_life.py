"""The life of a job: rules that hold for every sequence of events; single lives are pinned in scripts/lifecycle."""

import json
import random
from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobd.life.events import (
    EVENTS,
    ArrayEnded,
    Ended,
    Event,
    Fetched,
    Filled,
    KillRequested,
    NodeLost,
    OfAttempt,
    OfWorker,
    Place,
    Placed,
    PreparationStarted,
    Prepared,
    RequeueRequested,
    Retired,
    Started,
    StartFailed,
    Submitted,
    Terms,
    TimeLimitReached,
    decode_event,
    encode_event,
)
from jobd.life.life import (
    ARRAY_RULES,
    BEFORE_PLACED,
    ENDS,
    ON_NODES,
    RULES,
    IllegalEvent,
    Life,
    State,
    decode_life,
    encode_life,
    fold,
    told,
    update,
)
from pfs.errors import Kind, PfsError
from tests.jobd.life.histories import NODES, events, submissions

ONE = Terms()


def straight(state: State, terms: Terms = ONE) -> list[Event]:
    """Return how a job comes to a state when nothing goes wrong."""
    count = len(terms.services)
    files: list[Event] = [Fetched(time_ns=3)] if terms.fetches else []
    way: list[Event] = [
        Submitted(time_ns=0, terms=terms),
        PreparationStarted(time_ns=1),
        Prepared(time_ns=1),
        Placed(time_ns=2, places=(Place("n0"),) * count),
        *files,
        *(Started(time_ns=3, worker=worker) for worker in range(count)),
        KillRequested(time_ns=4, by="ann"),
    ]
    steps = {State.PENDING: 1, State.PREPARING: 2, State.WAITING: 3, State.STARTING: 4 + len(files)}
    return way[: steps.get(state, len(way) - 1 if state is State.RUNNING else len(way))]


LIVES = {state: fold(straight(state)) for state in (*BEFORE_PLACED, *ON_NODES)}


WAYS_TO_END: tuple[Callable[[int], Event], ...] = (
    lambda worker: Ended(time_ns=0, worker=worker, code=0),
    lambda worker: NodeLost(time_ns=0, worker=worker, text=""),
    lambda worker: StartFailed(time_ns=0, worker=worker, text=""),
)


class Lives(RuleBasedStateMachine):
    """Throws every event at a job, likely ones more often, and keeps those that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Event] = []
        self.killed = False
        self.requeues = 0
        self.left = 0

    @initialize(event=submissions)
    def submit(self, event: Submitted) -> None:
        self.life = update(None, event)
        self.taken.append(event)

    @rule(event=events)
    def happens(self, event: Event) -> None:
        before = self.life
        rules = (ARRAY_RULES if before.terms.is_array else RULES)[before.state]
        try:
            self.life = update(before, event)
        except IllegalEvent:
            return
        self.taken.append(event)
        self.killed = self.killed or (isinstance(event, KillRequested) and not before.state.over)
        self.requeues += isinstance(event, RequeueRequested)
        if self.life.attempt > before.attempt and self.life.failures == before.failures and not before.requeued:
            assert before.terms.replaces
            self.left += 1
        assert self.life == before or self.life.state in rules[type(event)].to
        assert not before.state.over or self.life is before
        assert self.life.changed_at_ns >= before.changed_at_ns
        if isinstance(event, OfAttempt):
            present = before.run(event.worker) if isinstance(event, OfWorker) else before.attempt
            assert event.attempt in (0, present) or self.life is before
        for worker in range(len(self.life.processes)):
            assert self.life.run(worker) >= before.run(worker)

    @precondition(lambda self: not self.life.terms.is_array)
    @rule(event=st.one_of(st.builds(Prepared, time_ns=st.just(1)), st.builds(Fetched, time_ns=st.just(1))))
    def goes_on(self, event: Event) -> None:
        self.happens(event)

    @precondition(lambda self: self.life.state is State.WAITING)
    @rule(nodes=st.lists(st.sampled_from(NODES), min_size=3, max_size=3))
    def is_placed(self, nodes: list[str]) -> None:
        count = len(self.life.terms.services)
        self.happens(Placed(time_ns=1, places=tuple(Place(node) for node in nodes[:count])))

    @precondition(lambda self: self.life.processes)
    @rule(data=st.data(), kind=st.sampled_from((Started, Ended, Ended)), code=st.sampled_from((0, 0, 1)))
    def a_node_tells(self, data: st.DataObject, kind: type[Event], code: int) -> None:
        worker = data.draw(st.integers(0, len(self.life.processes) - 1))
        self.happens(
            Started(time_ns=1, worker=worker) if kind is Started else Ended(time_ns=1, worker=worker, code=code)
        )

    @precondition(lambda self: self.life.processes and self.life.state in ON_NODES)
    @rule(data=st.data(), node=st.sampled_from(NODES))
    def a_place_is_filled_or_given_up(self, data: st.DataObject, node: str) -> None:
        worker = data.draw(st.integers(0, len(self.life.processes) - 1))
        if self.life.processes[worker].is_open:
            self.happens(Filled(time_ns=1, worker=worker, place=Place(node)))
        else:
            self.happens(Retired(time_ns=1, worker=worker, text="for others"))

    @precondition(lambda self: not self.life.state.over)
    @rule(kind=st.sampled_from(WAYS_TO_END))
    def a_kill_always_leads_to_the_end(self, kind: Callable[[int], Event]) -> None:
        life = update(self.life, KillRequested(time_ns=0, by="ann"))
        if life.terms.is_array:
            life = update(life, ArrayEnded(time_ns=0, code=0))
        for worker in range(len(life.processes)):
            if not life.fetched:
                life = update(life, Fetched(time_ns=0))
            life = update(life, kind(worker))
        assert life.state.over
        if self.life.state is not State.STOPPING or self.life.requeued:
            assert life.state is State.CANCELLED

    @invariant()
    def the_row_is_the_fold_of_the_events(self) -> None:
        if self.taken:
            assert fold(self.taken) == self.life
            kept = [decode_event(json.loads(json.dumps(encode_event(event)))) for event in self.taken]
            assert fold(kept) == self.life
            assert decode_life(json.loads(json.dumps(encode_life(self.life)))) == self.life

    @invariant()
    def only_an_end_has_an_exit_code(self) -> None:
        if self.taken:
            assert (self.life.exit_code is not None) == self.life.state.over
            assert (self.life.ended_at_ns is not None) == self.life.state.over
            assert (self.life.state is State.SUCCEEDED) <= (self.life.exit_code == 0)

    @invariant()
    def a_kill_is_never_forgotten(self) -> None:
        if self.taken:
            assert (self.life.kill_requested is not None) == self.killed
            assert not self.killed or self.life.state is State.STOPPING or self.life.state.over
            assert not (self.killed and self.life.requeued)

    @invariant()
    def no_more_attempts_than_the_terms_allow(self) -> None:
        if self.taken:
            assert self.life.failures <= self.life.terms.retries
            assert self.life.attempt <= 1 + self.life.failures + self.requeues + self.left
            assert self.life.losses <= self.life.terms.replaces

    @invariant()
    def what_is_told_to_stop_never_fails_a_job(self) -> None:
        if self.taken and self.life.first_failure is not None:
            assert self.life.processes[self.life.first_failure].failed is not None

    @invariant()
    def a_job_that_is_on_nodes_has_a_place_for_each_process(self) -> None:
        if self.taken and not self.life.terms.is_array:
            count = len(self.life.processes)
            assert count in (0, len(self.life.terms.services))
            assert (count > 0) >= (self.life.state in ON_NODES)
            assert count == 0 or self.life.state not in BEFORE_PLACED
            assert (self.life.placed_at_ns is not None) == (count > 0)

    @invariant()
    def a_job_that_goes_on_has_something_that_does(self) -> None:
        if self.taken and self.life.state in ON_NODES and not self.life.terms.is_array:
            assert not all(process.over for process in self.life.processes)
            assert not any(process.retired for process in self.life.processes) or self.life.terms.least is not None

    @invariant()
    def times_follow_one_another(self) -> None:
        if self.taken:
            life = self.life
            moments = (life.submitted_at_ns, life.placed_at_ns, life.started_at_ns, life.ended_at_ns)
            known = [moment for moment in moments if moment is not None]
            assert known == sorted(known)
            for process in life.processes:
                if process.started_at_ns is not None and process.ended_at_ns is not None:
                    assert process.started_at_ns <= process.ended_at_ns


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=25, stateful_step_count=40)


WORDS = {kind: name for name, kind in EVENTS.items()}
LIKELY = (Prepared, Placed, Filled, Retired, Fetched, Started, StartFailed, Ended, NodeLost)
CHOICES = {
    state: (list(rules), list(accumulate(15 if kind in LIKELY else 1 for kind in rules)))
    for state, rules in RULES.items()
}


def test_every_target_of_the_table_is_reached() -> None:
    """Walk at random, with a fixed seed: no rule promises what never comes."""
    dice = random.Random(0)
    reached: set[tuple[State, str, State]] = set()
    declared = {
        (state, kind.__name__, to) for state, rules in RULES.items() for kind, rule in rules.items() for to in rule.to
    }
    for _ in range(20_000):
        if reached == declared:
            break
        life = update(None, Submitted(time_ns=0, terms=_some_terms(dice), held_by=dice.choice(("", "", "ann"))))
        for _ in range(30):
            if life.state.over:
                break
            event = _some_event(dice, life)
            try:
                after = update(life, event)
            except IllegalEvent:
                continue
            if after != life:
                reached.add((life.state, type(event).__name__, after.state))
            life = after
    assert reached == declared


def _some_terms(dice: random.Random) -> Terms:
    return Terms(
        services=tuple(dice.random() < 0.2 for _ in range(dice.randint(1, 3))),
        end=dice.choice(("all", "all", "any")),
        on_error=dice.choice(("stop", "continue", "continue")),
        retries=dice.randint(0, 1),
        retry_on=dice.choice((("node",), ("error",), ("node", "error"))),
        max_duration_s=1.0,
        fetches=dice.random() < 0.3,
        replaces=dice.randint(0, 1),
        least=dice.choice((None, None, 1)),
    )


def _some_event(dice: random.Random, life: Life) -> Event:
    kinds, weights = CHOICES[life.state]
    [kind] = dice.choices(kinds, cum_weights=weights)
    value: dict[str, object] = {"event": WORDS[kind], "time_ns": 1}
    fields = kind.__dataclass_fields__
    if "worker" in fields:
        value["worker"] = dice.randrange(max(1, len(life.processes)))
    value |= {name: "x" for name in ("text", "by", "image") if name in fields}
    value |= (
        {"places": [{"node": dice.choice(NODES), "gpus": ()} for _ in life.terms.services]} if kind is Placed else {}
    )
    value |= {"place": {"node": "n0", "gpus": ()}} if kind is Filled else {}
    value |= {"code": dice.choice((0, 1)), "out_of_memory": dice.random() < 0.5} if kind is Ended else {}
    value |= {"priority": 1} if "priority" in fields else {"by_s": 1.0} if "by_s" in fields else {}
    return decode_event(value)


@pytest.mark.parametrize("rules", [RULES, ARRAY_RULES], ids=["jobs", "arrays"])
@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_row_and_takes_a_kill(rules: dict[State, dict[type[Event], object]], state: State) -> None:
    of_arrays = (State.PENDING, State.RUNNING, State.STOPPING, *ENDS)
    assert (KillRequested in rules[state]) == (rules is RULES or state in of_arrays)
    assert state.over == (state in ENDS)


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_an_event_without_an_entry_is_refused(life: Life) -> None:
    assert LIVES[life.state] is life
    with pytest.raises(IllegalEvent) as raised:
        update(life, Submitted(time_ns=9))
    assert raised.value.kind is Kind.INVALID


def test_a_job_begins_by_being_submitted() -> None:
    with pytest.raises(IllegalEvent, match="never submitted"):
        update(None, Started(time_ns=1))
    with pytest.raises(PfsError, match="never submitted"):
        fold([])


def test_gpus_of_a_place_are_those_of_its_process() -> None:
    places = (Place("n0", ("GPU-1",)), Place("n1", ("GPU-2", "GPU-3")), Place("n0"))
    life = fold([*straight(State.WAITING, Terms(services=(False,) * 3)), Placed(time_ns=5, places=places)])
    assert [(process.node, process.gpus) for process in life.processes] == [(p.node, p.gpus) for p in places]
    assert life.nodes == ("n0", "n1")
    assert life.placed_at_ns == 5


def test_nobody_is_told_in_a_job_that_does_not_stop() -> None:
    assert not told(LIVES[State.RUNNING], 0)
    assert told(LIVES[State.STOPPING], 0)


def test_a_limit_of_another_attempt_is_none() -> None:
    retried = [*straight(State.RUNNING, Terms(retries=1, retry_on=("error",))), Ended(time_ns=5, code=1)]
    life = fold([*retried, Placed(time_ns=6, places=(Place("n1"),))])
    assert update(life, TimeLimitReached(time_ns=7)) is life


def test_what_a_node_tells_of_another_attempt_changes_nothing() -> None:
    retried = [*straight(State.RUNNING, Terms(retries=2, retry_on=("error",))), Ended(time_ns=5, code=1)]
    life = fold([*retried, Placed(time_ns=6, places=(Place("n1"),)), Started(time_ns=7, attempt=2)])
    for event in (Ended(time_ns=8, attempt=1, code=0), NodeLost(time_ns=8, attempt=1, text="gone")):
        assert update(life, event) is life


def test_what_a_process_wrote_is_kept() -> None:
    life = update(LIVES[State.RUNNING], Ended(time_ns=9, code=0, result="loss 0.1"))
    assert life.processes[0].result == "loss 0.1"


def test_a_life_of_before_processes_were_replaced_is_read_as_it_was() -> None:
    places = (Place("n0"), Place("n1"))
    life = fold([*straight(State.WAITING, Terms(services=(False,) * 2)), Placed(time_ns=5, places=places)])
    value = json.loads(json.dumps(encode_life(life)))
    for fields, new in ((value, ("losses", "replaced", "spans")), (value["terms"], ("replaces", "least"))):
        for name in new:
            del fields[name]
    for process in value["processes"]:
        del process["before"], process["retired"]
    assert decode_life(value) == life
    assert life.spans
