"""Random terms and random events, for the tests of lives."""

from hypothesis import strategies as st

from jobd.life import events as happened
from jobd.life.events import Event, Place, Submitted, Terms

NODES = ("n0", "n1", "n2")
WORKERS_MAX = 3

times = st.integers(0, 2**63 - 1)
texts = st.text(max_size=8)
workers = st.integers(-1, WORKERS_MAX)
attempts = st.integers(0, 3)
places = st.lists(st.builds(Place, st.sampled_from(NODES), st.tuples(texts)), max_size=WORKERS_MAX).map(tuple)
codes = st.integers(0, 255)

terms = st.builds(
    Terms,
    services=st.lists(st.booleans(), min_size=1, max_size=WORKERS_MAX).map(tuple),
    end=st.sampled_from(("all", "any")),
    on_error=st.sampled_from(("stop", "continue")),
    retries=st.integers(0, 2),
    retry_on=st.sets(st.sampled_from(("node", "error"))).map(tuple),
    max_duration_s=st.none() | st.floats(1, 100),
    fetches=st.booleans(),
    together=st.booleans(),
    is_array=st.sampled_from((False, False, False, True)),
    replaces=st.integers(0, 2),
    least=st.none() | st.integers(1, 2),
)
submissions = st.builds(Submitted, time_ns=times, terms=terms, held_by=st.sampled_from(("", "ann")))
later_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(happened.PreparationStarted, time_ns=times),
    st.builds(happened.Prepared, time_ns=times),
    st.builds(happened.PreparationFailed, time_ns=times, text=texts),
    st.builds(happened.Dismissed, time_ns=times, text=texts),
    st.builds(happened.Placed, time_ns=times, places=places),
    st.builds(happened.Filled, time_ns=times, worker=workers, place=st.builds(Place, st.sampled_from(NODES))),
    st.builds(happened.Retired, time_ns=times, worker=workers, text=texts),
    st.builds(happened.Fetched, time_ns=times, attempt=attempts),
    st.builds(happened.FetchFailed, time_ns=times, attempt=attempts, text=texts),
    st.builds(happened.ImageFound, time_ns=times, attempt=attempts, worker=workers, image=texts),
    st.builds(happened.Started, time_ns=times, attempt=attempts, worker=workers),
    st.builds(happened.StartFailed, time_ns=times, attempt=attempts, worker=workers, text=texts),
    st.builds(
        happened.Ended,
        time_ns=times,
        attempt=attempts,
        worker=workers,
        code=st.sampled_from((0, 1, 143)),
        reason=texts,
        out_of_memory=st.booleans(),
        result=texts,
    ),
    st.builds(happened.NodeLost, time_ns=times, attempt=attempts, worker=workers, text=texts),
    st.builds(happened.KillRequested, time_ns=times, by=texts, text=texts),
    st.builds(happened.TimeLimitReached, time_ns=times),
    st.builds(happened.PatienceOver, time_ns=times),
    st.builds(happened.Held, time_ns=times, by=texts),
    st.builds(happened.Released, time_ns=times, by=texts),
    st.builds(happened.PriorityChanged, time_ns=times, by=texts, priority=st.integers(0, 100)),
    st.builds(happened.Extended, time_ns=times, by=texts, by_s=st.floats(0, 100)),
    st.builds(happened.RequeueRequested, time_ns=times, by=texts),
    st.builds(happened.ArrayStarted, time_ns=times),
    st.builds(happened.ArrayEnded, time_ns=times, code=codes, text=texts),
)
events = later_events | submissions
