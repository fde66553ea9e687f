"""Jobs that were thrown away come back: with their files, their tasks and their names, for who may, and in time."""

import os
import time

import pytest

from jobd.engine.trash import TRASH_KEPT_S
from jobd.files.removal import restore
from jobd.life.life import State
from jobd.store.nodes import Policy
from pfs.errors import Kind, PfsError
from tests.jobd.engine.drive import driving

from .test_tree import command, names, said, text_of

ARRAY = "command: x\narray: 0-1\n"
NOW_NS = time.time_ns


@pytest.fixture
def tree(service, run):
    """Run an async test with a drive, and the tree as ann sees it."""

    def within(main):
        async def outer():
            async with driving(service) as drive:
                await main(drive, service.files(drive.engine, service.ann))

        run(outer)

    return within


async def thrown_away(drive, fs, text: str = "command: x\n", **more: str) -> int:
    job = await drive.submit(text, **more)
    await command(fs, job, "kill\n")
    await drive.until(job, State.CANCELLED)
    await fs.rmdir(f"jobs/{job}")
    return job


async def refused(service, drive, subject, named: str, now_ns: int | None = None) -> tuple[Kind, str]:
    with pytest.raises(PfsError) as caught:
        await restore(service.sources(drive.engine), subject, named, now_ns or NOW_NS())
    return caught.value.kind, caught.value.message


@pytest.mark.parametrize("named", ["1", "mine"])
def test_a_job_is_back_with_its_files_its_log_and_its_name(tree, service, named):
    async def main(drive, fs):
        job = await drive.submit("command: x\ntitle: Mine\n", name="mine")
        node = await drive.attach()
        await node.starts(1)
        (service.root / f"jobs/{job}/data/out/result").write_text("42")
        await node.ends(f"{job}.1.0.0", code=3)
        await drive.until(job, State.FAILED)
        before = await names(fs, "jobs"), await names(fs, f"jobs/{job}"), await text_of(fs, f"jobs/{job}/log.txt")
        of_node = await names(fs, "jobs/by-node/n0")
        await fs.rmdir(f"jobs/{job}")
        assert await names(fs, "jobs/by-node/n0") == await names(fs, "jobs/by-state/FAILED") == []
        assert await restore(service.sources(drive.engine), service.ann, named, NOW_NS()) == job
        assert before == (
            await names(fs, "jobs"),
            await names(fs, f"jobs/{job}"),
            await text_of(fs, f"jobs/{job}/log.txt"),
        )
        assert await text_of(fs, f"jobs/{job}/out/result") == b"42"
        assert (await said(fs, f"jobs/{job}/exit_code"), await said(fs, f"jobs/{job}/state")) == ("3\n", "FAILED\n")
        assert await names(fs, "jobs/by-node/n0") == of_node == [str(job)] == await names(fs, "jobs/by-state/FAILED")
        assert os.listdir(service.root / "server/trash") == []
        await fs.rmdir(f"jobs/{job}")  # it is a job like any other

    tree(main)


def test_an_array_is_back_with_its_tasks_and_no_task_alone(tree, service):
    async def main(drive, fs):
        array = await drive.submit(ARRAY)
        task = (await drive.engine.ledger.tasks(array))[1].id
        (service.root / f"jobs/{task}/data").mkdir(parents=True, exist_ok=True)
        (service.root / f"jobs/{task}/data/x").write_text("of the task")
        await command(fs, array, "kill\n")
        await drive.until(array, State.CANCELLED)
        await fs.rmdir(f"jobs/{array}")
        kind, text = await refused(service, drive, service.ann, str(task))
        assert (kind, text) == (Kind.FORBIDDEN, f"job {task} is a task of job {array}, and comes back with it")
        await restore(service.sources(drive.engine), service.ann, str(array), NOW_NS())
        assert await names(fs, f"jobs/{array}/tasks") == ["0", "1"]
        assert await said(fs, f"jobs/{task}/state") == "CANCELLED\n"
        assert (service.root / f"jobs/{task}/data/x").read_text() == "of the task"

    tree(main)


def test_what_is_not_in_the_trash_or_not_any_more_does_not_come_back(tree, service):
    async def main(drive, fs):
        job = await drive.submit(name="mine")
        assert await refused(service, drive, service.ann, str(job)) == (
            Kind.EXISTS,
            f"job {job} is not in the trash",
        )
        for nobody in ("99", "nonesuch", "9" * 40, ""):
            kind, text = await refused(service, drive, service.ann, nobody)
            assert (kind, text) == (Kind.NOT_FOUND, f"there is no job {nobody!r}, and none in the trash")
        old = await thrown_away(drive, fs, name="twice")
        new = await drive.submit(name="twice")
        kind, text = await refused(service, drive, service.ann, "twice")
        assert (kind, text) == (
            Kind.EXISTS,
            f"job {new} is not in the trash; of an older one called 'twice' say the number",
        )
        late_ns = NOW_NS() + int(TRASH_KEPT_S * 1e9)
        kind, text = await refused(service, drive, service.ann, str(old), late_ns)
        assert kind is Kind.NOT_FOUND
        assert "what is in the trash stays for 14 days" in text
        await restore(service.sources(drive.engine), service.ann, str(old), late_ns - 60 * 10**9)
        assert (await fs.readlink("jobs/twice")) == str(new)  # the name is the newest job's

    tree(main)


def test_a_job_is_brought_back_by_its_owner_and_administrators(tree, service):
    async def main(drive, fs):
        await drive.engine.set_policy(Policy(members={"ann": frozenset({"ml"}), "bob": frozenset({"ml"})}))
        job = await thrown_away(drive, fs)
        kind, text = await refused(service, drive, service.bob, str(job))
        assert (kind, text) == (Kind.NOT_FOUND, f"there is no job '{job}', and none in the trash")
        await service.store.share(job, {"ml"})
        fellow = type(service.bob)("bob", groups=frozenset({"ml"}))
        kind, text = await refused(service, drive, fellow, str(job))
        assert (kind, text) == (Kind.FORBIDDEN, f"job {job} belongs to ann; only they and admins bring it back")
        assert await restore(service.sources(drive.engine), service.admin, str(job), NOW_NS()) == job
        assert await said(fs, f"jobs/{job}/state") == "CANCELLED\n"

    tree(main)


def test_a_job_whose_files_came_back_before_the_server_was_killed_comes_back(tree, service):
    async def main(drive, fs):
        job = await thrown_away(drive, fs)
        await service.workshop.trash.bring_back(job)
        assert await service.store.removed_of([job]) == [job]
        await restore(service.sources(drive.engine), service.ann, str(job), NOW_NS())
        assert (service.root / f"jobs/{job}").is_dir()
        assert await said(fs, f"jobs/{job}/state") == "CANCELLED\n"

    tree(main)
