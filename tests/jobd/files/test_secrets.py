"""`secrets/`: written, never read, and everybody's own."""

import pytest

from jobd.files.secrets import TEXT_BYTES_MAX
from pfs.api import Changes, Closing, OpenFlags
from pfs.audit.record import record_in
from pfs.errors import Kind, PfsError

from .test_drafts import NEW, drop

AGAIN = OpenFlags.WRITE | OpenFlags.TRUNCATE


@pytest.fixture
def world(service, run):
    """Run an async test with the tree as ann, bob and root see it."""

    def within(main):
        async def outer():
            async with service.running() as engine:
                await main(*(service.files(engine, who) for who in (service.ann, service.bob, service.admin)))

        run(outer)

    return within


async def names(fs) -> list[str]:
    return [entry.name for entry in await fs.listdir("secrets")]


def told(service) -> list[tuple[str, str, str]]:
    """Return what the audit log says of secrets: what, on what, and what came of it."""
    records = map(record_in, service.audit.lines_now())
    return [(record.what, record.on, record.result) for record in records if record.what.startswith("secret")]


async def kind_of(asked) -> Kind:
    with pytest.raises(PfsError) as raised:
        await asked
    return raised.value.kind


def test_what_is_written_is_kept_at_its_close_and_listed_without_its_size(world, service):
    async def main(ann, bob, root):
        await drop(ann, "secrets/wandb", b"to", b"ken\n")
        assert await service.secrets.find("ann", "wandb") == b"token\n"
        attr = await ann.getattr("secrets/wandb")
        assert (attr.mode, attr.size) == (0o200, 0)
        assert (await ann.getattr("secrets")).mode == 0o700
        await drop(ann, "secrets/wandb", b"new\n", flags=AGAIN)
        assert await service.secrets.find("ann", "wandb") == b"new\n"
        assert await names(ann) == ["wandb"]

    world(main)


@pytest.mark.parametrize("flags", [OpenFlags.READ, OpenFlags.READ | OpenFlags.WRITE])
def test_it_is_never_read(world, flags):
    async def main(ann, bob, root):
        await drop(ann, "secrets/x", b"token")
        assert await kind_of(ann.open("secrets/x", flags, 0)) is Kind.DENIED
        file = await ann.open("secrets/x", AGAIN, 0)
        assert await kind_of(file.read(0, 10)) is Kind.DENIED
        await file.release()

    world(main)


def test_nobody_sees_anything_of_anybody_elses(world, service):
    async def main(ann, bob, root):
        await drop(ann, "secrets/x", b"token")
        for other in (bob, root):
            assert await names(other) == []
            assert await kind_of(other.getattr("secrets/x")) is Kind.NOT_FOUND
            assert await kind_of(other.unlink("secrets/x")) is Kind.NOT_FOUND
        await drop(bob, "secrets/x", b"his")
        assert await service.secrets.find("ann", "x") == b"token"

    world(main)


def test_rm_forgets_it(world, service):
    async def main(ann, bob, root):
        await drop(ann, "secrets/x", b"token")
        await ann.unlink("secrets/x")
        assert await names(ann) == []
        assert await service.secrets.find("ann", "x") is None
        assert await kind_of(ann.unlink("secrets/x")) is Kind.NOT_FOUND

    world(main)


@pytest.mark.parametrize("closing", [Closing.DYING])
def test_what_a_dying_writer_leaves_is_not_kept(world, service, closing):
    async def main(ann, bob, root):
        await drop(ann, "secrets/x", b"whole")
        await drop(ann, "secrets/x", b"ha", closing=closing, flags=AGAIN)
        assert await service.secrets.find("ann", "x") == b"whole"

    world(main)


def test_opening_and_closing_alone_changes_nothing(world, service):
    async def main(ann, bob, root):
        await drop(ann, "secrets/new")
        assert await names(ann) == []
        await drop(ann, "secrets/x", b"whole")
        await drop(ann, "secrets/x", flags=AGAIN)
        assert await service.secrets.find("ann", "x") == b"whole"

    world(main)


def test_one_is_written_whole_or_not_at_all(world, service):
    async def main(ann, bob, root):
        await drop(ann, "secrets/x", b"whole")
        assert await kind_of(ann.open("secrets/x", OpenFlags.WRITE | OpenFlags.APPEND, 0)) is Kind.FORBIDDEN
        file = await ann.open("secrets/x", AGAIN, 0)
        assert await kind_of(file.write(7, b"the rest of it")) is Kind.IO
        await file.flush(Closing.LAST)
        await file.release()
        assert await kind_of(drop(ann, "secrets/x", b"x" * TEXT_BYTES_MAX, b"x", flags=AGAIN)) is Kind.TOO_LARGE
        assert await service.secrets.find("ann", "x") == b"whole"

    world(main)


def test_programs_that_set_times_and_rights_while_they_write_are_content(world, service):
    async def main(ann, bob, root):
        file = await ann.open("secrets/x", NEW, 0o600)
        await file.write(0, b"longer than it is")
        await file.setattr(Changes(size=0))
        await file.write(0, b"text")
        await file.setattr(Changes(mode=0o600, mtime_ns=5))
        await file.flush(Closing.LAST)
        await file.release()
        await ann.setattr("secrets/x", Changes(mode=0o644))
        assert (await ann.getattr("secrets/x")).mode == 0o200
        assert await service.secrets.find("ann", "x") == b"text"

    world(main)


@pytest.mark.parametrize("name", [".x.swp", "a b", "-x", "x" * 64, "é"])
def test_a_name_that_no_spec_could_use_is_refused(world, name):
    async def main(ann, bob, root):
        assert await kind_of(drop(ann, f"secrets/{name}", b"x")) is Kind.FORBIDDEN

    world(main)


def test_a_whole_file_at_once_is_kept(world, service):
    async def main(ann, bob, root):
        for text in (b"first", b"second"):
            await ann.put("secrets/x", text, None)
            assert await service.secrets.find("ann", "x") == text

    world(main)


def test_a_text_that_is_too_long_is_recorded_once_and_without_a_word_of_it(world, service):
    async def main(ann, bob, root):
        file = await ann.open("secrets/x", NEW, 0o600)
        for _ in range(3):
            assert await kind_of(file.write(0, b"canary" * TEXT_BYTES_MAX)) is Kind.TOO_LARGE
        await file.release()
        assert told(service) == [("secret.keep", "users/ann/secrets/x", Kind.TOO_LARGE)]
        assert "canary" not in "".join(service.audit.lines_now())

    world(main)


def test_one_more_than_there_may_be_is_recorded(world, service, monkeypatch):
    monkeypatch.setattr("jobd.store.secrets.SECRETS_MAX", 1)

    async def main(ann, bob, root):
        await drop(ann, "secrets/x", b"token")
        assert await kind_of(drop(ann, "secrets/y", b"token")) is Kind.QUOTA
        assert told(service)[1:] == [("secret.keep", "users/ann/secrets/y", Kind.QUOTA)]

    world(main)
