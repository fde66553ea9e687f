"""The tree for programs with an event loop: what goes wrong on the way is told as to those without one."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trustme

from pfs.client.asking import Asking
from pfs.client.asyncweb import open_web
from pfs.client.http11 import Told
from pfs.errors import Kind, PfsError
from tests.pfs.client.test_web import Hanging
from tests.pfs.served import listening

T = TypeVar("T")
Run = Callable[[Callable[[], Any]], Any]
Command = Callable[[Asking], Awaitable[Any]]

LIST = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"entries": []}'


async def asked(loop: str, url: str, command: Command, ca: str | None = None) -> Any:
    """Run a command in an event loop of some kind."""

    async def work() -> Any:
        async with open_web(url, "ann-token", ca) as client:
            return await command(client)

    return await (work() if loop == "trio" else trio.to_thread.run_sync(lambda: asyncio.run(work())))


@pytest.fixture(params=["trio", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_only_looks_is_asked_again_where_the_server_just_hung_up(run: Run, loop: str) -> None:
    server = Hanging()

    async def command(client: Asking) -> None:
        await client.list("")
        assert await client.list("") == []

    async def main() -> None:
        async with listening(server.converse) as url:
            await asked(loop, url, command)

    run(main)
    assert server.asked == [server.asked[0]] * len(server.asked)
    assert len(server.asked) in (2, 3)  # where it is seen in time that it has hung up, nothing is asked there


def test_what_may_change_something_is_not_asked_again(run: Run, loop: str) -> None:
    server = Hanging(keeps=False)

    async def main() -> None:
        async with listening(server.converse) as url:
            with pytest.raises(PfsError, match="hung up") as caught:
                await asked(loop, url, lambda client: client.call("POST", "/x", b""))
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)
    assert len(server.asked) == 1


def test_a_server_that_says_nothing_is_left_in_time(run: Run, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def command(client: Asking) -> None:
        async with client.stream("x", silence_s=0.05) as pieces:
            await anext(pieces)

    async def main() -> None:
        async with listening(converse) as url:
            with pytest.raises(PfsError, match="timed out") as caught:
                await asked(loop, url, command)
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)


def test_a_server_that_dies_in_a_stream_is_said(run: Run, loop: str) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n")
        await stream.aclose()

    async def command(client: Asking) -> None:
        async with client.stream("job/log") as pieces:
            assert await anext(pieces) == b"first\n"
            await anext(pieces)

    async def main() -> None:
        async with listening(converse) as url:
            with pytest.raises(PfsError, match="it hung up") as caught:
                await asked(loop, url, command)
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)


def test_what_a_program_does_wrong_with_a_stream_is_no_matter_of_the_server(run: Run, loop: str) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(LIST)
        await trio.sleep_forever()

    async def command(client: Asking) -> None:
        async with client.stream("x"):
            raise TimeoutError("mine")

    async def main() -> None:
        async with listening(converse) as url:
            with pytest.raises(TimeoutError, match="mine"):
                await asked(loop, url, command)

    run(main)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (iter([b"in ", b"", b"pieces"]), b"transfer-encoding: chunked\r\n\r\n3\r\nin \r\n6\r\npieces\r\n0\r\n\r\n"),
        (Told(9, [b"in ", b"pieces"]), b"content-length: 9\r\n\r\nin pieces"),
        (b"in pieces", b"content-length: 9\r\n\r\nin pieces"),
    ],
    ids=["pieces", "told", "whole"],
)
def test_a_body_is_sent_as_it_comes(run: Run, body: Any, sent: bytes) -> None:
    heard = b""

    async def converse(stream: trio.SocketStream) -> None:
        nonlocal heard
        while not heard.endswith((b"pieces", b"0\r\n\r\n")):
            heard += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 204 Done\r\n\r\n")
        await trio.sleep_forever()

    async def main() -> None:
        async with listening(converse) as url:
            assert await asked("trio", url, lambda client: client.call("PUT", "/x", body)) is None

    run(main)
    head, _, rest = heard.lower().partition(b"\r\n\r\n")
    assert sent.partition(b"\r\n\r\n")[0] in head
    assert rest == sent.partition(b"\r\n\r\n")[2]


def test_a_server_that_is_not_trusted_is_told_with_the_reason(run: Run, loop: str, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def converse(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # the other side leaves
            await trio.SSLStream(stream, context, server_side=True).receive_some()

    async def main() -> None:
        async with listening(converse) as url:
            with pytest.raises(PfsError, match="its certificate is not trusted") as caught:
                await asked(loop, url.replace("http", "https"), lambda c: c.read("me"), str(tmp_path / "other.pem"))
            assert caught.value.kind is Kind.UNREACHABLE

    run(main)
