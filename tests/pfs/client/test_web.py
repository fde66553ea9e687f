"""The tree for commands that look once and end: what they read and write, and what they say when they cannot."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pfs.client import asking
from pfs.client.web import WebClient, facts
from pfs.errors import Kind, PfsError
from pfs.server.rest import REST
from pfs.server.routes import error_response
from tests.pfs.served import datacenter, listening, served
from tests.pfs.world import World

T = TypeVar("T")
Run = Callable[[Callable[[], Any]], Any]


def answer(run: Run, world: World, command: Callable[[WebClient], T], token: str = "ann-token") -> T:
    """Run a command, which knows no event loop, against a server."""

    async def main() -> T:
        async with datacenter(world) as server:
            return await asked(server.url, command, token)

    result: T = run(main)
    return result


async def asked(url: str, command: Callable[[WebClient], T], token: str = "ann-token") -> T:
    def work() -> T:
        with WebClient(url, token) as client:
            return command(client)

    return await trio.to_thread.run_sync(work)


def test_files_and_lists_are_read(run: Run, world: World) -> None:
    name = os.fsdecode(b"caf\xe9 1%?#")
    (world.path / "home/ann" / name).write_bytes(b"12345")
    (world.path / "home/ann/d").mkdir()
    (world.path / "home/ann/d/state").write_bytes(b"RUNNING\n")
    world.log.change(b"so far\n")

    def command(client: WebClient) -> None:
        assert client.read(f"home/ann/{name}") == b"12345"
        assert client.read("job/log") == b"so far\n"
        rows = client.list("home/ann", each="state")
        assert [(row["name"], row.get("each")) for row in rows] == [(name, None), ("d", "RUNNING\n")]
        assert [row["name"] for row in client.list("home")] == ["ann", "bob"]

    answer(run, world, command)


def test_a_file_has_no_entries_whatever_is_in_it(run: Run, world: World) -> None:
    (world.path / "home/ann/x").write_bytes(b'{"entries": [{"name": "a", "type": "file"}]}')
    world.log.change(b"more will come\n")

    def command(client: WebClient) -> None:
        for path in ("home/ann/x", "job/log"):
            with pytest.raises(PfsError, match=f"{path} is not a directory") as caught:
                client.list(path)
            assert caught.value.kind is Kind.NOT_DIR
        assert [row["name"] for row in client.list("home")] == ["ann", "bob"]

    answer(run, world, command)


def test_texts_and_commands_are_written(run: Run, world: World) -> None:
    def command(client: WebClient) -> None:
        assert client.put("drops/x.yaml", b"command: true\n", "k1") == "jobs/1"
        assert client.put("home/ann/x", b"12345", "k2") is None
        client.write("job/ctl", b"kill\n")

    answer(run, world, command)
    assert (world.drops.texts, world.drops.keys) == ({"x.yaml": b"command: true\n"}, ["k1"])
    assert (world.path / "home/ann/x").read_bytes() == b"12345"
    assert world.control.commands == [b"kill\n"]


def test_a_stream_comes_as_it_grows(run: Run, world: World) -> None:
    got: list[bytes] = []
    world.log.change(b"first\n")

    def command(client: WebClient) -> None:
        with client.stream("job/log") as pieces:
            got.append(next(pieces))
            trio.from_thread.run_sync(world.log.change, b"second\n")
            got.append(next(pieces))
            trio.from_thread.run_sync(lambda: world.log.change(b"last\n", done=True))
            got.extend(pieces)

    answer(run, world, command)
    assert got == [b"first\n", b"second\n", b"last\n"]


def stream(client: WebClient) -> None:
    with client.stream("home/missing"):
        raise AssertionError


def test_a_refusal_is_the_servers(run: Run, world: World) -> None:
    commands: list[Callable[[WebClient], object]] = [
        lambda client: client.read("home/missing"),
        lambda client: client.list("home/missing"),
        lambda client: client.put("home/missing/x", b"", "k"),
        lambda client: client.write("home/missing/x", b""),
        stream,
    ]

    def command(client: WebClient) -> None:
        for each in commands:
            with pytest.raises(PfsError) as caught:
                each(client)
            assert caught.value.kind is Kind.NOT_FOUND
        with pytest.raises(PfsError, match="there is no command 'dance'") as caught:
            client.write("job/ctl", b"dance\n")
        assert caught.value.kind is Kind.INVALID

    answer(run, world, command)


@pytest.mark.parametrize("token", ["wrong", "node-key", "", "two words", "line\n", "tökén"])
def test_a_wrong_token_is_said(run: Run, world: World, token: str) -> None:
    async def main() -> None:
        async with datacenter(world) as server:
            with pytest.raises(PfsError) as caught:
                await asked(server.url, lambda client: client.list(""), token)
            assert caught.value.kind is Kind.UNAUTHENTICATED

    run(main)


def test_no_server_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with WebClient(url, "ann-token") as client, pytest.raises(PfsError) as caught:
            client.list("")
    assert caught.value.kind is Kind.UNREACHABLE
    assert url in str(caught.value)
    assert "refused" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8470", "ftp://h", "http://", "http://[::1", "http://h:port", "http://h:99999"]
)
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(PfsError) as caught:
        WebClient(url, "ann-token")
    assert caught.value.kind is Kind.INVALID
    assert repr(url) in str(caught.value)


PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"
STRANGERS = {
    "page": PAGE,
    "list": PAGE.replace(b"<html>", b'["a"] '),
    "made": PAGE.replace(b"200 OK", b"201 Created"),
    "moved": b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    "none": PAGE.replace(b"200 OK", b"404 Not Found"),
    "broken": PAGE.replace(b"200 OK", b"502 Bad Gateway"),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "hangs up": b"",
}


@pytest.mark.parametrize("said", STRANGERS)
def test_a_server_that_is_none_of_ours_is_said(run: Run, said: str) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(STRANGERS[said])
        await stream.aclose()

    commands: list[Callable[[WebClient], object]] = [lambda client: client.list("")]
    if said == "made":
        commands = [lambda client: client.put("x", b"", "k")]
    elif said not in ("page", "list"):
        commands += [lambda client: client.read("x"), lambda client: client.write("x", b""), stream]

    async def main() -> None:
        async with listening(converse) as url:
            for command in commands:
                with pytest.raises(PfsError) as caught:
                    await asked(url, command)
                assert caught.value.kind is Kind.UNREACHABLE
                assert url in str(caught.value)

    run(main)


class Hanging:
    """A server that keeps connections, and hangs up at the second request on each, without or with a reset."""

    def __init__(self, *, keeps: bool = True, said: bytes = b"", resets: bool = False) -> None:
        self._keeps = keeps
        self._said = said
        self._resets = resets
        self.asked: list[bytes] = []

    async def converse(self, stream: trio.SocketStream) -> None:
        if self._keeps:
            await self._hear(stream)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n" + b'{"entries": []}')
        await self._hear(stream)
        if self._said:
            await stream.send_all(self._said)
        if self._resets:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async def _hear(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await stream.receive_some()
            if not piece:
                return  # a client that is done
            head += piece
        self.asked.append(head.partition(b" HTTP")[0])


def hear_a_stream(client: WebClient) -> None:
    with client.stream("x") as pieces:
        assert b"".join(pieces) == b'{"entries": []}'


@pytest.mark.parametrize("resets", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("look", [lambda client: client.list(""), lambda client: client.read("x"), hear_a_stream])
def test_what_only_looks_is_asked_again_where_the_server_just_hung_up(
    run: Run, look: Callable[[WebClient], object], resets: bool
) -> None:
    server = Hanging(resets=resets)

    def command(client: WebClient) -> None:
        client.list("")
        look(client)

    async def main() -> None:
        async with listening(server.converse) as url:
            await asked(url, command)

    run(main)
    assert len(server.asked) == 3
    assert server.asked[1] == server.asked[2]


def test_it_is_asked_again_once(run: Run) -> None:
    server = Hanging(keeps=False)

    async def main() -> None:
        async with listening(server.converse) as url:
            with pytest.raises(PfsError) as caught:
                await asked(url, lambda client: client.list(""))
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)
    assert len(server.asked) == 2


@pytest.mark.parametrize("resets", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.put("x", b"", "k"),
        lambda client: client.write("x", b""),
        *(lambda client, word=word: client.call(word, "/x", b"") for word in ("POST", "DELETE", "PUT")),
    ],
)
def test_what_may_change_something_is_not_asked_again(
    run: Run, change: Callable[[WebClient], object], resets: bool
) -> None:
    server = Hanging(resets=resets)

    def command(client: WebClient) -> None:
        client.list("")
        with pytest.raises(PfsError) as caught:
            change(client)
        assert caught.value.kind is Kind.UNREACHABLE

    async def main() -> None:
        async with listening(server.converse) as url:
            await asked(url, command)

    run(main)
    assert len(server.asked) == 2


def test_it_is_not_asked_again_where_an_answer_had_begun(run: Run) -> None:
    server = Hanging(said=b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{")

    def command(client: WebClient) -> None:
        client.list("")
        with pytest.raises(PfsError) as caught:
            client.list("")
        assert caught.value.kind is Kind.UNREACHABLE

    async def main() -> None:
        async with listening(server.converse) as url:
            await asked(url, command)

    run(main)
    assert len(server.asked) == 2


def test_a_server_that_says_nothing_is_left_in_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.05)

    async def converse(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with listening(converse) as url:
            with pytest.raises(PfsError, match="timed out") as caught:
                await asked(url, lambda client: client.read("x"))
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)


def test_a_server_that_dies_in_a_stream_is_said(run: Run) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n")
        await stream.aclose()

    def command(client: WebClient) -> None:
        with client.stream("job/log") as pieces:
            assert next(pieces) == b"first\n"
            next(pieces)

    async def main() -> None:
        async with listening(converse) as url:
            with pytest.raises(PfsError) as caught:
                await asked(url, command)
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_an_authority_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(PfsError) as caught:
        WebClient("https://127.0.0.1:1", "ann-token", str(tmp_path / name))
    assert caught.value.kind is Kind.INVALID
    assert name in str(caught.value)


def test_facts_are_a_key_and_the_rest_of_the_line() -> None:
    assert facts("state RUNNING\nwhy two words\nempty\n") == {"state": "RUNNING", "why": "two words", "empty": ""}
    assert facts(None) == {}


def test_doors_beside_the_tree_are_asked_with_pieces_and_answer_in_json(run: Run) -> None:
    async def endpoint(request: Request) -> Response:
        body = (await request.body()).decode()
        if body == "refuse":
            return error_response(PfsError(Kind.QUOTA, "no room"))
        if body == "refuse as REST v1 does":
            return error_response(PfsError(Kind.QUOTA, "no room at all"), REST)
        return Response("no json" if body == "odd" else f'{{"method": "{request.method}", "body": "{body}"}}')

    app = Starlette(routes=[Route("/door", endpoint, methods=["PUT", "POST"])])

    def command(client: WebClient) -> None:
        assert client.call("PUT", "/door", b"whole") == {"method": "PUT", "body": "whole"}
        assert client.call("POST", "/door", iter([b"in ", b"pieces"])) == {"method": "POST", "body": "in pieces"}
        with pytest.raises(PfsError, match="no room"):
            client.call("POST", "/door", b"refuse")
        with pytest.raises(PfsError, match="no room at all") as caught:
            client.call("POST", "/door", b"refuse as REST v1 does")
        assert caught.value.kind is Kind.QUOTA
        with pytest.raises(PfsError, match="not a pfs server"):
            client.call("POST", "/door", b"odd")

    async def main() -> None:
        async with served(app) as server:
            await asked(server.url, command)

    run(main)
