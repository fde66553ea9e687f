"""Rules 3, 4 and 5 of the tree: when a text becomes a job, and when it must not."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobd.files.drafts import DRAFT_BYTES_MAX, is_drop
from pfs.api import Changes, Closing, NodeType, OpenFlags, RenameMode, XattrMode
from pfs.errors import Kind, PfsError
from tests.jobd.engine.drive import refusal

SPEC = b"command: echo hi\n"
NEW = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE
BAD = [
    (b"command: [a, b\n", "line"),
    (b"comand: x\n", "did you mean command"),
    (b"command: x\nimage: Bad:Name:x\n", "line 2, column 8"),
    (b"command: x\npriority: high\n", "line 2, column 11"),
]


@pytest.fixture
def world(service, run):
    """Run an async test with the tree of ann and the engine behind it."""

    def within(main):
        async def outer():
            async with service.running() as engine:
                await main(service.files(engine, service.ann), engine)

        run(outer)

    return within


async def drop(fs, path: str, *parts: bytes, closing: Closing = Closing.LAST, flags: OpenFlags = NEW) -> None:
    """Write a text in parts through one opening; FLUSH comes before RELEASE, and its error is the writer's."""
    file = await fs.open(path, flags, 0o644)
    offset = 0
    try:
        for part in parts:
            offset += await file.write(offset, part)
        await file.flush(closing)
    finally:
        await file.release()


async def job_count(engine, service_ann) -> int:
    return len(await engine.ledger.listed(service_ann))


async def text_of(fs, path: str) -> bytes:
    file = await fs.open(path, OpenFlags.READ, 0)
    try:
        return await file.read(0, 1 << 20, wait=False)
    finally:
        await file.release()


async def names(fs) -> set[str]:
    return {entry.name for entry in await fs.listdir("jobs") if not entry.name.startswith("by-")}


def test_closing_a_whole_spec_submits_it_once_and_it_reads_back(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.yaml", SPEC[:5], SPEC[5:])
        assert await job_count(engine, service.ann) == 1
        assert await text_of(fs, "jobs/a.yaml") == SPEC
        assert await text_of(fs, "jobs/1/spec.yaml") == SPEC
        assert await fs.readlink("jobs/a") == "1"
        assert {"a.yaml", "a", "1"} <= await names(fs)

    world(main)


def test_the_return_of_flush_is_the_acknowledgement(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        await file.flush(Closing.LAST)
        assert await job_count(engine, service.ann) == 0
        await file.write(0, SPEC)
        await file.fsync()
        assert await job_count(engine, service.ann) == 0
        await file.flush(Closing.LAST)
        assert await job_count(engine, service.ann) == 1
        await file.flush(Closing.LAST)
        await file.release()
        assert await job_count(engine, service.ann) == 1

    world(main)


def test_an_open_text_is_cut_extended_and_dated(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.txt", NEW, 0o644)
        await file.write(0, b"12345")
        assert (await file.setattr(Changes(size=2))).size == 2
        attr = await file.setattr(Changes(size=4, mtime_ns=7, mode=0o600))
        assert (attr.size, attr.mtime_ns) == (4, 7)
        await file.flush(Closing.LAST)
        await file.release()
        assert await text_of(fs, "jobs/a.txt") == b"12\0\0"
        assert (await fs.getattr("jobs/a.txt")).mtime_ns == 7

    world(main)


def test_a_text_is_not_extended_beyond_its_most(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.txt", b"12345")
        file = await fs.open("jobs/a.txt", OpenFlags.WRITE, 0)
        for resize in (file.setattr, lambda changes: fs.setattr("jobs/a.txt", changes)):
            assert (await resize(Changes(size=DRAFT_BYTES_MAX))).size == DRAFT_BYTES_MAX
            for size in (DRAFT_BYTES_MAX + 1, 2**62):
                with pytest.raises(PfsError) as caught:
                    await resize(Changes(size=size))
                assert caught.value.kind is Kind.TOO_LARGE
        await file.release()

    world(main)


def test_among_jobs_is_nothing_that_only_a_disk_has(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.txt", b"12345")
        for asked, kind in (
            (fs.link("jobs/a.txt", "jobs/b.txt"), Kind.FORBIDDEN),
            (fs.mknod("jobs/pipe", NodeType.FIFO, 0o644), Kind.FORBIDDEN),
            (fs.getxattr("jobs/a.txt", "user.a"), Kind.NO_DATA),
            (fs.setxattr("jobs/a.txt", "user.a", b"1", XattrMode.EITHER), Kind.UNSUPPORTED),
            (fs.setattr("jobs/a.txt", Changes(uid=0)), Kind.FORBIDDEN),
        ):
            with pytest.raises(PfsError) as caught:
                await asked
            assert caught.value.kind is kind
        assert await fs.listxattr("jobs/a.txt") == []

    world(main)


def test_a_text_that_was_cut_is_not_opened_again_as_if_it_had_not_been(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        await file.write(0, SPEC)
        await file.flush(Closing.DYING)
        await file.release()
        with pytest.raises(PfsError) as caught:
            await fs.reopen("jobs/a.yaml", file.attr.node_id, OpenFlags.WRITE)
        assert caught.value.kind is Kind.STALE
        assert await job_count(engine, service.ann) == 0

    world(main)


@pytest.mark.parametrize(("text", "says"), BAD)
def test_a_refused_spec_fails_the_writer_says_why_and_makes_no_job(world, service, text, says):
    async def main(fs, engine):
        with pytest.raises(PfsError) as caught:
            await drop(fs, "jobs/a.yaml", text)
        assert caught.value.kind is Kind.INVALID
        assert says in (await text_of(fs, "jobs/a.yaml.error")).decode()
        assert await job_count(engine, service.ann) == 0
        await drop(fs, "jobs/a.yaml", SPEC)
        assert "a.yaml.error" not in await names(fs)
        assert await job_count(engine, service.ann) == 1

    world(main)


def test_what_nothing_could_cure_is_refused_in_write(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        with pytest.raises(PfsError) as caught:
            await file.write(0, b"comand: x\n")
        assert caught.value.kind is Kind.INVALID
        await file.flush(Closing.LAST)
        await file.release()
        assert await job_count(engine, service.ann) == 0
        assert "comand" in (await text_of(fs, "jobs/a.yaml.error")).decode()

    world(main)


def test_a_writer_that_is_killed_submits_nothing_however_whole_its_text_looks(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.yaml", SPEC, closing=Closing.DYING)
        assert await job_count(engine, service.ann) == 0
        assert await text_of(fs, "jobs/a.yaml") == SPEC

    world(main)


def test_while_somebody_else_still_writes_nothing_is_submitted(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        await file.write(0, SPEC)
        await file.flush(Closing.SHARED)
        assert await job_count(engine, service.ann) == 0
        await file.write(len(SPEC), b"priority: 10\n")
        await file.flush(Closing.LAST)
        await file.release()
        job = await service.store.job((await engine.ledger.listed(service.ann))[0].id)
        assert job.spec.priority == 10

    world(main)


def test_a_text_without_a_last_newline_is_submitted_by_the_last_release(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        await file.write(0, SPEC.rstrip())
        await file.flush(Closing.LAST)
        assert await job_count(engine, service.ann) == 0
        await file.release()
        assert await job_count(engine, service.ann) == 1
        await drop(fs, "jobs/b.json", b'{"command": "ls"}')
        assert await job_count(engine, service.ann) == 2

    world(main)


def test_the_same_file_written_again_is_a_new_job_and_the_name_follows(world, service):
    async def main(fs, engine):
        for _ in range(2):
            await drop(fs, "jobs/a.yaml", SPEC)
        assert await job_count(engine, service.ann) == 2
        assert await fs.readlink("jobs/a") == "2"

    world(main)


def test_touching_submits_nothing(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.yaml", SPEC)
        await fs.setattr("jobs/a.yaml", Changes(mtime_ns=5))
        await fs.setattr("jobs/a.yaml", Changes(mode=0o600))
        await drop(fs, "jobs/a.yaml", flags=OpenFlags.WRITE)
        await drop(fs, "jobs/new.yaml")
        assert await job_count(engine, service.ann) == 1

    world(main)


def test_renaming_a_text_that_was_not_submitted_to_a_specs_name_submits_it(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/.a.tmp", SPEC)
        assert await job_count(engine, service.ann) == 0
        await fs.rename("jobs/.a.tmp", "jobs/a.yaml", RenameMode.REPLACE)
        assert await job_count(engine, service.ann) == 1
        assert ".a.tmp" not in await names(fs)
        assert await text_of(fs, "jobs/a.yaml") == SPEC

    world(main)


def test_a_rename_that_is_refused_keeps_the_old_name_and_says_why(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/x.tmp", b"comand: x\n")
        with pytest.raises(PfsError) as caught:
            await fs.rename("jobs/x.tmp", "jobs/x.yaml", RenameMode.REPLACE)
        assert caught.value.kind is Kind.INVALID
        assert {"x.tmp", "x.yaml.error"} <= await names(fs)
        assert "x.yaml" not in await names(fs)

    world(main)


def test_moving_a_submitted_text_or_a_backup_back_submits_nothing(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.yaml", SPEC)
        await fs.rename("jobs/a.yaml", "jobs/b.yaml", RenameMode.REPLACE)
        await fs.rename("jobs/b.yaml", "jobs/a.yaml~", RenameMode.REPLACE)
        await fs.rename("jobs/a.yaml~", "jobs/a.yaml", RenameMode.REPLACE)
        assert await job_count(engine, service.ann) == 1

    world(main)


def test_a_drop_is_named_by_its_first_character_and_its_ending():
    for name in ("a.yaml", "a.yml", "a.json", "0.yaml", "17.json", "Z..yml", "a b.yaml", "a.tmp.yaml", "aé.yaml"):
        assert is_drop(name), name
    for name in (".yaml", "_a.yaml", "-a.yaml", "~a.yaml", " a.yaml", "éa.yaml", "ayaml", "yaml", "a.YAML", "a.yaml~"):
        assert not is_drop(name), name
    for name in ("a.yaml.tmp", "a.yaml ", "a.yaml\n", "a.yamll", "a.yl", "a.jsonl", "a.yaml.error"):
        assert not is_drop(name), name


@pytest.mark.parametrize("name", [".a.yaml", "4913", "a.yaml~", "sedAbCdEf", "x.tmp", "noending"])
def test_every_other_name_is_scratch(world, service, name):
    async def main(fs, engine):
        if name.isdigit():
            with pytest.raises(PfsError):
                await drop(fs, f"jobs/{name}", SPEC)
            return
        await drop(fs, f"jobs/{name}", SPEC)
        assert await job_count(engine, service.ann) == 0
        assert await text_of(fs, f"jobs/{name}") == SPEC
        await fs.unlink(f"jobs/{name}")
        assert name not in await names(fs)

    world(main)


@pytest.mark.parametrize("name", ["17", "by-week", "x.error"])
def test_names_that_the_server_gives_cannot_be_made(world, name):
    async def main(fs, engine):
        await drop(fs, "jobs/x", SPEC)
        for made in (
            fs.open(f"jobs/{name}", NEW, 0o644),
            fs.put(f"jobs/{name}", SPEC, None),
            fs.symlink(f"jobs/{name}", "x"),
            fs.mkdir(f"jobs/{name}", 0o755),
            fs.rename("jobs/x", f"jobs/{name}", RenameMode.REPLACE),
        ):
            assert await refusal(made) is Kind.FORBIDDEN

    world(main)


def test_a_text_has_at_most_a_mebibyte_and_one_that_was_too_long_is_no_job(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        await file.write(0, SPEC)
        with pytest.raises(PfsError) as caught:
            await file.write(len(SPEC), b"#" * (1 << 20))
        assert caught.value.kind is Kind.TOO_LARGE
        await file.flush(Closing.LAST)
        await file.release()
        assert await job_count(engine, service.ann) == 0

    world(main)


def test_removing_a_text_removes_no_job(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.yaml", SPEC)
        await fs.unlink("jobs/a.yaml")
        assert (await engine.ledger.find(1, service.ann)).life.state.value == "WAITING"
        for remove, path in ((fs.rmdir, "jobs/1"), (fs.unlink, "jobs/1"), (fs.unlink, "jobs/a"), (fs.rmdir, "jobs")):
            with pytest.raises(PfsError):
                await remove(path)
        assert (await engine.ledger.find(1, service.ann)).life.state.value == "WAITING"

    world(main)


def test_editors_lock_with_links_that_are_scratch(world, service):
    async def main(fs, engine):
        await fs.symlink("jobs/.#a.yaml", "ann@host.1")
        assert await fs.readlink("jobs/.#a.yaml") == "ann@host.1"
        await fs.unlink("jobs/.#a.yaml")
        assert ".#a.yaml" not in await names(fs)

    world(main)


def test_texts_and_names_are_each_users_own(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/a.yaml", SPEC)
        bobs = service.files(engine, service.bob)
        assert await names(bobs) == set()
        for path in ("jobs/a.yaml", "jobs/a", "jobs/1", "jobs/1/log"):
            with pytest.raises(PfsError) as caught:
                await bobs.getattr(path)
            assert caught.value.kind is Kind.NOT_FOUND

    world(main)


def test_a_text_that_goes_on_after_it_was_submitted_is_told_so(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/a.yaml", NEW, 0o644)
        await file.write(0, SPEC)
        await file.flush(Closing.LAST)
        with pytest.raises(PfsError) as caught:
            await file.write(len(SPEC), b"priority: 1\n")
        assert caught.value.kind is Kind.BUSY
        await file.release()

    world(main)


SCRATCH_NAME = "jobs/x.tmp"
HELD = b"hold: true\n"


async def written(fs, path: str, text: bytes = SPEC):
    """Open a text anew, write all of it, and keep it open."""
    file = await fs.open(path, NEW, 0o644)
    await file.write(0, text)
    return file


async def close(file, closing: Closing = Closing.LAST) -> None:
    await file.flush(closing)
    await file.release()


@pytest.mark.parametrize("closing", Closing)
def test_a_text_that_is_renamed_to_a_drop_while_it_is_open_is_one_job(world, service, closing):
    async def main(fs, engine):
        file = await written(fs, SCRATCH_NAME)
        await file.fsync()
        await fs.rename(SCRATCH_NAME, "jobs/x.yaml", RenameMode.REPLACE)
        assert await job_count(engine, service.ann) == 1
        await close(file, closing)
        assert await job_count(engine, service.ann) == 1
        assert {"x.yaml", "x", "1"} == await names(fs)
        assert await text_of(fs, "jobs/x.yaml") == await text_of(fs, "jobs/1/spec.yaml") == SPEC
        await fs.rename("jobs/x.yaml", "jobs/y.yaml", RenameMode.REPLACE)  # it is known to be submitted
        assert await job_count(engine, service.ann) == 1

    world(main)


@pytest.mark.parametrize(
    ("rest", "closing", "jobs"),
    [
        (HELD, Closing.LAST, 2),
        (HELD.rstrip(), Closing.LAST, 2),  # by the last release
        (HELD, Closing.DYING, 1),
        (HELD.rstrip(), Closing.DYING, 1),
    ],
)
def test_what_is_written_after_the_rename_is_a_new_text(world, service, rest, closing, jobs):
    async def main(fs, engine):
        file = await written(fs, SCRATCH_NAME)
        await fs.rename(SCRATCH_NAME, "jobs/x.yaml", RenameMode.REPLACE)
        await file.write(len(SPEC), rest)
        await close(file, closing)
        assert await job_count(engine, service.ann) == jobs
        assert await text_of(fs, "jobs/1/spec.yaml") == SPEC
        assert await text_of(fs, "jobs/x.yaml") == SPEC + rest
        if jobs == 2:
            assert await text_of(fs, "jobs/2/spec.yaml") == SPEC + rest

    world(main)


def test_who_wrote_before_the_rename_submits_nothing_of_who_writes_after_it(world, service):
    async def main(fs, engine):
        first, second = await written(fs, SCRATCH_NAME), await fs.open(SCRATCH_NAME, OpenFlags.WRITE, 0)
        await fs.rename(SCRATCH_NAME, "jobs/x.yaml", RenameMode.REPLACE)
        await second.write(len(SPEC), HELD)
        await close(first)
        assert await job_count(engine, service.ann) == 1
        await close(second, Closing.DYING)
        assert await job_count(engine, service.ann) == 1

    world(main)


def test_what_is_written_while_the_rename_submits_is_a_new_text(world, service, monkeypatch):
    async def main(fs, engine):
        file = await written(fs, SCRATCH_NAME)
        submit = engine.submit

        async def slowly(*arguments):
            await file.write(len(SPEC), HELD)
            nursery.start_soon(file.fsync)
            await wait_all_tasks_blocked()
            return await submit(*arguments)

        monkeypatch.setattr(engine, "submit", slowly)
        async with trio.open_nursery() as nursery:
            await fs.rename(SCRATCH_NAME, "jobs/x.yaml", RenameMode.REPLACE)
        assert (await service.store.standing("ann", "x.yaml")).content == SPEC + HELD
        monkeypatch.setattr(engine, "submit", submit)
        assert await text_of(fs, "jobs/1/spec.yaml") == SPEC
        await close(file)
        assert await job_count(engine, service.ann) == 2
        assert await text_of(fs, "jobs/2/spec.yaml") == await text_of(fs, "jobs/x.yaml") == SPEC + HELD
        assert "x.tmp" not in await names(fs)

    world(main)


def test_a_refused_rename_leaves_an_open_text_to_its_closing(world, service):
    async def main(fs, engine):
        file = await written(fs, SCRATCH_NAME, b"comand: x\n")
        assert await refusal(fs.rename(SCRATCH_NAME, "jobs/x.yaml", RenameMode.REPLACE)) is Kind.INVALID
        await file.setattr(Changes(size=0))
        await file.write(0, SPEC)
        await fs.rename(SCRATCH_NAME, "jobs/x.yaml", RenameMode.REPLACE)
        await close(file)
        assert await job_count(engine, service.ann) == 1
        assert "x.yaml.error" not in await names(fs)

    world(main)


@pytest.mark.parametrize(("name", "asked"), [("a.yaml", True), ("a.tmp", True), ("link", False)])
def test_of_every_text_it_is_asked_how_its_writer_closes(world, name, asked):
    """One that is scratch now may have become a drop by then."""

    async def main(fs, engine):
        if name == "link":
            await fs.symlink("jobs/link", "anything")
        else:
            await close(await fs.open(f"jobs/{name}", NEW, 0o644))
        listed = {entry.name: entry.attr for entry in await fs.listdir("jobs")}
        assert (await fs.getattr(f"jobs/{name}")).commits is listed[name].commits is asked

    world(main)


@pytest.mark.parametrize("name", ["u.yaml", "s.tmp"])
@pytest.mark.parametrize("closing", Closing)
def test_a_text_that_is_removed_while_it_is_open_is_gone(world, service, name, closing):
    async def main(fs, engine):
        file = await written(fs, f"jobs/{name}")
        await fs.unlink(f"jobs/{name}")
        assert await names(fs) == set()
        await file.write(len(SPEC), HELD)
        assert await file.read(0, 100) == SPEC + HELD
        await file.fsync()
        await close(file, closing)
        assert await names(fs) == set()
        assert await job_count(engine, service.ann) == 0

    world(main)


def test_a_text_that_is_gone_is_not_complained_about(world, service):
    async def main(fs, engine):
        file = await fs.open("jobs/u.yaml", NEW, 0o644)
        await fs.unlink("jobs/u.yaml")
        await file.write(0, b"comand: x\n")
        await close(file)
        assert await names(fs) == set()

    world(main)


@pytest.mark.parametrize(("text", "target"), [(SPEC, "jobs/u.yaml"), (b"other", "jobs/s.tmp")])
def test_a_text_over_which_another_one_was_renamed_is_gone(world, service, text, target):
    async def main(fs, engine):
        await drop(fs, SCRATCH_NAME, text)
        file = await written(fs, target, SPEC + HELD)
        await fs.rename(SCRATCH_NAME, target, RenameMode.REPLACE)
        jobs = await job_count(engine, service.ann)
        assert jobs == (target == "jobs/u.yaml")
        await close(file)
        assert await job_count(engine, service.ann) == jobs
        assert await text_of(fs, target) == text

    world(main)


def test_a_new_text_under_the_name_of_one_that_is_gone_is_another_one(world, service):
    async def main(fs, engine):
        old = await written(fs, "jobs/u.yaml", SPEC + HELD)
        await fs.unlink("jobs/u.yaml")
        await drop(fs, "jobs/u.yaml", SPEC)
        await close(old)
        assert await job_count(engine, service.ann) == 1
        assert await text_of(fs, "jobs/u.yaml") == SPEC

    world(main)


def test_a_text_that_is_renamed_to_its_own_name_stays(world, service):
    async def main(fs, engine):
        await drop(fs, SCRATCH_NAME, SPEC)
        await fs.rename(SCRATCH_NAME, SCRATCH_NAME, RenameMode.REPLACE)
        assert await text_of(fs, SCRATCH_NAME) == SPEC

    world(main)


def test_no_scratch_hides_a_jobs_name(world, service):
    async def main(fs, engine):
        await drop(fs, "jobs/x.yaml", SPEC)
        await drop(fs, "jobs/t.tmp", SPEC)
        for hiding in (
            fs.rename("jobs/t.tmp", "jobs/x", RenameMode.REPLACE),
            fs.rename("jobs/x.yaml", "jobs/x", RenameMode.REPLACE),
            fs.put("jobs/x", SPEC, None),
            fs.symlink("jobs/x", "t.tmp"),
        ):
            with pytest.raises(PfsError) as caught:
                await hiding
            assert caught.value.kind is Kind.FORBIDDEN
            assert "a job's name stays" in caught.value.message
        assert await fs.readlink("jobs/x") == "1"
        assert {"x", "x.yaml", "t.tmp", "1"} == await names(fs)
        await fs.symlink("jobs/lock", "t.tmp")
        await fs.rename("jobs/t.tmp", "jobs/lock", RenameMode.REPLACE)  # one's own link is no job's name
        assert await text_of(fs, "jobs/lock") == SPEC

    world(main)
