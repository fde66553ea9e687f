"""Broken HTTP over real sockets: it is refused or understood in one way, and nothing in it passes for a second request.

Each case is what a client sends in one go before it says that it is done, and the answers to it, in order. A `!` behind
a name tells that the last of them is that of /victim, which is what an attacker wants to reach: there it is asked for
openly. The server has to answer properly afterwards.
"""

import re
from collections.abc import Awaitable, Callable

import pytest
import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pfs.errors import PfsError
from pfs.protocol.wire import CHANNEL_PATH
from pfs.server.bodies import body_of
from pfs.server.doors import NOTHING, TEXT, Body, Door, Tells, application
from pfs.server.takeover import Taken, accept_websocket, response_head
from tests.pfs.served import served

Run = Callable[[Callable[[], Awaitable[None]]], None]
BYTES_MAX = 1000
HANGS_S = 20
HOST = b"Host: x\r\n"
VICTIM = b"GET /victim HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HELLO = CHANNEL_PATH.encode()
LONG = b"a" * 100_000


def get(target: bytes = b"/", headers: bytes = HOST, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + headers + b"\r\n"


def put(headers: bytes, body: bytes = b"") -> bytes:
    return b"PUT /take HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def told(length: bytes, body: bytes = b"", behind: bytes = b"\r\n") -> bytes:
    return put(b"Content-Length: " + length + behind, body)


def chunks(body: bytes, headers: bytes = CHUNKED) -> bytes:
    return put(headers, body)


CASES: dict[str, tuple[bytes, list[int]]] = {
    # ---- as it should be
    "two requests!": (get() + VICTIM, [200, 200]),
    "a body and a request!": (told(b"3", b"abc") + VICTIM, [200, 200]),
    "chunks and a request!": (chunks(b"3\r\nabc\r\n0\r\n\r\n") + VICTIM, [200, 200]),
    "chunks with trailers!": (chunks(b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n") + VICTIM, [200, 200]),
    "chunks with extensions!": (chunks(b"3;a=b\r\nabc\r\n0\r\n\r\n") + VICTIM, [200, 200]),
    "a hundred requests!": (get() * 99 + VICTIM, [200] * 100),
    "the same length twice!": (put(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc") + VICTIM, [200, 200]),
    # ---- two ideas of where a body ends
    "length and chunks": (chunks(b"0\r\n\r\n" + VICTIM, b"Content-Length: 5\r\n" + CHUNKED), [400]),
    "chunks and length": (chunks(b"0\r\n\r\n" + VICTIM, CHUNKED + b"Content-Length: 5\r\n"), [400]),
    "length 0 and chunks": (chunks(b"0\r\n\r\n" + VICTIM, b"Content-Length: 0\r\n" + CHUNKED), [400]),
    "two lengths": (put(b"Content-Length: 3\r\nContent-Length: 0\r\n", b"abc" + VICTIM), [400]),
    "two lengths in one": (told(b"3, 0", b"abc" + VICTIM), [400]),
    "chunks in HTTP/1.0": (b"PUT /take HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n" + VICTIM, [400]),
    "length with a sign": (told(b"+3", b"abc" + VICTIM), [400]),
    "negative length": (told(b"-3", b"abc" + VICTIM), [400]),
    "length in words": (told(b"three", b"abc" + VICTIM), [400]),
    "length in hexadecimal": (told(b"0x3", b"abc" + VICTIM), [400]),
    "length with a low line": (told(b"1_0", b"abc" + VICTIM), [400]),
    "length with a point": (told(b"3.0", b"abc" + VICTIM), [400]),
    "length with blanks within": (told(b"1 0", b"abc" + VICTIM), [400]),
    "length of other digits": (told("٣".encode(), b"abc" + VICTIM), [400]),
    "no length": (told(b"", b"abc" + VICTIM), [400]),
    "endless length": (told(b"9" * 100, b"abc" + VICTIM), [400]),
    "length above the limit": (told(b"1001", b"a" * 900 + VICTIM), [413]),
    "length of all there could be": (told(b"9" * 18, b"abc" + VICTIM), [413]),
    "a body that is shorter than its length": (told(b"500", VICTIM), [400]),
    "a coding that nobody knows": (chunks(VICTIM, b"Transfer-Encoding: gzip\r\n"), [400]),
    "a coding that looks like chunked": (chunks(b"0\r\n\r\n" + VICTIM, b"Transfer-Encoding: xchunked\r\n"), [400]),
    "two codings": (chunks(b"0\r\n\r\n" + VICTIM, b"Transfer-Encoding: chunked, identity\r\n"), [400]),
    "chunked twice": (chunks(b"0\r\n\r\n" + VICTIM, CHUNKED * 2), [400]),
    "a coding in quotes": (chunks(b"0\r\n\r\n" + VICTIM, b'Transfer-Encoding: "chunked"\r\n'), [400]),
    "a coding behind a vertical tab": (chunks(b"0\r\n\r\n" + VICTIM, b"Transfer-Encoding: \x0bchunked\r\n"), [400]),
    "a blank before the colon": (chunks(b"0\r\n\r\n" + VICTIM, b"Transfer-Encoding : chunked\r\n"), [400]),
    "a name with a blank before it, which folds": (
        chunks(b"0\r\n\r\n" + VICTIM, b" Transfer-Encoding: chunked\r\n"),
        [200, 400],
    ),
    "a name with a low line!": (chunks(b"", b"Transfer_Encoding: chunked\r\n") + VICTIM, [200, 200]),
    "a body where none is taken": (get(headers=HOST + b"Content-Length: %d\r\n" % len(VICTIM)) + VICTIM, [413]),
    "chunks where none are taken!": (get(headers=HOST + CHUNKED) + b"0\r\n\r\n" + VICTIM, [413, 200]),
    # ---- chunks
    "chunk of a size in words": (chunks(b"xyz\r\nabc\r\n0\r\n\r\n" + VICTIM), [400]),
    "chunk with a sign": (chunks(b"+3\r\nabc\r\n0\r\n\r\n" + VICTIM), [400]),
    "negative chunk": (chunks(b"-3\r\nabc\r\n0\r\n\r\n" + VICTIM), [400]),
    "chunk with a prefix": (chunks(b"0x3\r\nabc\r\n0\r\n\r\n" + VICTIM), [400]),
    "endless chunk size": (chunks(b"f" * 100 + b"\r\n" + VICTIM), [400]),
    "chunk of many zeros": (chunks(b"0" * 100 + b"\r\n\r\n" + VICTIM), [400]),
    "chunk longer than its size": (chunks(b"3\r\nabcdef\r\n0\r\n\r\n" + VICTIM), [400]),
    "chunk without its end": (chunks(b"3\r\nabcXX0\r\n\r\n" + VICTIM), [400]),
    "chunks above the limit": (chunks(b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n"), [413]),
    "endless chunk extension": (chunks(b"1;" + LONG), [431]),
    "trailer that is none": (chunks(b"0\r\nno trailer\r\n\r\n" + VICTIM), [400]),
    "chunks without an end": (chunks(b"3\r\nabc\r\n"), [400]),
    # ---- heads
    "bare CR in a header": (get(headers=HOST + b"A: b\rContent-Length: 9\r\n") + VICTIM, [400]),
    "bare CR at the end of lines": (b"GET / HTTP/1.1\rHost: x\r\r" + VICTIM, [400]),
    "a NUL in a header": (get(headers=HOST + b"A: b\0c\r\n") + VICTIM, [400]),
    "a NUL in a name": (get(headers=HOST + b"A\0: b\r\n") + VICTIM, [400]),
    "a NUL in the target": (get(b"/\0") + VICTIM, [400]),
    "bytes that are no ASCII in the target": (get(b"/\xff") + VICTIM, [400]),
    "no colon": (get(headers=HOST + b"nonsense\r\n") + VICTIM, [400]),
    "no name": (get(headers=HOST + b": b\r\n") + VICTIM, [400]),
    "two hosts": (get(headers=HOST + b"Host: y\r\n") + VICTIM, [400]),
    "no host": (get(headers=b"") + VICTIM, [400]),
    "a line that is too long": (b"GET /" + LONG, [431]),
    "a header that is too long": (get(headers=HOST + b"A: " + LONG), [431]),
    "headers that are too many": (get(headers=HOST + b"A: b\r\n" * 20_000), [431]),
    "folded header": (get(headers=HOST + b"A: b\r\n c\r\n") + b"", [200]),
    "nothing but a method": (b"GET\r\n\r\n" + VICTIM, [400]),
    "garbage": (bytes(range(256)) * 20, [400]),
    "nothing": (b"", []),
    "half a head": (b"GET / HTTP/1.1\r\nHost", [400]),
    "lines that end with LF alone!": (get().replace(b"\r\n", b"\n") + VICTIM, [200, 200]),
    "a header behind LF!": (put(b"A: b\nContent-Length: 3\r\n", b"abc") + VICTIM, [200, 200]),
    "chunks that end with LF alone": (chunks(b"3\nabc\n0\n\n") + VICTIM, [400]),
    # ---- versions, targets, upgrades
    "version 0.9": (b"GET /\r\n\r\n" + VICTIM, [400]),
    "version 1.2": (get(version=b"HTTP/1.2") + VICTIM, [400]),
    "version 2.0": (get(version=b"HTTP/2.0") + VICTIM, [400]),
    "version 1": (get(version=b"HTTP/1") + VICTIM, [400]),
    "version 1.10": (get(version=b"HTTP/1.10") + VICTIM, [400]),
    "version in small letters": (get(version=b"http/1.1") + VICTIM, [400]),
    "version of ICY": (get(version=b"ICY/1.1") + VICTIM, [400]),
    "HTTP/1.0 and something behind it": (get(version=b"HTTP/1.0") + VICTIM, [400]),
    "HTTP/2 as if agreed": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), [400]),
    "whole address": (get(b"http://x/victim"), [404]),
    "whole address elsewhere": (get(b"http://169.254.169.254/victim"), [404]),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [404]),
    "tunnel": (b"CONNECT /victim HTTP/1.1\r\n" + HOST + b"\r\n" + VICTIM, [405]),
    "method of signs": (b"G@T /victim HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    "method in small letters": (b"get /victim HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "method that nobody knows": (b"TRACE /victim HTTP/1.1\r\n" + HOST + b"\r\n", [405]),
    "target with dots": (get(b"/take/../victim"), [404]),
    "target with escaped dots": (get(b"/%2e%2e/victim"), [404]),
    "target with two slashes": (get(b"//victim"), [404]),
    "upgrade to HTTP/2!": (
        get(headers=HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n") + VICTIM,
        [200, 200],
    ),
    "upgrade elsewhere!": (get(headers=HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n") + VICTIM, [200, 200]),
    "upgrade without a key": (
        get(HELLO, HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n") + VICTIM,
        [400],
    ),
    "upgrade of another version": (
        get(HELLO, HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n") + VICTIM,
        [400],
    ),
    "a channel without an upgrade": (get(HELLO) + VICTIM, [400]),
    "expectation without a body": (put(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b""), [100, 400]),
    "expectation and a body!": (
        put(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc") + VICTIM,
        [100, 200, 200],
    ),
}


# what is behind the last request of a connection may be noticed before that is answered, or not at all
OTHERWISE = {"HTTP/1.0 and something behind it": [200]}


@pytest.mark.parametrize("name", CASES)
def test_broken_http_is_refused_or_understood_in_one_way(run: Run, name: str) -> None:
    sent, expected = CASES[name]
    reached: list[str] = []

    async def root(request: Request) -> Response:
        return PlainTextResponse("root")

    async def victim(request: Request) -> Response:
        reached.append(request.method)
        return PlainTextResponse("victim")

    async def take(request: Request) -> Response:
        return PlainTextResponse(str(sum([len(chunk) async for chunk in body_of(request)])))

    async def channel(taken: Taken) -> None:
        try:
            await accept_websocket(taken)
        except PfsError:
            await taken.send(response_head(400, [(b"content-length", b"0"), (b"connection", b"close")]))

    tells = [Tells(200, "", TEXT)]
    app = application(
        [
            Door("GET", "/", root, about="", body=NOTHING, tells=tells),
            Door("GET", "/victim", victim, about="", body=NOTHING, tells=tells),
            Door("PUT", "/take", take, about="", body=Body(BYTES_MAX), tells=tells),
        ]
    )

    async def main() -> None:
        async with served(app, takers={CHANNEL_PATH: channel}) as server:
            with trio.fail_after(HANGS_S):
                heard = await conversation(server.port, sent)
                assert statuses(heard) in (expected, OTHERWISE.get(name)), heard[:2000]
                assert reached == (["GET"] if name.endswith("!") or name == "method in small letters" else [])
                assert b"Traceback" not in heard
                assert statuses(await conversation(server.port, VICTIM)) == [200]

    run(main)


async def conversation(port: int, sent: bytes) -> bytes:
    """Send all, say that there is no more, and return what was heard until the other side closed."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        heard = bytearray()

        async def hear() -> None:
            try:
                async for piece in stream:
                    heard.extend(piece)
            except trio.BrokenResourceError:
                return

        nursery.start_soon(hear)
        try:
            await stream.send_all(sent)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass
    return bytes(heard)


def statuses(heard: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]
