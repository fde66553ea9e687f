"""`jobs/by-state/`, `by-user/`, `by-node/`: every job where one looks for it, as long as it belongs there."""

from dataclasses import replace

import pytest

from jobd.life.life import State
from jobd.store import jobs as jobs_of_store
from jobd.store.jobs import DAY_NS, LISTED_DAYS
from pfs.errors import Kind
from pfs.perm import Subject
from pfs.tree.service import TreeFileSystem
from tests.jobd.engine.drive import Drive, refusal

from .test_tree import GANG, GPUS, command, names, tree  # noqa: F401  (a fixture)

ENDED = "jobs/by-state/CANCELLED"


async def where(fs: TreeFileSystem, job: int) -> set[str]:
    """Return the directories in which a job is listed."""
    found = set()
    for view in ("by-state", "by-user", "by-node"):
        for answer in await names(fs, f"jobs/{view}"):
            if str(job) in await names(fs, f"jobs/{view}/{answer}"):
                assert await fs.readlink(f"jobs/{view}/{answer}/{job}") == f"../../{job}"
                found.add(f"{view}/{answer}")
    return found


def test_a_job_is_where_it_stands_under_its_user_and_on_its_nodes_and_nowhere_else(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job = await drive.submit(GANG)
        assert await where(fs, job) == {"by-state/WAITING", "by-user/ann"}
        node = await drive.attach(gpus=GPUS)
        await drive.attach("n1")
        tasks = [task.task_id for task in await node.starts(3)]
        assert await where(fs, job) == {"by-state/STARTING", "by-user/ann", "by-node/n0"}
        await node.runs(*tasks)
        assert await where(fs, job) == {"by-state/RUNNING", "by-user/ann", "by-node/n0"}
        assert await refusal(fs.getattr(f"jobs/by-state/STARTING/{job}")) is Kind.NOT_FOUND
        await node.ends(*tasks)
        await drive.until(job, State.SUCCEEDED)
        assert await where(fs, job) == {"by-state/SUCCEEDED", "by-user/ann", "by-node/n0"}
        await fs.rmdir(f"jobs/{job}")
        assert await where(fs, job) == set()

    tree(main)


def test_a_link_leads_into_the_job_and_shows_when_that_changed_last(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job = await drive.submit()
        path = f"jobs/by-user/ann/{job}"
        assert await fs.follow(f"{path}/why") == f"jobs/{job}/why"
        [entry] = await fs.listdir("jobs/by-user/ann")
        assert entry.attr.mtime_ns == (await fs.getattr(f"jobs/{job}")).mtime_ns
        assert (await fs.getattr(path)).node_id == entry.attr.node_id
        service.now_ns += 10**9
        await command(fs, job, "kill\n")
        assert (await fs.getattr(f"{ENDED}/{job}")).mtime_ns == service.now_ns

    tree(main)


def test_every_state_and_every_node_has_a_directory_and_oneself(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        await drive.attach()
        await drive.attach(id="cmn0.2")
        assert await names(fs, "jobs/by-state") == list(State)
        assert await names(fs, "jobs/by-node") == ["n0"]
        assert await names(fs, "jobs/by-user") == ["ann"]
        for path in ("by-state/running", "by-user/bob", "by-node/n7", "by-state/RUNNING/1", "by-user/ann/x"):
            assert await refusal(fs.getattr(f"jobs/{path}")) is Kind.NOT_FOUND
        for path in ("by-state/running", "by-user/bob", "by-node/n7"):
            assert await refusal(fs.listdir(f"jobs/{path}")) is Kind.NOT_FOUND

    tree(main)


def test_the_tasks_of_an_array_are_on_their_nodes_while_they_are_there_and_the_array_stands_for_them(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        array = await drive.submit("command: x\narray: 0-1\n")
        node = await drive.attach()
        first, second = [task.task_id for task in await node.starts(2)]
        await node.runs(first, second)
        await drive.until(array, State.RUNNING)
        assert await names(fs, "jobs/by-state/RUNNING") == [str(array)]
        assert await names(fs, "jobs/by-user/ann") == [str(array)]
        assert await names(fs, "jobs/by-node/n0") == [str(array + 1), str(array + 2)]
        await node.ends(first)
        assert await names(fs, "jobs/by-node/n0") == [str(array + 2)]
        assert await refusal(fs.getattr(f"jobs/by-node/n0/{array + 1}")) is Kind.NOT_FOUND

    tree(main)


def test_a_job_that_one_may_not_read_is_in_no_view(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job, over = await drive.submit(), await drive.submit(name="b")
        node = await drive.attach()
        await node.starts(2)
        await command(fs, over, "kill\n")
        await drive.engine.share(replace(service.ann, groups=frozenset({"ml"})), job, frozenset({"ml"}))
        bob = service.files(drive.engine, service.bob)
        mel = service.files(drive.engine, Subject("mel", groups=frozenset({"ml"})))
        assert await where(bob, job) == await where(bob, over) == await where(mel, over) == set()
        assert await where(mel, job) == {"by-state/STARTING", "by-user/ann", "by-node/n0"}
        assert await where(service.files(drive.engine, service.admin), over)
        for path in (f"by-state/STARTING/{job}", f"by-node/n0/{job}", "by-user/ann", f"by-user/ann/{job}"):
            assert await refusal(bob.getattr(f"jobs/{path}")) is Kind.NOT_FOUND
        assert await names(bob, "jobs/by-user") == ["bob"]

    tree(main)


def test_nothing_is_made_or_removed_in_a_view(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job = await drive.submit()
        at = "jobs/by-user/ann"
        for asked in (
            fs.symlink(f"{at}/x", "y"),
            fs.mkdir(f"{at}/x", 0o755),
            fs.unlink(f"{at}/{job}"),
            fs.rmdir(at),
            fs.rmdir("jobs/by-user"),
        ):
            assert await refusal(asked) is Kind.FORBIDDEN
        assert await refusal(fs.unlink("jobs/by-user")) is Kind.IS_DIR
        assert await names(fs, at) == [str(job)]

    tree(main)


def test_what_ended_long_ago_is_listed_no_more_and_can_be_entered(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        old = await drive.submit()
        await command(fs, old, "kill\n")
        assert await names(fs, ENDED) == [str(old)]
        service.now_ns += (LISTED_DAYS + 1) * 86_400 * 10**9
        assert await names(fs, ENDED) == await names(fs, "jobs/by-user/ann") == []
        assert await fs.readlink(f"{ENDED}/{old}") == f"../../{old}"

    tree(main)


@pytest.mark.parametrize("path", ["jobs/by-state/WAITING", "jobs/by-user/ann", ENDED])
def test_of_many_the_newest_are_listed(tree, monkeypatch, path):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        for module in ("jobd.store.jobs", "jobd.files.views"):
            monkeypatch.setattr(f"{module}.JOBS_LISTED_MAX", 3)
        jobs = [await drive.submit(name=f"j{n}") for n in range(5)]
        for job in jobs if path == ENDED else ():
            await command(fs, job, "kill\n")
        assert await names(fs, path) == [str(job) for job in jobs[-3:]]

    assert jobs_of_store.JOBS_LISTED_MAX == 10_000
    tree(main)


def test_who_lists_jobs_that_are_over_has_none_of_them_looked_up_for_that(tree, service, monkeypatch):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        jobs = [await drive.submit(name=f"j{n}") for n in range(3)]
        for job in jobs:
            await command(fs, job, "kill\n")
        looked_up = []
        real = service.store.job

        async def look_up(job_id: int) -> object:
            looked_up.append(job_id)
            return await real(job_id)

        monkeypatch.setattr(service.store, "job", look_up)
        bob = service.files(drive.engine, service.bob)
        assert await names(fs, ENDED) == [str(job) for job in jobs]
        for job in jobs:
            await fs.readlink(f"{ENDED}/{job}")
            assert await refusal(bob.readlink(f"{ENDED}/{job}")) is Kind.NOT_FOUND
        assert len(looked_up) <= len(jobs)  # by bob, who was told nothing
        await fs.rmdir(f"jobs/{jobs[0]}")
        assert await refusal(fs.readlink(f"{ENDED}/{jobs[0]}")) is Kind.NOT_FOUND

    tree(main)


def test_what_stands_where_is_told_from_memory_while_it_is_not_over(tree, service, monkeypatch):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        jobs = [await drive.submit(name=f"j{n}") for n in range(3)]
        before = await names(fs, "jobs/by-state/WAITING")

        async def unasked(*_: object) -> None:
            raise AssertionError("the database was asked for all jobs")

        monkeypatch.setattr(service.store, "listed", unasked)
        assert await names(fs, "jobs/by-state/WAITING") == before == [str(job) for job in jobs]
        for job in jobs:
            await fs.getattr(f"jobs/by-user/ann/{job}")

    tree(main)


def test_listings_tell_where_links_of_the_server_lead_and_not_where_a_users_own_do(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job = await drive.submit(name="a")
        await fs.symlink("jobs/.lock", "elsewhere")
        targets = {entry.name: entry.target for entry in await fs.listdir("jobs")}
        assert (targets["a"], targets[".lock"], targets[str(job)]) == (str(job), None, None)
        assert [entry.target for entry in await fs.listdir("jobs/by-user/ann")] == [f"../../{job}"]

    tree(main)


def test_a_listing_is_looked_up_again_only_after_something_has_changed(tree, service, monkeypatch):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        real, asked = service.store.listed, []

        async def listed(*args):
            asked.append(args)
            return await real(*args)

        monkeypatch.setattr(service.store, "listed", listed)

        async def shown() -> tuple[list[str], int]:
            asked.clear()
            found = [name for name in await names(fs, "jobs") if name.isdigit()]
            assert await names(fs, "jobs/by-user/ann") == found
            return found, len(asked)

        await drive.submit()
        assert [await shown(), await shown()] == [(["1"], 1), (["1"], 0)]
        await drive.submit()
        assert await shown() == (["1", "2"], 1)
        await command(fs, 1, "kill\n")
        assert await shown() == (["1", "2"], 1)
        await fs.rmdir("jobs/1")
        assert await shown() == (["2"], 1)
        service.now_ns += DAY_NS  # what ended long ago is listed no more, though nothing has changed
        assert await shown() == (["2"], 1)

    tree(main)
