"""A listing of jobs comes again as it is, under the same tag, for as long as it is right and no longer."""

import pytest

from jobd.life.life import State
from pfs.api import Closing, OpenFlags, RenameMode
from pfs.errors import Kind
from pfs.tagged import Tagged
from pfs.tree.service import TreeFileSystem
from tests.jobd.engine.drive import Drive, refusal
from tests.jobd.files.test_drafts import drop

from .test_tree import command, tree  # noqa: F401  (a fixture)

LISTINGS = ("jobs", "jobs/by-state/WAITING", "jobs/by-user/ann", "jobs/by-node/n0")


async def tag(fs: TreeFileSystem, path: str = "jobs") -> str:
    listed = await fs.listdir(path)
    assert isinstance(listed, Tagged)
    return listed.tag


async def shown(fs: TreeFileSystem, path: str = "jobs") -> dict[str, tuple[int, int]]:
    """Return the names of a directory with what may change of them."""
    return {entry.name: (entry.attr.size, entry.attr.mtime_ns) for entry in await fs.listdir(path)}


@pytest.mark.parametrize("path", LISTINGS)
def test_who_lists_again_gets_the_same_until_a_job_changes(tree, service, path):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        node = await drive.attach()
        job = await drive.submit("command: 'true'\nhold: true\n")
        first = await fs.listdir(path)
        assert await fs.listdir(path) is first
        service.now_ns += 10**9
        await command(fs, job, "release\n")
        await drive.until(job, State.STARTING)
        assert await tag(fs, path) != first.tag
        assert (str(job) in await shown(fs, path)) is (path != "jobs/by-state/WAITING")
        again = await tag(fs, path)
        await node.ends(*(task.task_id for task in await node.starts()))
        assert await tag(fs, path) != again

    tree(main)


def test_a_listing_shows_whatever_was_done_to_the_texts_in_it(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        tags = {await tag(fs)}

        async def names() -> set[str]:
            before = len(tags)
            tags.add(await tag(fs))
            assert len(tags) > before, "it is another listing"
            return {name for name in await shown(fs) if not name.startswith("by-")}

        await drop(fs, "jobs/notes", b"text")
        assert await names() == {"notes"}
        await fs.rename("jobs/notes", "jobs/other", RenameMode.REPLACE)
        assert await names() == {"other"}
        await fs.symlink("jobs/.#lock", "me")
        assert await names() == {"other", ".#lock"}
        await fs.unlink("jobs/.#lock")
        assert await names() == {"other"}
        assert await refusal(drop(fs, "jobs/bad.yaml", b"command: [\n")) is Kind.INVALID
        assert await names() == {"other", "bad.yaml", "bad.yaml.error"}
        await fs.unlink("jobs/bad.yaml.error")
        assert await names() == {"other", "bad.yaml"}
        await drive.submit(name="good")
        assert await names() == {"other", "bad.yaml", "good.yaml", "good", "1"}

    tree(main)


def test_a_text_that_is_open_is_listed_as_it_is_being_written(tree):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        await fs.listdir("jobs")
        file = await fs.open("jobs/notes", OpenFlags.WRITE | OpenFlags.CREATE, 0o644)
        for text in (b"a", b"bcd"):
            await file.write(0, text)
            assert (await shown(fs))["notes"][0] == len(text)
        await file.flush(Closing.LAST)
        await file.release()
        assert (await shown(fs))["notes"][0] == 3
        await tag(fs)

    tree(main)


def test_a_job_that_was_thrown_away_or_is_shared_no_more_is_not_listed_once_more(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        job = await drive.submit()
        await command(fs, job, "kill\n")
        before = await tag(fs), await tag(fs, "jobs/by-state/CANCELLED")
        await fs.rmdir(f"jobs/{job}")
        assert str(job) not in await shown(fs)
        assert await shown(fs, "jobs/by-state/CANCELLED") == {}
        assert (await tag(fs), await tag(fs, "jobs/by-state/CANCELLED")) != before

    tree(main)


def test_everybody_has_listings_of_their_own(tree, service):  # noqa: F811
    async def main(drive: Drive, fs: TreeFileSystem) -> None:
        await drive.submit()
        bobs = service.files(drive.engine, service.bob)
        assert await tag(fs) != await tag(bobs)
        before = await tag(bobs)
        await drop(fs, "jobs/notes", b"text")
        assert await tag(bobs) == before, "what ann writes is nothing to bob"

    tree(main)
