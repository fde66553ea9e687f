"""What is on disk before anybody hears of it, and that none of it waits for the other."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from jobd.life.life import State
from pfs.errors import Kind
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving, refusal, refuse_events

Run = Callable[[Callable[[], Awaitable[None]]], None]


def held_up(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[trio.Event, trio.Event]:
    """Let what something does come to its end only when it may; return what says that it began, and what lets it."""
    real: Callable[..., Awaitable[object]] = getattr(owner, name)
    began, may_end = trio.Event(), trio.Event()

    async def later(*args: Any, **fields: Any) -> object:
        began.set()
        await may_end.wait()
        return await real(*args, **fields)

    monkeypatch.setattr(owner, name, later)
    return began, may_end


@pytest.mark.parametrize("late", ["log", "event"])
def test_nobody_hears_of_an_end_before_the_log_and_the_event_are_on_disk_which_do_not_wait_for_each_other(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            job_id, node, task = await drive.one_runs()
            log = await drive.engine.log_of(await drive.job(job_id))
            saved, event_kept = await both_on_their_way(drive, node, task)
            (event_kept if late == "log" else saved).set()
            await drive.quiet()
            assert (await drive.life(job_id)).state is State.RUNNING
            assert not log.over
            saved.set()
            event_kept.set()
            await drive.until(job_id, State.SUCCEEDED)
            assert log.over

    async def both_on_their_way(drive: Drive, node: Any, task: str) -> tuple[trio.Event, trio.Event]:
        saving, saved = held_up(drive.engine.logs, "save", monkeypatch)
        keeping, event_kept = held_up(service.store, "record", monkeypatch)
        drive.engine._flow.chores.start(node.ends, task)
        await saving.wait()
        await keeping.wait()
        return saved, event_kept

    run(main)


def test_an_end_that_the_database_refuses_is_none_and_the_log_goes_on(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            job_id, node, task = await drive.one_runs()
            with monkeypatch.context() as patch:
                refuse_events(service, patch, lambda job, events: True)
                assert await refusal(node.ends(task)) is Kind.IO
            assert (await drive.life(job_id)).state is State.RUNNING
            assert not (await drive.engine.log_of(await drive.job(job_id))).over
            await node.ends(task)
            assert (await drive.life(job_id)).state is State.SUCCEEDED

    run(main)


def test_a_log_that_the_disk_does_not_take_beside_the_event_comes_to_its_end_all_the_same(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again at once, and then by and by."""

    async def main() -> None:
        async with driving(service) as drive:
            job_id, node, task = await drive.one_runs()
            log = await drive.engine.log_of(await drive.job(job_id))
            fails = [OSError(5, "Input/output error")]
            real = log.files.save

            def save() -> None:
                if fails:
                    raise fails.pop()
                real()

            monkeypatch.setattr(type(log.files), "save", lambda files: save())
            await node.ends(task)
            assert (await drive.life(job_id)).state is State.SUCCEEDED
            assert log.over

    run(main)
