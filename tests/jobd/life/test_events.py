"""Events as they are stored."""

import json

import pytest
from hypothesis import given

from jobd.life.events import (
    EVENTS,
    Ended,
    Event,
    Filled,
    OfAttempt,
    OfWorker,
    Place,
    Placed,
    Submitted,
    Terms,
    decode_event,
    encode_event,
    event_name,
)
from tests.jobd.life.histories import events


def test_every_event_has_a_name() -> None:
    parents = (Event, OfAttempt, OfWorker)
    kinds = {kind.__name__ for parent in parents for kind in parent.__subclasses__()}
    assert {kind.__name__ for kind in EVENTS.values()} == kinds - {parent.__name__ for parent in parents}
    assert event_name(Ended) == event_name(Ended(time_ns=5, code=1)) == "ended"


def test_an_event_is_flat_json() -> None:
    assert encode_event(Ended(time_ns=5, worker=2, attempt=3, code=137, reason="killed", out_of_memory=True)) == {
        "event": "ended",
        "time_ns": 5,
        "attempt": 3,
        "worker": 2,
        "code": 137,
        "reason": "killed",
        "out_of_memory": True,
        "result": "",
    }


@given(events)
def test_json_keeps_every_event(event: Event) -> None:
    assert decode_event(json.loads(json.dumps(encode_event(event)))) == event


def test_what_holds_other_things_comes_back_as_it_was() -> None:
    for event in (
        Submitted(time_ns=1, terms=Terms(services=(True, False), retry_on=("node",)), held_by="ann"),
        Placed(time_ns=1, places=(Place("n0", ("GPU-1", "GPU-2")), Place("n1"))),
        Filled(time_ns=1, worker=1, place=Place("n0", ("GPU-1", "GPU-2"))),
    ):
        assert decode_event(json.loads(json.dumps(encode_event(event)))) == event


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"event": "nonsense"},
        {"event": "ended"},
        {"event": "started", "x": 1},
        {"event": "placed", "time_ns": 1, "places": [{"node": "n0"}]},
        {"event": "submitted", "time_ns": 1, "terms": {"nonsense": 1}},
        {"event": "submitted", "time_ns": 1, "terms": None},
    ],
)
def test_what_is_no_event_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no event"):
        decode_event(value)
