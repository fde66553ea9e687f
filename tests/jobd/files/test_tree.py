"""What the tree shows of gangs, arrays, nodes and the whole cluster."""

import shlex
from dataclasses import replace

import pytest
import trio

from cli.snakepit.status import jobs_of
from jobd.files.gpus import TEXTS
from jobd.files.tasks import LISTED_VALID_S
from jobd.life.life import State
from jobd.nodectl import HELP
from jobd.store.nodes import Policy
from jobd.wire import GpuReading, NodeGpu, decode_gpus, encode_gpus
from pfs.api import Closing, NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from tests.jobd.engine.drive import driving

from .test_drafts import text_of

GANG = """\
title: A gang
groups:
  - {name: trainer, count: 2, resources: {gpu: {gtx: 1}}, command: train}
  - {name: server, count: 1, command: serve}
"""
GPUS = [{"uuid": f"GPU-{index}", "index": index, "model": "GTX 1070", "memory_bytes": 8 << 30} for index in range(3)]


@pytest.fixture
def tree(service, run):
    """Run an async test with a drive, and the tree as ann sees it."""

    def within(main):
        async def outer():
            async with driving(service) as drive:
                await drive.engine.set_policy(Policy(aliases={"gtx": "GTX 1070"}))
                await main(drive, service.files(drive.engine, service.ann))

        run(outer)

    return within


async def facts(fs, path: str) -> dict[str, str]:
    lines = (await text_of(fs, path)).decode().splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


async def said(fs, path: str) -> str:
    return (await text_of(fs, path)).decode()


async def names(fs, path: str) -> list[str]:
    return [entry.name for entry in await fs.listdir(path)]


async def all_paths(fs, path: str):
    """Yield the path of everything below a directory, with its attributes as the listing tells them."""
    for entry in await fs.listdir(path):
        yield f"{path}/{entry.name}", entry.attr
        if entry.attr.type is NodeType.DIRECTORY:
            async for below in all_paths(fs, f"{path}/{entry.name}"):
                yield below


async def command(fs, job_id: int, text: str) -> None:
    await tell(fs, f"jobs/{job_id}/ctl", text)


async def tell(fs, path: str, text: str) -> None:
    file = await fs.open(path, OpenFlags.WRITE, 0)
    await file.write(0, text.encode())
    await file.flush(Closing.LAST)
    await file.release()


@pytest.mark.parametrize("name", ["state", "status", "why", "events"])
def test_who_waits_for_a_text_of_a_job_hears_of_what_happens_to_it(tree, name):
    async def main(drive, fs):
        job = await drive.submit()
        file = await fs.open(f"jobs/{job}/{name}", OpenFlags.READ, 0)
        before = await file.read(0, 1 << 16)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.changed)
            await tell(fs, f"jobs/{job}/ctl", "kill")
            await drive.until(job, State.CANCELLED)
        assert await file.read(0, 1 << 16) != before
        after = await fs.open(f"jobs/{job}/{name}", OpenFlags.READ, 0)
        await after.read(0, 1 << 16)
        with pytest.raises(PfsError) as caught:
            await after.changed(wait=False)
        assert caught.value.kind is Kind.WOULD_BLOCK

    tree(main)


# ---- processes


def test_a_number_that_no_job_can_have_is_no_job(tree):
    async def main(drive, fs):
        for number in (1 << 63, 10**40):
            with pytest.raises(PfsError) as caught:
                await fs.getattr(f"jobs/{number}")
            assert caught.value.kind is Kind.NOT_FOUND

    tree(main)


def test_every_process_of_a_gang_has_a_directory_with_what_is_known_of_it(tree):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        job = await drive.submit(GANG)
        at = f"jobs/{job}/processes"
        await node.starts(3)
        await node.runs(f"{job}.1.0.0", f"{job}.1.0.1")
        assert await names(fs, at) == ["0.0", "0.1", "1.0"]
        assert await names(fs, f"{at}/0.0") == ["env", "gpus", "log", "log.txt", "node", "state"]
        assert [await said(fs, f"{at}/{name}/state") for name in ("0.0", "1.0")] == ["RUNNING\n", "STARTING\n"]
        assert await said(fs, f"{at}/0.1/node") == "n0\n"
        assert await said(fs, f"{at}/0.1/gpus") == "1 GPU-1 GTX 1070\n"
        assert await said(fs, f"{at}/1.0/gpus") == ""
        with pytest.raises(PfsError) as caught:
            await fs.getattr(f"{at}/0.0/exit_code")
        assert caught.value.kind is Kind.NOT_FOUND
        status = await facts(fs, f"jobs/{job}/status")
        assert (status["node"], status["gpus"], status["place"]) == ("n0", "2", "n0[cuda 0-1]")
        assert (status["request"], status["attempt"]) == ("2:[gtx],[]", "1")

    tree(main)


def test_a_process_shows_its_own_variables_so_that_a_shell_can_read_them(tree):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        job = await drive.submit(GANG.replace("command: serve", 'command: serve, env: {A: "it\'s\\ntwo"}'))
        [*_, server] = await node.starts(3)
        text = await said(fs, f"jobs/{job}/processes/1.0/env")
        shown = dict(word.partition("=")[::2] for word in shlex.split(text))
        assert shown == server.env
        assert shown["A"] == "it's\ntwo"

    tree(main)


def test_how_each_process_ended_stays_to_be_read(tree, service):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        job = await drive.submit(GANG)
        at = f"jobs/{job}/processes"
        tasks = [task.task_id for task in await node.starts(3)]
        await node.runs(*tasks)
        (service.root / f"jobs/{job}/data/tmp/result.1.0.1").write_text("0.93")
        await drive.engine.output(node.id, tasks[1], 0, [(service.now_ns, 4)], b"x\0\xffy")
        await node.ends(tasks[1], code=7)
        await node.stops(tasks[0], tasks[2])
        await node.ends(tasks[0], tasks[2], code=143)
        await drive.until(job, State.FAILED)
        ends = [
            (await said(fs, f"{at}/{p}/state"), await said(fs, f"{at}/{p}/exit_code")) for p in ("0.0", "0.1", "1.0")
        ]
        assert ends == [("CANCELLED\n", "143\n"), ("FAILED\n", "7\n"), ("CANCELLED\n", "143\n")]
        assert await said(fs, f"{at}/0.1/result") == "0.93"
        assert await text_of(fs, f"{at}/0.1/log") == await text_of(fs, f"{at}/0.1/log.txt") == b"x\0\xffy"
        assert await text_of(fs, f"{at}/0.0/log") == b""
        assert await said(fs, f"jobs/{job}/exit_code") == "7\n"

    tree(main)


def test_before_it_has_a_place_a_process_stands_where_its_job_stands(tree):
    async def main(drive, fs):
        job = await drive.submit(GANG)
        assert await said(fs, f"jobs/{job}/processes/1.0/state") == "WAITING\n"
        assert await said(fs, f"jobs/{job}/processes/1.0/node") == ""
        assert "GROUP_INDEX=1\n" in await said(fs, f"jobs/{job}/processes/1.0/env")

    tree(main)


@pytest.mark.parametrize("name", ["0.2", "2.0", "0", "0.00", "-1.0", "0.0.0", "x"])
def test_there_is_no_other_process(tree, name):
    async def main(drive, fs):
        job = await drive.submit(GANG)
        with pytest.raises(PfsError) as caught:
            await fs.getattr(f"jobs/{job}/processes/{name}")
        assert caught.value.kind is Kind.NOT_FOUND

    tree(main)


# ---- arrays


def test_an_array_has_a_directory_for_each_task_which_is_no_job_of_the_listing(tree):
    async def main(drive, fs):
        job = await drive.submit("command: x\narray: 3,5-6%1\n")
        assert await names(fs, f"jobs/{job}/tasks") == ["3", "5", "6"]
        assert [name for name in await names(fs, "jobs") if name.isdigit()] == [str(job)]
        assert "processes" not in await names(fs, f"jobs/{job}")
        task = await facts(fs, f"jobs/{job}/tasks/5/status")
        assert (task["array"], task["index"], task["state"]) == (str(job), "5", "WAITING")
        assert await facts(fs, f"jobs/{task['id']}/status") == task
        for name in ("4", "05", "-3", "x"):
            with pytest.raises(PfsError) as caught:
                await fs.getattr(f"jobs/{job}/tasks/{name}")
            assert caught.value.kind is Kind.NOT_FOUND

    tree(main)


def test_an_array_tells_how_many_of_its_tasks_stand_where(tree):
    async def main(drive, fs):
        job = await drive.submit("command: x\narray: 0-3%2\n")
        assert (await facts(fs, f"jobs/{job}/status"))["tasks_waiting"] == "4"
        node = await drive.attach()
        first, second = await node.starts(2)
        await node.runs(first.task_id, second.task_id)
        status = await facts(fs, f"jobs/{job}/status")
        assert {key: status[key] for key in status if key.startswith("tasks")} == {
            "tasks": "4",
            "tasks_waiting": "2",
            "tasks_running": "2",
        }
        assert status["state"] == "RUNNING"
        await node.ends(first.task_id, code=3)
        assert (await facts(fs, f"jobs/{job}/status"))["tasks_failed"] == "1"

    tree(main)


# ---- ctl


def test_what_ctl_says_is_seen_in_status(tree):
    async def main(drive, fs):
        job = await drive.submit("command: x\nmax_duration: 1h\n")
        await command(fs, job, "hold\npriority 7\nextend 30m\n")
        status = await facts(fs, f"jobs/{job}/status")
        assert (status["held"], status["priority"], status["max_duration_s"]) == ("ann", "7", "5400")
        assert "held by ann" in await said(fs, f"jobs/{job}/why")
        await command(fs, job, "release\n")
        assert "held" not in await facts(fs, f"jobs/{job}/status")
        node = await drive.attach()
        await node.starts(1)
        await node.runs(f"{job}.1.0.0")
        await command(fs, job, "requeue\n")
        await node.stops(f"{job}.1.0.0")
        await node.ends(f"{job}.1.0.0", code=143)
        await node.starts(2)
        assert (await facts(fs, f"jobs/{job}/status"))["attempt"] == "2"

    tree(main)


@pytest.mark.parametrize(
    ("text", "kind"), [("lost\n", Kind.DENIED), ("priority 51\n", Kind.DENIED), ("signal 10\n", Kind.BUSY)]
)
def test_what_may_not_be_said_is_refused_in_write(tree, text, kind):
    async def main(drive, fs):
        job = await drive.submit()
        with pytest.raises(PfsError) as caught:
            await command(fs, job, text)
        assert caught.value.kind is kind

    tree(main)


# ---- the trash


def test_a_job_that_is_over_is_thrown_away_by_its_owner_with_all_its_names(tree, service):
    async def main(drive, fs):
        node = await drive.attach()
        job = await drive.submit(name="mine")
        with pytest.raises(PfsError) as caught:
            await fs.rmdir(f"jobs/{job}")
        assert caught.value.kind is Kind.BUSY
        await node.starts(1)
        await node.ends(f"{job}.1.0.0")
        await drive.until(job, State.SUCCEEDED)
        for other in (service.files(drive.engine, service.bob),):
            with pytest.raises(PfsError) as caught:
                await other.rmdir(f"jobs/{job}")
            assert caught.value.kind is Kind.NOT_FOUND
        await fs.rmdir(f"jobs/{job}")
        assert not {"mine", str(job)} & set(await names(fs, "jobs"))
        for path in (f"jobs/{job}", "jobs/mine"):
            with pytest.raises(PfsError) as caught:
                await fs.getattr(path)
            assert caught.value.kind is Kind.NOT_FOUND
        assert not (service.root / f"jobs/{job}").exists()
        assert (service.root / f"server/trash/{job}/logs/job.log").exists()
        assert await drive.submit(name="mine") == job + 1

    tree(main)


def test_files_and_log_of_a_job_may_be_gone_and_its_record_stays(tree, service):
    async def main(drive, fs):
        node = await drive.attach()
        job = await drive.submit()
        await node.starts(1)
        await node.ends(f"{job}.1.0.0", code=4)
        await drive.until(job, State.FAILED)
        assert {"log", "log.txt", "out"} <= set(await names(fs, f"jobs/{job}"))
        await service.workshop.expire(job)
        assert not {"log", "log.txt", "out", "src", "keep"} & set(await names(fs, f"jobs/{job}"))
        for name in ("log", "log.txt", "out"):
            with pytest.raises(PfsError) as caught:
                await fs.getattr(f"jobs/{job}/{name}")
            assert caught.value.kind is Kind.NOT_FOUND
        assert await said(fs, f"jobs/{job}/exit_code") == "4\n"
        assert await text_of(fs, f"jobs/{job}/spec.yaml") == b"command: echo hi\n"

    tree(main)


def test_an_array_goes_with_its_tasks_and_no_task_alone(tree, service):
    async def main(drive, fs):
        array = await drive.submit("command: x\narray: 0-1\n")
        task = int((await facts(fs, f"jobs/{array}/tasks/1/status"))["id"])
        await command(fs, array, "kill\n")
        await drive.until(array, State.CANCELLED)
        with pytest.raises(PfsError, match=f"a task of job {array}"):
            await fs.rmdir(f"jobs/{task}")
        await fs.rmdir(f"jobs/{array}")
        for job in (array, task):
            with pytest.raises(PfsError) as caught:
                await fs.getattr(f"jobs/{job}")
            assert caught.value.kind is Kind.NOT_FOUND

    tree(main)


# ---- machines


def test_each_gpu_of_a_node_tells_what_it_is_and_which_job_has_it(tree, service):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        policy = Policy(
            {"cmn0": frozenset({"a", "b"})}, {"GPU-0": frozenset({"b"})}, {"gtx": "GTX 1070"}, {"ann": frozenset({"b"})}
        )
        await drive.engine.set_policy(policy)
        job = await drive.submit("command: x\nresources: '[gtx]'\ntitle: Mine\n")
        await node.starts(1)
        at = "nodes/n0/gpus"
        assert await names(fs, at) == ["0", "1", "2"]
        told = [await said(fs, f"{at}/0/{name}") for name in ("model", "alias", "uuid", "memory", "groups")]
        assert told == ["GTX 1070\n", "gtx\n", "GPU-0\n", "8GiB\n", "b\n"]
        assert await said(fs, f"{at}/1/groups") == "a\nb\n"
        others = service.files(drive.engine, service.bob)  # everybody sees whose it is
        had = [await facts(others, f"{at}/{index}/job") for index in range(3)]
        assert [each for each in had if each] == [
            {"id": str(job), "user": "ann", "title": "Mine", "state": "STARTING", "request": "[gtx]"}
        ]
        status = await facts(fs, "nodes/n0/status")
        assert (status["gpus"], status["gpus_free"], status["processes"], status["groups"]) == ("3", "2", "1", "a b")

    tree(main)


def test_a_gpu_tells_what_it_does_while_its_node_is_there(tree):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        there = decode_gpus(GPUS)
        reading = GpuReading(37, 61, 3 << 30, {72: None, 71: 3 << 30})
        ill = replace(there[1], ill="it is lost")
        await drive.engine.gpus(node.id, (there[0], ill), {"GPU-0": reading})
        at = "nodes/n0/gpus"
        files = ("health", "util", "temperature", "memory_used", "processes")
        assert [await said(fs, f"{at}/0/{name}") for name in files] == [
            "ok\n",
            "37%\n",
            "61C\n",
            "3GiB\n",
            "71 3GiB\n72\n",
        ]
        assert [await said(fs, f"{at}/1/{name}") for name in files] == ["it is lost\n", "", "", "", ""]
        assert await said(fs, f"{at}/2/health") == "its node does not tell of it any more\n"
        assert sorted(await names(fs, f"{at}/0")) == sorted(TEXTS)
        status = await facts(fs, "nodes/n0/status")
        assert (status["gpus"], status["gpus_free"]) == ("3", "1")
        assert "gpus 1 of 3 free" in await said(fs, "status")
        node.leaves()
        assert await said(fs, f"{at}/0/util") == ""

    tree(main)


def test_a_job_that_is_over_tells_what_it_did_with_its_gpus_on_average(tree):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS[:1])
        await drive.engine.gpus(node.id, decode_gpus(GPUS[:1]), {"GPU-0": GpuReading(37, 61, 2 << 30)})
        job = await drive.submit("command: x\nresources: '[gtx]'\n")
        (task,) = await node.starts()
        await node.runs(task.task_id)
        drive.service.now_ns += 10**9
        assert not {"gpu_util_mean", "gpu_memory_mean"} & (await facts(fs, f"jobs/{job}/status")).keys()
        await node.ends(task.task_id)
        await drive.until(job, State.SUCCEEDED)
        status = await facts(fs, f"jobs/{job}/status")
        assert (status["gpu_util_mean"], status["gpu_memory_mean"]) == ("37%", "25%")
        others = drive.service.files(drive.engine, drive.service.bob)  # everybody sees what it did
        [row] = jobs_of(await said(others, "status"))
        assert (row["gpu_util_mean"], row["gpu_memory_mean"], row["place"]) == ("37%", "25%", "n0[cuda 0]")

    tree(main)


def test_an_instance_of_a_divided_gpu_has_a_number_of_its_own(tree):
    async def main(drive, fs):
        parts = [NodeGpu(f"MIG-{number}", 0, "H200 MIG 1g.18gb", 1 << 30, number, "GPU-0") for number in range(2)]
        node = await drive.attach(gpus=[*encode_gpus(parts), GPUS[1]])
        assert await names(fs, "nodes/n0/gpus") == ["0.0", "0.1", "1"]
        await drive.engine.set_policy(Policy(aliases={"slice": parts[0].model}))
        job = await drive.submit("command: x\nresources: '[slice]'\n")
        await node.starts(1)
        assert "[cuda 0.0]" in await said(fs, f"jobs/{job}/status")
        assert (await said(fs, f"jobs/{job}/processes/0.0/gpus")) == "0.0 MIG-0 H200 MIG 1g.18gb\n"

    tree(main)


def test_who_may_drains_a_node_by_its_ctl_and_all_see_why(tree, service):
    async def main(drive, fs):
        node = await drive.attach()
        await drive.submit()
        (task,) = await node.starts(1)
        admin = service.files(drive.engine, service.admin)
        assert await said(fs, "nodes/n0/ctl") == HELP
        for text, kind in (("drain\n", Kind.FORBIDDEN), ("resume\n", Kind.FORBIDDEN), ("reboot\n", Kind.INVALID)):
            with pytest.raises(PfsError) as caught:
                await tell(fs, "nodes/n0/ctl", text)
            assert caught.value.kind is kind
        await tell(admin, "nodes/n0/ctl", "drain new disk\n")
        assert await said(fs, "nodes/n0/state") == "DRAINING\n"
        status = await facts(fs, "nodes/n0/status")
        assert (status["closed"], status["closed_since"]) == ("drained by root: new disk", "2023-11-14T22:13:20Z")
        await node.ends(task.task_id)
        assert await said(fs, "nodes/n0/state") == "DRAINED\n"
        assert " DRAINED " in await said(fs, "status")
        await tell(admin, "nodes/n0/ctl", "resume\n")
        assert await said(fs, "nodes/n0/state") == "ONLINE\n"
        assert "closed" not in await facts(fs, "nodes/n0/status")

    tree(main)


def test_the_ctl_of_a_node_is_for_all_its_machines_and_that_of_a_further_one_for_it_alone(tree, service):
    async def main(drive, fs):
        await drive.attach()
        await drive.attach(id="cmn0.2")
        admin = service.files(drive.engine, service.admin)

        async def states():
            return await said(fs, "nodes/n0/state"), await said(fs, "nodes/n0/instances/2/state")

        await tell(admin, "nodes/n0/instances/2/ctl", "drain\n")
        assert await states() == ("ONLINE\n", "DRAINED\n")
        await tell(admin, "nodes/n0/ctl", "drain\n")
        assert await states() == ("DRAINED\n", "DRAINED\n")
        await tell(admin, "nodes/n0/ctl", "resume\n")
        assert await states() == ("ONLINE\n", "ONLINE\n")

    tree(main)


def test_a_node_without_gpus_has_no_directory_of_them(tree):
    async def main(drive, fs):
        await drive.attach()
        assert await names(fs, "nodes/n0") == ["attrs", "ctl", "state", "status"]

    tree(main)


def test_a_node_is_online_then_suspect_then_unknown_and_offline_at_last(tree, service):
    async def main(drive, fs):
        node = await drive.attach()
        assert (await said(fs, "nodes/n0/state"), "heard" in await facts(fs, "nodes/n0/status")) == ("ONLINE\n", False)
        node.leaves()
        assert await said(fs, "nodes/n0/state") == "SUSPECT\n"
        service.now_ns += 61 * 10**9
        assert await said(fs, "nodes/n0/state") == "UNKNOWN\n"
        assert (await facts(fs, "nodes/n0/status"))["heard"] == "2023-11-14T22:13:20Z"
        service.now_ns += 24 * 3600 * 10**9
        assert await said(fs, "nodes/n0/state") == "OFFLINE\n"

    tree(main)


def test_aliases_are_files(tree):
    async def main(drive, fs):
        assert await names(fs, "aliases") == ["gtx"]
        assert await said(fs, "aliases/gtx") == "GTX 1070\n"
        await drive.engine.set_policy(Policy())
        assert await names(fs, "aliases") == []

    tree(main)


# ---- the cluster


def test_me_tells_who_one_is(tree, service):
    async def main(drive, fs):
        assert await said(fs, "me") == "name ann\nadmin no\ngroups\nautoshare\n"
        other = service.files(drive.engine, Subject("eve", admin=True, groups=frozenset({"b", "a"})))
        assert await said(other, "me") == "name eve\nadmin yes\ngroups a b\nautoshare\n"

    tree(main)


def rows(text: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell] for line in text.splitlines()]


def test_the_queue_names_the_waiting_jobs_in_order_with_their_reasons_to_everybody(tree, service):
    async def main(drive, fs):
        low = await drive.submit("command: x\ntitle: Low\npriority: 10\nprivate: true\n")
        high = await drive.submit("command: x\ntitle: High  one\nresources: '2:[]'\n")
        held = await drive.submit("command: x\nhold: true\n")
        other = service.files(drive.engine, service.bob)
        header, first, second = [[cell.strip() for cell in row] for row in rows(await said(other, "queue"))]
        assert header == ["PLACE", "JOB", "USER", "PRIORITY", "REQUEST", "EARLIEST START", "TITLE", "WHY"]
        assert first[:7] == ["1", str(high), "ann", "50", "2:[]", "-", "High one"]
        assert second[:7] == ["2", str(low), "ann", "10", "[]", "-", "Low"]
        assert "no node" in first[7]
        assert str(held) not in [first[1], second[1]]

    tree(main)


def test_the_tasks_of_an_array_take_one_line_while_they_wait(tree):
    async def main(drive, fs):
        array = await drive.submit("command: x\ntitle: Many\narray: 3-22\n")
        after = await drive.submit("command: x\n", name="after")
        for path, title in (("queue", 6), ("status", -1)):
            lines = [[cell.strip() for cell in row] for row in rows(await said(fs, path))]
            found = [line for line in lines if str(array + 1) in line or str(after) in line]
            assert [line[title] for line in found] == ["Many[3] and 19 more tasks", "after"]

    tree(main)


def test_status_is_the_cluster_in_one_screen_and_pit_can_read_it(tree, service):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        running = await drive.submit("command: x\nresources: '[2:gtx]'\ntitle: Runs\n")
        await node.starts(1)
        waiting = await drive.submit("command: x\nresources: '[3:gtx]'\n", name="big")
        held = await drive.submit("command: x\nhold: true\n", name="held")
        done = await drive.submit("command: x\n", name="done")
        await node.starts(2)
        await node.ends(f"{done}.1.0.0", code=1)
        text = await said(service.files(drive.engine, service.bob), "status")
        assert text.startswith("nodes 1 of 1 online\ngpus 1 of 3 free\njobs 1 running, 2 waiting\n")
        assert "\nn0    ONLINE  3     1     1 " in text
        jobs = jobs_of(text)
        assert [(job["id"], job["state"]) for job in jobs] == [
            (str(running), "STARTING"),
            (str(waiting), "WAITING"),
            (str(held), "WAITING"),
            (str(done), "FAILED"),
        ]
        assert (jobs[0]["place"], jobs[0]["title"], jobs[1]["request"]) == ("n0[cuda 0-1]", "Runs", "[3:gtx]")
        assert (jobs[3]["place"], jobs[3]["changed"]) == ("n0[]", "2023-11-14T22:13:20Z")
        assert [job["request"] for job in jobs] == ["[2:gtx]", "[3:gtx]", "[]", "[]"]  # also where there is a place

    tree(main)


def test_without_anything_status_and_queue_are_there(tree):
    async def main(drive, fs):
        assert "jobs 0 running, 0 waiting\n" in await said(fs, "status")
        assert (await said(fs, "queue")).count("\n") == 1
        assert jobs_of(await said(fs, "status")) == []

    tree(main)


def test_every_path_that_a_listing_names_is_there_as_the_same_thing_and_shows_its_size(tree):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        await drive.submit(GANG)
        await drive.submit("command: x\narray: 0-1\n")
        await node.starts(3)
        await node.ends("1.1.0.0", code=1)
        seen = 0
        for top in ("jobs", "nodes", "aliases"):
            async for path, listed in all_paths(fs, top):
                now = await fs.getattr(path)
                assert (now.node_id, now.type, now.stream) == (listed.node_id, listed.type, listed.stream), path
                if listed.type is NodeType.FILE and not listed.stream:
                    assert len(await text_of(fs, path)) == listed.size, path
                seen += 1
        assert seen > 60

    tree(main)


def test_time_alone_changes_no_text(tree, service):
    async def main(drive, fs):
        node = await drive.attach(gpus=GPUS)
        await drive.submit(GANG + "max_duration: 1h\n")
        await drive.submit("command: x\nresources: '[3:gtx]'\n")
        await node.starts(3)
        paths = []
        for top in ("jobs", "nodes"):
            async for path, attr in all_paths(fs, top):
                if attr.type is NodeType.FILE and not attr.stream:
                    paths.append(path)

        async def texts() -> dict[str, bytes]:
            return {path: await text_of(fs, path) for path in (*paths, "queue", "status")}

        for late, away in ((False, False), (True, False), (False, True)):
            if late:  # what was waited for should have happened, and has not
                service.now_ns += 7200 * 10**9
                drive.engine.heard(node.id)
            if away:
                node.leaves()
            before = await texts()
            service.now_ns += 7 * 10**9
            assert await texts() == before

    tree(main)


def test_the_directory_of_a_job_that_is_over_need_not_be_asked_for_again_at_once(tree):
    async def main(drive, fs):
        live, over = await drive.submit(name="live"), await drive.submit(name="over")
        await command(fs, over, "kill\n")
        listed = {entry.name: entry.attr for entry in await fs.listdir("jobs")}
        for job, holds in ((live, False), (over, True)):
            attr = await fs.getattr(f"jobs/{job}")
            assert (attr.valid_s > 0, attr.volatile) == (holds, not holds)
            told = listed[str(job)]
            # what a listing tells holds for the kernel, which asks for thousands right afterwards
            assert (told.valid_s > 0, told.volatile) == (True, not holds)
            assert replace(told, valid_s=attr.valid_s) == attr
        names = await fs.getattr("jobs")
        assert names.volatile  # new names are seen at once
        array = await drive.submit("command: x\narray: 0-1\nhold: true\n")
        assert {entry.attr.valid_s for entry in await fs.listdir(f"jobs/{array}/tasks")} == {LISTED_VALID_S}

    tree(main)


def test_a_walk_through_a_job_that_is_over_looks_it_up_once_and_never_after_its_removal(tree, service, monkeypatch):
    async def main(drive, fs):
        job = await drive.submit()
        await command(fs, job, "kill\n")
        real, looked_up = service.store.job, []

        async def look_up(job_id):
            looked_up.append(job_id)
            return await real(job_id)

        monkeypatch.setattr(service.store, "job", look_up)
        with drive.engine.ledger.removing():
            pass  # as when it ended long ago
        for name in ("state", "status", "why"):
            await said(fs, f"jobs/{job}/{name}")
        assert looked_up == [job]
        await fs.rmdir(f"jobs/{job}")
        with pytest.raises(PfsError) as caught:
            await fs.getattr(f"jobs/{job}")
        assert caught.value.kind is Kind.NOT_FOUND

    tree(main)
