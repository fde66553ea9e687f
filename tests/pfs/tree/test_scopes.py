"""A token that may do less than its owner: the tree lets it read, and nothing else."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from pfs.api import FileSystem
from pfs.errors import Kind, PfsError
from pfs.perm import EVERYTHING, Scope
from tests.pfs.world import ANN, CHANGING, LOOKING, READ, World, contents, kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]
READER = replace(ANN, scopes=frozenset({Scope.READ}))


@pytest.fixture
def written(world: World) -> World:
    for name in ("x", "mine"):
        (world.path / "home/ann" / name).write_text("text")
    return world


async def refusal(asked: Awaitable[object]) -> tuple[Kind, str] | None:
    try:
        await asked
    except PfsError as error:
        return error.kind, error.message
    return None


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("path", ["home/ann/x", "home/ann/new", "job/ctl", "drops/new.yaml", "README.txt"])
def test_a_token_for_reading_changes_nothing(run: Run, written: World, name: str, path: str) -> None:
    async def main() -> None:
        before = sorted(each.name for each in (written.path / "home/ann").iterdir())
        refused = await refusal(CHANGING[name](written.fs(READER), path))
        assert refused is not None
        assert refused[0] in {Kind.DENIED, Kind.NOT_FOUND, Kind.EXISTS, Kind.NOT_DIR, Kind.CROSS_DOMAIN, Kind.READ_ONLY}
        assert sorted(each.name for each in (written.path / "home/ann").iterdir()) == before
        assert (written.path / "home/ann/x").read_text() == "text"
        assert (written.control.commands, written.drops.texts) == ([], {})

    run(main)


@pytest.mark.parametrize("name", [name for name in LOOKING if not name.endswith(" from")])
def test_a_token_for_reading_reads_what_its_owner_reads(run: Run, written: World, name: str) -> None:
    look: Callable[[FileSystem, str], Awaitable[object]] = LOOKING[name]

    async def main() -> None:
        for path in ("home/ann/x", "home/ann", "job/log", "job/ctl", "drops", "README.txt", "home/bob"):
            assert await kind_of(look(written.fs(READER), path)) == await kind_of(look(written.fs(ANN), path))

    run(main)


def test_files_and_jobs_are_two_things(run: Run, written: World) -> None:
    writer = written.fs(replace(ANN, scopes=EVERYTHING - {Scope.SUBMIT}))
    submitter = written.fs(replace(ANN, scopes=EVERYTHING - {Scope.WRITE}))

    async def main() -> None:
        await writer.unlink("home/ann/x")
        assert await refusal(writer.put("drops/a.yaml", b"text", None)) == (
            Kind.DENIED,
            "this token is not for jobs and commands; take one with the scope submit",
        )
        assert await submitter.put("drops/a.yaml", b"text", None) is not None
        assert (await refusal(submitter.unlink("home/ann/mine")) or ("",))[0] == Kind.DENIED
        assert await contents(await submitter.open("home/ann/mine", READ, 0)) == b"text"

    run(main)
