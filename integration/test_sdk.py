"""Programs that use the SDK, against a real server and a node: what README shows of them is run as it stands."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from cli.sdk import AsyncClient, Client, Kind, PfsError
from integration.box import BIN, WAIT_S, Box, box

README = (Path(__file__).parent.parent / "README.md").read_text()
FIRST, SECOND, _ = re.findall(
    r"```python\n(.*?)```", README.split("\n## From Python\n", 1)[1].split("\n## ", 1)[0], re.DOTALL
)
TRAIN = """
import os
with open(os.path.join(os.environ["USER_DIR"], "data/numbers")) as file:
    total = sum(map(int, file))
print("trained on", total)
with open(os.path.join(os.environ["USER_DIR"], "model"), "w") as file:
    file.write(str(total))
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node()
        yield made


def program(made: Box, text: str, folder: Path) -> str:
    """Run a program, and return what it prints."""
    done = subprocess.run(
        [BIN / "python", "-c", text],
        cwd=folder,
        env=made.env,
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_trains_on_data_that_it_brings_and_fetches_the_model(made: Box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/numbers").write_text("1\n2\n3\n")
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/train.py").write_text(TRAIN)
    assert "trained on 6\n" in program(made, FIRST, tmp_path)
    assert (tmp_path / "model").read_text() == "6"
    (tmp_path / "data/numbers").write_text("one\n")
    assert "exit code 1" in program(made, FIRST, tmp_path)


def test_the_second_program_waits_for_two_jobs_at_once(made: Box, tmp_path: Path) -> None:
    assert program(made, SECOND, tmp_path) == "[3, 4]\n"


@asynccontextmanager
async def opened(made: Box) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(endpoint=made.url, token=made.token) as client:
        yield client


def in_trio(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    trio.run(work)


def in_asyncio(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
def test_a_job_is_followed_from_its_submission_to_its_removal(made: Box, run: Callable[..., None]) -> None:
    async def work() -> None:
        async with opened(made) as client:
            spec, key = {"name": "story", "command": "echo begun; sleep 600"}, f"once in {run.__name__}"
            job = await client.submit(spec, key=key)
            assert await client.submit(spec, key=key) == job
            pieces, heard = client.log(job), b""
            while b"begun\n" not in heard:
                heard += await anext(pieces)
            with pytest.raises(PfsError, match=f"job {job} is not over after 0.1 s") as caught:
                await client.wait(job, timeout_s=0.1)
            assert caught.value.kind is Kind.TIMED_OUT
            assert (await client.job("story"))["state"] == "RUNNING"
            assert [each["name"] for each in await client.workers(job)] == ["story-worker-0"]
            assert job in [each["id"] for each in await client.jobs()]
            await client.priority(job, 20)
            assert (await client.job(job))["priority"] == "20"
            await client.kill(job)
            assert await client.wait(job, timeout_s=WAIT_S) != 0
            heard += b"".join([piece async for piece in pieces])
            assert heard.count(b"begun") == 1
            assert "killed" in await client.why(job)
            await client.remove_job(job)
            with pytest.raises(PfsError) as caught:
                await client.job(job)
            assert caught.value.kind is Kind.NOT_FOUND

    run(work)


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
def test_folders_go_there_and_come_back(made: Box, tmp_path: Path, run: Callable[..., None]) -> None:
    files = {f"d{number % 3}/f{number}": str(number).encode() * number for number in range(50)}
    for name, data in files.items():
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def work() -> None:
        async with opened(made) as client:
            await client.upload(tmp_path / "here", f"home/me/{run.__name__}")
            await client.download(f"home/me/{run.__name__}", tmp_path / "back")
            entries = await client.ls(f"home/me/{run.__name__}")
            assert {each["name"] for each in entries if each["type"] == "directory"} == {"d0", "d1", "d2"}

    run(work)
    back = tmp_path / "back"
    assert {str(each.relative_to(back)): each.read_bytes() for each in back.rglob("f*")} == files


def test_a_program_without_an_event_loop_does_the_same(made: Box) -> None:
    with Client(endpoint=made.url, token=made.token) as client:
        job = client.submit("command: echo said; exit 4\n", name="plain")
        assert b"] said\n" in b"".join(client.log(job))
        assert client.wait("plain") == 4
        assert client.tail(job).endswith("said")
        assert client.nodes()[0]["name"] == "n0"
        assert client.quota()[0]["of"] == "demo"
        assert client.queue() == []
