"""Nodes that the server makes: what they refuse unless they say otherwise, and texts that are made anew."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from pfs.api import Attr, Awaited, Changes, Closing, Entry, NodeType, OpenFlags, Pictured, RenameMode, XattrMode
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, DomainKind, Subject
from pfs.tree.texts import GrowingText, Text
from pfs.tree.virtual import Directory, DomainDirectory, Link, Node, StaticDirectory, virtual_id
from tests.pfs.world import ADMIN, ANN, APPEND, BOB, CREATE, READ, TRUNCATE, WRITE, Control, World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Bare(Directory):
    """A directory that says nothing but what is in it."""

    def __init__(self, node: Node | None = None) -> None:
        self.node = node

    async def attr(self, subject: Subject) -> Attr:
        return Attr(NodeType.DIRECTORY, 1, 0o555)

    async def lookup(self, subject: Subject, name: str) -> Node:
        if self.node is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return self.node

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        return []


def counting() -> tuple[Text, list[bytes]]:
    """A text, and what it is: put another in to change it."""
    texts = [b"first\n"]

    async def make() -> bytes:
        return texts[-1]

    return Text(("job", 7, "state"), make, mtime_ns=5), texts


def test_numbers_of_made_nodes_are_stable_and_never_a_files() -> None:
    assert virtual_id("job", 7, "state") == 15176444916416806411  # as it was given out
    assert virtual_id("job", 7) != virtual_id("job", "77") != virtual_id("job7")
    assert virtual_id("drop", "\udcff") >= 1 << 63
    assert all(virtual_id(number) >> 63 == 1 for number in range(200))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.create(ANN, "x", WRITE | CREATE, 0o644),
        lambda d: d.mkdir(ANN, "x", 0o755),
        lambda d: d.symlink(ANN, "x", "y"),
        lambda d: d.mknod(ANN, "x", NodeType.FIFO, 0o644),
        lambda d: d.link(ANN, "x", "y"),
        lambda d: d.unlink(ANN, "x"),
        lambda d: d.rmdir(ANN, "x"),
        lambda d: d.rename(ANN, "x", "y", RenameMode.REPLACE),
    ],
    ids=["create", "mkdir", "symlink", "mknod", "link", "unlink", "rmdir", "rename"],
)
def test_a_directory_refuses_every_change(run: Run, change: Callable[[Directory], Awaitable[object]]) -> None:
    async def main() -> None:
        assert await kind_of(change(Bare())) is Kind.FORBIDDEN

    run(main)


def test_a_made_node_takes_times_and_modes_without_keeping_them_and_no_size(run: Run) -> None:
    async def main() -> None:
        node = Bare()
        assert await node.setattr(ANN, Changes(mode=0o777, mtime_ns=1, atime_ns=1)) == await node.attr(ANN)
        assert await kind_of(node.setattr(ANN, Changes(size=0))) is Kind.DENIED

    run(main)


def test_a_made_node_has_no_extended_attributes(run: Run) -> None:
    async def main() -> None:
        node = Bare()
        assert await node.listxattr(ANN) == []
        assert await kind_of(node.getxattr(ANN, "user.x")) is Kind.NO_DATA
        assert await kind_of(node.removexattr(ANN, "user.x")) is Kind.NO_DATA
        assert await kind_of(node.setxattr(ANN, "user.x", b"", XattrMode.EITHER)) is Kind.UNSUPPORTED

    run(main)


def test_a_whole_file_goes_to_the_file_that_is_there(run: Run) -> None:
    async def main() -> None:
        control = Control()
        assert await Bare(control).put(ANN, "ctl", b"kill\n", None) is None
        assert control.commands == [b"kill\n"]
        assert await kind_of(Bare(control).put(ANN, "ctl", b"dance\n", None)) is Kind.INVALID
        assert await kind_of(Bare(Bare()).put(ANN, "d", b"", None)) is Kind.IS_DIR
        assert await kind_of(Bare(counting()[0]).put(ANN, "state", b"", None)) is Kind.DENIED
        assert await kind_of(Bare().put(ANN, "missing", b"", None)) is Kind.NOT_FOUND

    run(main)


def test_a_text_has_its_true_size(run: Run) -> None:
    async def main() -> None:
        text, texts = counting()
        assert (await text.attr(ANN)).size == 6
        texts.append("zwölf\n".encode())
        attr = await text.attr(ANN)
        assert (attr.size, attr.mode, attr.mtime_ns, attr.volatile) == (7, 0o444, 5, True)

    run(main)


def test_an_open_text_is_a_picture_until_it_is_read_from_its_start_again(run: Run) -> None:
    async def main() -> None:
        text, texts = counting()
        file = await text.open(ANN, READ)
        texts.append(b"second one\n")
        assert file.attr.size == 6
        assert await file.read(0, 3) == b"fir"
        assert await file.read(3, 100) == b"st\n"
        assert await file.read(6, 100) == b""
        assert await file.read(0, 100) == b"second one\n"
        assert (await file.getattr()).size == 11
        texts.append(b"3")
        assert await file.read(6, 100) == b" one\n"
        assert await file.read(0, 100) == b"3"
        assert await file.read(0, 100) == b"3"

    run(main)


def test_who_has_read_all_of_a_growing_text_reads_on_behind_that(run: Run) -> None:
    texts, news = [b"one\n"], trio.Event()

    async def make() -> bytes:
        return b"".join(texts)

    async def main() -> None:
        text = GrowingText(("job", 7, "events"), make, 5, lambda: news)
        assert await text.look(ANN) == (await text.attr(ANN), None)
        file = await text.open(ANN, READ)
        assert not isinstance(file, Pictured)
        assert [await file.read(0, 2), await file.read(2, 100), await file.read(4, 100)] == [b"on", b"e\n", b""]
        assert await kind_of(file.changed(wait=False)) is Kind.WOULD_BLOCK
        texts.append(b"two\n")
        assert (await file.getattr()).size == 8
        assert await file.changed() is None
        assert [await file.read(4, 2), await file.read(6, 100)] == [b"tw", b"o\n"]
        assert await kind_of(file.changed(wait=False)) is Kind.WOULD_BLOCK
        texts.append(b"three\n")
        assert await file.read(0, 100) == b"one\ntwo\nthree\n"

    run(main)


@pytest.mark.parametrize("flags", [WRITE, READ | WRITE, TRUNCATE, WRITE | APPEND])
def test_a_text_is_not_opened_for_writing(run: Run, flags: OpenFlags) -> None:
    async def main() -> None:
        assert await kind_of(counting()[0].open(ANN, flags)) is Kind.DENIED

    run(main)


def test_an_open_text_is_not_written(run: Run) -> None:
    async def main() -> None:
        file = await counting()[0].open(ANN, READ)
        assert await kind_of(file.write(0, b"x")) is Kind.DENIED
        assert await kind_of(file.setattr(Changes(size=0))) is Kind.DENIED
        assert (await file.setattr(Changes(mode=0o777, mtime_ns=1))).mode == 0o444
        for harmless in (file.flush(Closing.LAST), file.fsync(), file.release()):
            assert await kind_of(harmless) is None

    run(main)


def test_a_text_that_cannot_be_made_is_an_error_of_the_read(run: Run) -> None:
    async def main() -> None:
        texts = [b"once"]

        async def make() -> bytes:
            if not texts:
                raise PfsError(Kind.NOT_FOUND, "the job is gone")
            return texts.pop()

        file = await Text(("x",), make).open(ANN, READ)
        assert await file.read(0, 10) == b"once"
        assert await kind_of(file.read(0, 10)) is Kind.NOT_FOUND

    run(main)


def test_who_waits_for_another_text_hears_of_it_until_it_was_read(run: Run, world: World) -> None:
    async def main() -> None:
        file, told = await world.fs().open("job/state", READ, 0), list[bytes]()
        assert isinstance(file, Awaited)
        await file.changed(wait=False)  # nothing was read yet
        assert await file.read(0, 10) == b"one\n"

        async def follow() -> None:
            while world.notes != b"end\n":
                await file.changed()
                told.append(await file.read(0, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            assert await kind_of(file.changed(wait=False)) is Kind.WOULD_BLOCK
            for notes in (b"one\n", b"two\n", b"end\n"):  # the first is no other text
                world.change(notes)
                await trio.testing.wait_all_tasks_blocked()
        assert told == [b"two\n", b"end\n"]
        assert await kind_of(file.changed(wait=False)) is Kind.WOULD_BLOCK

    run(main)


def test_another_text_is_told_until_it_counts_as_read(run: Run, world: World) -> None:
    async def main() -> None:
        file: Any = await world.fs().open("job/state", READ, 0)
        assert await file.changed() is None, "nothing was read yet"
        assert await file.read(0, 10) == b"one\n"
        world.change(b"two\n")
        assert [await file.changed(), await file.changed()] == [b"two\n"] * 2
        world.change(b"three\n")
        file.was_read(b"two\n")
        assert await file.changed() == b"three\n"
        file.was_read(b"three\n")
        assert await kind_of(file.changed(wait=False)) is Kind.WOULD_BLOCK
        assert await file.read(2, 10) == b"ree\n"

    run(main)


@pytest.mark.parametrize(("target", "size"), [("17", 2), ("../zwölf", 9), ("a\udcff", 2)])
def test_a_link_is_as_long_as_where_it_leads(run: Run, target: str, size: int) -> None:
    async def main() -> None:
        attr = await Link(virtual_id("l"), target, mtime_ns=3).attr(ANN)
        assert (attr.type, attr.size, attr.mtime_ns) == (NodeType.SYMLINK, size, 3)

    run(main)


@pytest.mark.parametrize(("subject", "mode"), [(ANN, 0o755), (ADMIN, 0o755), (BOB, 0o555)])
def test_the_door_of_a_domain_shows_what_one_may_do(run: Run, world: World, subject: Subject, mode: int) -> None:
    (world.path / "home/ann").chmod(0o755)
    door = DomainDirectory(Domain(DomainKind.HOME, "ann"), world.disk.domain("home/ann", None))

    async def main() -> None:
        assert (await door.attr(subject)).mode == mode

    run(main)


def test_a_node_that_fails_is_listed_beside_the_others_and_one_that_is_gone_is_not(run: Run) -> None:
    class Failing(Bare):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        async def attr(self, subject: Subject) -> Attr:
            raise self.error

    async def main() -> None:
        text, _ = counting()
        gone, broken = Failing(PfsError(Kind.NOT_FOUND, "gone")), Failing(RuntimeError("a defect"))
        top = StaticDirectory("", {"a": gone, "b": broken, "c": text})
        listed = await top.entries(ANN)
        assert [(entry.name, entry.attr.type) for entry in listed] == [("b", NodeType.DIRECTORY), ("c", NodeType.FILE)]
        assert listed[1].attr == await text.attr(ANN)
        again = await top.entries(ANN)
        assert again == listed

    run(main)


def test_a_listing_tells_where_links_lead_but_never_those_that_a_user_made(run: Run) -> None:
    async def main() -> None:
        links = {"own": Link(virtual_id("own"), "there"), "made": Link(virtual_id("made"), "elsewhere", own=False)}
        entries = await StaticDirectory("x", links).entries(ANN)
        assert {entry.name: entry.target for entry in entries} == {"own": "there", "made": None}

    run(main)
