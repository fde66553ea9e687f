"""Jobs in SQL: rows that are the fold of their events, arrays, listings that stay short."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from sqlalchemy import event
from sqlmodel import select

from jobd.gpuuse import NO_USE, GpuUse
from jobd.life import events as happened
from jobd.life.life import ENDS, State, fold
from jobd.scheduling.shares import Usage
from jobd.spec.spec import parse_spec
from jobd.store.jobs import DAY_NS, Listed, task_spec
from jobd.store.tables import DraftRow, JobRow
from tests.jobd.engine.drive import driving

SPEC = parse_spec(b"command: echo hi\ntitle: Mine\n", "a")
ARRAY = parse_spec(b"command: echo hi\narray: 0-2\ndepends_on: [1]\n", "a")


def begun(time_ns: int = 1) -> list[happened.Event]:
    return [happened.Submitted(time_ns=time_ns), happened.Prepared(time_ns=time_ns)]


def ended(time_ns: int) -> list[happened.Event]:
    return [happened.KillRequested(time_ns=time_ns, by="ann")]


async def add(store, *, user="ann", name="a", spec=SPEC, key=None, time_ns=1, tasks: Sequence[int] = ()):
    draft = DraftRow(user=user, name=f"{name}.yaml", content=b"the text", born_ns=1, mtime_ns=1, submitted=True)
    events = begun(time_ns)
    life = fold(events)
    new = [(index, events, life) for index in tasks]
    jobs, is_new = await store.submit(draft, [name], spec=spec, events=events, life=life, key=key, tasks=new)
    return jobs, is_new


async def end(store, job, time_ns: int) -> None:
    await store.record(job.id, ended(time_ns), fold([*begun(job.life.submitted_at_ns), *ended(time_ns)]))


@pytest.fixture
def store(service):
    return service.store


def test_a_job_is_kept_with_what_was_written_and_what_happened(store, run):
    async def main():
        [job], new = await add(store)
        assert (job.id, job.user, job.spec, new) == (1, "ann", SPEC, True)
        assert await store.job(1) == job
        assert await store.active() == [job]
        assert await store.spec_text(1) == b"the text"
        assert await store.history(1) == begun()
        assert await store.standing("ann", "a") == 1
        assert (await store.standing("ann", "a.yaml")).submitted
        await end(store, job, 5)
        over = await store.job(1)
        assert (over.life.state, over.life.ended_at_ns) == (State.CANCELLED, 5)
        assert await store.history(1) == [*begun(), *ended(5)]
        assert await store.active() == []
        assert await store.job(2) is None

    run(main)


def test_the_same_key_of_the_same_user_is_the_same_job(store, run):
    async def main():
        jobs, _ = await add(store, spec=ARRAY, key="k", tasks=(0, 1))
        assert await add(store, name="b", key="k") == (jobs, False)
        assert await store.standing("ann", "b") is None
        assert (await add(store, user="bob", key="k"))[1]
        assert (await add(store, key="l"))[1]

    run(main)


def test_an_array_and_its_tasks_are_made_at_once_with_numbers_of_their_own(store, run):
    async def main():
        [array, *tasks], _ = await add(store, spec=ARRAY, tasks=(7, 0, 3))
        assert [(task.id, task.array_id, task.array_index) for task in tasks] == [(2, 1, 7), (3, 1, 0), (4, 1, 3)]
        assert task_spec(ARRAY) == replace(ARRAY, array=None, depends_on=())
        assert [task.spec for task in tasks] == [task_spec(ARRAY)] * 3
        assert array.spec == ARRAY
        assert await store.active() == [array, *tasks]
        assert await store.tasks(1) == {7: tasks[0], 0: tasks[1], 3: tasks[2]}
        assert await store.task(1, 3) == tasks[2] == await store.job(4)
        assert await store.task(1, 4) is None
        assert await store.spec_text(3) == b"the text"
        assert [(task.index, task.id) for task in await store.listed_tasks(1)] == [(0, 3), (3, 4), (7, 2)]
        await end(store, tasks[0], 9)
        assert await store.task_states(1) == {"CANCELLED": 1, "WAITING": 2}
        assert [job.id for job in await store.listed(None, 10)] == [1]
        assert [job.id for job in (await add(store))[0]] == [5]

    run(main)


def test_a_listing_shows_what_is_active_and_what_ended_of_late(store, run):
    async def main():
        now = 100 * DAY_NS
        jobs = [(await add(store, name=f"n{n}", time_ns=n + 1))[0][0] for n in range(5)]
        [theirs], _ = await add(store, user="bob")
        await end(store, jobs[1], now - 15 * DAY_NS)
        await end(store, jobs[3], now - 13 * DAY_NS)
        assert [job.id for job in await store.listed("ann", now)] == [5, 4, 3, 1]
        assert [job.id for job in await store.listed(None, now)] == [theirs.id, 5, 4, 3, 1]
        lately = Listed(4, "ann", 4, now - 13 * DAY_NS, over=True, state="CANCELLED")
        assert (await store.listed("ann", now))[1] == lately
        assert await store.names("ann", [1, 4, 6]) == {"n0": 1, "n3": 4}
        assert await store.names("ann", range(2000)) == {f"n{n}": n + 1 for n in range(5)}
        assert [job.id for job in await store.newest_ended(5)] == [4, 2]

    run(main)


def test_a_job_that_was_removed_is_nobodys_and_its_number_is_not_given_again(store, run):
    async def main():
        [array, task], _ = await add(store, spec=ARRAY, tasks=(0,))
        await end(store, array, 5)
        await store.remove(array.id, 6)
        assert await store.jobs([array.id, task.id]) == {}
        assert await store.listed(None, 6) == await store.newest_ended(5) == []
        assert await store.removed_of([array.id, task.id, 99]) == [array.id, task.id]
        assert await store.over_before([array.id, task.id, 99], 6) == [array.id]
        assert await store.over_before([array.id], 5) == []
        assert (await add(store))[0][0].id == 3
        thrown = await store.thrown(task.id)
        assert (thrown.user, thrown.array_id, thrown.removed_at_ns) == ("ann", array.id, 6)
        await store.restore(array.id)
        assert set(await store.jobs([array.id, task.id])) == {array.id, task.id}
        assert (await store.thrown(array.id)).removed_at_ns is await store.thrown(99)

    run(main)


def test_what_a_user_had_is_added_up_with_the_events_that_end_it(store, run):
    async def main():
        [job], _ = await add(store)
        for usage in (Usage("ann", 2.5, 7), Usage("ann", 1.0, 8), Usage("bob", 1.0, 8)):
            await store.record(job.id, [happened.Released(time_ns=2, by="ann")], job.life, usage)
        assert await store.usages() == {"ann": 3.5, "bob": 1.0}

    run(main)


async def answer(node) -> None:
    """Run every task that a node is given; each third one succeeds."""
    done = 0
    while True:
        while len(node.link.started) == done:
            await node.link.heard.wait()
        task = node.link.started[done].task_id
        done += 1
        await node.runs(task)
        await node.ends(task, code=done % 3)


def test_every_row_is_the_fold_of_its_events_after_a_whole_run(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            jobs = [
                await drive.submit("command: x\nretry: {max: 1, on: [error]}\n"),
                await drive.submit("command: x\nresources: '2:[]'\nhold: true\n"),
                await drive.submit("command: x\narray: 0-2%1\n"),
                await drive.submit("command: x\nsrc: nowhere\n"),
            ]
            await drive.engine.release(service.ann, jobs[1])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, node)
                for job in jobs:
                    await drive.until(job, *ENDS)
                nursery.cancel_scope.cancel()
            await drive.submit("command: x\nrequire: {nothing: 1}\n")
        rows = await service.store._database.read(lambda s: list(s.exec(select(JobRow))))
        assert len(rows) == 8
        for row in rows:
            life = fold(await service.store.history(row.id))
            job = await service.store.job(row.id)
            assert job.life == life
            assert row.state == life.state
            assert (row.submitted_at_ns, row.changed_at_ns) == (life.submitted_at_ns, life.changed_at_ns)
            assert row.ended_at_ns == life.ended_at_ns

    run(main)


def test_a_spec_is_written_once_and_not_at_every_event(store, run):
    async def main():
        [job], _ = await add(store)
        written: list[str] = []
        event.listen(store._database._engine, "before_cursor_execute", lambda *args: written.append(args[2]))
        await end(store, job, 5)
        tables = [statement.split()[1] for statement in written if statement.startswith(("INSERT", "UPDATE"))]
        assert tables == ["job", "INTO"]
        assert not [statement for statement in written if "jobspec" in statement]

    run(main)


def test_no_question_of_every_day_looks_at_all_jobs(store, run):
    questions = []

    def note(_connection, _cursor, statement, values, *_) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE"):
            questions.append((statement, values))

    async def main():
        [job, _], _ = await add(store, spec=ARRAY, tasks=(0,), key="k")
        event.listen(store._database._engine, "before_cursor_execute", note)
        await store.active()
        await store.listed("ann", 1)
        await store.listed(None, 1)
        await store.newest_ended(20)
        await store.job(job.id)
        await store.tasks(job.id)
        await store.task(job.id, 0)
        await store.listed_tasks(job.id)
        await store.task_states(job.id)
        await store.names("ann", [job.id])
        await store.standing("ann", "a")
        await store.drafts("ann", 1)
        await store.history(job.id)
        await store.spec_text(job.id)
        await add(store, key="k")
        await add(store, key="l")
        await end(store, job, 5)
        await store.over_before([job.id], 1)
        await store.sweep_drafts(1)

    run(main)
    connection = store._database._engine.raw_connection()
    looked = {"droperror"}  # one row for each name that was refused, gone after a day
    for statement, values in questions:
        for *_, step in connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values):
            scanned = step.split()[1] if step.startswith("SCAN") else ""
            assert scanned in ("", *looked) or "INDEX ix_job_not_over" in step, f"{step}: {statement}"
    assert len(questions) > 20
    connection.close()


def test_what_a_job_did_with_its_gpus_is_kept_while_it_runs_and_with_its_end(store, run):
    async def main():
        [job], _ = await add(store)
        [other], _ = await add(store, name="b")
        assert job.gpu_use == NO_USE
        await store.keep_gpu_uses({job.id: GpuUse(1.0, 2.0, 3.0, 4.0), other.id: GpuUse(0.0, 1.0)})
        assert [each.gpu_use for each in await store.active()] == [GpuUse(1.0, 2.0, 3.0, 4.0), GpuUse(0.0, 1.0)]
        over = fold([*begun(), *ended(5)])
        await store.record(job.id, ended(5), over, None, GpuUse(5.0, 6.0, 7.0, 8.0))
        await store.keep_gpu_uses({job.id: GpuUse(9.0, 9.0), other.id: GpuUse(2.0, 2.0)})
        assert (await store.job(job.id)).gpu_use == GpuUse(5.0, 6.0, 7.0, 8.0)
        assert (await store.job(other.id)).gpu_use == GpuUse(2.0, 2.0)
        await store.record(other.id, ended(5), over)
        assert (await store.job(other.id)).gpu_use == GpuUse(2.0, 2.0)

    run(main)
