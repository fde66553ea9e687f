"""Whom a job's key proves, what it opens, and when that ends."""

from contextlib import asynccontextmanager

import pytest
import trio

from jobd.engine.jobkeys import job_key
from jobd.engine.jobmounts import JobMounts
from jobd.files.jobview import job_view
from jobd.life.life import State
from pfs.accounts.store import Identity, KeyKind
from pfs.api import OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.service import TreeFileSystem
from tests.jobd.engine.drive import Drive, driving

WRITE = OpenFlags.WRITE | OpenFlags.CREATE


def mounts_of(drive: Drive) -> JobMounts:
    return JobMounts(drive.engine.ledger, drive.service.place, drive.service.accounts.user, known)


async def known(key: str) -> Identity:
    """Tell whose any other key is."""
    return Identity(KeyKind.USER, Subject(key))


def key_of(drive: Drive, job: int, attempt: int = 1) -> str:
    place = drive.service.place
    return job_key(place.endpoint, place.secret, job, attempt)


async def started(drive: Drive, text: str = "command: x\n", **more):
    job = await drive.submit(text, **more)
    node = await drive.attach(attrs={"mounts": True})
    (task,) = await node.starts()
    return job, node, task


def view(drive: Drive, subject: Subject) -> TreeFileSystem:
    seen = job_view(mounts_of(drive), drive.service.disk, drive.service.accounts.user, subject)
    return TreeFileSystem(seen, drive.service.disk, subject)


def test_a_node_that_mounts_is_given_the_key_of_the_job_and_one_with_the_data_root_is_not(service, run):
    async def main():
        async with driving(service) as drive:
            job, _, task = await started(drive)
            assert task.key == key_of(drive, job)
            other = await drive.submit("{command: x, nodes: [n11]}\n", name="b")
            direct = await drive.attach("n11")
            (task,) = await direct.starts()
            assert task.key is None
            assert task.task_id.startswith(f"{other}.")

    run(main)


def test_a_key_acts_for_the_owner_in_the_name_of_the_job_while_it_runs(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await started(drive)
            mounts = mounts_of(drive)
            found = await mounts.identify(key_of(drive, job))
            assert (found.kind, found.subject.user, found.subject.job) == (KeyKind.JOB, "ann", job)
            await node.runs(task.task_id)
            await node.ends(task.task_id)
            await drive.until(job, State.SUCCEEDED)
            with pytest.raises(PfsError, match="does not run any more") as refused:
                await mounts.identify(key_of(drive, job))
            assert refused.value.kind is Kind.UNAUTHENTICATED

    run(main)


def test_a_job_of_an_administrator_is_none(service, run):
    async def main():
        async with driving(service) as drive:
            job, *_ = await started(drive, user=service.admin)
            assert not (await mounts_of(drive).identify(key_of(drive, job))).subject.admin

    run(main)


def test_the_key_of_another_attempt_opens_nothing(service, run):
    async def main():
        async with driving(service) as drive:
            job, *_ = await started(drive)
            with pytest.raises(PfsError, match="does not run any more"):
                await mounts_of(drive).identify(key_of(drive, job, attempt=2))

    run(main)


def test_any_other_key_is_somebody_elses_to_tell(service, run):
    async def main():
        async with driving(service) as drive:
            assert (await mounts_of(drive).identify("pfs1.x.abc")).subject.user == "pfs1.x.abc"

    run(main)


def test_a_mount_is_cut_off_when_its_job_is_over(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await started(drive)
            closed = trio.Event()

            class Channel:
                async def close(self) -> None:
                    closed.set()

            @asynccontextmanager
            async def talk(identity, channel):
                yield "handler"

            conversation = mounts_of(drive).conversation(talk)
            subject = Subject("ann", job=job)
            async with conversation(Identity(KeyKind.JOB, subject), Channel) as handler:
                assert handler == "handler"
                await drive.quiet()
                assert not closed.is_set()
                await node.runs(task.task_id)
                await node.ends(task.task_id)
                with trio.fail_after(5):
                    await closed.wait()

    run(main)


def test_a_job_sees_its_volumes_and_nothing_else(service, run):
    async def main():
        async with driving(service) as drive:
            job, *_ = await started(drive)
            files = view(drive, Subject("ann", job=job))
            assert [entry.name for entry in await files.listdir("")] == ["home", "jobs", "shared"]
            assert [entry.name for entry in await files.listdir("home")] == ["ann"]
            assert [entry.name for entry in await files.listdir("jobs")] == [str(job)]
            assert [entry.name for entry in await files.listdir(f"jobs/{job}")] == ["data"]
            assert {"src", "keep", "out", "tmp"} == {e.name for e in await files.listdir(f"jobs/{job}/data")}
            for path in ("home/bob", "queue", "nodes", f"jobs/{job}/log", f"jobs/{job}/logs", "jobs/1000"):
                with pytest.raises(PfsError) as refused:
                    await files.getattr(path)
                assert refused.value.kind is Kind.NOT_FOUND, path

    run(main)


def test_a_job_writes_to_its_owners_home_and_its_own_data_and_not_to_what_is_shared(service, run):
    async def main():
        async with driving(service) as drive:
            job, *_ = await started(drive)
            files = view(drive, Subject("ann", job=job))
            for path in ("home/ann/x", f"jobs/{job}/data/out/x"):
                file = await files.open(path, WRITE, 0o644)
                assert await file.write(0, b"abc") == 3
                await file.release()
                assert (service.root / path).read_bytes() == b"abc"
            with pytest.raises(PfsError) as refused:
                await files.open("shared/x", WRITE, 0o644)
            assert refused.value.kind is Kind.DENIED

    run(main)


def test_what_a_job_sees_ends_with_it(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await started(drive)
            files = view(drive, Subject("ann", job=job))
            await node.runs(task.task_id)
            await node.ends(task.task_id)
            await drive.until(job, State.SUCCEEDED)
            await drive.quiet()
            with pytest.raises(PfsError) as refused:
                await files.listdir("home/ann")
            assert refused.value.kind is Kind.NOT_FOUND

    run(main)


def test_what_its_owner_lost_the_right_to_is_gone_and_the_rest_stays(service, run):
    service.disk.make_group_directory_now("groups/ml", service.accounts.join_now("ml", "ann"))
    (service.root / "groups/ml/x").write_text("ours")

    async def main():
        async with driving(service) as drive:
            ann = await service.accounts.user("ann")
            text = "{command: x, mounts: ['/pfs/dc1/groups/ml:/data']}\n"
            job, _, task = await started(drive, text, user=ann)
            assert [volume.target for volume in task.volumes if volume.source == "groups/ml"] == [
                "/pfs/dc1/groups/ml",
                "/data",
            ]
            fs = view(drive, (await mounts_of(drive).identify(key_of(drive, job))).subject)
            await (await fs.open("groups/ml/x", WRITE, 0)).release()
            service.accounts.leave_now("ml", "ann")
            fs = view(drive, (await mounts_of(drive).identify(key_of(drive, job))).subject)
            assert sorted(entry.name for entry in await fs.listdir("")) == ["home", "jobs", "shared"]
            with pytest.raises(PfsError) as refused:
                await fs.getattr("groups/ml/x")
            assert refused.value.kind is Kind.NOT_FOUND
            await (await fs.open("home/ann/y", WRITE, 0o644)).release()

    run(main)
