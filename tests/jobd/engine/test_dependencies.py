"""Jobs that wait for others."""

import pytest

from jobd.engine.dependencies import Verdict, never, verdict
from jobd.life import events as happened
from jobd.life.life import State, fold
from jobd.spec.model import Dependency
from pfs.errors import PfsError
from tests.jobd.engine.drive import driving

PLACED = happened.Placed(time_ns=2, places=(happened.Place("n"),))
RAN = [happened.Prepared(time_ns=1), PLACED, happened.Started(time_ns=3)]
ENDS = {
    "succeeded": [*RAN, happened.Ended(time_ns=4, code=0)],
    "failed": [*RAN, happened.Ended(time_ns=4, code=1)],
    "cancelled": [happened.KillRequested(time_ns=1, by="ann")],
    "running": RAN,
    "cancelled when it was to run again": [
        *RAN,
        happened.RequeueRequested(time_ns=4, by="ann"),
        happened.Ended(time_ns=5, code=143),
        happened.KillRequested(time_ns=6, by="ann"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "end", "means"),
    [
        ("afterok", "succeeded", Verdict.MET),
        ("afterok", "failed", Verdict.NEVER),
        ("afterok", "cancelled", Verdict.NEVER),
        ("afterany", "succeeded", Verdict.MET),
        ("afterany", "failed", Verdict.MET),
        ("afterany", "cancelled", Verdict.MET),
        ("afternotok", "succeeded", Verdict.NEVER),
        ("afternotok", "failed", Verdict.MET),
        ("afternotok", "cancelled", Verdict.NEVER),
        ("afternotok", "cancelled when it was to run again", Verdict.MET),
        ("afterok", "running", Verdict.OPEN),
        ("afterany", "running", Verdict.OPEN),
    ],
)
def test_what_an_end_means_to_who_waits_for_it(kind, end, means):
    life = fold([happened.Submitted(time_ns=0), *ENDS[end]])
    assert verdict(Dependency(1, kind), life) is means


@pytest.mark.parametrize("kind", ["afterok", "afterany", "afternotok"])
def test_what_was_removed_is_never_over_as_one_waits_for_it(kind):
    assert "job 7" in str(never([Dependency(7, kind)], {}))


def test_a_job_starts_when_what_it_waits_for_succeeded_and_says_so_before(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            second = await drive.submit(f"command: x\ndepends_on: [{first}]\n", name="b")
            node = await drive.attach()
            (task,) = await node.starts()
            assert (await drive.life(second)).state is State.PENDING
            assert drive.engine.why(await drive.job(second)) == f"waits for job {first} to succeed, which is STARTING"
            await node.runs(task.task_id)
            await node.ends(task.task_id)
            assert (await node.starts(2))[1].task_id == f"{second}.1.0.0"

    run(main)


def test_a_chain_that_breaks_ends_every_job_behind_it_with_the_reason(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            second = await drive.submit(f"command: x\ndepends_on: [{first}]\n", name="b")
            third = await drive.submit(f"command: x\ndepends_on: [{second}]\n", name="c")
            after = await drive.submit(f"command: x\ndepends_on: ['afterany:{second}']\n", name="d")
            await drive.engine.kill(service.ann, first)
            life = await drive.until(second, State.CANCELLED)
            assert life.reason == f"it waited for job {first} to succeed, and that is CANCELLED"
            await drive.until(third, State.CANCELLED)
            await drive.until(after, State.WAITING)

    run(main)


def test_what_a_job_waits_for_may_end_while_the_server_is_down_to_restart(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            second = await drive.submit(f"command: x\ndepends_on: ['afternotok:{first}']\n", name="b")
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
        async with driving(service) as drive:
            node = await drive.attach(tasks=[task.task_id])
            await node.ends(task.task_id, code=1)
            assert (await node.starts())[0].task_id == f"{second}.1.0.0"

    run(main)


def test_a_job_that_is_not_there_or_not_to_be_read_cannot_be_waited_for(service, run):
    async def main():
        async with driving(service) as drive:
            theirs = await drive.submit(user=service.bob)
            for number in (theirs, 99):
                with pytest.raises(PfsError, match=f"depends_on: there is no job {number}"):
                    await drive.submit(f"command: x\ndepends_on: [{number}]\n")

    run(main)


def test_a_job_that_waits_for_one_that_is_over_goes_on_at_once(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            await drive.engine.kill(service.ann, first)
            second = await drive.submit(f"command: x\ndepends_on: ['afterany:{first}']\n", name="b")
            await drive.until(second, State.WAITING)
            third = await drive.submit(f"command: x\ndepends_on: [{first}]\n", name="c")
            await drive.until(third, State.CANCELLED)
            await drive.quiet()

    run(main)
