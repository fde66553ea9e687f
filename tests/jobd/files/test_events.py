"""`events`: what happened to all jobs and nodes, a line each, for everybody, from the first day that is kept on."""

import re

import pytest

from jobd.life.life import State
from jobd.store.nodes import Policy
from pfs.api import OpenFlags
from pfs.errors import Kind
from pfs.tree.service import TreeFileSystem
from tests.jobd.engine.drive import Drive, driving, refusal

from .test_tree import GANG, GPUS, command, said, tell, tree  # noqa: F401  (a fixture)

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


async def told(fs: TreeFileSystem) -> list[str]:
    """Return the lines of the history after its first one, without their times."""
    lines = (await said(fs, "events")).splitlines()
    assert all(re.match(f"{MOMENT} [A-Z]|{MOMENT} events begin here", line) for line in lines)
    return [line.split(" ", 1)[1] for line in lines][1:]


def test_the_life_of_a_job_is_told_to_everybody_with_what_the_queue_shows_of_it(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job = await drive.submit(GANG.replace("groups:", "private: true\ngroups:").replace("A gang", "A  gang"))
        node = await drive.attach(gpus=GPUS)
        tasks = [task.task_id for task in await node.starts(3)]
        await node.runs(*tasks)
        await command(fs, job, "kill\n")
        await node.stops(*tasks)
        await node.ends(*tasks, code=143)
        await drive.until(job, State.CANCELLED)
        asked, on = "request=2:[gtx],[]", "on=n0[cuda 0-1]"
        lines = [line for line in await told(service.files(drive.engine, service.bob)) if "job=" in line]
        assert lines[-5:] == [
            f"WAITING job={job} user=ann {asked} title=A gang",
            *(f"{state} job={job} user=ann {on} title=A gang" for state in ("STARTING", "RUNNING", "STOPPING")),
            f"CANCELLED job={job} user=ann {on} title=A gang",
        ]
        assert all(line.split()[0] in ("PENDING", "PREPARING") for line in lines[:-5])

    tree(main)


def test_a_job_is_told_of_anew_when_its_processes_change(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        node = await drive.attach(gpus=GPUS, runtimes=["docker"])
        fields = "min_instance: 1\nmax_instance: 2\npservers: 1\ngpu: 1\nfaulttolerant: true"
        job = await drive.submit(f"entry: x\nimage: paddle\n{fields}\n")
        for task in (f"{job}.1.1.0", f"{job}.1.0.0", f"{job}.1.0.1"):
            await node.heard(lambda link, task=task: task in {each.task_id for each in link.started})
            await node.runs(task)
        await node.ends(f"{job}.1.0.1", code=1)
        lines = [line for line in await told(fs) if f"job={job} " in line and " on=" in line]
        states = [line.partition(" ")[0] for line in lines]
        assert states.count("RUNNING") + states.count("STARTING") == 4
        assert re.search(r"on=n0\[cuda \d\] ", lines[0])
        assert re.search(r"^RUNNING .* on=n0\[cuda 0-1\] ", lines[-2])
        assert lines[-1] == lines[-2], "the one that failed is replaced in its place"

    tree(main)


def test_the_tasks_of_an_array_are_told_of_from_their_places_on(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        array = await drive.submit("command: x\ntitle: Many\narray: 3,5\n")
        node = await drive.attach()
        first, _ = [task.task_id for task in await node.starts(2)]
        await node.runs(first)
        await node.ends(first, code=1)
        lines = [line for line in await told(fs) if f"job={array + 1} " in line]
        assert lines == [
            f"{state} job={array + 1} array={array} user=ann on=n0[] title=Many[3]"
            for state in ("STARTING", "RUNNING", "FAILED")
        ]
        assert f"RUNNING job={array} user=ann request=[] title=Many" in await told(fs)

    tree(main)


def test_nodes_come_are_drained_fall_silent_and_come_back(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        admin = service.files(drive.engine, service.admin)
        _, node, task = await drive.one_runs()
        await tell(admin, "nodes/n0/ctl", "drain new disk\n")
        await node.ends(task)
        await drive.quiet()
        await tell(admin, "nodes/n0/ctl", "resume\n")
        node.leaves()
        for later_s in (16, 45):
            await drive.quiet()
            service.now_ns += later_s * 10**9
        await drive.quiet()
        await drive.attach()
        why = "why=drained by root: new disk"
        assert [line for line in await told(fs) if "node=" in line] == [
            "ONLINE node=n0",
            f"DRAINING node=n0 {why}",
            f"DRAINED node=n0 {why}",
            "ONLINE node=n0",
            "SUSPECT node=n0",
            "UNKNOWN node=n0",
            "ONLINE node=n0",
        ]

    tree(main)


def test_nothing_is_told_where_no_state_changes(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        node = await drive.attach()
        job = await drive.submit("command: x\nhold: true\n")
        await drive.quiet()
        before = await said(fs, "events")
        await command(fs, job, "priority 7\n")
        drive.engine.heard(node.id)
        await drive.engine.set_policy(Policy(aliases={"x": "GTX"}))
        await drive.quiet()
        assert await said(fs, "events") == before

    tree(main)


def test_it_grows_while_it_is_open_and_nobody_writes_to_it(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        file = await fs.open("events", OpenFlags.READ, 0)
        before = await file.getattr()
        assert await file.read(before.size, 1 << 16) == b""
        job = await drive.submit()
        assert f" job={job} ".encode() in await file.read(before.size, 1 << 16)
        after = await file.getattr()
        assert after.size > before.size
        assert (after.size, after.node_id) == ((await fs.getattr("events")).size, before.node_id)
        for flags in (OpenFlags.WRITE, OpenFlags.READ | OpenFlags.TRUNCATE):
            assert await refusal(fs.open("events", flags, 0)) is Kind.DENIED

    tree(main)


def test_what_was_dropped_while_it_was_open_is_stale(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        file = await fs.open("events", OpenFlags.READ, 0)
        service.history._size_bytes_max = 1000
        for number in range(20):
            service.history.add(service.now_ns, f"NOTE {number:080}")
            await service.history.settle()
        assert await refusal(file.read(0, 10)) is Kind.STALE
        end = (await file.getattr()).size
        assert (await file.read(end - 5, 10)).decode() == "0019\n"
        assert (await fs.getattr("events")).node_id != file.attr.node_id

    tree(main)


@pytest.mark.parametrize("cut", [True, False])
def test_what_a_crash_kept_from_being_told_is_told_by_the_next_server(service, run, cut):
    async def main() -> None:
        async with driving(service) as drive:
            first, second = await drive.submit(), await drive.submit(name="b")
            await drive.quiet()
            await service.history.settle()
            service.now_ns += 10**9
            if not cut:
                service.history.add(service.now_ns + 1, "SERVER is told of everything")
            await drive.engine.kill(service.ann, first)
            await drive.engine.hold(service.ann, second)  # no change of its state
            service.history._new = [line for line in service.history._new if " SERVER " in line]
            await service.history.settle()
        async with driving(service) as drive:
            await service.recorder.catch_up(service.store, service.now_ns)
            [*before, cancelled, started] = await told(service.files(drive.engine, service.ann))
            assert started == "SERVER started"
            assert (cancelled == f"CANCELLED job={first} user=ann request=[] title=a") is cut
            assert sum(f"job={first} " in line for line in [*before, cancelled]) == 1 + cut

    run(main)


def test_a_history_that_has_just_begun_tells_nothing_of_what_was_before(service, run):
    async def main() -> None:
        async with driving(service) as drive:
            await drive.engine.kill(service.ann, await drive.submit())
            await drive.submit(name="waits")
            await service.history.settle()
        (service.root / "server/events").unlink()
        async with driving(service) as drive:
            await service.recorder.catch_up(service.store, service.now_ns)
            assert await told(service.files(drive.engine, service.ann)) == ["SERVER started"]

    run(main)
