"""Nodes and GPUs that take no new work: drained by people, set aside by the service, or not well."""

import logging
from dataclasses import replace

import pytest

from jobd.engine import tasks
from jobd.engine.blackholes import FAST_S, did_well
from jobd.life.life import State
from jobd.nodestate import Closed, NodeState
from jobd.store.nodes import Policy
from jobd.wire import GpuReading, NodeGpu, encode_gpus
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import driving

GPUS = [NodeGpu(f"GPU-{index}", index, "X", 1 << 30) for index in range(2)]
WANTS_ONE = "command: x\nresources: '[X]'\n"


def state(drive, name="n0"):
    return drive.engine.fleet.named(name).state


async def why(drive, job):
    return drive.engine.why(await drive.job(job))


# ---- drained


def test_a_drained_node_gets_no_new_work_and_keeps_what_it_has_also_after_a_restart(service, run):
    async def main():
        async with driving(service) as drive:
            running = await drive.submit()
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
            await drive.engine.drain(service.admin, [node.id], "new disk")
            waiting = await drive.submit(name="b")
            await drive.quiet()
            assert state(drive) is NodeState.DRAINING
            assert (await drive.life(running)).state is State.RUNNING
            assert "n0 (drained by root: new disk) takes no new work" in await why(drive, waiting)
        async with driving(service) as drive:
            node = await drive.attach(tasks=[task.task_id])
            await node.ends(task.task_id)
            await drive.until(running, State.SUCCEEDED)
            await drive.quiet()
            assert (node.link.started, state(drive)) == ([], NodeState.DRAINED)
            await drive.engine.resume(service.admin, [node.id])
            assert [task.task_id for task in await node.starts()] == [f"{waiting}.1.0.0"]
            assert state(drive) is NodeState.ONLINE

    run(main)


def test_only_administrators_and_who_owns_it_drain_a_node(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            own = await drive.attach("n1", owner="ann")
            for ask in (drive.engine.drain(service.ann, [node.id], ""), drive.engine.resume(service.ann, [node.id])):
                with pytest.raises(PfsError, match="only administrators") as caught:
                    await ask
                assert caught.value.kind is Kind.FORBIDDEN
            with pytest.raises(PfsError, match="only administrators"):
                await drive.engine.drain(service.ann, [own.id, node.id], "")
            await drive.engine.drain(service.ann, [own.id], "")
            assert (state(drive, "n0"), state(drive, "n1")) == (NodeState.ONLINE, NodeState.DRAINED)

    run(main)


def test_what_is_drained_beside_the_service_is_taken_up_with_the_policy(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            service.store.close_nodes_now([node.id], Closed("root", "x", 1))
            await drive.engine.set_policy(Policy())
            assert state(drive) is NodeState.DRAINED
            service.store.open_nodes_now([node.id])
            await drive.engine.set_policy(Policy())
            assert state(drive) is NodeState.ONLINE

    run(main)


# ---- an engine that does not answer


def test_a_node_whose_engine_does_not_answer_gets_what_needs_none_and_its_jobs_are_told(service, run):
    silent = {"docker": "the container engine has not answered"}

    async def main():
        async with driving(service) as drive:
            node = await drive.attach(runtimes=["docker", "sandbox"])
            running = await drive.submit("command: x\nimage: python\n")
            (task,) = await node.starts()
            await node.runs(task.task_id)
            drive.engine.troubled(node.id, silent)
            waiting = await drive.submit("command: x\nimage: python\n", name="b")
            await drive.submit(name="c")
            assert [each.image for each in await node.starts(2)] == ["python", None]
            assert "on its node n0 the container engine has not answered" in await why(drive, running)
            assert "n0 (the container engine has not answered) takes no new work" in await why(drive, waiting)
            assert (drive.engine.fleet.named("n0").troubles, state(drive)) == (silent, NodeState.ONLINE)
            drive.engine.troubled(node.id, {})
            assert f"{waiting}.1.0.0" in [each.task_id for each in await node.starts(3)]
            assert "has not answered" not in await why(drive, running)

    run(main)


# ---- GPUs


def test_a_job_waits_for_the_only_gpu_while_that_is_lost_and_goes_on_when_it_is_well(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach(gpus=encode_gpus(GPUS[:1]))
            lost = replace(GPUS[0], ill="it is lost")
            await drive.engine.gpus(node.id, [lost], {})
            job = await drive.submit(WANTS_ONE)
            await drive.quiet()
            assert node.link.started == []
            assert "n0 (X: it is lost) would do if all GPUs there were well" in await why(drive, job)
            await drive.engine.gpus(node.id, GPUS[:1], {})
            (task,) = await node.starts()
            assert task.gpus == ("GPU-0",)

    run(main)


def test_a_gpu_that_is_not_well_is_not_given_twice_nor_taken_from_its_job(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit(WANTS_ONE)
            node = await drive.attach(gpus=encode_gpus(GPUS[:1]))
            (task,) = await node.starts()
            await node.runs(task.task_id)
            await drive.engine.gpus(node.id, [replace(GPUS[0], ill="it is lost")], {})
            assert (await drive.life(job)).state is State.RUNNING
            assert await why(drive, job) == "a GPU that it has on n0 is not well: it is lost"
            await drive.submit(WANTS_ONE, name="b")
            await drive.engine.gpus(node.id, GPUS[:1], {})
            await drive.quiet()
            assert len(node.link.started) == 1
            await node.ends(task.task_id)
            await node.starts(2)

    run(main)


def test_a_gpu_that_is_gone_when_its_node_comes_back_is_given_to_nobody_until_it_is_forgotten(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach(gpus=encode_gpus(GPUS))
            node.leaves()
        async with driving(service) as drive:
            node = await drive.attach(gpus=encode_gpus(GPUS[1:]))
            jobs = [await drive.submit(WANTS_ONE, name=name) for name in "ab"]
            (task,) = await node.starts()
            await drive.quiet()
            assert (task.gpus, len(node.link.started)) == (("GPU-1",), 1)
            assert "its node does not tell of it any more" in await why(drive, jobs[1])
            await drive.engine.resume(service.admin, [node.id])
            assert [gpu["uuid"] for gpu in drive.engine.fleet.row(node.id).gpus] == ["GPU-1"]
            assert [gpu["uuid"] for [row] in [await service.store.nodes()] for gpu in row.gpus] == ["GPU-1"]

    run(main)


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_whose_gpu_was_lost_in_the_moment_of_its_start_is_placed_anew(service, run, monkeypatch, killed):
    async def main():
        monkeypatch.setattr(tasks, "AGAIN_S", 0.0)
        async with driving(service) as drive:
            node = await drive.attach(gpus=encode_gpus(GPUS))
            asked = []

            class Refusing(type(node.link)):
                async def start(self, task):
                    asked.append(task.gpus)
                    if killed:
                        await drive.engine.kill(service.ann, job)
                    else:
                        await drive.engine.gpus(node.id, [replace(GPUS[0], ill="it is lost"), GPUS[1]], {})
                    if len(asked) == 1:
                        raise PfsError(Kind.BUSY, "GPU 0 of the node is not well: it is lost")
                    await super().start(task)

                async def stop(self, task_id, grace_s):
                    raise PfsError(Kind.NOT_FOUND, "no such task")

            job = await drive.submit(WANTS_ONE)
            link = Refusing()
            await drive.engine.attach(service.node(), link, [])
            await drive.engine.gpus(node.id, GPUS, {})
            if killed:
                await drive.until(job, State.CANCELLED)
                assert asked == [("GPU-0",)]
                return
            life = await drive.until(job, State.STARTING, attempt=2)
            await drive.quiet()
            assert (asked, life.processes[0].gpus) == ([("GPU-0",), ("GPU-1",)], ("GPU-1",))
            assert "[daemon] Requeued: GPU 0 of the node is not well: it is lost" in await drive.texts(job)

    run(main)


def test_what_gpus_do_is_known_while_their_node_is_connected_and_no_event(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach(gpus=encode_gpus(GPUS))
            version = drive.engine.ledger.version
            await drive.engine.gpus(node.id, GPUS, {"GPU-0": GpuReading(5)})
            assert drive.engine.fleet.named("n0").readings.gpus == {"GPU-0": GpuReading(5)}
            assert drive.engine.ledger.version == version
            node.leaves()
            assert drive.engine.fleet.named("n0").readings.gpus == {}

    run(main)


# ---- black holes


async def fail(drive, node, user, name, code=1):
    """Let a job fail on the node as soon as it was started there."""
    count = len(node.link.started)
    job = await drive.submit("command: x\n", name=name, user=user)
    (task,) = [task for task in await node.starts(count + 1) if task.task_id.startswith(f"{job}.")]
    await node.runs(task.task_id)
    await node.ends(task.task_id, code=code)
    await drive.quiet()


def test_a_node_on_which_different_jobs_of_several_people_fail_is_set_aside_until_somebody_resumes_it(
    service, run, caplog
):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            for user, name in ((service.ann, "a"), (service.bob, "b"), (service.ann, "c"), (service.bob, "d")):
                await fail(drive, node, user, name)
            assert state(drive) is NodeState.ONLINE
            await fail(drive, node, service.ann, "e")
            assert state(drive) is NodeState.SETASIDE
            job = await drive.submit("command: x\n")
            await drive.quiet()
            assert "n0 (set aside: 5 different jobs in a row failed there within 60 s" in await why(drive, job)
        assert "the node n0 is set aside: 5 different jobs in a row" in caplog.text
        async with driving(service) as drive:
            node = await drive.attach()
            await drive.quiet()
            assert (state(drive), node.link.started) == (NodeState.SETASIDE, [])
            await drive.engine.resume(service.admin, [node.id])
            await node.starts()

    with caplog.at_level(logging.WARNING):
        run(main)


def test_broken_jobs_of_one_person_close_no_node(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            for number in range(10):
                await fail(drive, node, service.ann, f"a{number}")
            await fail(drive, node, service.bob, "b")
            assert state(drive) is NodeState.ONLINE

    run(main)


def test_a_node_that_is_drained_already_is_not_set_aside(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            jobs = [
                (await drive.submit("command: x\n", name=f"{user.user}{n}", user=user))
                for n in range(3)
                for user in (service.ann, service.bob)
            ]
            tasks = await node.starts(len(jobs))
            await drive.engine.drain(service.admin, [node.id], "new disk")
            await node.ends(*(task.task_id for task in tasks), code=1)
            await drive.quiet()
            assert drive.engine.fleet.named("n0").closed.text == "drained by root: new disk"

    run(main)


def test_what_happens_to_a_process_is_a_sign_only_where_its_node_could_be_the_reason(service, run):
    """A job of a node, and what is said of the node by each way in which it may end."""

    async def main():
        async with driving(service) as drive:
            signs = []
            drive.engine._flow.witness = lambda job, before, event: signs.append(did_well(before, event))
            node = await drive.attach()
            told = []
            ends = [
                ({"code": 0}, 1),
                ({"code": 1}, 1),
                ({"code": 1}, FAST_S + 1),
                ({"code": 137, "out_of_memory": True}, 1),
                ({"code": 125, "reason": "the policy of node n0 allows no such image"}, 1),
            ]
            for end, after_s in ends:
                told.append(await end_of(drive, node, signs, end, after_s))
            assert told == [(True, node.id), (False, node.id), (True, node.id), None, None]
            job = await drive.submit("command: x\n", name="z")
            (task,) = (await node.starts(6))[5:]
            await node.runs(task.task_id)
            await drive.engine.kill(service.ann, job)
            await node.ends(task.task_id, code=143)
            assert signs[-1] is None

    async def end_of(drive, node, signs, end, after_s):
        count = len(node.link.started)
        await drive.submit("command: x\n", name=f"a{count}")
        task = (await node.starts(count + 1))[count]
        await node.runs(task.task_id)
        service.now_ns += int(after_s * SECOND_NS)
        drive.engine.heard(node.id)
        await node.ends(task.task_id, **end)
        return signs[-1]

    run(main)
