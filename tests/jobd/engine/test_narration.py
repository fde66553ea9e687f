"""What the log of a job tells."""

from jobd.engine.narration import narrate
from jobd.life import events as happened
from jobd.life.life import Life, update
from jobd.store.logs import DAEMON, PREPARE


def told(*events: happened.Event, **terms: object) -> list[str]:
    """Return the lines of a job to which these things happen, each with who says it."""
    life: Life | None = update(None, happened.Submitted(time_ns=0, terms=happened.Terms(**terms)))
    lines = []
    for event in events:
        assert life is not None
        after = update(life, event)
        for source, text in narrate(life, event, after):
            who = {DAEMON: "daemon", PREPARE: "prepare"}.get(source, f"worker {source}")
            lines.append(f"[{who}] {text}")
        life = after
    return lines


def placed(count: int) -> list[happened.Event]:
    places = (happened.Place("n"),) * count
    return [happened.Prepared(time_ns=0), happened.Placed(time_ns=0, places=places)]


def started(*workers: int) -> list[happened.Event]:
    return [happened.Started(time_ns=0, worker=worker) for worker in workers]


def ended(worker: int, code: int = 0, reason: str = "") -> happened.Event:
    return happened.Ended(time_ns=0, worker=worker, code=code, reason=reason)


def test_first_light():
    assert told(*placed(1), *started(0), ended(0)) == [
        "[daemon] Pit daemon started",
        "[worker 0] Worker 0 started",
        "[worker 0] Worker 0 ended with exit code 0",
        "[daemon] Worker 0 requested stop. Stopping pit...",
    ]


def test_second_light():
    lines = told(*placed(2), *started(0, 1), ended(0), ended(1), services=(False, False), end="any")
    assert lines == [
        "[daemon] Pit daemon started",
        "[worker 0] Worker 0 started",
        "[worker 1] Worker 1 started",
        "[worker 0] Worker 0 ended with exit code 0",
        "[daemon] Worker 0 requested stop. Stopping pit...",
        "[worker 1] Worker 1 ended with exit code 0",
        "[daemon] Worker 1 requested stop. Stopping pit...",
    ]


def test_of_processes_that_are_all_awaited_the_last_ends_the_job():
    lines = told(*placed(2), *started(0, 1), ended(0), ended(1), services=(False, False))
    assert [line for line in lines if "requested" in line] == ["[daemon] Worker 1 requested stop. Stopping pit..."]


def test_who_was_told_to_stop_did_not_end_the_job():
    lines = told(*placed(2), *started(0, 1), ended(1, 3), ended(0, 143), services=(False, False))
    assert [line for line in lines if "requested" in line] == ["[daemon] Worker 1 requested stop. Stopping pit..."]


def test_a_reason_stands_before_the_exit_code():
    lines = told(*placed(1), *started(0), ended(0, 137, "killed: out of memory"))
    assert lines[2:4] == ["[daemon] Worker 0: killed: out of memory", "[worker 0] Worker 0 ended with exit code 137"]


def test_a_job_that_ends_without_a_process_says_why():
    kill = happened.KillRequested(time_ns=0, by="ann")
    assert told(kill) == ["[daemon] Stopped by user ann", "[daemon] Job ended: killed by ann"]
    failed = told(
        happened.PreparationStarted(time_ns=0), happened.PreparationFailed(time_ns=0, text="src: there is no x")
    )
    assert failed == ["[prepare] src: there is no x", "[daemon] Job ended: src: there is no x"]


def test_another_attempt_is_told():
    lines = told(*placed(1), *started(0), ended(0, 2), retries=1, retry_on=("error",))
    assert lines[-1] == "[daemon] It waits for another attempt: attempt 1 failed, retry 1 of 1: exit code 2"
