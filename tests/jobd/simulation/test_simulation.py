"""Simulated worlds: a thousand of them go well, and what is broken on purpose goes wrong in some of them."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from jobd.engine import queueing
from jobd.engine.alarms import Alarms
from jobd.engine.commands import Commands
from jobd.engine.demands import running_of
from jobd.engine.fleet import Fleet
from jobd.engine.flow import Flow
from jobd.engine.ledger import Active, Ledger, Tasks
from jobd.engine.reports import Reports
from jobd.engine.tasks import TaskMaster
from jobd.life.actions import LetGo, StopTask
from jobd.life.events import KillRequested
from jobd.life.life import Life, State
from jobd.scheduling import order, quotas
from jobd.scheduling.quotas import use_of
from tests.jobd.simulation.story import Story, crowd, draw, rationed, silence
from tests.jobd.simulation.world import Outcome, shrink, simulate

SEEDS, CHUNK = 1000, 20
SEEDS_UNTIL_FOUND = 40
LINES_SHOWN = 60


def story_of(outcome: Outcome) -> str:
    """Return what went wrong, how to see it again, and the last that happened."""
    shown = "\n".join(outcome.trace[-LINES_SHOWN:])
    return f"{outcome.problem}\nscript/simulate --seed {outcome.seed}\n{shown}"


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_all_is_well_in_the_world_of_every_seed(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = simulate(seed)
        assert outcome.problem is None, story_of(outcome)


def test_the_same_seed_is_the_same_world() -> None:
    for seed in (3, 4):
        assert simulate(seed).trace == simulate(seed).trace
    assert simulate(3).trace != simulate(4).trace


@pytest.mark.parametrize("users", [1, 2])
def test_small_jobs_that_never_cease_to_come_do_not_keep_a_large_one_waiting(users: int) -> None:
    outcome = simulate(1, told=lambda seed: crowd(seed, users))
    assert outcome.problem is None, story_of(outcome)
    [large] = [job for job in outcome.jobs if job.spec.process_count == 2 and job.spec.groups[0].gpus == ((2, "a"),)]
    later = [job for job in outcome.jobs if job.id > large.id]
    assert large.life.placed_at_ns is not None
    assert large.life.state is State.SUCCEEDED
    assert large.life.placed_at_ns - large.life.submitted_at_ns < 60 * 1_000_000_000
    assert sum((job.life.placed_at_ns or 0) > large.life.placed_at_ns for job in later) > 20


@pytest.mark.parametrize("seed", range(2))
def test_a_job_of_a_machine_that_is_silent_begins_anew_once_it_is_over_there(seed: int) -> None:
    outcome = simulate(seed, told=silence)
    assert outcome.problem is None, story_of(outcome)
    assert max(job.life.attempt for job in outcome.jobs) == 2


@pytest.mark.parametrize("seed", range(2))
def test_a_quota_that_is_lowered_ends_nothing_and_once_it_is_lifted_all_goes_on(seed: int) -> None:
    outcome = simulate(seed, told=rationed)
    assert outcome.problem is None, story_of(outcome)
    assert {job.life.state for job in outcome.jobs} <= {State.SUCCEEDED, State.TIMEOUT}  # its own time limit
    assert all(job.life.attempt == 1 and job.life.placed_at_ns is not None for job in outcome.jobs)


# ---- what is broken on purpose is found


def found(told: Callable[[int], Story] = draw) -> Outcome:
    """Return the first outcome that goes wrong."""
    for seed in range(SEEDS_UNTIL_FOUND):
        outcome = simulate(seed, told=told)
        if outcome.problem is not None:
            return outcome
    raise AssertionError(f"nothing went wrong in {SEEDS_UNTIL_FOUND} worlds")


def test_a_kill_that_is_acknowledged_and_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def kill(self: Commands, subject: Any, job_id: int) -> None:
        await self._own(subject, job_id)

    monkeypatch.setattr(Commands, "kill", kill)
    assert "acknowledged, but is not kept" in str(found().problem)


def test_a_kill_that_is_acknowledged_before_it_is_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Ledger.apply

    async def apply(self: Ledger, active: Any, *events: Any, **more: Any) -> Life | None:
        if any(isinstance(event, KillRequested) for event in events):
            return None
        return await kept(self, active, *events, **more)

    monkeypatch.setattr(Ledger, "apply", apply)
    assert "acknowledged, but is not kept" in str(found().problem)


def test_a_place_that_is_given_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "running_of", lambda job: replace(running_of(job), uses=()))
    problem = str(found().problem)
    assert any(word in problem for word in ("both have", "was given", "which is full", "one GPU twice")), problem


def test_the_end_of_a_task_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ended(self: Reports, node_id: str, task_id: str, **_: Any) -> None:
        pass

    monkeypatch.setattr(Reports, "ended", ended)
    assert "never over" in str(found().problem)


def test_a_stop_that_is_never_asked_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = TaskMaster.settle

    def lazy(self: TaskMaster, active: Any, action: Any) -> None:
        if not isinstance(action, StopTask):
            settle(self, active, action)

    monkeypatch.setattr(TaskMaster, "settle", lazy)
    assert "never over" in str(found().problem)


def test_a_program_that_is_never_let_go_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = TaskMaster.settle

    def forgetful(self: TaskMaster, active: Any, action: Any) -> None:
        if not isinstance(action, LetGo):
            settle(self, active, action)

    monkeypatch.setattr(TaskMaster, "settle", forgetful)
    assert "never over" in str(found().problem)


def test_a_process_that_is_not_started_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tasks, "forget", lambda self, worker: None)
    assert "never over" in str(found().problem)


def test_an_attempt_that_begins_while_the_last_one_runs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fleet", "reports"):
        monkeypatch.setattr(f"jobd.engine.{module}.LOST_AFTER_S", 20.0)
    assert "runs: NodeLost" in str(found(silence).problem)


def test_a_server_that_does_not_take_up_what_it_left_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(self: Ledger) -> list[Active]:
        return []

    monkeypatch.setattr(Ledger, "load", load)
    # what is forgotten never ends, and its GPUs are given again
    assert re.search("never over|both have GPU", str(found().problem))


def test_a_time_limit_that_nobody_watches_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flow, "_ring", lambda self, job_id: None)
    assert "never over" in str(found().problem)


def test_what_goes_on_for_ever_at_one_moment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: Alarms[int]) -> None:
        while True:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Alarms, "run", run)
    assert "time stands still" in str(found().problem)


def test_a_submission_that_is_not_known_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Ledger.add

    async def forgetful(self: Ledger, *args: Any, key: str | None, **more: Any) -> Any:
        return await add(self, *args, key=None, **more)

    monkeypatch.setattr(Ledger, "add", forgetful)
    assert "was acknowledged, but" in str(found().problem)


def test_a_job_that_starts_although_the_one_before_it_failed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobd.engine.flow.never", lambda dependencies, lives: None)
    assert "is placed before it may" in str(found().problem)


def test_more_tasks_at_once_than_an_array_wants_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobd.engine.flow.at_once_of", lambda spec: None)
    assert "more tasks of its array" in str(found().problem)


def test_a_drained_node_that_is_used_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    view = Fleet.view
    monkeypatch.setattr(Fleet, "view", lambda self, node_id: replace(view(self, node_id), closed=""))
    assert "which is drained by" in str(found().problem)


def test_a_node_that_is_kept_for_others_and_used_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    view = Fleet.view
    monkeypatch.setattr(Fleet, "view", lambda self, node_id: replace(view(self, node_id), groups=frozenset()))
    assert "which is kept for" in str(found().problem)


@pytest.mark.parametrize(
    ("what", "told", "says"),
    [("jobs", draw, "run than may at once"), ("gpus", rationed, "has more GPUs than they may")],
)
def test_a_quota_that_is_not_kept_is_found(
    monkeypatch: pytest.MonkeyPatch, what: str, told: Callable[[int], Story], says: str
) -> None:
    monkeypatch.setattr(quotas, "use_of", lambda job: replace(use_of(job), **{what: 0}))
    monkeypatch.setattr(order, "use_of", quotas.use_of)
    assert says in str(found(told).problem)


def test_a_story_that_goes_wrong_is_cut_down_to_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flow, "_ring", lambda self, job_id: None)
    wrong = (outcome for seed in range(SEEDS_UNTIL_FOUND) if (outcome := simulate(seed)).problem is not None)
    cut = ((outcome, shrink(outcome)) for outcome in wrong)
    # of some the very last deed is what goes wrong
    outcome, shorter = next(each for each in cut if len(each[1].story.deeds) < len(each[0].story.deeds))
    assert shorter.problem is not None
    assert shorter.story.deeds == outcome.story.deeds[: len(shorter.story.deeds)]
