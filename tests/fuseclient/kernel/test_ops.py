"""Names, attributes and directories, over a file system in memory and without a kernel."""

import os
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from fuseclient.kernel.identity import Ids
from fuseclient.kernel.inodes import ROOT
from pfs.api import Changes, NodeType, Owner, RenameMode
from pfs.errors import Kind, PfsError
from tests.fuseclient.asking import MAKE, MAKER, READ, READ_WRITE, Kernel
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]
DC1, DC2 = ROOT + 1, ROOT + 2


def test_the_root_needs_no_server(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        assert await kernel.names("") == ["dc1", "dc2"]
        assert (await kernel.walk("dc1")).number == DC1
        assert await kind_of(kernel.walk("dc3")) is Kind.NOT_FOUND
        assert (kernel.fs.calls, kernel.fs2.calls) == ({}, {})

    run(main)


def test_nothing_is_made_in_the_root(run: Run) -> None:
    async def main() -> None:
        ops = Kernel().ops
        for asked in (
            ops.mkdir(ROOT, "x", 0o755, MAKER),
            ops.symlink(ROOT, "x", "y", MAKER),
            ops.mknod(ROOT, "x", NodeType.FILE, 0o644, MAKER),
            ops.create(ROOT, "x", 0o644, os.O_CREAT, 1, maker=MAKER),
            ops.link(DC1, ROOT, "x"),
            ops.link(DC1, DC1, "x"),
            ops.setxattr(DC1, "user.x", b""),
            ops.removexattr(ROOT, "user.x"),
            ops.rmdir(ROOT, "dc1"),
            ops.unlink(ROOT, "dc1"),
            ops.rename(ROOT, "dc1", ROOT, "dc3", 0),
            ops.setattr(DC1, Changes(mode=0)),
            ops.setattr(ROOT, Changes(mode=0)),
        ):
            assert await kind_of(asked) is Kind.FORBIDDEN

    run(main)


def test_a_node_found_twice_is_the_same_inode_and_another_one_is_not(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f", b"one")
        first = await kernel.walk("dc1/a/f")
        assert (await kernel.walk("dc1/a/f")).number == first.number
        await kernel.fs.unlink("a/f")
        kernel.fs.put("a/f", b"two")
        assert (await kernel.walk("dc1/a/f")).number != first.number

    run(main)


def test_everything_is_forgotten_that_the_kernel_forgets(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        for index in range(10):
            kernel.fs.put(f"a/b/f{index}")
        before = len(kernel.ops.tree.inodes)
        assert len(await kernel.names("dc1/a/b")) == 10
        await kernel.walk("dc1/a/b/f3")
        assert len(kernel.ops.tree.inodes) == before + 12
        async with kernel.opened("dc1/a/b/f3"):
            kernel.forget_all()
            assert len(kernel.ops.tree.inodes) == before + 3  # the file is open, and stands somewhere
        assert len(kernel.ops.tree.inodes) == before

    run(main)


def test_a_moved_directory_takes_its_inodes_along(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/b/f", b"data")
        node = await kernel.walk("dc1/a/b/f")
        await kernel.ops.rename(DC1, "a", DC1, "z", 0)
        assert (await kernel.ops.getattr(node.number)).attr.size == 4
        assert (await kernel.walk("dc1/z/b/f")).number == node.number

    run(main)


@pytest.mark.parametrize(
    ("flags", "mode"), [(0, RenameMode.REPLACE), (1, RenameMode.NO_REPLACE), (2, RenameMode.EXCHANGE)]
)
def test_a_rename_is_asked_for_as_it_was(run: Run, flags: int, mode: RenameMode) -> None:
    async def main() -> None:
        kernel, asked = Kernel(), list[RenameMode]()

        async def rename(source: str, target: str, mode: RenameMode) -> None:
            asked.append(mode)

        kernel.fs.rename = rename  # type: ignore[method-assign]
        await kernel.ops.rename(DC1, "a", DC1, "b", flags)
        assert asked == [mode]

    run(main)


def test_what_cannot_be_renamed(run: Run) -> None:
    async def main() -> None:
        ops = Kernel().ops
        assert await kind_of(ops.rename(DC1, "a", DC1, "b", 4)) is Kind.INVALID
        assert await kind_of(ops.rename(DC1, "a", DC1, "b", 3)) is Kind.INVALID
        assert await kind_of(ops.rename(DC1, "a", DC2, "b", 0)) is Kind.CROSS_DOMAIN

    run(main)


def test_exchanged_files_keep_their_inodes(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a", b"a")
        kernel.fs.put("b", b"bb")
        a, b = await kernel.walk("dc1/a"), await kernel.walk("dc1/b")
        await kernel.ops.rename(DC1, "a", DC1, "b", 2)
        assert [(await kernel.ops.getattr(node.number)).attr.size for node in (a, b)] == [1, 2]
        assert (await kernel.walk("dc1/a")).number == b.number

    run(main)


@pytest.mark.parametrize("what", ["lookup", "create", "mkdir", "unlink"])
def test_what_is_asked_while_its_directory_is_moved_is_asked_again(run: Run, what: str) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f")
        a = (await kernel.walk("dc1/a")).number
        ask: dict[str, Callable[[], Awaitable[object]]] = {
            "lookup": lambda: kernel.ops.lookup(a, "f"),
            "create": lambda: kernel.ops.create(a, "new", 0o644, os.O_CREAT, kernel.pid, maker=MAKER),
            "mkdir": lambda: kernel.ops.mkdir(a, "new", 0o755, MAKER),
            "unlink": lambda: kernel.ops.unlink(a, "f"),
        }
        kernel.fs.delay_s = 0.01
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel.ops.rename, DC1, "a", DC1, "b", 0)
            await trio.testing.wait_all_tasks_blocked()
            await ask[what]()  # was asked with the old path, and is answered after the move
        assert set(kernel.fs.root.children) == {"b"}

    run(main)


def test_a_file_that_is_gone_is_stale_so_that_the_kernel_looks_again(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        await kernel.fs.unlink("f")
        assert await kind_of(kernel.ops.getattr(number)) is Kind.STALE
        assert await kind_of(kernel.ops.setattr(number, Changes(mode=0))) is Kind.STALE
        assert await kind_of(kernel.ops.readlink(number)) is Kind.STALE
        kernel.fs.put("f")
        assert await kind_of(kernel.ops.getattr(number)) is Kind.STALE

    run(main)


def test_another_name_of_a_hard_link_serves_when_one_is_gone(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a", b"data")
        await kernel.fs.link("a", "b")
        number = (await kernel.walk("dc1/a")).number
        assert (await kernel.walk("dc1/b")).number == number
        await kernel.fs.unlink("b")
        assert (await kernel.ops.getattr(number)).attr.size == 4

    run(main)


def test_what_another_client_put_at_one_of_several_names_is_not_changed(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a", b"data")
        await kernel.fs.link("a", "b")
        number = (await kernel.walk("dc1/a")).number
        await kernel.walk("dc1/b")
        await kernel.fs.unlink("b")
        kernel.fs.put("b", b"another")
        await kernel.ops.setattr(number, Changes(size=1, mode=0o600))
        await kernel.ops.setxattr(number, "user.x", b"1")
        a, b = kernel.fs.find("a"), kernel.fs.find("b")
        assert (bytes(a.data), a.mode, a.xattrs) == (b"d", 0o600, {"user.x": b"1"})
        assert (bytes(b.data), b.mode, b.xattrs) == (b"another", 0o644, {})

    run(main)


def test_a_file_is_removed_once_who_has_closed_it_has_left_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its room is free then: close(2) returns before the kernel has told that the last descriptor is gone."""

    async def main() -> None:
        kernel = Kernel()
        opened, _ = await kernel.ops.create(DC1, "f", 0o644, os.O_CREAT | os.O_WRONLY, 1, maker=MAKER)
        handle = kernel.ops.tree.handles.file(opened.fh)
        released, release = trio.Event(), handle.file.release

        async def slowly() -> None:
            await released.wait()
            await release()

        monkeypatch.setattr(type(handle.file), "release", lambda file: slowly())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel.files.release, handle.fh)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(kernel.ops.unlink, DC1, "f")
            await trio.testing.wait_all_tasks_blocked()
            assert "unlink" not in kernel.fs.calls
            released.set()
        assert kernel.fs.calls["unlink"] == 1

    run(main)


def test_an_unlinked_file_is_described_by_whoever_holds_it(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f", READ_WRITE) as fh:
            number = (await kernel.walk("dc1/f")).number
            await kernel.ops.unlink(DC1, "f")
            attr = (await kernel.ops.getattr(number)).attr
            assert (attr.size, attr.nlink) == (4, 0)
            assert (await kernel.ops.setattr(number, Changes(size=2), fh)).attr.size == 2
            kernel.forget_all()
            assert await kernel.files.read(fh, 0, 10) == b"da"
        assert await kind_of(kernel.ops.getattr(number)) is Kind.STALE

    run(main)


def test_only_its_owner_can_own_a_file(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        await kernel.ops.setattr(number, Changes(uid=1000, gid=1001))
        await kernel.ops.setattr(number, Changes(mode=0o600, uid=1000))
        assert kernel.fs.find("f").mode == 0o600
        for uid, gid in ((0, None), (None, 0), (1001, 1001)):
            assert await kind_of(kernel.ops.setattr(number, Changes(mode=0, uid=uid, gid=gid))) is Kind.FORBIDDEN
        assert (kernel.fs.find("f").mode, kernel.fs.find("f").uid) == (0o600, 0)

    run(main)


def test_size_and_times_are_changed_together(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f", READ_WRITE) as fh:
            number = (await kernel.walk("dc1/f")).number
            attr = (await kernel.ops.setattr(number, Changes(size=1, mtime_ns=7), fh)).attr
            assert (attr.size, attr.mtime_ns, kernel.fs.calls["fsetattr"]) == (1, 7, 1)
        assert (await kernel.ops.setattr(number, Changes(size=3))).attr.size == 3
        assert kernel.fs.calls["setattr"] == 1

    run(main)


@pytest.mark.parametrize("type_", [NodeType.FILE, NodeType.FIFO, NodeType.SOCKET])
def test_files_fifos_and_sockets_are_made_and_not_opened(run: Run, type_: NodeType) -> None:
    async def main() -> None:
        kernel = Kernel()
        made = await kernel.ops.mknod(DC1, "new", type_, 0o640, MAKER)
        assert (made.attr.type, kernel.fs.find("new").mode, kernel.fs.open_files) == (type_, 0o640, 0)
        assert (await kernel.walk("dc1/new")).number == made.number
        assert await kind_of(kernel.ops.mknod(DC1, "new", type_, 0o640, MAKER)) is Kind.EXISTS

    run(main)


def test_devices_are_refused(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        assert await kind_of(kernel.ops.mknod(DC1, "device", None, 0o644, MAKER)) is Kind.FORBIDDEN
        assert kernel.fs.calls == {}

    run(main)


def test_a_second_name_is_the_same_inode_with_one_name_more(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f", b"data")
        first, b = await kernel.walk("dc1/a/f"), await kernel.ops.mkdir(DC1, "b", 0o755, MAKER)
        second = await kernel.ops.link(first.number, b.number, "g")
        assert (second.number, second.generation, second.attr.nlink) == (first.number, first.generation, 2)
        await kernel.ops.unlink((await kernel.walk("dc1/a")).number, "f")
        assert ((await kernel.ops.getattr(first.number)).attr.nlink, await kernel.read("dc1/b/g")) == (1, b"data")

    run(main)


def test_a_second_name_is_told_to_whoever_is_reading_the_directory_of_the_first(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f")
        kernel.fs.put("a/g")
        a, f = await kernel.walk("dc1/a"), await kernel.walk("dc1/a/f")
        fh = kernel.ops.opendir(a.number)
        await kernel.list_some(fh, 0, 2)
        await kernel.ops.link(f.number, DC1, "new")
        told = {name: node for name, node, _ in await kernel.list_some(fh, 2, 9)}
        assert told["f"].attr.valid_s == 0  # how many names it has is from before: the kernel must ask
        assert told["g"].attr.valid_s > 0

    run(main)


def test_a_link_to_what_was_replaced_is_taken_back(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"old")
        number = (await kernel.walk("dc1/f")).number
        await kernel.fs.unlink("f")
        kernel.fs.put("f", b"another")
        assert await kind_of(kernel.ops.link(number, DC1, "new")) is Kind.STALE
        assert (set(kernel.fs.root.children), kernel.fs.find("f").nlink) == ({"f"}, 1)

    run(main)


def test_no_link_leads_to_another_datacenter_or_to_a_directory(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f")
        assert await kind_of(kernel.ops.link((await kernel.walk("dc1/a/f")).number, DC2, "f")) is Kind.CROSS_DOMAIN
        assert await kind_of(kernel.ops.link((await kernel.walk("dc1/a")).number, DC1, "b")) is Kind.FORBIDDEN

    run(main)


@pytest.mark.parametrize("flags", [READ, READ_WRITE])
def test_what_has_no_name_is_changed_through_whatever_holds_it(run: Run, flags: int) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f", flags):
            number = (await kernel.walk("dc1/f")).number
            await kernel.ops.unlink(DC1, "f")
            attr = (await kernel.ops.setattr(number, Changes(mode=0o600, mtime_ns=7))).attr
            assert (attr.mode, attr.mtime_ns, attr.nlink) == (0o600, 7, 0)
            cut = kernel.ops.setattr(number, Changes(size=1))
            assert await kind_of(cut) is (Kind.STALE if flags == READ else None)

    run(main)


def test_what_is_open_is_changed_and_not_what_stands_at_its_path_by_now(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        async with kernel.opened("dc1/f"):
            number = (await kernel.walk("dc1/f")).number
            await kernel.fs.unlink("f")
            kernel.fs.put("f")
            assert (await kernel.ops.setattr(number, Changes(mode=0o600))).attr.mode == 0o600
            assert kernel.fs.find("f").mode == 0o644

    run(main)


# -- extended attributes


def test_extended_attributes_of_users_are_kept(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        ops, number = kernel.ops, (await kernel.walk("dc1/f")).number
        assert await ops.listxattr(number) == []
        await ops.setxattr(number, "user.a", b"1")
        await ops.setxattr(number, "user.a", b"\0two")
        await ops.setxattr(number, "user.b", b"")
        assert (await ops.getxattr(number, "user.a"), await ops.getxattr(number, "user.b")) == (b"\0two", b"")
        assert await ops.listxattr(number) == ["user.a", "user.b"]
        await ops.removexattr(number, "user.a")
        assert await kind_of(ops.getxattr(number, "user.a")) is Kind.NO_DATA
        assert await kind_of(ops.removexattr(number, "user.a")) is Kind.NO_DATA

    run(main)


def test_an_open_file_has_its_extended_attributes_also_without_a_name(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        ops, number = kernel.ops, (await kernel.walk("dc1/f")).number
        await ops.setxattr(number, "user.a", b"1")
        async with kernel.opened("dc1/f"):
            await kernel.fs.unlink("f")  # by another mount
            assert await ops.getxattr(number, "user.a") == b"1"
            await ops.setxattr(number, "user.b", b"2")
            await ops.removexattr(number, "user.a")
            assert await ops.listxattr(number) == ["user.b"]
        assert await kind_of(ops.getxattr(number, "user.b")) is Kind.STALE

    run(main)


def test_a_removed_directory_is_told_of_as_long_as_the_kernel_has_it(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("d/f")
        number = (await kernel.walk("dc1/d")).number
        await kernel.ops.unlink(number, "f")
        await kernel.walk("dc1/d")
        await kernel.ops.rmdir(DC1, "d")
        found = (await kernel.ops.getattr(number)).attr
        assert (found.type, found.nlink) == (NodeType.DIRECTORY, 0)
        kernel.forget_all()
        assert await kind_of(kernel.ops.getattr(number)) is Kind.STALE

    run(main)


def test_the_names_in_a_directory_are_synced_by_the_server(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("d/f")
        fh = kernel.ops.opendir((await kernel.walk("dc1/d")).number)
        await kernel.ops.fsyncdir(fh)
        assert kernel.fs.calls["fsyncdir"] == 1
        await kernel.ops.unlink((await kernel.walk("dc1/d")).number, "f")
        await kernel.ops.rmdir(DC1, "d")
        await kernel.ops.fsyncdir(fh)  # there is nothing of it on any disk
        await kernel.ops.fsyncdir(kernel.ops.opendir(ROOT))
        assert kernel.fs.calls["fsyncdir"] == 1

    run(main)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("security.capability", Kind.NO_DATA),
        ("security.selinux", Kind.UNSUPPORTED),
        ("system.posix_acl_access", Kind.UNSUPPORTED),
        ("trusted.overlay.opaque", Kind.UNSUPPORTED),
        ("user", Kind.UNSUPPORTED),
    ],
)
def test_other_extended_attributes_are_answered_without_waiting(name: str, kind: Kind) -> None:
    asked = Kernel().ops.getxattr(DC1, name)
    with pytest.raises(PfsError) as caught:
        asked.send(None)  # outside of trio: whatever waits would fail here
    assert caught.value.kind is kind


@pytest.mark.parametrize("name", ["security.capability", "system.posix_acl_access", "trusted.x"])
def test_other_extended_attributes_cannot_be_set_or_removed(run: Run, name: str) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        calls = dict(kernel.fs.calls)
        assert await kind_of(kernel.ops.setxattr(number, name, b"1")) is Kind.UNSUPPORTED
        assert await kind_of(kernel.ops.removexattr(number, name)) is Kind.UNSUPPORTED
        assert kernel.fs.calls == calls

    run(main)


def test_the_root_has_no_extended_attributes(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        assert await kernel.ops.listxattr(DC1) == []
        assert await kind_of(kernel.ops.getxattr(ROOT, "user.x")) is Kind.NO_DATA
        assert kernel.fs.calls == {}

    run(main)


# -- owners


@pytest.mark.parametrize(("ids", "owner"), [(Ids.SQUASHED, (5, 6)), (Ids.JOB, (5, 6)), (Ids.NUMERIC, (2000, 2001))])
def test_what_is_made_belongs_to_its_maker_only_where_numbers_count(run: Run, ids: Ids, owner: tuple[int, int]) -> None:
    async def main() -> None:
        kernel = Kernel(ids)
        kernel.fs.owner = Owner(5, 6)
        await kernel.ops.mkdir(DC1, "directory", 0o755, MAKER)
        await kernel.ops.symlink(DC1, "symlink", "target", MAKER)
        await kernel.ops.mknod(DC1, "fifo", NodeType.FIFO, 0o644, MAKER)
        await kernel.close(await kernel.create("dc1/file"))
        nodes = kernel.fs.root.children.values()
        assert [(node.uid, node.gid) for node in nodes] == [owner] * 4

    run(main)


def test_a_job_may_give_everything_away_and_nothing_changes_hands(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel(Ids.JOB)
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        await kernel.ops.setattr(number, Changes(uid=0, gid=0))
        assert "setattr" not in kernel.fs.calls
        await kernel.ops.setattr(number, Changes(uid=33, mode=0o600))
        found = kernel.fs.find("f")
        assert (found.uid, found.gid, found.mode) == (0, 0, 0o600)

    run(main)


def test_numbers_reach_the_server(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel(Ids.NUMERIC)
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        attr = (await kernel.ops.setattr(number, Changes(uid=33, mode=0o4755))).attr
        assert (attr.uid, attr.gid, attr.mode) == (33, 0, 0o4755)

    run(main)


def test_emptying_a_program_by_opening_it_takes_its_set_id_bits(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel(Ids.NUMERIC)
        node = kernel.fs.put("f", b"program")
        number = (await kernel.walk("dc1/f")).number
        for flags, by, left in (
            (os.O_WRONLY, MAKER, 0o6755),
            (os.O_WRONLY | os.O_TRUNC, Owner(0, 0), 0o6755),
            (os.O_WRONLY | os.O_TRUNC, MAKER, 0o755),
        ):
            node.mode = 0o6755
            opened = await kernel.ops.open(number, flags, kernel.pid, by)
            assert node.mode == left
            await kernel.close(opened.fh)
        assert opened.outdated  # the kernel must ask for the mode
        node.mode = 0o6755
        kernel.fs.fail("fsetattr", Kind.NO_SPACE)
        assert await kind_of(kernel.ops.open(number, os.O_WRONLY | os.O_TRUNC, kernel.pid, MAKER)) is Kind.NO_SPACE
        assert (kernel.fs.open_files, len(kernel.ops.tree.handles)) == (0, 0)

    run(main)


def test_a_directory_hands_on_its_group(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel(Ids.NUMERIC)
        a = await kernel.ops.mkdir(DC1, "a", 0o755, MAKER)
        await kernel.ops.setattr(a.number, Changes(gid=7, mode=0o2755))
        await kernel.ops.mkdir(a.number, "b", 0o755, MAKER)
        async with kernel.opened("dc1/a/f", MAKE):
            found = {name: (node.uid, node.gid, node.mode) for name, node in kernel.fs.find("a").children.items()}
            assert found == {"b": (2000, 7, 0o2755), "f": (2000, 7, 0o644)}

    run(main)


# -- names


def test_a_path_may_be_deep_but_not_longer_than_a_path(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        number, deepest = DC1, "/".join("d" * 1000)
        for _ in range(1000):
            number = (await kernel.ops.mkdir(number, "d", 0o755, MAKER)).number
        assert kernel.fs.find(deepest).type is NodeType.DIRECTORY
        for _ in range(8):
            number = (await kernel.ops.mkdir(number, "x" * 255, 0o755, MAKER)).number
        assert await kind_of(kernel.ops.mkdir(number, "x" * 48, 0o755, MAKER)) is Kind.NAME_TOO_LONG
        assert await kind_of(kernel.ops.lookup(number, "ä" * 24)) is Kind.NAME_TOO_LONG
        assert await kind_of(kernel.ops.lookup(number, "x" * 47)) is Kind.NOT_FOUND

    run(main)


def test_names_are_checked_before_anybody_is_asked(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        assert await kind_of(kernel.ops.lookup(DC1, "x" * 256)) is Kind.NAME_TOO_LONG
        assert await kind_of(kernel.ops.lookup(DC1, "ä" * 128)) is Kind.NAME_TOO_LONG
        assert kernel.fs.calls == {}
        assert await kind_of(kernel.ops.lookup(DC1, "x" * 255)) is Kind.NOT_FOUND

    run(main)


def test_a_directory_is_listed_whole_in_pieces(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        names = [f"f{index}" for index in range(1000)]
        for name in names:
            kernel.fs.put(f"a/{name}")
        assert await kernel.names("dc1/a") == names
        assert kernel.fs.calls["listdir"] == 1

    run(main)


def test_the_dots_lead_to_the_directory_and_to_the_one_above(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.make_directory("a/b")
        b, a = await kernel.walk("dc1/a/b"), await kernel.walk("dc1/a")
        for number, above in ((b.number, a.number), (a.number, DC1), (DC1, ROOT), (ROOT, ROOT)):
            dots = await kernel.list_some(kernel.ops.opendir(number), 0, 2)
            assert [(name, node.number) for name, node, _ in dots] == [(".", number), ("..", above)]

    run(main)


def test_what_the_kernel_does_not_take_is_not_counted(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        for name in ("f1", "f2", "f3"):
            kernel.fs.put(f"a/{name}")
        fh = kernel.ops.opendir((await kernel.walk("dc1/a")).number)
        assert len(await kernel.list_some(fh, 0, 4)) == 4
        assert kernel.ops.tree.inodes.child((await kernel.walk("dc1/a")).number, "f3") is None
        kernel.ops.releasedir(fh)
        kernel.forget_all()
        assert len(kernel.ops.tree.inodes) == 3

    run(main)


def test_reading_again_from_the_start_sees_what_is_new(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f1")
        fh = kernel.ops.opendir((await kernel.walk("dc1/a")).number)
        assert [name for name, _, _ in await kernel.list_some(fh, 0, 9)] == [".", "..", "f1"]
        kernel.fs.put("a/f2")
        assert await kernel.list_some(fh, 3, 9) == []
        assert [name for name, _, _ in await kernel.list_some(fh, 0, 9)] == [".", "..", "f1", "f2"]

    run(main)


def test_what_this_mount_changes_while_a_directory_is_read_is_told_as_it_is(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        for name in ("f1", "f2", "f3", "f4", "new"):
            kernel.fs.put(f"a/{name}", b"x")
        a = (await kernel.walk("dc1/a")).number
        fh = kernel.ops.opendir(a)
        await kernel.list_some(fh, 0, 3)
        await kernel.ops.unlink(a, "f2")
        await kernel.ops.rename(a, "new", a, "f3", 0)
        replaced = await kernel.walk("dc1/a/f3")
        async with kernel.opened("dc1/a/f4", READ_WRITE) as file:
            await kernel.files.write(file, 0, b"longer")
        told = {name: node for name, node, _ in await kernel.list_some(fh, 3, 9)}
        assert set(told) == {"f3", "f4"}
        assert told["f3"].number == replaced.number
        assert told["f4"].attr.valid_s == 0  # its size is from before the write: the kernel must ask

    run(main)


def test_a_whole_piece_of_a_directory_may_be_gone(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        for index in range(600):
            kernel.fs.put(f"a/f{index}")
        a = (await kernel.walk("dc1/a")).number
        fh = kernel.ops.opendir(a)
        await kernel.list_some(fh, 0, 2)
        for index in range(599):
            await kernel.ops.unlink(a, f"f{index}")
        assert [name for name, _, _ in await kernel.list_some(fh, 2, 9)] == ["f599"]

    run(main)


def test_a_directory_that_is_gone_ends(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.make_directory("a")
        a = (await kernel.walk("dc1/a")).number
        fh = kernel.ops.opendir(a)
        await kernel.ops.rmdir(DC1, "a")
        assert await kind_of(kernel.list_some(fh, 0, 9)) is Kind.NOT_FOUND

    run(main)


def test_room_is_told_of_the_datacenters_that_answer(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        both = await kernel.ops.statfs()
        kernel.fs.fail("statfs", Kind.UNREACHABLE)
        assert (await kernel.ops.statfs()).bytes_total * 2 == both.bytes_total
        kernel.fs.fail("statfs", Kind.UNREACHABLE)
        kernel.fs2.fail("statfs", Kind.UNREACHABLE)
        assert await kind_of(kernel.ops.statfs()) is Kind.UNREACHABLE

    run(main)
