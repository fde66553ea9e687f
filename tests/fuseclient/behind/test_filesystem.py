"""Programs do not wait for their changes, and what they were promised holds."""

import itertools
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
import trio.testing

from fuseclient.behind import sending as behind
from fuseclient.behind.filesystem import PROMISED_BYTES_MAX, BehindFileSystem
from fuseclient.behind.journal import open_journal
from fuseclient.behind.journalformat import MAGIC
from fuseclient.behind.queue import FULL_FROM, BehindQueue
from pfs.api import Attr, Changes, Closing, OpenFile, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from pfs.protocol.steps import Outcome, Step, Verb
from tests.fuseclient.cache.test_coherence import leasing, read
from tests.fuseclient.cache.test_filesystem import Server
from tests.pfs.world import kind_of

READ, WRITE, CREATE = OpenFlags.READ, OpenFlags.WRITE, OpenFlags.CREATE
EXCLUSIVE, TRUNCATE, APPEND = OpenFlags.EXCLUSIVE, OpenFlags.TRUNCATE, OpenFlags.APPEND
NEW = WRITE | CREATE | TRUNCATE
REPLACE = RenameMode.REPLACE
HOME = "home/ann"
PROMISES_MAX = 64


class Remote(Server):
    """A server that may be away, or die with what it was just given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Step]] = []
        self.cut_after: int | None = None  # so many steps of the next batch are made, and nobody hears of it
        self.away = False
        self.held: trio.Event | None = None  # batches wait for it
        self._commits = lambda path: path.startswith("jobs/")

    async def batch(self, steps: Any) -> list[Outcome]:
        if self.away:
            raise PfsError(Kind.UNREACHABLE)
        self.batches.append(list(steps))
        if self.held is not None:
            await self.held.wait()
        if self.cut_after is not None:
            count, self.cut_after = self.cut_after, None
            await super().batch(steps[:count])
            raise PfsError(Kind.UNREACHABLE)
        return list(await super().batch(steps))

    async def getattr(self, path: str) -> Attr:
        if self.away:
            raise PfsError(Kind.TIMED_OUT)
        return await super().getattr(path)

    def trusted(self) -> bool:
        return not self.away


class Mount:
    """A mount of a server; when it is killed, all that is left is its journal."""

    def __init__(self, server: Remote, folder: str, promises_max: int = 1000) -> None:
        self.server = server
        self.journal = open_journal(folder, "http://server", "ann")
        with mock.patch.object(behind, "BehindQueue", partial(BehindQueue, promises_max)):
            self.fs = BehindFileSystem(server, trio.current_time, "dc1", None, journal=self.journal)
        self.told: list[tuple[int, int]] = []
        self.undone: list[str] = []
        self.fs.tell(lambda *numbers: self.told.append(numbers), lambda directory, name: self.undone.append(name))

    async def run(self, task_status: trio.TaskStatus["Mount"]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self.scope = nursery.cancel_scope
                self.fs.nursery = nursery
                nursery.start_soon(self.fs.keep_promises)
                task_status.started(self)
                await trio.sleep_forever()
        finally:
            self.journal.close()

    async def look(self) -> None:
        """Learn what a program learns that walks to the home directory."""
        for path in ("", "home", HOME):
            await self.fs.listdir(path)
        self.server.asked.clear()


Test = Callable[[Remote, Mount], Awaitable[None]]


def scenario(test: Test) -> Callable[[], None]:
    """Run a test with a mount that has looked at a home directory with one file."""

    def run() -> None:
        async def main(folder: str) -> None:
            server = Remote()
            server.put(f"{HOME}/old", b"old")
            server.make_directory("jobs")
            async with trio.open_nursery() as nursery:
                mount: Mount = await nursery.start(Mount(server, folder, PROMISES_MAX).run)
                await mount.look()
                await test(server, mount)
                nursery.cancel_scope.cancel()

        with leasing(), tempfile.TemporaryDirectory() as folder:
            trio.run(main, folder, clock=trio.testing.MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    return run


async def again(mount: Mount) -> Mount:
    """Kill a mount, and mount again."""
    folder = str(Path(mount.journal.path).parent.parent)
    mount.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    new = Mount(mount.server, folder)
    trio.lowlevel.spawn_system_task(_until_killed, new)
    await trio.testing.wait_all_tasks_blocked()
    return new


async def _until_killed(mount: Mount) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(mount.run)


async def close(file: OpenFile) -> None:
    try:
        await file.flush(Closing.LAST)
    finally:
        await file.release()


async def write(mount: Mount, name: str, data: bytes, flags: OpenFlags = NEW) -> None:
    file = await mount.fs.open(f"{HOME}/{name}", flags, 0o640)
    if data:
        await file.write(0, data)
    await close(file)


def there(server: Remote) -> dict[str, bytes | None]:
    """Return what stands in the home directory at the server; None for what is no file."""
    children = server.find(HOME).children
    return {
        name: bytes(node.data) if not node.children and node.type == "file" else None for name, node in children.items()
    }


# ---- what is promised


@scenario
async def test_a_change_does_not_wait_for_the_server(server: Remote, mount: Mount) -> None:
    fs, server.held = mount.fs, trio.Event()
    await write(mount, "f", b"text")
    await fs.mkdir(f"{HOME}/d", 0o750)
    await write(mount, "d/g", b"below")
    await fs.symlink(f"{HOME}/l", "f")
    await fs.setattr(f"{HOME}/old", Changes(mode=0o600, mtime_ns=5))
    await fs.rename(f"{HOME}/old", f"{HOME}/new", REPLACE)
    assert there(server) == {"old": b"old"}
    assert not server.asked
    assert [entry.name for entry in await fs.listdir(HOME)] == ["f", "d", "l", "new"]
    assert await read(fs, f"{HOME}/f") == b"text"
    assert await read(fs, f"{HOME}/d/g") == b"below"
    assert await fs.readlink(f"{HOME}/l") == "f"
    assert (await fs.getattr(f"{HOME}/new")).mtime_ns == 5
    assert await kind_of(fs.getattr(f"{HOME}/old")) is Kind.NOT_FOUND
    assert not server.asked
    server.held.set()
    await fs.settle(None)
    assert there(server) == {"f": b"text", "d": None, "l": None, "new": b"old"}
    assert bytes(server.find(f"{HOME}/d/g").data) == b"below"
    assert (server.find(f"{HOME}/new").mode, server.find(f"{HOME}/f").mode) == (0o600, 0o640)


@scenario
async def test_many_changes_are_few_messages(server: Remote, mount: Mount) -> None:
    for number in range(50):
        await write(mount, f"f{number}", b"text")
    await mount.fs.settle(None)
    assert len(there(server)) == 51
    assert sum(map(len, server.batches)) == 50
    assert len(server.batches) <= 6


@scenario
async def test_a_tree_is_removed_in_few_messages(server: Remote, mount: Mount) -> None:
    fs = mount.fs
    for number in range(100):
        server.put(f"{HOME}/d/f{number:03}")
    await fs.broken([server.find(HOME).node_id], [])
    await fs.getattr("home")
    await mount.look()
    for entry in await fs.listdir(f"{HOME}/d"):
        await fs.unlink(f"{HOME}/d/{entry.name}")
    await fs.rmdir(f"{HOME}/d")
    await fs.settle(None)
    assert there(server) == {"old": b"old"}
    assert len(server.batches) <= 4
    assert server.asked["listdir"] <= 4


@scenario
async def test_while_a_program_goes_on_nothing_is_sent(server: Remote, mount: Mount) -> None:
    for number in range(10):
        await write(mount, f"f{number}", b"text")
        await trio.sleep(behind.PAUSE_S / 2)
    assert not server.batches
    await trio.sleep(behind.PAUSE_S * 2)
    assert [len(batch) for batch in server.batches] == [10]


@scenario
async def test_a_program_that_never_pauses_does_not_keep_it_from_being_sent(server: Remote, mount: Mount) -> None:
    async with trio.open_nursery() as nursery:

        async def go_on() -> None:
            for number in itertools.count():
                await mount.fs.setattr(f"{HOME}/old", Changes(mtime_ns=number))
                await trio.sleep(behind.GATHER_S / 5)

        with mock.patch.object(behind, "PAUSE_S", behind.GATHER_S):
            nursery.start_soon(go_on)
            await trio.sleep(behind.GATHER_S * 1.1)
            assert server.batches
            nursery.cancel_scope.cancel()


@scenario
async def test_when_the_queue_is_getting_full_it_is_sent_at_once(server: Remote, mount: Mount) -> None:
    for number in range(PROMISES_MAX // FULL_FROM):
        await write(mount, f"f{number}", b"text")
    await trio.sleep(behind.PAUSE_S / 2)
    assert server.batches


@scenario
async def test_a_file_that_is_removed_before_it_was_sent_never_travels(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    await write(mount, "other", b"text")
    await mount.fs.unlink(f"{HOME}/f")
    assert await kind_of(mount.fs.getattr(f"{HOME}/f")) is Kind.NOT_FOUND
    await mount.fs.settle(None)
    assert [step.path for batch in server.batches for step in batch] == [f"{HOME}/other"]
    await write(mount, "f", b"again")
    await mount.fs.unlink(f"{HOME}/f")
    assert mount.journal.size_bytes == len(MAGIC)
    await mount.fs.settle(None)
    assert len(server.batches) == 1
    assert there(server) == {"old": b"old", "other": b"text"}


@scenario
async def test_a_file_that_is_removed_while_it_travels_is_removed(server: Remote, mount: Mount) -> None:
    server.held = trio.Event()
    await write(mount, "f", b"text")
    await trio.sleep(0.1)
    assert len(server.batches) == 1
    await mount.fs.unlink(f"{HOME}/f")
    server.held.set()
    await mount.fs.settle(None)
    assert there(server) == {"old": b"old"}


@scenario
async def test_a_file_that_never_travelled_is_not_made_by_the_next_mount(server: Remote, mount: Mount) -> None:
    server.away = True
    await write(mount, "f", b"text")
    await write(mount, "g", b"text")
    await mount.fs.unlink(f"{HOME}/f")
    new = await again(mount)
    server.away = False
    await new.fs.settle(None)
    assert there(server) == {"old": b"old", "g": b"text"}


@scenario
async def test_a_file_travels_where_it_cannot_be_written_down_that_it_need_not(server: Remote, mount: Mount) -> None:
    with mock.patch.object(mount.journal, "kept", return_value=False):
        await write(mount, "f", b"text")
        await mount.fs.unlink(f"{HOME}/f")
    await mount.fs.settle(None)
    assert [step.verb for batch in server.batches for step in batch] == [Verb.MAKE_FILE, Verb.UNLINK]
    assert there(server) == {"old": b"old"}


@scenario
async def test_a_file_that_was_renamed_before_it_is_removed_leaves_nothing(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    await mount.fs.rename(f"{HOME}/f", f"{HOME}/old", REPLACE)
    await mount.fs.unlink(f"{HOME}/old")
    await write(mount, "f", b"new")
    await mount.fs.settle(None)
    assert there(server) == {"f": b"new"}


@scenario
async def test_it_is_sent_soon_also_when_nobody_waits(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    await trio.sleep(0.1)
    assert there(server)["f"] == b"text"
    assert mount.journal.size_bytes == len(MAGIC)


@scenario
async def test_a_program_is_told_at_once_what_is_known(server: Remote, mount: Mount) -> None:
    fs = mount.fs
    await fs.mkdir(f"{HOME}/d", 0o750)
    await write(mount, "d/f", b"")
    assert await kind_of(fs.mkdir(f"{HOME}/d", 0o750)) is Kind.EXISTS
    assert await kind_of(fs.rmdir(f"{HOME}/d")) is Kind.NOT_EMPTY
    assert await kind_of(fs.unlink(f"{HOME}/d")) is Kind.IS_DIR
    assert await kind_of(fs.unlink(f"{HOME}/none")) is Kind.NOT_FOUND
    assert await kind_of(fs.rename(f"{HOME}/none", f"{HOME}/x", REPLACE)) is Kind.NOT_FOUND
    assert await kind_of(fs.rename(f"{HOME}/d", f"{HOME}/d/e", REPLACE)) is Kind.INVALID
    assert await kind_of(fs.open(f"{HOME}/d/f", NEW | EXCLUSIVE, 0o600)) is Kind.EXISTS


@scenario
async def test_a_file_is_given_other_content(server: Remote, mount: Mount) -> None:
    node_id, server.held = server.find(f"{HOME}/old").node_id, trio.Event()
    await write(mount, "old", b"other", WRITE | TRUNCATE)
    assert await read(mount.fs, f"{HOME}/old") == b"other"
    await write(mount, "old", b"yet another", WRITE | TRUNCATE)
    assert there(server) == {"old": b"old"}
    server.held.set()
    await mount.fs.settle(None)
    assert there(server) == {"old": b"yet another"}
    assert server.find(f"{HOME}/old").node_id == node_id


@scenario
async def test_a_new_file_is_given_other_content_while_it_is_on_its_way(server: Remote, mount: Mount) -> None:
    server.delay_s = 0.1
    await write(mount, "f", b"first")
    await trio.sleep(0.05)
    await write(mount, "f", b"second", WRITE | TRUNCATE)
    await mount.fs.settle(None)
    assert there(server)["f"] == b"second"
    assert await read(mount.fs, f"{HOME}/f") == b"second"
    assert (await mount.fs.getattr(f"{HOME}/f")).node_id == server.find(f"{HOME}/f").node_id


@scenario
async def test_what_editors_and_rsync_do(server: Remote, mount: Mount) -> None:
    for number in range(5):
        await write(mount, ".part", b"content %d" % number)
        await mount.fs.setattr(f"{HOME}/.part", Changes(mode=0o644, mtime_ns=number))
        await mount.fs.rename(f"{HOME}/.part", f"{HOME}/old", REPLACE)
    assert await read(mount.fs, f"{HOME}/old") == b"content 4"
    await mount.fs.settle(None)
    assert there(server) == {"old": b"content 4"}
    assert server.find(f"{HOME}/old").mtime_ns == 4


@scenario
async def test_o_excl_asks_the_server_for_the_name_only(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text", NEW | EXCLUSIVE)
    assert dict(server.asked) == {"make_file": 1}
    assert there(server)["f"] == b""
    await mount.fs.settle(None)
    assert there(server)["f"] == b"text"
    server.put(f"{HOME}/lock")
    assert await kind_of(mount.fs.open(f"{HOME}/lock", NEW | EXCLUSIVE, 0o600)) is Kind.EXISTS


@scenario
async def test_times_are_those_that_the_program_saw(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    mtime_ns = (await mount.fs.getattr(f"{HOME}/f")).mtime_ns
    await mount.fs.settle(None)
    assert server.find(f"{HOME}/f").mtime_ns == mtime_ns
    assert (await mount.fs.getattr(f"{HOME}/f")).mtime_ns == mtime_ns


@pytest.mark.parametrize("size", [PROMISED_BYTES_MAX, PROMISED_BYTES_MAX + 1])
def test_large_files_are_whole_when_they_are_closed(size: int) -> None:
    @scenario
    async def test(server: Remote, mount: Mount) -> None:
        data = b"0123456789abcdef" * (size // 16) + bytes(size % 16)
        await write(mount, "f", data[:1000])
        file = await mount.fs.open(f"{HOME}/g", NEW, 0o600)
        for offset in range(0, size, 300_000):
            await file.write(offset, data[offset : offset + 300_000])
        await close(file)
        if size > PROMISED_BYTES_MAX:
            assert there(server)["g"] == data
        await mount.fs.settle(None)
        assert there(server)["g"] == data

    test()


# ---- what waits


@scenario
async def test_fsync_waits_for_the_server(server: Remote, mount: Mount) -> None:
    file = await mount.fs.open(f"{HOME}/f", NEW, 0o600)
    await file.write(0, b"text")
    await file.fsync()
    assert there(server)["f"] == b"text"
    assert server.asked["fsync"] == 1
    await close(file)
    await write(mount, "g", b"text")
    await mount.fs.fsyncdir(HOME)
    assert there(server)["g"] == b"text"


@scenario
async def test_whoever_asks_the_server_waits_for_what_is_near(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    await mount.fs.link(f"{HOME}/f", f"{HOME}/g")
    assert there(server)["g"] == b"text"
    await write(mount, "h", b"text")
    await mount.fs.setxattr(f"{HOME}/h", "user.a", b"b", mode=_either())
    assert server.find(f"{HOME}/h").xattrs == {"user.a": b"b"}


def _either() -> Any:
    from pfs.api import XattrMode

    return XattrMode.EITHER


@scenario
async def test_a_job_is_dropped_after_the_data_that_was_written_before(server: Remote, mount: Mount) -> None:
    seen: list[dict[str, bytes | None]] = []
    drop = await mount.fs.open("jobs/job.yaml", NEW, 0o600)
    await drop.write(0, b"command: true")
    await write(mount, "data", b"text")
    flush = type(server).count

    def count(operation: str) -> None:
        if operation == "flush":
            seen.append(there(server))
        flush(server, operation)

    server.count = count  # type: ignore[method-assign]
    await close(drop)
    assert seen == [{"old": b"old", "data": b"text"}]
    assert [each.text for each in server.handed] == [b"command: true"]


@scenario
async def test_nothing_in_jobs_is_promised(server: Remote, mount: Mount) -> None:
    await mount.fs.listdir("jobs")
    await mount.fs.mkdir("jobs/d", 0o700)
    await mount.fs.symlink("jobs/l", "d")
    await mount.fs.unlink("jobs/l")
    await mount.fs.rmdir("jobs/d")
    assert not server.batches
    assert (server.asked["mkdir"], server.asked["symlink"], server.asked["unlink"], server.asked["rmdir"]) == (1,) * 4


@scenario
async def test_a_lease_is_given_back_when_the_server_has_what_was_promised(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    directory = server.find(HOME).node_id
    await mount.fs.broken([directory], [(directory, "x")])
    assert there(server)["f"] == b"text"


@scenario
async def test_two_mounts_that_wait_for_one_another_do_not_hang(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    server.delay_s = 60.0  # as if the other one did not answer before we do
    with trio.fail_after(5):
        await mount.fs.broken([server.find(HOME).node_id], [])


@scenario
async def test_who_promises_too_much_waits(server: Remote, mount: Mount) -> None:
    server.held = trio.Event()
    waited_s = 0.0
    for number in range(PROMISES_MAX + 10):
        if number == PROMISES_MAX:
            began_s = trio.current_time()
            trio.lowlevel.spawn_system_task(_let_go, server)
        await mount.fs.symlink(f"{HOME}/l{number}", "x")
        waited_s = trio.current_time() - began_s if number >= PROMISES_MAX else 0.0
    assert waited_s >= 5
    await mount.fs.settle(None)
    assert len(there(server)) == PROMISES_MAX + 11


async def _let_go(server: Remote) -> None:
    await trio.sleep(5)
    assert server.held is not None
    server.held.set()


@scenario
async def test_who_waits_for_room_too_long_is_told(server: Remote, mount: Mount) -> None:
    server.held = trio.Event()
    for number in range(PROMISES_MAX):
        await mount.fs.symlink(f"{HOME}/l{number}", "x")
    assert await kind_of(mount.fs.symlink(f"{HOME}/l", "x")) is Kind.TIMED_OUT
    server.held.set()
    await mount.fs.settle(None)
    assert len(there(server)) == PROMISES_MAX + 1


# ---- what goes wrong


@scenario
async def test_what_the_server_refuses_is_told(server: Remote, mount: Mount) -> None:
    server.fail("make_file", Kind.NO_SPACE)
    file = await mount.fs.open(f"{HOME}/f", NEW, 0o600)
    await file.write(0, b"text")
    await file.flush(Closing.LAST)
    with suppress(PfsError):
        await mount.fs.settle(None)
    assert await kind_of(file.fsync()) is Kind.NO_SPACE
    assert await kind_of(file.flush(Closing.LAST)) is Kind.NO_SPACE
    await file.release()
    status = mount.fs.behind_status()
    assert status is not None
    assert [path for path, _ in status.failed] == [f"{HOME}/f"]
    assert mount.undone == ["f"]
    assert await kind_of(mount.fs.getattr(f"{HOME}/f")) is Kind.NOT_FOUND


@scenario
async def test_after_the_server_had_no_room_programs_hear_of_it_at_once(server: Remote, mount: Mount) -> None:
    server.fail("make_file", Kind.QUOTA, Kind.QUOTA)
    await write(mount, "f", b"text")
    await mount.fs.settle(None)
    await mount.look()
    file = await mount.fs.open(f"{HOME}/g", NEW, 0o600)
    await file.write(0, b"text")
    assert await kind_of(file.flush(Closing.LAST)) is Kind.QUOTA
    await file.release()


@scenario
async def test_what_was_refused_is_tried_again_by_the_next_mount(server: Remote, mount: Mount) -> None:
    server.fail("make_file", Kind.NO_SPACE)
    await write(mount, "f", b"text")
    await mount.fs.settle(None)
    assert there(server) == {"old": b"old"}
    new = await again(mount)
    await new.fs.settle(None)
    assert there(server) == {"old": b"old", "f": b"text"}
    status = new.fs.behind_status()
    assert status is not None
    assert status.failed == ()


@scenario
async def test_what_was_promised_survives_the_mount(server: Remote, mount: Mount) -> None:
    fs, server.held = mount.fs, trio.Event()
    await write(mount, "f", b"text")
    await fs.mkdir(f"{HOME}/d", 0o750)
    await write(mount, "d/g", b"below")
    await fs.rename(f"{HOME}/f", f"{HOME}/h", REPLACE)
    await fs.unlink(f"{HOME}/old")
    await fs.setattr(f"{HOME}/d/g", Changes(mode=0o600))
    assert there(server) == {"old": b"old"}
    new = await again(mount)
    server.held = None
    await new.fs.settle(None)
    assert there(server) == {"h": b"text", "d": None}
    assert (bytes(server.find(f"{HOME}/d/g").data), server.find(f"{HOME}/d/g").mode) == (b"below", 0o600)
    assert new.journal.size_bytes == len(MAGIC)


@pytest.mark.parametrize("made", range(9))
def test_what_was_made_already_is_not_made_again(made: int) -> None:
    @scenario
    async def test(server: Remote, mount: Mount) -> None:
        fs = mount.fs
        server.cut_after = made
        await write(mount, "f", b"text")
        await fs.mkdir(f"{HOME}/d", 0o750)
        await write(mount, "d/g", b"below")
        await fs.rename(f"{HOME}/f", f"{HOME}/h", REPLACE)
        await fs.unlink(f"{HOME}/old")
        await fs.symlink(f"{HOME}/old", "elsewhere")
        await write(mount, "d/g", b"other", WRITE | TRUNCATE)
        await fs.settle(None)
        assert there(server) == {"h": b"text", "d": None, "old": None}
        assert bytes(server.find(f"{HOME}/d/g").data) == b"other"
        status = fs.behind_status()
        assert status is not None
        assert (status.conflicts, status.failed, status.operations) == (0, (), 0)

    test()


@scenario
async def test_what_cannot_be_looked_at_is_not_taken_for_made(server: Remote, mount: Mount) -> None:
    server.cut_after = 0
    await mount.fs.unlink(f"{HOME}/old")
    server.fail("getattr", Kind.IO)
    await mount.fs.settle(None)
    assert there(server) == {}


@scenario
async def test_what_others_have_changed_meanwhile_is_not_overwritten(server: Remote, mount: Mount) -> None:
    server.put(f"{HOME}/gone", b"gone")
    await mount.fs.broken([server.find(HOME).node_id], [])
    await mount.look()
    server.cut_after = 0
    await write(mount, "f", b"ours")
    await write(mount, "old", b"our other", WRITE | TRUNCATE)
    await mount.fs.unlink(f"{HOME}/gone")
    server.put(f"{HOME}/f", b"theirs")
    server.put(f"{HOME}/old", b"their other")
    server.put(f"{HOME}/gone", b"not gone")
    await mount.fs.settle(None)
    found = there(server)
    assert (found.pop("f"), found.pop("old"), found.pop("gone")) == (b"theirs", b"their other", b"not gone")
    assert sorted(data or b"" for data in found.values()) == [b"our other", b"ours"]
    assert all(".conflict-" in name for name in found)
    status = mount.fs.behind_status()
    assert status is not None
    assert status.conflicts == 3


@scenario
async def test_two_mounts_that_make_the_same_file_both_keep_theirs(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"ours")
    server.put(f"{HOME}/f", b"theirs")
    await mount.fs.settle(None)
    found = there(server)
    assert found.pop("f") == b"theirs"
    assert sorted(data or b"" for data in found.values()) == [b"old", b"ours"]


@scenario
async def test_what_waits_while_the_server_is_away_is_sent_when_it_is_back(server: Remote, mount: Mount) -> None:
    await write(mount, "f", b"text")
    server.away = True
    mount.fs.lapsed()
    assert await kind_of(mount.fs.settle(None)) is Kind.TIMED_OUT
    server.away = False
    mount.fs.returned()
    await mount.fs.settle(None)
    assert there(server)["f"] == b"text"


@scenario
async def test_a_journal_that_cannot_be_written_makes_programs_wait(server: Remote, mount: Mount) -> None:
    def full(promise: Any) -> None:
        raise PfsError(Kind.NO_SPACE, "the disk is full")

    mount.journal.promise = full  # type: ignore[method-assign]
    await write(mount, "f", b"text")
    assert there(server)["f"] == b"text"
    await mount.fs.mkdir(f"{HOME}/d", 0o700)
    assert "d" in there(server)


@scenario
async def test_the_server_gives_the_numbers(server: Remote, mount: Mount) -> None:
    await mount.fs.mkdir(f"{HOME}/d", 0o700)
    await write(mount, "d/f", b"text")
    former = (await mount.fs.getattr(f"{HOME}/d/f")).node_id
    await mount.fs.settle(None)
    assert (former, server.find(f"{HOME}/d/f").node_id) in mount.told
    server.asked.clear()
    assert (await mount.fs.getattr(f"{HOME}/d/f")).node_id == server.find(f"{HOME}/d/f").node_id
    assert (await mount.fs.getattr(f"{HOME}/d")).node_id == server.find(f"{HOME}/d").node_id
    assert await read(mount.fs, f"{HOME}/d/f") == b"text"
    assert not server.asked


@scenario
async def test_what_a_shell_writes_is_promised_also_after_it_has_closed_a_descriptor(
    server: Remote, mount: Mount
) -> None:
    server.held = trio.Event()
    file = await mount.fs.open(f"{HOME}/f", NEW, 0o600)
    await file.flush(Closing.LAST)
    for number in range(3):
        await file.write(2 * number, b"%d\n" % number)
        await file.flush(Closing.LAST)
    await file.release()
    assert await read(mount.fs, f"{HOME}/f") == b"0\n1\n2\n"
    server.held.set()
    await mount.fs.settle(None)
    assert there(server)["f"] == b"0\n1\n2\n"


@scenario
async def test_how_many_directories_there_are_in_one_is_told(server: Remote, mount: Mount) -> None:
    await mount.fs.mkdir(f"{HOME}/d", 0o700)
    await mount.fs.mkdir(f"{HOME}/d/e", 0o700)
    assert (await mount.fs.getattr(f"{HOME}/d")).nlink == 3
    await mount.fs.settle(None)
    assert (await mount.fs.getattr(f"{HOME}/d")).nlink == 3
    await trio.sleep(2)
    assert (await mount.fs.getattr(f"{HOME}/d")).nlink == 3
