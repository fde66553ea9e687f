"""The guarded server in this process: what one bad connection or application may do to the rest, and when it ends."""

import contextlib
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import hypercorn.trio.run
import pytest
import trio
import trio.lowlevel
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pfs.errors import Kind, PfsError
from pfs.protocol import sockets
from pfs.server import forwarded, guard, porter
from pfs.server.calls import Inbox
from pfs.server.crowd import Crowd, guest_in
from pfs.server.doors import source_of_request
from pfs.server.takeover import Taken, Taker, response_head

Run = Callable[[Callable[[], Awaitable[None]]], None]
LAST = {"type": "http.disconnect"}


@contextlib.asynccontextmanager
async def served(
    app: ASGIApp, unix_path: str | None = None, takers: Mapping[str, Taker] | None = None, *, proxied: bool = False
) -> AsyncIterator[int]:
    """Serve on a free port, which is yielded; the server is told to end afterwards, and has then ended."""
    ended = trio.Event()
    listen = functools.partial(guard.serve, app, host="127.0.0.1", port=0, unix_path=unix_path, takers=takers)
    serve = functools.partial(listen, proxied=proxied, shutdown=ended.wait)
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(serve)
        yield int(urls[0].removeprefix("http://127.0.0.1:"))
        ended.set()


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def rest_of(stream: trio.SocketStream) -> bytes:
    return b"".join([piece async for piece in stream])


async def ask(port: int, path: str) -> bytes:
    """The whole answer to one request on its own connection."""
    async with await connect(port) as stream:
        await stream.send_all(get(path, "Connection: close"))
        return await rest_of(stream)


async def living() -> int:
    """The number of tasks once everything waits."""
    await trio.testing.wait_all_tasks_blocked(0.05)
    return trio.lowlevel.current_statistics().tasks_living


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def broken(request: Request) -> Response:
    raise RuntimeError("a defect")


def an_app(*routes: Route) -> Starlette:
    return Starlette(routes=[Route("/", hello), Route("/broken", broken), *routes])


def bare(answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """An application without Starlette: `answer` for each request, and a lifespan in which nothing is done."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await answer(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})

    return app


async def start_answer(send: Send, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def test_it_answers_on_the_port_that_it_tells(run: Run) -> None:
    async def main() -> None:
        async with served(an_app()) as port:
            assert (await ask(port, "/")).endswith(b"\r\n\r\nhello")

    run(main)


@pytest.mark.parametrize(
    ("path", "line"), [("/", b"200 OK"), ("/broken", b"500 Internal Server Error"), ("/none", b"404 Not Found")]
)
def test_a_status_is_told_with_its_words(run: Run, path: str, line: bytes) -> None:
    async def main() -> None:
        async with served(an_app()) as port:
            assert (await ask(port, path)).split(b"\r\n")[0] == b"HTTP/1.1 " + line

    run(main)


def test_it_runs_only_on_the_hypercorn_that_it_was_written_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with pytest.raises(PfsError, match=r"hypercorn 0\.18\.0 .* only 0\.17\.3") as caught:
            await guard.serve(an_app(), host="127.0.0.1", port=0, shutdown=trio.sleep_forever)
        assert caught.value.kind is Kind.UNSUPPORTED

    monkeypatch.setattr(guard, "HYPERCORN_VERSION", "0.17.3")
    run(main)


def test_several_servers_share_a_process(run: Run) -> None:
    async def main() -> None:
        async with served(an_app()) as one, served(an_app()) as other:
            assert (await ask(one, "/")).endswith(b"hello")
            assert (await ask(other, "/")).endswith(b"hello")
        assert hypercorn.trio.run.TCPServer is guard._Connection  # type: ignore[attr-defined]

    run(main)


def test_a_defect_in_a_connection_ends_it_alone_with_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with served(an_app()) as port, await connect(port) as other:
            with monkeypatch.context() as patch:
                patch.setattr(guard._Http11, "_check_protocol", defect)
                assert await ask(port, "/") == b""
            await other.send_all(get("/", "Connection: close"))
            assert (await rest_of(other)).endswith(b"hello")

    async def defect(self: object, event: object) -> None:
        raise RuntimeError("first line\nsecond line")

    run(main)
    assert [record.getMessage() for record in caplog.records] == [
        r"a connection was ended by RuntimeError: 'first line\nsecond line'"
    ]
    assert caplog.records[0].exc_info is None


def test_a_defect_of_the_application_is_logged_and_answered(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with served(an_app()) as port:
            assert (await ask(port, "/broken")).startswith(b"HTTP/1.1 500")
            assert (await ask(port, "/")).endswith(b"hello")

    run(main)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.name == "pfs.server.guard.hypercorn"


def test_a_client_that_leaves_within_its_body_is_no_defect(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    left = trio.Event()

    async def read(request: Request) -> Response:
        try:
            return PlainTextResponse(str(len(await request.body())))
        finally:
            left.set()

    async def main() -> None:
        async with served(an_app(Route("/read", read, methods=["POST"]))) as port:
            async with await connect(port) as stream:
                await stream.send_all(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
            await left.wait()

    run(main)
    assert caplog.records == []


def test_a_reader_that_stalls_is_cut_and_the_application_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = trio.Event()

    async def pour(scope: Scope, receive: Receive, send: Send) -> None:
        await start_answer(send)
        await send({"type": "http.response.body", "body": bytes(64 * 1024 * 1024), "more_body": True})
        assert (await receive())["type"] == "http.request"
        assert await receive() == LAST
        told.set()

    async def main() -> None:
        async with served(bare(pour)) as port:
            idle = await living()
            async with await connect(port) as stream:
                await stream.send_all(get("/") * 2)
                await told.wait()
                with pytest.raises(trio.BrokenResourceError):
                    await rest_of(stream)
            assert await living() == idle

    monkeypatch.setattr(sockets, "WRITE_TIMEOUT_S", 0.1)
    run(main)


def test_a_client_that_is_told_off_within_an_answer_is_not_reset_by_the_rest_of_it(run: Run) -> None:
    said_more = trio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await start_answer(send)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        assert await receive() == LAST
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        said_more.set()

    async def main() -> None:
        async with served(bare(answer)) as port, await connect(port) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            await stream.send_all(b"no chunk\r\n")
            await said_more.wait()
            await stream.send_all(b"more that is let pass")
            await stream.send_all(b"and more")
            assert b"one" in await rest_of(stream)

    run(main)


def test_a_sender_that_is_cancelled_leaves_no_hole_in_what_is_heard(run: Run) -> None:
    big = bytes(32 * 1024 * 1024)
    cancelled = trio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await start_answer(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_once_blocked, nursery.cancel_scope)
            await send({"type": "http.response.body", "body": big, "more_body": True})
            await trio.sleep_forever()
        await send({"type": "http.response.body", "body": b"end"})

    async def cancel_once_blocked(scope: trio.CancelScope) -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()
        cancelled.set()

    async def main() -> None:
        async with served(bare(answer)) as port, await connect(port) as stream:
            await stream.send_all(get("/", "Connection: close"))
            await cancelled.wait()
            heard = await rest_of(stream)
            assert heard.count(0) == len(big)
            assert heard.endswith(b"3\r\nend\r\n0\r\n\r\n")

    run(main)


def test_a_sender_that_never_waits_can_be_cancelled_between_its_messages(run: Run) -> None:
    sent = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await start_answer(send)
        with trio.CancelScope() as cancelled:
            for _ in range(9):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                sent.append(1)
                cancelled.cancel()
        await send({"type": "http.response.body", "body": b"end"})

    async def main() -> None:
        async with served(bare(answer)) as port:
            assert (await ask(port, "/")).endswith(b"1\r\nx\r\n3\r\nend\r\n0\r\n\r\n")

    run(main)
    assert sent == [1]


def test_who_asks_without_waiting_hears_that_the_client_is_gone(run: Run) -> None:
    asked, gone = trio.Event(), trio.Event()

    async def wait(request: Request) -> Response:
        while not await request.is_disconnected():
            asked.set()
            await trio.lowlevel.checkpoint()
        gone.set()
        return Response()

    async def main() -> None:
        async with served(an_app(Route("/wait", wait))) as port:
            async with await connect(port) as stream:
                await stream.send_all(get("/wait"))
                await asked.wait()
                assert not gone.is_set()
            await gone.wait()

    run(main)


def test_a_body_that_nobody_reads_holds_nobody_up(run: Run) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        while trio.lowlevel.current_statistics().tasks_runnable:  # until the reader has filled the inbox
            await trio.testing.wait_all_tasks_blocked(0.01)
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with served(bare(refuse)) as port:
            idle = await living()
            async with await connect(port) as stream:
                await stream.send_all(
                    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n" + bytes(8_000_000)
                )
                assert (await rest_of(stream)).startswith(b"HTTP/1.1 413")
            assert await living() == idle

    run(main)


def test_a_client_that_waits_in_silence_for_an_answer_is_no_dead_peer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(request: Request) -> Response:
        await trio.sleep(0.2)
        return PlainTextResponse("at last")

    async def main() -> None:
        async with served(an_app(Route("/wait", wait))) as port:
            assert (await ask(port, "/wait")).endswith(b"at last")

    monkeypatch.setattr(guard, "KEEP_ALIVE_S", 0.05)
    run(main)


async def whole(taken: Taken) -> None:
    """Answer with all that comes until the peer has no more to say."""
    rest = b"".join([bytes(piece) async for piece in taken.stream])
    text = taken.request.target + b" " + taken.early + rest
    await taken.send(response_head(200, [(b"content-length", b"%d" % len(text))]) + text)


def test_a_connection_is_taken_with_the_request_and_what_comes_behind_it(run: Run) -> None:
    async def main() -> None:
        idle = await living()
        async with served(an_app(), takers={"/take": whole}) as port:
            async with await connect(port) as stream:
                await stream.send_all(get("/take/this") + b"early ")
                await stream.send_all(b"late")
                await stream.send_eof()
                assert (await rest_of(stream)).endswith(b"\r\n\r\n/take/this early late")
            assert (await ask(port, "/")).endswith(b"hello")
        assert await living() == idle

    run(main)


def test_a_later_request_on_a_connection_can_be_one_that_is_taken(run: Run) -> None:
    async def main() -> None:
        async with served(an_app(), takers={"/take": whole}) as port, await connect(port) as stream:
            await stream.send_all(get("/"))
            assert b"200" in await stream.receive_some()
            assert await stream.receive_some() == b"hello"
            await stream.send_all(get("/take"))
            await stream.send_eof()
            assert (await rest_of(stream)).endswith(b"/take ")

    run(main)


def test_a_defect_of_who_takes_ends_that_connection_alone(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def defect(taken: Taken) -> None:
        raise RuntimeError("the reason")

    async def main() -> None:
        async with served(an_app(), takers={"/take": defect}) as port, await connect(port) as stream:
            await stream.send_all(get("/take"))
            assert await rest_of(stream) == b""
            assert (await ask(port, "/")).endswith(b"hello")

    run(main)
    assert "the reason" in caplog.text


def test_who_waits_for_the_next_request_is_let_go_after_its_time_and_at_the_servers_end(run: Run) -> None:
    waited: list[str] = []

    async def wait(taken: Taken) -> None:
        with taken.idle(0.01 if taken.request.target == b"/take/short" else 600):
            await trio.sleep_forever()
        waited.append(taken.request.target.decode())

    async def main() -> None:
        async with served(an_app(), takers={"/take": wait}) as port:
            async with await connect(port) as short:
                await short.send_all(get("/take/short"))
                assert await rest_of(short) == b""
            long = await connect(port)
            await long.send_all(get("/take/long"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert waited == ["/take/short"]
        async with long:
            assert await rest_of(long) == b""
        assert waited == ["/take/short", "/take/long"]

    run(main)


def test_an_idle_connection_ends_after_its_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with served(an_app()) as port, await connect(port) as stream:
            for _ in range(3):
                await stream.send_all(get("/"))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                assert await stream.receive_some() == b"hello"
            assert await rest_of(stream) == b""

    monkeypatch.setattr(guard, "KEEP_ALIVE_S", 0.1)
    run(main)


@pytest.mark.parametrize(
    ("said", "answer"),
    [(b"", b""), (b"GET / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408"), (get("/") + b"G", b"HTTP/1.1 200")],
    ids=["nothing", "half a head", "half a second head"],
)
def test_a_head_that_does_not_come_ends_its_connection(
    run: Run, monkeypatch: pytest.MonkeyPatch, said: bytes, answer: bytes
) -> None:
    async def main() -> None:
        async with served(an_app()) as port, await connect(port) as stream, trio.open_nursery() as nursery:
            await stream.send_all(said)
            if said:
                nursery.start_soon(drip, stream)
            heard = await rest_of(stream)
            assert heard.startswith(answer)
            assert bool(heard) is bool(answer)
            assert (b"408" in heard) is (said != b"")
            nursery.cancel_scope.cancel()

    async def drip(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"X")
                await trio.sleep(0.01)

    monkeypatch.setattr(guard, "HEAD_TIMEOUT_S", 0.1)
    run(main)


def test_who_rests_longest_makes_room_for_a_new_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = trio.Event(), trio.Event()

    async def wait(request: Request) -> Response:
        begun.set()
        await ended.wait()
        return Response()

    async def main() -> None:
        async with (
            served(an_app(Route("/wait", wait)), takers={"/take": whole}) as port,
            contextlib.AsyncExitStack() as s,
        ):
            busy, idle, resting = [await s.enter_async_context(await connect(port)) for _ in range(3)]
            await busy.send_all(get("/wait"))
            await begun.wait()
            await resting.send_all(get("/"))
            assert (await resting.receive_some()).startswith(b"HTTP/1.1 200")
            assert (await ask(port, "/")).endswith(b"hello")
            assert await rest_of(idle) == b""
            assert (await ask(port, "/")).endswith(b"hello")
            ended.set()
            assert (await busy.receive_some()).startswith(b"HTTP/1.1 200")

    monkeypatch.setattr(porter, "Crowd", lambda most: Crowd(most, 3))
    run(main)


def test_where_all_are_busy_a_new_connection_is_turned_away_and_the_log_tells_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        begun = trio.Semaphore(0)

        async def hold(taken: Taken) -> None:
            taken.guest.proves()
            begun.release()
            await taken.stream.receive_some(1)

        async with served(an_app(), takers={"/hold": hold}) as port, contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                stream = await stack.enter_async_context(await connect(port))
                await stream.send_all(get("/hold"))
                await begun.acquire()
            for _ in range(2):
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await ask(port, "/") == b""
            await stream.aclose()
            while True:
                with contextlib.suppress(trio.BrokenResourceError):
                    if (await ask(port, "/")).endswith(b"hello"):
                        break

    monkeypatch.setattr(porter, "Crowd", lambda most: Crowd(2, 2))
    run(main)
    (record,) = caplog.records
    assert record.getMessage().startswith("a connection from 127.0.0.1 was turned away")


@pytest.mark.parametrize("knows", [True, False], ids=["with a good key", "without one"])
def test_bodies_that_never_come_keep_nobody_out_who_shows_a_key(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, knows: bool
) -> None:
    begun, go_on, ended = trio.Semaphore(0), trio.Event(), trio.Semaphore(0)

    async def body(request: Request) -> Response:
        begun.release()
        try:
            await request.body()
        finally:
            ended.release()
        return Response()

    async def slow(request: Request) -> Response:
        if knows:
            guest_in(request.scope["extensions"]).proves()
        begun.release()
        await go_on.wait()
        return PlainTextResponse("served")

    async def main() -> None:
        routes = Route("/body", body, methods=["POST"]), Route("/slow", slow)
        async with served(an_app(*routes)) as port, contextlib.AsyncExitStack() as stack:

            async def never(number: int) -> None:
                """Begin an upload from one of nine addresses."""
                stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=f"127.0.0.{2 + number % 9}")
                await stack.enter_async_context(stream)
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
                await begun.acquire()

            for number in range(18):
                await never(number)
            user = await stack.enter_async_context(await connect(port))
            await user.send_all(get("/slow"))
            await begun.acquire()
            for number in range(18):
                await never(number)
            for _ in range(18):
                await ended.acquire()
            go_on.set()
            answer = b""
            with contextlib.suppress(trio.BrokenResourceError):
                answer = await user.receive_some()
            assert answer.startswith(b"HTTP/1.1 200") is knows

    monkeypatch.setattr(porter, "Crowd", lambda most: Crowd(18, 2))
    run(main)
    (record,) = caplog.records
    assert record.getMessage().startswith("a connection from 127.0.0.2 was cut")


def test_idle_connections_do_not_hold_up_the_end(run: Run) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            with trio.fail_after(20):
                async with served(an_app()) as port:
                    fresh, used = [await stack.enter_async_context(await connect(port)) for _ in range(2)]
                    await used.send_all(get("/"))
                    assert await used.receive_some() != b""
            assert await rest_of(fresh) == b""

    run(main)


def test_what_runs_when_the_server_ends_is_still_answered(run: Run) -> None:
    begun, go = trio.Event(), trio.Event()

    async def slow(request: Request) -> Response:
        begun.set()
        await go.wait()
        return PlainTextResponse("in time")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with served(an_app(Route("/slow", slow))) as port:
                stream = await connect(port)
                await stream.send_all(get("/slow"))
                await begun.wait()
                nursery.start_soon(release)
            assert (await rest_of(stream)).endswith(b"in time")
            await stream.aclose()

    async def release() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        go.set()

    run(main)


@pytest.mark.parametrize("told", [True, False], ids=["told to end", "cancelled"])
def test_a_stalled_reader_holds_up_the_end_for_the_grace_at_most(
    run: Run, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    begun = trio.Event()

    async def pour(scope: Scope, receive: Receive, send: Send) -> None:
        await start_answer(send)
        begun.set()
        await send({"type": "http.response.body", "body": bytes(64 * 1024 * 1024)})

    async def main() -> None:
        with trio.fail_after(20):
            async with contextlib.AsyncExitStack() as stack:
                with trio.CancelScope() as scope:
                    async with served(bare(pour)) as port:
                        stream = await stack.enter_async_context(await connect(port))
                        await stream.send_all(get("/"))
                        await begun.wait()
                        if not told:
                            scope.cancel()

    monkeypatch.setattr(guard, "GRACE_S", 0.2)
    monkeypatch.setattr(sockets, "GRACE_S", 0.2)
    run(main)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (PfsError(Kind.DENIED, "the data root belongs to another"), Kind.DENIED, "the data root belongs to another"),
        (KeyError("x"), Kind.INTERNAL, "the service could not start or end: KeyError: 'x'"),
    ],
)
def test_an_application_that_cannot_start_says_why(run: Run, raised: Exception, kind: Kind, words: str) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise raised
        yield

    async def main() -> None:
        with pytest.raises(PfsError) as caught:
            await guard.serve(Starlette(lifespan=lifespan), host="127.0.0.1", port=0, shutdown=trio.sleep_forever)
        assert (caught.value.kind, caught.value.message) == (kind, words)

    run(main)


def test_scopes_tell_the_local_user_on_the_unix_socket_only(run: Run, tmp_path: Path) -> None:
    async def who(request: Request) -> Response:
        return JSONResponse(sorted(request.scope["extensions"]))

    async def main() -> None:
        path = str(tmp_path / "s")
        async with served(an_app(Route("/who", who)), unix_path=path) as port:
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(get("/who", "Connection: close"))
                assert names(await rest_of(stream)) == ["guest", "peer", "tls"]
            assert names(await ask(port, "/who")) == ["guest", "tls"]

    def names(answer: bytes) -> Any:
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    run(main)


SAYS = "X-Forwarded-For: 198.51.100.1, 203.0.113.7"


async def sources(port: int, *headers: str) -> list[str]:
    """Who asks, for an application and for who takes a connection; the same connection asks as somebody else before."""
    found = []
    for path in ("/who", "/take"):
        async with await connect(port) as stream:
            await stream.send_all(get("/", "X-Forwarded-For: 203.0.113.99"))
            answer = b""
            while not answer.endswith(b"hello"):
                answer += await stream.receive_some()
            await stream.send_all(get(path, *headers, "Connection: close"))
            found.append((await rest_of(stream)).rpartition(b"\r\n")[2].decode())
    return found


async def tell_source(request: Request) -> Response:
    return PlainTextResponse(source_of_request(request))


async def take_and_tell_source(taken: Taken) -> None:
    await taken.send(response_head(200, []) + taken.source.encode())


@pytest.mark.parametrize(
    ("proxied", "near", "headers", "found"),
    [
        (True, True, [SAYS], "203.0.113.7"),
        (True, True, [SAYS, "X-Forwarded-For: 203.0.113.8"], "203.0.113.8"),
        (True, True, [], "127.0.0.1"),
        (True, True, ["X-Forwarded-For: who knows"], "127.0.0.1"),
        (True, False, [SAYS], "127.0.0.1"),
        (False, True, [SAYS], "127.0.0.1"),
    ],
    ids=["said", "said twice", "not said", "nonsense", "from elsewhere", "no proxy expected"],
)
def test_a_proxy_is_believed_only_where_one_is_expected_and_on_this_machine(
    run: Run, monkeypatch: pytest.MonkeyPatch, proxied: bool, near: bool, headers: list[str], found: str
) -> None:
    async def main() -> None:
        app, takers = an_app(Route("/who", tell_source)), {"/take": take_and_tell_source}
        async with served(app, takers=takers, proxied=proxied) as port:
            assert await sources(port, *headers) == [found] * 2

    if not near:  # as if loopback were another machine
        monkeypatch.setattr(forwarded, "is_near", lambda peer: False)
    run(main)


@pytest.mark.parametrize(("headers", "found"), [([SAYS], b"203.0.113.7"), ([], b"local")], ids=["said", "not said"])
def test_a_proxy_may_use_the_unix_socket(run: Run, tmp_path: Path, headers: list[str], found: bytes) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        app, takers = an_app(Route("/who", tell_source)), {"/take": take_and_tell_source}
        async with served(app, path, takers, proxied=True):
            for asked in ("/who", "/take"):
                async with await trio.open_unix_socket(path) as stream:
                    await stream.send_all(get(asked, *headers, "Connection: close"))
                    assert (await rest_of(stream)).endswith(b"\r\n" + found)

    run(main)


@pytest.mark.parametrize("proxied", [True, False])
def test_connections_of_a_proxy_are_not_bounded_by_address(
    run: Run, monkeypatch: pytest.MonkeyPatch, proxied: bool
) -> None:
    begun, go_on = trio.Semaphore(0), trio.Event()

    async def hold(request: Request) -> Response:
        begun.release()
        await go_on.wait()
        return Response()

    async def main() -> None:
        async with (
            served(an_app(Route("/hold", hold)), proxied=proxied) as port,
            contextlib.AsyncExitStack() as stack,
        ):
            streams = [await stack.enter_async_context(await connect(port)) for _ in range(4)]
            for stream in streams[2:] if not proxied else streams:
                await stream.send_all(get("/hold"))
                await begun.acquire()
            go_on.set()
            answers = [await stream.receive_some() for stream in streams]
            assert [answer.startswith(b"HTTP/1.1 200") for answer in answers] == [proxied] * 2 + [True] * 2

    monkeypatch.setattr(porter, "Crowd", lambda most: Crowd(9, 2))
    run(main)


def test_a_full_inbox_makes_the_sender_wait_until_it_is_ended(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox(1, LAST)
        await inbox.put({"type": "first"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.put, {"type": "dropped"})
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            await inbox.put({"type": "http.disconnect", "why": "gone"})
        await inbox.put({"type": "dropped too"})
        assert [await inbox.get() for _ in range(3)] == [{"type": "first"}, *[{**LAST, "why": "gone"}] * 2]

    run(main)


def test_what_is_in_an_inbox_reaches_a_caller_that_is_cancelled(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox(2, LAST)
        await inbox.put({"type": "first"})
        inbox.end()
        with trio.CancelScope() as scope:
            scope.cancel()
            assert [(await inbox.get())["type"] for _ in range(2)] == ["first", "http.disconnect"]
            await inbox.get()
        assert scope.cancelled_caught

    run(main)


def test_hypercorns_own_chatter_stays_out_of_the_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with served(an_app()) as port:
            await ask(port, "/")

    caplog.set_level(logging.INFO)
    run(main)
    assert caplog.records == []
