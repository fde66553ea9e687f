"""The life of a job: rules that hold for every sequence of events; single lives are pinned in scripts/lifecycle."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobd.life.lifecycle import (
    ENDS,
    EVENTS,
    NOTHING_RAN,
    TRANSITIONS,
    Ended,
    Event,
    IllegalEvent,
    Kill,
    KillRequested,
    Life,
    NodeLost,
    Placed,
    PreparationFailed,
    PreparationStarted,
    Prepared,
    Started,
    StartFailed,
    State,
    Submitted,
    TimeLimitReached,
    decode_event,
    decode_life,
    encode_event,
    encode_life,
    event_name,
    fold,
    update,
)
from pfs.errors import Kind, PfsError

times = st.integers(0, 2**63 - 1)
texts = st.text(max_size=8)
later_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(PreparationStarted, time_ns=times),
    st.builds(Prepared, time_ns=times),
    st.builds(PreparationFailed, time_ns=times, text=texts),
    st.builds(Placed, time_ns=times, node=texts),
    st.builds(Started, time_ns=times),
    st.builds(StartFailed, time_ns=times, text=texts),
    st.builds(KillRequested, time_ns=times, by=texts, text=texts),
    st.builds(TimeLimitReached, time_ns=times),
    st.builds(Ended, time_ns=times, code=st.integers(0, 255), reason=texts, out_of_memory=st.booleans()),
    st.builds(NodeLost, time_ns=times, text=texts),
)
events = st.one_of(later_events, st.builds(Submitted, time_ns=times))


def legal(*happened: Event) -> Life:
    return fold([Submitted(time_ns=0), *happened])


STARTING = (Prepared(time_ns=1), Placed(time_ns=2, node="n0"))
RUNNING = (*STARTING, Started(time_ns=3))
LIVES = {
    State.PENDING: legal(),
    State.PREPARING: legal(PreparationStarted(time_ns=1)),
    State.WAITING: legal(Prepared(time_ns=1)),
    State.STARTING: legal(*STARTING),
    State.RUNNING: legal(*RUNNING),
    State.STOPPING: legal(*RUNNING, TimeLimitReached(time_ns=4)),
}


class Lives(RuleBasedStateMachine):
    """Throws every event at a job, and keeps those that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Event] = []
        self.killed = False

    @initialize(event=st.builds(Submitted, time_ns=times))
    def submit(self, event: Submitted) -> None:
        self.life = update(None, event)
        self.taken.append(event)

    @rule(event=events)
    def happens(self, event: Event) -> None:
        before = self.life
        try:
            self.life = update(before, event)
        except IllegalEvent:
            assert type(event) not in TRANSITIONS[before.state]
            return
        self.taken.append(event)
        self.killed = self.killed or (isinstance(event, KillRequested) and not before.state.over)
        assert not before.state.over or self.life == before
        assert self.life.changed_at_ns >= before.changed_at_ns
        assert (self.life.state == before.state) or self.life.changed_at_ns >= event.time_ns

    @precondition(lambda self: not self.life.state.over)
    @rule()
    def a_kill_always_leads_to_the_end(self) -> None:
        killed = update(self.life, KillRequested(time_ns=0, by="ann"))
        over = killed if killed.state.over else update(killed, Ended(time_ns=0, code=0))
        assert over.state in (State.CANCELLED, State.TIMEOUT)

    @invariant()
    def the_row_is_the_fold_of_the_events(self) -> None:
        if self.taken:
            assert fold(self.taken) == self.life
            assert (
                fold([decode_event(json.loads(json.dumps(encode_event(event)))) for event in self.taken]) == self.life
            )
            assert decode_life(json.loads(json.dumps(encode_life(self.life)))) == self.life

    @invariant()
    def only_an_end_has_an_exit_code(self) -> None:
        if self.taken:
            assert (self.life.exit_code is not None) == self.life.state.over
            assert (self.life.ended_at_ns is not None) == self.life.state.over

    @invariant()
    def a_kill_is_never_forgotten(self) -> None:
        if self.taken:
            assert (self.life.kill_requested is not None) == self.killed
            if self.killed:
                assert self.life.state in (State.STOPPING, State.CANCELLED, State.TIMEOUT)

    @invariant()
    def only_a_job_that_stops_knows_its_end_beforehand(self) -> None:
        if self.taken:
            assert (self.life.stop_end is not None) == (self.life.state is State.STOPPING)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=15)


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_row_in_the_table(state: State) -> None:
    assert state in TRANSITIONS
    assert KillRequested in TRANSITIONS[state]
    assert state.over == (state in ENDS)


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_an_event_without_an_entry_is_refused(life: Life) -> None:
    with pytest.raises(IllegalEvent) as raised:
        update(life, Submitted(time_ns=9))
    assert raised.value.kind is Kind.INVALID


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_the_test_lives_are_what_they_say(life: Life) -> None:
    assert LIVES[life.state] is life


@pytest.mark.parametrize("state", [State.PENDING, State.PREPARING, State.WAITING])
def test_a_kill_before_the_start_cancels_at_once(state: State) -> None:
    life = update(LIVES[state], KillRequested(time_ns=9, by="ann", text="wrong data"))
    assert (life.state, life.exit_code, life.ended_at_ns) == (State.CANCELLED, NOTHING_RAN, 9)
    assert life.kill_requested == Kill("ann", "wrong data")


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
def test_a_kill_after_the_start_stops_and_then_cancels(state: State) -> None:
    stopping = update(LIVES[state], KillRequested(time_ns=9, by="ann"))
    assert (stopping.state, stopping.exit_code) == (State.STOPPING, None)
    over = update(stopping, Ended(time_ns=10, code=143))
    assert (over.state, over.exit_code) == (State.CANCELLED, 143)


@pytest.mark.parametrize(
    ("code", "out_of_memory", "state"),
    [
        (0, False, State.SUCCEEDED),
        (1, False, State.FAILED),
        (137, False, State.FAILED),
        (137, True, State.OUT_OF_MEMORY),
    ],
)
@pytest.mark.parametrize("before", [State.STARTING, State.RUNNING])
def test_the_end_follows_from_the_process(before: State, code: int, out_of_memory: bool, state: State) -> None:
    life = update(LIVES[before], Ended(time_ns=9, code=code, out_of_memory=out_of_memory))
    assert (life.state, life.exit_code, life.ended_at_ns) == (state, code, 9)


def test_a_job_over_its_time_is_a_timeout_even_when_it_is_killed_then() -> None:
    life = update(LIVES[State.STOPPING], KillRequested(time_ns=8, by="ann"))
    over = update(life, Ended(time_ns=9, code=0))
    assert (over.state, over.exit_code, over.kill_requested) == (State.TIMEOUT, 0, Kill("ann", ""))


def test_a_second_end_changes_nothing() -> None:
    over = update(LIVES[State.RUNNING], Ended(time_ns=9, code=3))
    assert update(over, Ended(time_ns=10, code=0)) is over


def test_a_job_begins_by_being_submitted() -> None:
    with pytest.raises(IllegalEvent, match="never submitted"):
        update(None, Started(time_ns=1))
    with pytest.raises(PfsError, match="never submitted"):
        fold([])


def test_every_event_has_a_name_and_comes_back_from_json() -> None:
    assert {kind.__name__ for kind in EVENTS.values()} == {kind.__name__ for kind in Event.__subclasses__()}
    event = Ended(time_ns=5, code=137, reason="killed", out_of_memory=True)
    assert event_name(event) == "ended"
    assert encode_event(event) == {
        "event": "ended",
        "time_ns": 5,
        "code": 137,
        "reason": "killed",
        "out_of_memory": True,
    }


@given(events)
def test_json_keeps_every_event(event: Event) -> None:
    assert decode_event(json.loads(json.dumps(encode_event(event)))) == event


@pytest.mark.parametrize("value", [{}, {"event": "nonsense"}, {"event": "ended"}, {"event": "started", "x": 1}])
def test_what_is_no_event_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no event"):
        decode_event(value)
