"""What both faces of the SDK do over a real connection; and that they offer the same."""

import asyncio
import gc
import inspect
import json
import re
from ast import literal_eval
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from cli.sdk.aio import AsyncClient
from cli.sdk.sync import Client
from pfs.errors import Kind, PfsError
from tests.cli.cloud.clouds import WORKERS
from tests.cli.sdk.faces import ENDLESS, FACES, TOKEN, Ask, Datacenter, datacenter, face

ROOT = Path(__file__).parent.parent.parent.parent
README = (ROOT / "README.md").read_text()

Run = Callable[[Callable[[], Any]], Any]
With = Callable[[Callable[[Ask, Datacenter], Awaitable[None]]], None]


@pytest.fixture(params=FACES)
def with_face(request: pytest.FixtureRequest, run: Run) -> With:
    """Run what asks one face of the SDK."""

    def work(main: Callable[[Ask, Datacenter], Awaitable[None]]) -> None:
        async def within() -> None:
            cloud = Datacenter()
            async with datacenter(cloud) as url:
                await main(face(request.param, url), cloud)

        run(within)

    return work


def offered(client: type) -> dict[str, Any]:
    return {name: each for name, each in vars(client).items() if callable(each) and not name.startswith("_")}


def test_both_faces_offer_the_same_services_with_the_same_arguments() -> None:
    sync, aio = offered(Client), offered(AsyncClient)
    assert sorted(sync) == sorted(aio)
    for name in sync:
        one, other = inspect.signature(sync[name]), inspect.signature(aio[name])
        assert one.parameters == other.parameters, name
        assert inspect.getdoc(sync[name]) == inspect.getdoc(aio[name]), name
        comes_in_pieces = getattr(other.return_annotation, "__name__", "") == "AsyncGenerator"
        assert comes_in_pieces != inspect.iscoroutinefunction(aio[name]), name
        if comes_in_pieces:
            assert one.return_annotation.__args__[0] is other.return_annotation.__args__[0], name
        else:
            assert one.return_annotation == other.return_annotation, name
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_readme_names_every_service() -> None:
    rows = re.findall(
        r"^\| [\w ]+ \| `([\w ]+)`", README.split("\n## From Python\n")[1].split("\n## ")[0], re.MULTILINE
    )
    assert sorted(name for row in rows for name in row.split()) == sorted({*offered(Client)} - {"close"})


def test_no_command_asks_about_jobs_past_the_sdk() -> None:
    doors = re.compile(r"/api/v1/(jobs|pservers|workers|logs|restore|specs)\b|jobs/{[^}]*}/(ctl|why|wait|status)\b")
    folders = ("cloud", "attach", "snakepit")
    asking = [path for folder in folders for path in (ROOT / "cli" / folder).rglob("*.py")]
    assert [path.name for path in asking if doors.search(path.read_text())] == []
    assert doors.search((ROOT / "cli/sdk/operations.py").read_text())


def test_jobs_are_looked_at(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        assert [each["id"] for each in await ask("jobs")] == [19, 18, 17, 16]
        assert [int(each["id"]) for each in await ask("everybodys_jobs")] == [15, 16, 17, 18, 19]
        assert (await ask("job", "word-emb"))["state"] == "RUNNING"
        assert await ask("workers", 17) == [each for each in WORKERS if each["job"] == 17]
        assert len(await ask("workers")) == 5
        assert await ask("why", 16) == "process 0.0 ended with 3\n\x1b[31mits last line: Killed\n"
        assert [each["job"] for each in await ask("queue")] == ["19", "20"]
        assert (await ask("quota"))[1] == {"of": "ann", "what": "jobs running", "used": "2", "limit": "none"}
        assert [each["name"] for each in await ask("nodes")] == ["n0", "n1"]
        assert await ask("registries") == [{"id": 0, "name": "corp", "data": "2026-01-01T00:00:00Z"}]

    with_face(main)


def test_a_log_comes_whole_or_of_one_process_or_as_far_as_it_is(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        assert b"".join(await ask("log", "word-emb")) == b"all of it\n"
        assert b"".join(await ask("log", 17, follow=False)) == b"all so far\n"
        assert b"".join(await ask("log", 17, "word-emb-pserver-0")) == b"word-emb-pserver-0 says this\n"
        assert await ask("tail", 17, 3, "word-emb-trainer-0") == "the last 3 lines"
        with pytest.raises(PfsError, match="job 17 has no worker 9"):
            await ask("log", 17, "9")

    with_face(main)


def test_a_job_is_waited_for(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        assert await ask("wait", 16) == 3
        assert await ask("wait", "digits", timeout_s=60) == 130

    with_face(main)


def test_what_a_job_is_told_stands_in_its_ctl(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        for name, *arguments in (
            ("kill",),
            ("signal", "USR1"),
            ("hold",),
            ("release",),
            ("requeue",),
            ("priority", 7),
            ("extend", "2h"),
            ("share", "a", "b"),
            ("unshare",),
        ):
            assert await ask(name, 17, *arguments) is None
        told = [
            *("kill", "signal USR1", "hold", "release", "requeue", "priority 7", "extend 2h"),
            "share a b",
            "unshare",
        ]
        assert [literal_eval(line.removeprefix("jobs/17/ctl <- ")) for line in cloud.done] == [
            f"{words}\n".encode() for words in told
        ]

    with_face(main)


def test_a_job_is_removed_when_it_is_over(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        await ask("remove_job", 16)
        await ask("remove_job", "word-emb")
        assert cloud.done == ["remove jobs/16", "jobs/17/ctl <- b'kill\\n'", "remove jobs/17"]

    with_face(main)


def test_a_job_that_was_removed_is_brought_back(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        assert (await ask("restore_job", 16), await ask("restore_job", "word-emb")) == (16, 17)
        assert cloud.done == ["restore 16", "restore 17"]
        with pytest.raises(PfsError, match="there is no job '99', and none in the trash"):
            await ask("restore_job", 99)

    with_face(main)


def test_a_spec_is_submitted_as_a_text_as_a_dictionary_and_as_a_file(with_face: With, tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text("command: x\n")

    async def main(ask: Ask, cloud: Datacenter) -> None:
        assert await ask("submit", "command: x\n") == 20
        assert await ask("submit", {"command": "é"}, name="mine", key="k") == 20
        assert await ask("submit", tmp_path / "digits.yaml") == 20
        assert cloud.done[0] == "jobs/job.yaml <- b'command: x\\n'"
        name, _, text = cloud.done[1].partition(" <- ")
        assert (name, json.loads(literal_eval(text))) == ("jobs/mine.yaml", {"command": "é"})
        assert cloud.done[2] == "jobs/digits.yaml <- b'command: x\\n'"
        assert cloud.keys[1] == "k"
        assert len(set(cloud.keys)) == 3
        with pytest.raises(PfsError, match="image is of a folder without a spec"):
            await ask("submit", "command: x", image="python:3.11")

    with_face(main)


def test_files_are_written_read_listed_and_named_otherwise(with_face: With, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"12")

    async def main(ask: Ask, cloud: Datacenter) -> None:
        assert await ask("read", "home/ann/notes.txt") == b"1\n2\n"
        assert b"".join(await ask("stream", "home/ann/notes.txt")) == b"1\n2\n"
        assert [(each["name"], each["type"], each["size"]) for each in await ask("ls", "home/ann")] == [
            ("notes.txt", "file", 4)
        ]
        await ask("download", "home/ann/notes.txt", tmp_path / "notes")
        assert (tmp_path / "notes").read_bytes() == b"1\n2\n"
        await ask("write", "home/ann/a", [b"in ", b"pieces"])
        await ask("upload", tmp_path / "here", "home/ann/b")
        await ask("mkdir", "home/ann/d")
        await ask("mv", "home/ann/a", "home/ann/d/a")
        await ask("rm", "home/ann/b")
        assert cloud.done == [
            "home/ann/a <- b'in pieces'",
            "file home/ann b b'12'",
            "mkdir home/ann/d",
            "home/ann/a -> home/ann/d/a",
            "remove home/ann/b",
        ]

    with_face(main)


def test_what_the_server_makes_something_of_is_given_to_it(with_face: With, tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text("command: x\n")

    async def main(ask: Ask, cloud: Datacenter) -> None:
        await ask("upload", tmp_path / "digits.yaml", "jobs/digits.yaml")
        assert cloud.done == ["jobs/digits.yaml <- b'command: x\\n'"]

    with_face(main)


@pytest.mark.parametrize("service", ["job", "wait", "log", "why", "workers", "kill", "remove_job"])
def test_a_job_that_there_is_not_is_told(with_face: With, service: str) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        with pytest.raises(PfsError, match="there is no job 'nobodys'") as caught:
            await ask(service, "nobodys")
        assert caught.value.kind is Kind.NOT_FOUND

    with_face(main)


def test_a_file_that_there_is_not_leaves_none_here(with_face: With, tmp_path: Path) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        with pytest.raises(PfsError) as caught:
            await ask("download", "home/ann/missing", tmp_path / "missing")
        assert caught.value.kind is Kind.NOT_FOUND
        assert not (tmp_path / "missing").exists()
        with pytest.raises(PfsError, match="cannot be read: No such file"):
            await ask("upload", tmp_path / "missing", "home/ann/x")

    with_face(main)


@pytest.mark.parametrize("kind", FACES)
def test_a_token_that_is_not_taken_and_a_server_that_is_away_are_told(run: Run, kind: str) -> None:
    async def main() -> None:
        async with datacenter(Datacenter()) as url:
            with pytest.raises(PfsError, match="does not know this token") as caught:
                await face(kind, url, "pfs1.other")("read", "me")
            assert caught.value.kind is Kind.UNAUTHENTICATED
        with pytest.raises(PfsError, match=r"no answer from the server at .*: Connection refused") as caught:
            await face(kind, url)("read", "me")
        assert caught.value.kind is Kind.UNREACHABLE

    run(main)


async def leave(url: str) -> None:
    async with AsyncClient(endpoint=url, token=TOKEN) as client:
        one = client.stream(ENDLESS)
        assert await anext(one) == b"first\n"
        pieces = client.stream(ENDLESS)
        async for piece in pieces:
            assert piece == b"first\n"
            break
    with pytest.raises(StopAsyncIteration):
        await anext(pieces)
    with pytest.raises(RuntimeError, match="async with AsyncClient"):
        await client.jobs()


def test_who_leaves_in_the_middle_of_a_stream_leaves_nothing_behind(run: Run) -> None:
    def sync(url: str) -> None:
        with Client(endpoint=url, token=TOKEN) as client:
            assert next(client.stream(ENDLESS)) == b"first\n"

    async def main() -> None:
        async with datacenter(Datacenter()) as url:
            await trio.to_thread.run_sync(sync, url)
            await leave(url)
            await trio.to_thread.run_sync(lambda: asyncio.run(leave(url)))

    run(main)
    gc.collect()
