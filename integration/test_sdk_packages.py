"""PaddleCloud's packages by the SDK, against a real server: only what changed travels, also after a stop.

There is no node: that such jobs run is shown by what the command does (`integration.test_paddle_submit`).
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from cli.files import large
from cli.sdk import AsyncClient, Client, Kind, PfsError, Progress
from integration.box import WAIT_S, Box, box
from integration.test_sdk import README, program

PROGRAM = README.split("\n## From Python\n", 1)[1].split("\n## ", 1)[0].split("```python\n")[3].split("```")[0]
FIELDS: dict[str, Any] = {"entry": "sh train.sh", "image": "busybox"}
LARGE_BYTES = 40 * 1024 * 1024
Submit = Callable[..., int]


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        yield made


def by_client(made: Box, *arguments: Any, **named: Any) -> int:
    with Client(endpoint=made.url, token=made.token) as client:
        job = client.submit_package(*arguments, **named)
        client.kill(job)  # while a job is not over, no other package comes to its folder
        return client.wait(job, timeout_s=WAIT_S)


async def _by_async_client(made: Box, *arguments: Any, **named: Any) -> int:
    async with AsyncClient(endpoint=made.url, token=made.token) as client:
        job = await client.submit_package(*arguments, **named)
        await client.kill(job)
        return await client.wait(job, timeout_s=WAIT_S)


def in_asyncio(*arguments: Any, **named: Any) -> int:
    return asyncio.run(_by_async_client(*arguments, **named))


def in_trio(*arguments: Any, **named: Any) -> int:
    async def work() -> int:
        return await _by_async_client(*arguments, **named)

    return trio.run(work)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "data").mkdir(parents=True)
    (folder / "train.sh").write_text("cat data/small\n")
    (folder / "data/small").write_text("first\n")
    (folder / "data/large").write_bytes(os.urandom(LARGE_BYTES))
    (folder / "old").write_text("gone soon\n")
    return folder


def inodes(folder: Path) -> dict[str, int]:
    """Return which file each name is: one that was sent again is another."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.stat().st_ino for path in found}


def jobs(made: Box) -> int:
    with Client(endpoint=made.url, token=made.token) as client:
        return len(client.jobs())


def folder_of(made: Box, name: str) -> Path:
    return made.data / "home/demo/jobs" / name


@pytest.mark.parametrize("submit", [by_client, in_asyncio, in_trio])
def test_the_second_time_only_what_changed_is_sent(made: Box, package: Path, submit: Submit) -> None:
    name, told = submit.__name__, list[Progress]()
    there = folder_of(made, name)
    submit(made, package, jobname=name, progress=told.append, **FIELDS)
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert [(each.done, each.size) for each in told if each.size][-1] == (size, size)
    (there / "out-0").write_text("left by the job\n")
    before = inodes(there)

    (package / "data/small").write_text("second!\n")
    (package / "old").unlink()
    told.clear()
    submit(made, package, jobname=name, progress=told.append, **FIELDS)
    assert [(each.done, each.size) for each in told if each.size] == [(8, 8)]
    after = inodes(there)
    assert (there / "data/small").read_text() == "second!\n"
    assert set(before) - set(after) == {"old"}
    assert {path for path in after if after[path] != before[path]} == {"data/small"}


class StoppedError(Exception):
    """By what hears how far it is."""


def stopping(stop: Callable[[], object], told: list[Progress]) -> Callable[[Progress], None]:
    def hear(progress: Progress) -> None:
        told.append(progress)
        if progress.done > LARGE_BYTES // 2:
            stop()

    return hear


def stopped_by_itself(made: Box, told: list[Progress], *arguments: Any, **named: Any) -> None:
    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError), Client(endpoint=made.url, token=made.token) as client:
        client.submit_package(*arguments, **named, progress=stopping(stop, told))


def stopped_in_asyncio(made: Box, told: list[Progress], *arguments: Any, **named: Any) -> None:
    async def work() -> None:
        async with AsyncClient(endpoint=made.url, token=made.token) as client:

            def stop() -> None:
                task.cancel()

            submitted = client.submit_package(*arguments, **named, progress=stopping(stop, told))
            task = asyncio.ensure_future(submitted)
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(work())


def stopped_in_trio(made: Box, told: list[Progress], *arguments: Any, **named: Any) -> None:
    async def work() -> None:
        async with AsyncClient(endpoint=made.url, token=made.token) as client:
            with trio.CancelScope() as scope:
                await client.submit_package(*arguments, **named, progress=stopping(scope.cancel, told))
            assert scope.cancelled_caught

    trio.run(work)


@pytest.mark.parametrize(
    ("stopped", "again"),
    [(stopped_by_itself, by_client), (stopped_in_asyncio, in_asyncio), (stopped_in_trio, in_trio)],
)
def test_who_was_stopped_in_the_middle_goes_on_there(
    made: Box, package: Path, stopped: Callable[..., None], again: Submit
) -> None:
    name, told, count = stopped.__name__, list[Progress](), jobs(made)
    there = folder_of(made, name)
    stopped(made, told, package, jobname=name, **FIELDS)
    assert (jobs(made), (there / "data/large").exists()) == (count, False)
    part = (there / "data/.large.pfs-part").stat()
    assert part.st_size < LARGE_BYTES

    told.clear()
    again(made, package, jobname=name, progress=told.append, **FIELDS)
    reached = [each.done for each in told if each.size]
    # the first that is there was not sent again, of which the checksum of a chunk tells
    assert reached[0] >= min(part.st_size, large.CHUNK_BYTES) > LARGE_BYTES // 4
    assert (there / "data/large").read_bytes() == (package / "data/large").read_bytes()
    assert (there / "data/large").stat().st_ino == part.st_ino
    assert jobs(made) == count + 1


def test_more_gpus_than_the_quota_has_are_refused_before_anything_travels(made: Box, package: Path) -> None:
    assert made.run("jobd", "quota", "demo", "--gpus", "1", "--data-root", str(made.data)).returncode == 0
    with (
        Client(endpoint=made.url, token=made.token) as client,
        pytest.raises(PfsError, match="quota is 1 at once, 0 in use") as caught,
    ):
        client.submit_package(package, jobname="greedy", gpu=2, **FIELDS)
    assert caught.value.kind is Kind.QUOTA
    assert not folder_of(made, "greedy").exists()


def test_the_program_of_readme_submits_a_package_and_tells_how_far_it_is(made: Box, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/train.py").write_text("pass\n")
    *steps, number = program(made, PROGRAM, tmp_path).splitlines()
    assert steps == ["uploading: 5 of 5 bytes"]
    with Client(endpoint=made.url, token=made.token) as client:
        assert client.job("emb")["id"] == number
    assert (folder_of(made, "emb") / "train.py").read_text() == "pass\n"


def test_the_command_finds_what_the_sdk_brought(made: Box, package: Path) -> None:
    by_client(made, package, jobname="both", **FIELDS)
    there = folder_of(made, "both")
    before = inodes(there)
    (package / "old").unlink()
    words = [word for name, value in FIELDS.items() for word in (f"-{name}", value)]
    done = made.run("paddle", "submit", "-jobname", "both", *words, str(package))
    assert (done.returncode, done.stderr) == (0, "")
    steps = ["Collecting package ... Done", "Uploading package ... Done", "Starting job ... Done"]
    *told, number = done.stdout.splitlines()
    assert (told, number) == (steps, f"Job {jobs(made)}")
    del before["old"]
    assert inodes(there) == before
