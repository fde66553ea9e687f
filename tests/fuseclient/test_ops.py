"""Names, attributes and directories, over a file system in memory and without a kernel."""

import os
from collections.abc import Awaitable, Callable

import pytest

from fuseclient.inodes import ROOT
from pfs.api import Changes, RenameMode
from pfs.errors import Kind, PfsError
from tests.fuseclient.kernel import READ_WRITE, Kernel

Run = Callable[[Callable[[], Awaitable[object]]], object]
DC1, DC2 = ROOT + 1, ROOT + 2


async def kind_of(asked: Awaitable[object]) -> Kind | None:
    try:
        await asked
    except PfsError as error:
        return error.kind
    return None


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
            ops.mkdir(ROOT, "x", 0o755),
            ops.symlink(ROOT, "x", "y"),
            ops.mknod(ROOT, "x", 0o644, regular=True),
            ops.files.create(ROOT, "x", 0o644, os.O_CREAT, 1),
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
        kernel.fs.hard_link("a", "b")
        number = (await kernel.walk("dc1/a")).number
        assert (await kernel.walk("dc1/b")).number == number
        await kernel.fs.unlink("b")
        assert (await kernel.ops.getattr(number)).attr.size == 4

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
            assert (await kernel.ops.setattr(number, Changes(size=2), fh=fh)).attr.size == 2
            kernel.forget_all()
            assert await kernel.files.read(fh, 0, 10) == b"da"
        assert await kind_of(kernel.ops.getattr(number)) is Kind.STALE

    run(main)


def test_only_its_owner_can_own_a_file(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        await kernel.ops.setattr(number, Changes(), uid=1000, gid=1001)
        await kernel.ops.setattr(number, Changes(mode=0o600), uid=1000)
        assert kernel.fs.find("f").mode == 0o600
        for uid, gid in ((0, None), (None, 0), (1001, 1001)):
            assert await kind_of(kernel.ops.setattr(number, Changes(mode=0), uid=uid, gid=gid)) is Kind.FORBIDDEN
        assert kernel.fs.find("f").mode == 0o600

    run(main)


def test_size_and_times_are_changed_together(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f", READ_WRITE) as fh:
            number = (await kernel.walk("dc1/f")).number
            attr = (await kernel.ops.setattr(number, Changes(size=1, mtime_ns=7), fh=fh)).attr
            assert (attr.size, attr.mtime_ns, kernel.fs.calls["truncate"]) == (1, 7, 1)
        assert (await kernel.ops.setattr(number, Changes(size=3))).attr.size == 3

    run(main)


def test_links_and_special_files_are_refused(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        assert await kind_of(kernel.ops.link(DC1, "new")) is Kind.UNSUPPORTED
        assert await kind_of(kernel.ops.mknod(DC1, "fifo", 0o644, regular=False)) is Kind.FORBIDDEN
        await kernel.ops.mknod(DC1, "file", 0o640, regular=True)
        assert (kernel.fs.find("file").mode, kernel.fs.open_files) == (0o640, 0)

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
