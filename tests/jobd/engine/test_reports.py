"""Nodes that come, go, come back as others, and fall silent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from jobd.engine.reports import NEWS_LENGTH_MAX, NEWS_MAX
from jobd.life.events import Event, NodeLost
from jobd.life.life import State, fold
from jobd.nodestate import NodeState
from jobd.wire import CUT_OFF, Wanted
from pfs.errors import Kind
from tests.jobd.conftest import SECOND_NS, Service
from tests.jobd.engine.drive import Drive, driving, refusal

DIGEST = f"docker.io/reg/x@sha256:{'a' * 64}"


def test_a_node_that_was_started_again_has_lost_what_ran_and_nothing_that_did_not(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await drive.one_runs()
            node.leaves()
            again = await drive.attach(tasks=[task], boot_id="another")
            life = await drive.until(job, State.NODE_LOST)
            assert "started again" in life.reason
            assert again.standings[task].wanted is Wanted.FORGET

    run(main)


def test_what_a_start_waits_for_is_in_the_log_once_and_in_the_reason_until_it_runs(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("resources: '2:[]'\nimage: x\ncommand: y\n")
            node = await drive.attach(runtimes=["docker"])
            first, second = [task.task_id for task in await node.starts(2)]
            engine = drive.engine
            for task in (first, second):
                for text in ("pulling x", "pulling x:\n1 of 2"):
                    await engine.news(node.id, task, text, service.now_ns)
            lines = [line for line in await drive.texts(job) if "pulling" in line]
            assert lines == ["[daemon] n0: pulling x", "[daemon] n0: pulling x: 1 of 2"]
            assert engine.why(await drive.job(job)) == "n0: pulling x: 1 of 2"
            await node.runs(first)
            assert engine.why(await drive.job(job)) == "n0: pulling x: 1 of 2"
            await node.runs(second)
            assert engine.why(await drive.job(job)).startswith("it runs on n0 since 2023-")
            await engine.news(node.id, second, "pulled x", service.now_ns)  # told once more after a break
            assert engine.why(await drive.job(job)).startswith("it runs on n0 since 2023-")

    run(main)


def test_a_node_cannot_fill_a_log_with_what_it_waits_for(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            (task,) = await node.starts()
            for number in range(NEWS_MAX + 50):
                text = f"{number} " + "x" * (1 if number else 10_000)
                await drive.engine.news(node.id, task.task_id, text, service.now_ns)
            lines = [line for line in await drive.texts(job) if "n0: " in line]
            assert len(lines) == NEWS_MAX
            assert max(map(len, lines)) < NEWS_LENGTH_MAX + 20
            await drive.engine.news("cmn1", task.task_id, "of another node", service.now_ns)
            assert "another" not in str(await drive.texts(job))

    run(main)


def test_the_image_of_a_process_is_kept_over_attempts(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("resources: '2:[]'\nimage: reg/x\ncommand: y\n")
            node = await drive.attach(runtimes=["docker"])
            first, second = [task.task_id for task in await node.starts(2)]
            await drive.engine.running(node.id, first, service.now_ns, "some nonsense")
            await drive.engine.running(node.id, second, service.now_ns, DIGEST)
            assert (await drive.life(job)).images == ("", DIGEST)
            await drive.engine.requeue(service.ann, job)
            await node.ends(first, second, code=143)
            tasks = (await node.starts(4))[2:]
            assert [task.task_id for task in tasks] == [f"{job}.2.0.0", f"{job}.2.0.1"]
            assert {task.pinned for task in tasks} == {DIGEST}
            assert fold(await service.store.history(job)) == await drive.life(job)

    run(main)


def test_processes_that_start_at_once_have_the_image_of_the_first_that_found_one(service, run):
    other = DIGEST.replace("a", "b")

    async def main():
        async with driving(service) as drive:
            text = "resources: '2:[]'\nimage: reg/x\ncommand: y\n"
            job = await drive.submit(text)
            node = await drive.attach(runtimes=["docker"])
            first, second = [task.task_id for task in await node.starts(2)]
            image = drive.engine.image
            assert await image(node.id, first, "sha256:" + "c" * 64) == "sha256:" + "c" * 64  # no registry has it
            assert await image("cmn1", first, other) == other  # it is not that node's
            assert await image(node.id, second, DIGEST) == DIGEST
            assert await image(node.id, first, other) == DIGEST
            assert (await drive.life(job)).images == ("", DIGEST)
            assert fold(await service.store.history(job)) == await drive.life(job)
            await node.runs(second)
            await drive.engine.kill(service.ann, job)
            assert await image(node.id, first, other) == DIGEST

    run(main)


def test_a_gang_of_which_one_node_is_lost_ends_on_the_others(service, run):
    async def main():
        async with driving(service) as drive:
            text = "groups: [{name: a, nodes: [n0], command: x}, {name: b, nodes: [n1], command: y}]\n"
            job = await drive.submit(text)
            first, second = await drive.attach("n0"), await drive.attach("n1")
            tasks = [(await node.starts())[0].task_id for node in (first, second)]
            await first.runs(tasks[0])
            await second.runs(tasks[1])
            first.leaves()
            await drive.attach("n0", boot_id="another")
            await second.stops(tasks[1])
            await second.ends(tasks[1], code=143)
            life = await drive.until(job, State.NODE_LOST)
            assert life.exit_code == 125

    run(main)


def test_a_node_that_is_away_keeps_its_job_and_the_job_says_so(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await drive.one_runs()
            node.leaves()
            service.now_ns += 70 * SECOND_NS
            await drive.quiet()
            assert (await drive.life(job)).state is State.RUNNING
            assert drive.engine.why(await drive.job(job)).startswith("its node n0 is UNKNOWN, not heard of since 2023-")
            node = await drive.attach(tasks=[task])
            assert node.standings[task].wanted is Wanted.RUN
            await node.ends(task)
            await drive.until(job, State.SUCCEEDED)

    run(main)


def test_a_silent_node_gets_no_new_work_until_it_is_heard_again(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            service.now_ns += 16 * SECOND_NS
            await drive.quiet()
            assert drive.engine.fleet.state(node.id) is NodeState.SUSPECT
            await drive.submit()
            await drive.quiet()
            assert node.link.started == []
            drive.engine.heard(node.id)
            assert drive.engine.fleet.state(node.id) is NodeState.ONLINE
            await node.starts()

    run(main)


def test_a_job_that_may_run_elsewhere_does_after_ninety_seconds_of_silence_and_no_other(service, run):
    async def main():
        async with driving(service) as drive:
            text = "command: x\nretry: {max: 1, on: [node]}\n"
            job, node, task = await drive.one_runs(text)
            assert node.link.started[0].watchdog_s == 60.0
            node.leaves()
            service.now_ns += 80 * SECOND_NS
            other = await drive.attach("n1")
            await drive.quiet()
            assert other.link.started == []
            service.now_ns += 11 * SECOND_NS
            await drive.until(job, State.WAITING, State.STARTING, attempt=2)
            drive.engine.heard(other.id)
            (again,) = await other.starts()
            assert again.task_id == f"{job}.2.0.0"
            back = await drive.attach(tasks=[task])
            assert back.standings[task].wanted is Wanted.FORGET

    run(main)


def test_a_node_that_is_silent_for_long_and_does_not_get_in_is_lost_all_the_same(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive, trio.open_nursery() as nursery:
            job, node, task = await drive.one_runs("command: x\nretry: {max: 1, on: [node]}\n")
            node.leaves()
            service.now_ns += 80 * SECOND_NS

            async def save_node(_row):
                await trio.sleep_forever()

            monkeypatch.setattr(service.store, "save_node", save_node)
            nursery.start_soon(drive.attach, "n0", [task])
            await drive.quiet()
            service.now_ns += 11 * SECOND_NS
            await drive.quiet()
            assert (await drive.life(job)).state is State.RUNNING
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await drive.quiet()
                service.now_ns += 15 * SECOND_NS
                await drive.until(job, State.WAITING, State.STARTING, attempt=2)

    run(main)


def test_silence_from_before_the_server_was_started_does_not_count(service, run):
    async def main():
        async with driving(service) as drive:
            job, _, _ = await drive.one_runs("command: x\nretry: {max: 1, on: [node]}\n")
        service.now_ns += 1000 * SECOND_NS
        async with driving(service) as drive:
            await drive.quiet()
            assert (await drive.life(job)).state is State.RUNNING
            service.now_ns += 91 * SECOND_NS
            await drive.until(job, State.WAITING, attempt=2)

    run(main)


@dataclass
class SlowDisk:
    """Keeps the loss of nodes only once it is let."""

    asked: trio.Event
    let: trio.Event

    @classmethod
    def of(cls, service: Service, monkeypatch: pytest.MonkeyPatch) -> "SlowDisk":
        disk, real = cls(trio.Event(), trio.Event()), service.store.record

        async def record(job_id: int, events: Sequence[Event], *more: Any) -> None:
            if any(isinstance(event, NodeLost) for event in events):
                disk.asked.set()
                await disk.let.wait()
            await real(job_id, events, *more)

        monkeypatch.setattr(service.store, "record", record)
        return disk


@pytest.mark.parametrize("ran", [True, False])
def test_a_job_that_is_being_given_up_when_its_node_comes_back_is_not_kept_there(service, run, monkeypatch, ran):
    async def main():
        async with driving(service) as drive, trio.open_nursery() as nursery:
            job, node = await drive.submit(), await drive.attach()
            [task] = await node.starts()
            if ran:
                await node.runs(task.task_id)
            node.leaves()
            disk = SlowDisk.of(service, monkeypatch)
            nursery.start_soon(drive.engine.give_up, service.admin, job)
            await disk.asked.wait()
            nursery.start_soon(_come_back, drive, [task.task_id] if ran else [], Wanted.FORGET)
            try:
                await drive.quiet()
            finally:
                disk.let.set()

    run(main)


async def _come_back(drive: Drive, tasks: list[str], wanted: Wanted) -> None:
    back = await drive.attach(tasks=tasks)
    assert {standing.wanted for standing in back.standings.values()} <= {wanted}
    await drive.quiet()
    assert (back.link.started, back.link.stopped) == ([], [])


def test_a_job_cannot_be_given_up_any_more_once_its_node_is_coming_back(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive:
            job, node, task = await drive.one_runs()
            node.leaves()
            real = drive.engine.logs.offset_of

            async def offset_of(*args):
                offset = await real(*args)
                assert await refusal(drive.engine.give_up(service.admin, job)) is Kind.BUSY
                return offset

            monkeypatch.setattr(drive.engine.logs, "offset_of", offset_of)
            await _come_back(drive, [task], Wanted.RUN)
            await drive.until(job, State.RUNNING)

    run(main)


def test_a_start_that_broke_with_its_connection_is_asked_again_when_the_node_is_back(service, run):
    async def main():
        from pfs.protocol.channel import ChannelClosed

        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            node.leaves()
            asked = trio.Event()

            class Broken(type(node.link)):
                async def start(self, task):
                    asked.set()
                    raise ChannelClosed

            broken = Broken()
            await drive.engine.attach(service.node(), broken, [])
            with trio.fail_after(20):
                await asked.wait()
            drive.engine.detach(node.id, broken)
            again = await drive.attach()
            (task,) = await again.starts()
            assert task.task_id == f"{job}.1.0.0"

    run(main)


def test_a_clock_that_is_ahead_moves_no_time_limit(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("command: x\nmax_duration: 100s\n")
            node = await drive.attach()
            (task,) = await node.starts()
            await drive.engine.running(node.id, task.task_id, service.now_ns + 3600 * SECOND_NS)
            assert (await drive.life(job)).started_at_ns == service.now_ns

    run(main)


def test_every_process_of_a_gang_has_an_offset_of_its_own(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, tasks = await drive.gang_runs("groups: [{name: w, count: 2, command: x}]\n", 2)
            await drive.engine.output(node.id, tasks[1], 0, [(service.now_ns, 6)], b"hello\n")
            assert "[worker 1] hello" in await drive.texts(job)
            back = await drive.attach(tasks=tasks)
            assert [back.standings[task].offset for task in tasks] == [0, 6]

    run(main)


def test_what_a_node_ended_for_want_of_contact_is_lost_and_starts_again(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await drive.one_runs("command: x\nretry: {max: 1, on: [node]}\n")
            await node.ends(task, code=0, reason=CUT_OFF)
            second = (await node.starts(2))[-1]
            assert second.task_id == f"{job}.2.0.0"
            assert second.watchdog_s == 60.0
            await node.runs(second.task_id)
            await node.ends(second.task_id)
            await drive.until(job, State.SUCCEEDED)

    run(main)
