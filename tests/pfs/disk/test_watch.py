"""Watching the disk: what is told of, what is not, and that nothing is lost when the kernel loses something."""

import ctypes
import errno
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pfs.disk import fanotify
from pfs.disk.watch import LOCAL_TYPES, REST_S, Name, Node, Watch

Run = Callable[[Callable[[], Awaitable[None]]], None]
ROOT = Path(__file__).parent.parent.parent.parent
BY_OTHERS = "told-by-others"
OVERFLOW = 0x4000
NFS_TYPE = 0x6969
CAP_SYS_ADMIN = 21
CAPABILITY_VERSION = 0x20080522


class Told:
    """What a watch has said so far."""

    def __init__(self) -> None:
        self.nodes: set[Node] = set()
        self.names: set[Name] = set()
        self.calls = 0
        self.lost = 0
        self._more = trio.Event()

    def changed(self, nodes: set[Node], names: set[Name]) -> None:
        self.nodes |= nodes
        self.names |= names
        self.calls += 1
        self._wake()

    def lose(self) -> None:
        self.lost += 1
        self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._more.wait()


def node(path: Path) -> Node:
    info = path.lstat()
    return info.st_dev, info.st_ino


def add(watch: Watch, path: Path) -> bool:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return watch.add(fd)
    finally:
        os.close(fd)


def others(command: str, folder: Path, stdout: int | None = None) -> None:
    """Let another process do something in a folder."""
    subprocess.run(["sh", "-ec", command], cwd=folder, check=True, timeout=60, stdout=stdout)


def others_python(code: str, folder: Path) -> "subprocess.Popen[str]":
    """Let another process run Python in a folder: as far as its first line of output, and then line by line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def go_on(process: "subprocess.Popen[str]") -> None:
    """Let it go on to its next line of output."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()


@asynccontextmanager
async def watching(*paths: Path, marks_max: int = 100) -> AsyncIterator[tuple[Watch, Told]]:
    told = Told()
    watch = Watch(told.changed, told.lose, marks_max)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        for path in paths:
            assert add(watch, path)
        yield watch, told
        nursery.cancel_scope.cancel()


async def all_told(told: Told, folder: Path) -> None:
    """Return when everything that happened so far has been told: then another process's new name is."""
    others(f"touch {BY_OTHERS}", folder)
    await told.until(lambda: (node(folder), BY_OTHERS) in told.names)


@pytest.fixture(autouse=True)
def _machine_watches(tmp_path: Path) -> None:
    """Skip where there is nothing to test: no fanotify, or a disk that others may change."""
    try:
        group = fanotify.Group()
    except OSError as error:
        pytest.skip(f"no fanotify here: {error}")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        if group.volume(fd).type not in LOCAL_TYPES:
            pytest.skip("temporary files are on no disk that can be watched")
    finally:
        os.close(fd)
        group.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a file and an empty directory."""
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_text("text")
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A second directory."""
    made = tmp_path / "elsewhere"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "command",
    ["echo more >> file", "truncate -s 9 file", "chmod 600 file", "touch -d 2001-01-01 file", ": > file"],
)
def test_a_change_to_a_file_is_told_of_the_file(run: Run, folder: Path, command: str) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            others(command, folder)
            await told.until(lambda: node(folder / "file") in told.nodes)
            assert node(folder) not in told.nodes
            assert told.names == set()

    run(main)


@pytest.mark.parametrize("command", ["touch new", "mkdir new", "ln -s file new", "ln file new", "mkfifo new"])
def test_a_new_name_is_told_of_with_its_directory(run: Run, folder: Path, command: str) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            others(command, folder)
            await told.until(lambda: (node(folder), "new") in told.names)
            assert node(folder) in told.nodes

    run(main)


def test_a_removed_name_is_told_of_with_what_it_led_to(run: Run, folder: Path) -> None:
    async def main() -> None:
        (folder / "second").hardlink_to(folder / "file")
        async with watching(folder) as (_, told):
            others("rm file", folder)
            await told.until(lambda: (node(folder), "file") in told.names)
            assert {node(folder), node(folder / "second")} <= told.nodes

    run(main)


def test_a_move_is_told_of_at_both_ends(run: Run, folder: Path, elsewhere: Path) -> None:
    async def main() -> None:
        async with watching(folder, elsewhere) as (_, told):
            others("mv file ../elsewhere/moved", folder)
            await told.until(lambda: len(told.names) == 2)
            assert told.names == {(node(folder), "file"), (node(elsewhere), "moved")}
            assert told.nodes == {node(folder), node(elsewhere), node(elsewhere / "moved")}

    run(main)


EXCHANGE = """
import os
from pfs.disk.system import RENAME_EXCHANGE, rename_at
fd = os.open(".", os.O_PATH)
rename_at(fd, "file", fd, "sub", RENAME_EXCHANGE)
print(flush=True)
"""


def test_an_exchange_is_told_of_at_both_names(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            with others_python(EXCHANGE, folder):
                await told.until(lambda: len(told.names) == 2)
            assert told.names == {(node(folder), "file"), (node(folder), "sub")}
            assert told.nodes == {node(folder), node(folder / "file"), node(folder / "sub")}

    run(main)


SET_XATTR = """
import os
os.setxattr("file", "user.colour", b"red")
print(flush=True)
"""


def test_an_extended_attribute_is_told_of_its_file(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            with others_python(SET_XATTR, folder):
                await told.until(lambda: node(folder / "file") in told.nodes)

    run(main)


def test_a_name_that_is_no_text_is_told_as_python_reads_it(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            others(r"touch $(printf 'a\377b')", folder)
            await told.until(lambda: (node(folder), os.fsdecode(b"a\xffb")) in told.names)

    run(main)


def test_a_change_to_the_directory_itself_is_told(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            others("chmod 700 .", folder)
            await told.until(lambda: node(folder) in told.nodes)
            assert told.names == set()

    run(main)


def test_a_child_directory_is_told_of_when_its_mode_changes(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            others("chmod 700 sub", folder)
            await told.until(lambda: node(folder / "sub") in told.nodes)

    run(main)


def test_what_is_in_a_child_directory_is_told_only_after_that_was_added(run: Run, folder: Path) -> None:
    async def main() -> None:
        sub = folder / "sub"
        async with watching(folder) as (watch, told):
            others("touch sub/unseen", folder)
            await all_told(told, folder)
            assert node(sub) not in told.nodes
            assert add(watch, sub)
            others("touch sub/seen", folder)
            await told.until(lambda: (node(sub), "seen") in told.names)
            assert (node(sub), "unseen") not in told.names

    run(main)


def test_every_level_of_a_removed_tree_is_told_of(run: Run, folder: Path) -> None:
    async def main() -> None:
        (folder / "sub/deep").mkdir()
        (folder / "sub/deep/leaf").write_text("")
        paths = [folder, folder / "sub", folder / "sub/deep"]
        expected = {(node(folder), "sub"), (node(paths[1]), "deep"), (node(paths[2]), "leaf")}
        async with watching(*paths) as (watch, told):
            others("rm -r sub", folder)
            await told.until(lambda: expected <= told.names and len(watch) == 1)

    run(main)


def test_a_removed_directory_that_we_hold_is_told_of_by_its_parent_and_not_again_when_we_let_go(
    run: Run, folder: Path
) -> None:
    async def main() -> None:
        sub = folder / "sub"
        gone = node(sub)
        async with watching(folder, sub) as (watch, told):
            fd = os.open(sub, os.O_RDONLY)
            others("rmdir sub", folder)
            await told.until(lambda: (node(folder), "sub") in told.names)
            assert len(watch) == 2
            assert gone in told.nodes
            told.nodes.clear()
            os.close(fd)
            (folder / "takes its number").mkdir()
            await all_told(told, folder)
            assert len(watch) == 1
            assert gone not in told.nodes

    run(main)


def test_a_removed_file_that_was_added_is_not_kept_in_mind(run: Run, folder: Path) -> None:
    async def main() -> None:
        gone = node(folder / "file")
        async with watching(folder / "file") as (watch, told):
            others("rm file", folder)
            await told.until(lambda: len(watch) == 0)
            assert gone in told.nodes

    run(main)


def test_a_directory_that_takes_the_number_of_a_removed_one_is_watched_anew(run: Run, folder: Path) -> None:
    async def main() -> None:
        sub = folder / "sub"
        async with watching(folder) as (watch, told):
            for _ in range(10):
                assert add(watch, sub)
                others("rmdir sub; mkdir sub", folder)
                assert add(watch, sub)
                others("touch sub/new", folder)
                await told.until(lambda: (node(sub), "new") in told.names)
                others("rm sub/new", folder)
                await all_told(told, folder)
                others(f"rm {BY_OTHERS}", folder)
                told.names.clear()

    run(main)


def test_our_own_changes_are_not_told(run: Run, folder: Path) -> None:
    def change() -> None:
        (folder / "file").write_text("ours")
        (folder / "ours").write_text("")
        (folder / "ours").rename(folder / "sub/ours")
        (folder / "file").chmod(0o600)
        (folder / "below").mkdir()
        assert add(watches[0], folder / "below")
        (folder / "below").rmdir()
        (folder / "takes its number").mkdir(exist_ok=True)

    watches: list[Watch] = []

    async def main() -> None:
        async with watching(folder, folder / "sub") as (watch, told):
            watches.append(watch)
            change()
            await trio.to_thread.run_sync(change)
            await all_told(told, folder)
            assert told.nodes == {node(folder), node(folder / BY_OTHERS)}
            assert told.names == {(node(folder), BY_OTHERS)}

    run(main)


def test_what_another_process_does_with_a_descriptor_of_ours_is_told(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            fd = os.open(folder / "file", os.O_WRONLY)
            others("echo theirs", folder, stdout=fd)
            await told.until(lambda: node(folder / "file") in told.nodes)
            os.close(fd)

    run(main)


MAPPED = """
import mmap, os, sys
fd = os.open("file", os.O_RDWR)
memory = mmap.mmap(fd, 4)
os.close(fd)
memory[:] = b"TEXT"
memory.flush()
print(flush=True)
sys.stdin.readline()
memory.close()
print(flush=True)
"""


def test_writing_to_mapped_memory_is_told_when_it_is_unmapped(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            with others_python(MAPPED, folder) as process:
                await all_told(told, folder)
                assert node(folder / "file") not in told.nodes
                go_on(process)
                await told.until(lambda: node(folder / "file") in told.nodes)

    run(main)


def test_a_file_with_more_names_is_seen_whatever_the_name_once_it_is_added(
    run: Run, folder: Path, elsewhere: Path
) -> None:
    async def main() -> None:
        file, other = folder / "file", elsewhere / "other"
        other.hardlink_to(file)
        async with watching(folder) as (watch, told):
            others("echo unseen >> other", elsewhere)
            await all_told(told, folder)
            assert node(file) not in told.nodes
            assert add(watch, file)
            others("echo seen >> other", elsewhere)
            await told.until(lambda: node(file) in told.nodes)
            assert (node(elsewhere), "other") not in told.names
            told.nodes.clear()
            others("ln other third", elsewhere)
            await told.until(lambda: node(file) in told.nodes)

    run(main)


def test_what_happens_soon_after_something_was_told_is_told_together(folder: Path) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with watching(folder) as (_, told):
            others("touch first", folder)
            await told.until(lambda: told.calls == 1)
            for name in ("second", "third", "file"):
                others(f"touch {name}", folder)
                await trio.testing.wait_all_tasks_blocked()
            assert told.calls == 1
            clock.jump(REST_S)
            await told.until(lambda: told.calls == 2)
            assert {name for _, name in told.names} == {"first", "second", "third"}
            assert node(folder / "file") in told.nodes

    trio.run(main, clock=clock)


def test_a_full_queue_is_told_of_at_once(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (_, told):
            # more than one reading holds, but not more than the kernel keeps
            others("seq 3000 | xargs touch", folder)
            await told.until(lambda: told.calls == 1)
            assert {name for _, name in told.names} == {str(number + 1) for number in range(3000)}

    run(main)


def test_a_directory_can_be_added_from_any_thread(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching() as (watch, told):
            assert await trio.to_thread.run_sync(add, watch, folder)
            await all_told(told, folder)

    run(main)


def test_adding_twice_is_adding_once(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with watching(folder, folder) as (watch, _):
            assert len(watch) == 1

    run(main)


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has but one local file system")
    with tempfile.TemporaryDirectory(dir=shm) as name:
        yield Path(name)


def test_file_systems_are_told_apart(run: Run, folder: Path, memory_folder: Path) -> None:
    async def main() -> None:
        async with watching(folder) as (watch, told):
            if not add(watch, memory_folder):
                pytest.skip("beside a subvolume of btrfs the kernel watches no other file system")
            await all_told(told, memory_folder)
            await all_told(told, folder)
            assert told.names == {(node(folder), BY_OTHERS), (node(memory_folder), BY_OTHERS)}

    run(main)


def test_of_two_file_systems_that_events_call_the_same_one_is_watched(
    run: Run, folder: Path, memory_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with watching() as (watch, _):
            told = fanotify.Volume(min(LOCAL_TYPES), b"the same")
            monkeypatch.setattr(fanotify.Group, "volume", lambda group, fd: told)
            assert add(watch, folder)
            assert not add(watch, memory_folder)

    run(main)


def test_nothing_is_watched_before_and_after_it_runs(run: Run, folder: Path) -> None:
    async def main() -> None:
        told = Told()
        assert not add(Watch(told.changed, told.lose), folder)
        async with watching(folder) as (watch, _):
            pass
        assert len(watch) == 0
        async with watching():  # whose descriptor may have the number of the former one's
            assert not add(watch, folder)

    run(main)


def test_a_file_system_that_has_no_handles_is_not_watched(run: Run) -> None:
    async def main() -> None:
        async with watching() as (watch, _):
            assert not add(watch, Path("/proc/self"))

    run(main)


def test_a_file_system_that_other_machines_change_is_not_watched(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with watching() as (watch, _):
            monkeypatch.setattr(fanotify.Group, "volume", lambda group, fd: fanotify.Volume(NFS_TYPE, bytes(8)))
            assert not add(watch, folder)

    run(main)


def test_a_directory_whose_handles_cannot_be_read_is_not_watched(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with watching() as (watch, _):
            monkeypatch.setattr(fanotify, "inode_of", lambda handle: 7)
            assert not add(watch, folder)

    run(main)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EMFILE])
def test_a_machine_that_tells_nothing_is_lived_with(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def refuse(self: fanotify.Group) -> None:
        raise OSError(code, os.strerror(code))

    async def main() -> None:
        monkeypatch.setattr(fanotify.Group, "__init__", refuse)
        told = Told()
        watch = Watch(told.changed, told.lose)
        await watch.run()
        assert not add(watch, folder)
        assert os.strerror(code) in caplog.text

    run(main)


def test_an_overflown_queue_means_that_anything_may_have_changed(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = struct.calcsize("=IBBHQii")
    overflow = struct.pack("=IBBHQii", size, 3, 0, size, OVERFLOW, -1, 0)
    read = fanotify.Group.read
    first = [overflow]

    async def main() -> None:
        async with watching(folder) as (watch, told):
            monkeypatch.setattr(fanotify.Group, "read", lambda group: read(group) + (first.pop() if first else b""))
            others("touch file", folder)
            await told.until(lambda: told.lost == 1)
            assert len(watch) == 0
            assert add(watch, folder)
            await all_told(told, folder)
            assert told.lost == 1

    run(main)


def test_after_starting_over_nothing_is_told_until_it_is_added_again(run: Run, folder: Path, elsewhere: Path) -> None:
    async def main() -> None:
        async with watching(folder, elsewhere) as (watch, told):
            watch.start_over()
            assert told.lost == 1
            assert add(watch, elsewhere)
            others("touch file", folder)
            await all_told(told, elsewhere)
            assert node(folder / "file") not in told.nodes

    run(main)


def test_when_there_is_no_room_everything_is_given_up_once_for_what_is_used_now(run: Run, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for each in folders:
        each.mkdir()

    async def main() -> None:
        async with watching(*folders[:2], marks_max=2) as (watch, told):
            assert not add(watch, folders[2])
            await told.until(lambda: told.lost == 1)
            assert add(watch, folders[2])
            assert add(watch, folders[3])
            assert not add(watch, folders[0])
            await all_told(told, folders[2])
            assert told.lost == 1
            assert len(watch) == 2

    run(main)


def test_marks_that_the_kernel_does_not_have_are_no_room_either(
    run: Run, folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: fanotify.Group, fd: int, *, directory: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def main() -> None:
        async with watching(folder) as (watch, told):
            monkeypatch.setattr(fanotify.Group, "mark", full)
            assert not add(watch, elsewhere)
            await told.until(lambda: told.lost == 1)

    run(main)


def drop_admin() -> None:
    """Take from this thread, and from no other, what makes fanotify privileged."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << CAP_SYS_ADMIN)
    assert libc.capset(header, sets) == 0


def test_no_privilege_is_needed(run: Run, folder: Path) -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        async with watching(folder) as (_, told):
            (folder / "file").write_text("ours")
            await trio.to_thread.run_sync((folder / "file").write_text, "ours")
            await all_told(told, folder)
            assert node(folder / "file") not in told.nodes
            others("echo theirs >> file", folder)
            await told.until(lambda: node(folder / "file") in told.nodes)

    def unprivileged() -> None:
        try:
            drop_admin()
            run(main)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=unprivileged)
    thread.start()
    thread.join()
    assert failures == []
