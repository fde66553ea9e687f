"""Several who write, remove, rename and submit one text at the same moment, as two mounts of one user do.

A submission is held up where it is slow in earnest: when its text was taken, and before it is committed.
"""

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pfs.api import Changes, Closing, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import Service

SPEC, OTHER, LONG = b"command: echo hi\n", b"command: echo other\n", b"command: echo hi\ntitle: a longer one\n"
WRONG = b"command: x\ndepends_on: [afterok:99]\n"  # which nothing but the engine knows
NEW = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE
X, TMP = "jobs/x.yaml", "jobs/x.tmp"


class Client:
    """Somebody at the tree of ann; all are one user, and see one directory."""

    def __init__(self, fs, engine) -> None:
        self.fs = fs
        self.engine = engine

    async def begin(self, path: str, text: bytes, flags: OpenFlags = NEW):
        file = await self.fs.open(path, flags, 0o644)
        await file.write(0, text)
        return file

    async def write(self, path: str, text: bytes, closing: Closing = Closing.LAST) -> None:
        await close(await self.begin(path, text), closing)

    async def text(self, path: str) -> bytes:
        file = await self.fs.open(path, OpenFlags.READ, 0)
        try:
            return await file.read(0, 1 << 20, wait=False)
        finally:
            await file.release()

    async def texts(self) -> set[str]:
        """Return the names of texts and errors."""
        return {entry.name for entry in await self.fs.listdir("jobs") if "." in entry.name}

    async def jobs(self) -> list[bytes]:
        """Return what was submitted, in order."""
        numbers = sorted(int(entry.name) for entry in await self.fs.listdir("jobs") if entry.name.isdigit())
        return [await self.text(f"jobs/{number}/spec.yaml") for number in numbers]

    @asynccontextmanager
    async def slow(self):
        """Hold up submissions until this ends; what began within is over then."""
        submit, going_on = self.engine.submit, trio.Event()

        async def held(*arguments):
            self.engine.submit = submit
            await going_on.wait()
            return await submit(*arguments)

        self.engine.submit = held
        async with trio.open_nursery() as nursery:
            yield nursery
            await wait_all_tasks_blocked()
            going_on.set()


async def close(file, closing: Closing = Closing.LAST) -> None:
    try:
        await file.flush(closing)
    finally:
        await file.release()


async def kind_of(what) -> Kind | None:
    """Return what is refused, None for nothing."""
    try:
        await what
    except PfsError as error:
        return error.kind
    return None


@pytest.fixture
def two(service, run):
    """Run an async test with somebody at the tree of ann."""

    def within(main):
        async def outer():
            async with service.running() as engine:
                await main(Client(service.files(engine, service.ann), engine))

        run(outer)

    return within


async def anew(service: Service) -> set[str]:
    """Return the texts that a server finds that is started on the same disk."""
    other = Service(service.root)
    async with other.running() as engine:
        return await Client(other.files(engine, other.ann), engine).texts()


# ---- removed and renamed while it is being submitted


def test_a_text_that_is_removed_while_it_is_submitted_is_one_job_and_does_not_come_back(two, service):
    async def main(client):
        file = await client.begin(X, SPEC)
        async with client.slow() as beside:
            beside.start_soon(file.flush, Closing.LAST)
            await wait_all_tasks_blocked()
            beside.start_soon(client.fs.unlink, X)
        for _ in range(2):
            assert await client.texts() == set()
            assert await client.jobs() == [SPEC]
            await file.release()
        assert await anew(service) == set()

    two(main)


def test_a_text_that_is_gone_when_its_turn_comes_is_no_job(two):
    async def main(client):
        file = await client.begin(X, SPEC)
        await client.write(TMP, OTHER)
        async with client.slow() as beside:
            beside.start_soon(client.fs.rename, TMP, X, RenameMode.REPLACE)
            await wait_all_tasks_blocked()
            beside.start_soon(close, file)
        assert await client.jobs() == [OTHER]
        assert await client.text(X) == OTHER

    two(main)


@pytest.mark.parametrize("by_rename", [False, True])
def test_of_a_text_that_is_removed_while_it_is_refused_no_error_comes_back(two, by_rename):
    async def main(client):
        file = await client.begin(TMP if by_rename else X, WRONG)
        async with client.slow() as beside:
            if by_rename:
                await client.write(X, b"", Closing.DYING)
                beside.start_soon(kind_of, client.fs.rename(TMP, X, RenameMode.REPLACE))
            else:
                beside.start_soon(kind_of, close(file))
            await wait_all_tasks_blocked()
            beside.start_soon(client.fs.unlink, X)
        assert await client.texts() == ({"x.tmp"} if by_rename else set())
        assert await client.jobs() == []

    two(main)


def test_of_a_text_that_is_removed_while_a_write_is_refused_no_error_comes_back(two, service, monkeypatch):
    async def main(client):
        file, going_on = await client.fs.open(X, NEW, 0o644), trio.Event()
        save = service.store.save_draft

        async def slowly(row):
            await going_on.wait()
            await save(row)

        monkeypatch.setattr(service.store, "save_draft", slowly)
        async with trio.open_nursery() as beside:
            beside.start_soon(kind_of, file.write(0, b"comand: x\n"))
            await wait_all_tasks_blocked()
            beside.start_soon(client.fs.unlink, X)
            await wait_all_tasks_blocked()
            going_on.set()
        await close(file)
        assert await client.texts() == set()

    two(main)


@pytest.mark.parametrize("target", ["jobs/y.yaml", "jobs/y.tmp"])
def test_a_text_that_is_renamed_while_it_is_submitted_is_one_job_under_its_new_name(two, service, target):
    async def main(client):
        file = await client.begin(X, SPEC)
        async with client.slow() as beside:
            beside.start_soon(close, file)
            await wait_all_tasks_blocked()
            beside.start_soon(client.fs.rename, X, target, RenameMode.REPLACE)
        assert await client.texts() == await anew(service) == {target.removeprefix("jobs/")}
        assert await client.text(target) == SPEC
        await client.fs.rename(target, "jobs/z.yaml", RenameMode.REPLACE)
        assert await client.jobs() == [SPEC]

    two(main)


@pytest.mark.parametrize(("text", "jobs"), [(OTHER, [SPEC, OTHER]), (SPEC, [SPEC, SPEC])])
def test_a_text_that_is_renamed_over_one_that_is_submitted_is_another_job(two, text, jobs):
    async def main(client):
        file = await client.begin(X, SPEC)
        await client.write(TMP, text)
        async with client.slow() as beside:
            beside.start_soon(file.flush, Closing.LAST)
            await wait_all_tasks_blocked()
            beside.start_soon(client.fs.rename, TMP, X, RenameMode.REPLACE)
        await file.release()
        assert await client.jobs() == jobs
        assert await client.text(X) == text
        assert await client.texts() == {"x.yaml"}

    two(main)


def test_who_renames_or_removes_what_is_just_being_renamed_comes_too_late(two):
    async def main(client):
        await client.write(TMP, SPEC)
        refused = []

        async def late(what):
            refused.append(await kind_of(what))

        async with client.slow() as beside:
            beside.start_soon(client.fs.rename, TMP, X, RenameMode.REPLACE)
            await wait_all_tasks_blocked()
            beside.start_soon(late, client.fs.unlink(TMP))
            beside.start_soon(late, client.fs.rename(TMP, "jobs/y.yaml", RenameMode.REPLACE))
        assert refused == [Kind.NOT_FOUND] * 2
        assert await client.jobs() == [SPEC]
        assert await client.texts() == {"x.yaml"}

    two(main)


@asynccontextmanager
async def unheard(service: Service, act):
    """Do something of which nobody hears: the server goes when it has committed it. Give what the next one has."""
    submit, committed, over = service.store.submit, trio.Event(), trio.Event()

    async def held(*arguments, **more):
        made = await submit(*arguments, **more)
        committed.set()
        await over.wait()
        return made

    service.store.submit = held
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await committed.wait()
        other = Service(service.root)
        async with other.running() as engine:
            yield Client(other.files(engine, other.ann), engine)
        over.set()


def test_a_rename_of_which_nobody_heard_took_the_old_name_away_with_the_same_commit(two, service):
    async def main(client):
        await client.write(TMP, SPEC)
        async with unheard(service, partial(client.fs.rename, TMP, X, RenameMode.REPLACE)) as found:
            assert await found.jobs() == [SPEC]
            assert await found.text(X) == SPEC
            assert await found.texts() == {"x.yaml"}

    two(main)


def test_a_text_of_whose_job_nobody_heard_is_known_to_be_submitted(two, service):
    async def main(client):
        file = await client.begin(X, SPEC)
        async with unheard(service, partial(file.flush, Closing.LAST)) as found:
            await found.fs.rename(X, "jobs/y.yaml", RenameMode.REPLACE)
            assert await found.jobs() == [SPEC]
            await found.fs.unlink("jobs/y.yaml")
            assert await found.texts() == set()

    two(main)


# ---- written by several


@pytest.mark.parametrize(
    ("closing", "jobs"), [(Closing.LAST, [SPEC, OTHER]), (Closing.SHARED, [SPEC, OTHER]), (Closing.DYING, [SPEC])]
)
def test_what_is_written_while_a_text_is_submitted_is_another_text(two, service, closing, jobs):
    async def main(client):
        first = await client.begin(X, SPEC)
        async with client.slow() as beside:
            beside.start_soon(close, first)
            await wait_all_tasks_blocked()
            second = await client.begin(X, OTHER)
        assert await client.jobs() == [SPEC]
        await close(second, closing)
        assert await client.jobs() == jobs
        assert await client.text(X) == (await service.store.standing("ann", "x.yaml")).content == OTHER

    two(main)


def test_two_that_close_their_whole_texts_in_turn_make_one_job_of_each(two):
    async def main(client):
        first = await client.begin(X, SPEC)
        async with client.slow() as beside:
            beside.start_soon(close, first)
            await wait_all_tasks_blocked()
            beside.start_soon(client.write, X, OTHER)
        assert await client.jobs() == [SPEC, OTHER]
        assert await client.text(X) == OTHER

    two(main)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_text_that_two_have_written_together_is_one_job(two, order):
    async def main(client):
        first = await client.begin(X, SPEC)
        files = [first, await client.begin(X, b"hold: true\n", OpenFlags.WRITE | OpenFlags.APPEND)]
        for number in order:
            await close(files[number])
        assert await client.jobs() == [SPEC + b"hold: true\n"]

    two(main)


def test_of_a_text_that_is_refused_everybody_who_wrote_it_is_told(two):
    async def main(client):
        files = [await client.begin(X, WRONG[:11]), await client.begin(X, WRONG[11:], OpenFlags.APPEND)]
        assert [await kind_of(close(file)) for file in files] == [Kind.INVALID] * 2
        assert await client.jobs() == []

    two(main)


@pytest.mark.parametrize("text", [SPEC, LONG, OTHER, OTHER[:10]])
@pytest.mark.parametrize("late", [False, True])
def test_who_writes_over_what_is_not_submitted_takes_it_over_and_the_other_is_told(two, text, late):
    async def main(client):
        first, second = await client.fs.open(X, NEW, 0o644), None
        if late:  # else both have begun before either writes
            second = await client.fs.open(X, NEW, 0o644)
        await first.write(0, text)
        second = second or await client.fs.open(X, NEW, 0o644)
        await second.write(0, OTHER)
        assert await kind_of(first.write(len(text), b"hold: true\n")) is Kind.BUSY
        assert await kind_of(first.fsync()) is Kind.BUSY
        assert await kind_of(close(first)) is Kind.BUSY
        await close(second)
        assert await client.jobs() == [OTHER]
        assert await client.text(X) == OTHER

    two(main)


def test_what_one_writes_out_of_order_is_nobody_elses(two):
    async def main(client):
        parts = [(0, LONG[:5]), (20, LONG[20:]), (5, LONG[5:20])]
        first = await client.begin(X, SPEC + b"# and much more\n" * 5)
        second = await client.fs.open(X, NEW, 0o644)
        for offset, part in parts:
            await second.write(offset, part)
        await close(second)
        assert await kind_of(close(first)) is Kind.BUSY
        third = await client.fs.open(X, NEW, 0o644)
        for offset, part in parts:
            await third.write(offset, part)
        await close(third)
        assert await client.jobs() == [LONG] * 2

    two(main)


def test_who_empties_a_text_by_its_name_takes_it_over(two):
    async def main(client):
        file = await client.begin(X, SPEC)
        await client.fs.setattr(X, Changes(size=0))
        assert await kind_of(close(file)) is Kind.BUSY
        assert await client.jobs() == []
        assert await client.text(X) == b""

    two(main)


def test_what_is_put_whole_takes_the_place_of_what_is_open(two):
    async def main(client):
        file = await client.begin(X, SPEC)
        assert await client.fs.put(X, OTHER, "key") == "jobs/1"
        assert await client.text(X) == OTHER
        await close(file)
        assert (await client.jobs(), await client.text(X)) == ([OTHER], OTHER)
        file = await client.begin(X, SPEC)
        assert await client.fs.put(X, OTHER, "key") == "jobs/1"  # again: nothing changes by that
        await close(file)
        assert (await client.jobs(), await client.text(X)) == ([OTHER, SPEC], SPEC)

    two(main)


# ---- found, and gone before it is opened


@asynccontextmanager
async def slow_look(store):
    """Hold up the first who looks what stands under a name, after they have looked."""
    standing, going_on = store.standing, trio.Event()

    async def held(*arguments):
        store.standing = standing
        found = await standing(*arguments)
        await going_on.wait()
        return found

    store.standing = held
    async with trio.open_nursery() as nursery:
        yield nursery
        going_on.set()


@pytest.mark.parametrize("what", ["open", "touch"])
def test_a_text_that_is_removed_while_somebody_finds_it_does_not_come_back(two, service, what):
    async def main(client):
        await client.write(TMP, SPEC)
        refused = []

        async def find():
            act = client.fs.open(TMP, OpenFlags.WRITE, 0) if what == "open" else client.fs.setattr(TMP, Changes(size=1))
            refused.append(await kind_of(act))

        async with slow_look(service.store) as beside:
            beside.start_soon(find)
            await wait_all_tasks_blocked()
            await trio.sleep(0.01)
            await client.fs.unlink(TMP)
        assert refused == [Kind.NOT_FOUND]
        assert await client.texts() == set()

    two(main)


@pytest.mark.parametrize(("flags", "refused"), [(NEW, None), (NEW | OpenFlags.EXCLUSIVE, Kind.EXISTS)])
def test_a_text_that_somebody_else_makes_first_is_that_one(two, service, flags, refused):
    async def main(client):
        found = []

        async def make():
            found.append(await kind_of(client.begin(TMP, OTHER, flags)))

        async with slow_look(service.store) as beside:
            beside.start_soon(make)
            await wait_all_tasks_blocked()
            await trio.sleep(0.01)
            await client.write(TMP, SPEC)
        assert found == [refused]
        assert await client.text(TMP) == (OTHER if refused is None else SPEC)

    two(main)
