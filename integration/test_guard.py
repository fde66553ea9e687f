"""The guarded server as a process of its own, against clients that send anything, stop reading or just go.

What is said here of an unguarded server was seen with Hypercorn 0.18.0 on trio as it comes.
"""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import pytest
import trustme
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request

from integration.box import wait_until
from pfs.server.crowd import MOST_OF_ADDRESS

ROOT = Path(__file__).resolve().parent.parent
HANGS_S = 60

APP = """
import functools, json, os, resource, signal, sys
import trio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from pfs.server import guard
from pfs.protocol import websocket
from pfs.errors import PfsError
from pfs.server.takeover import accept_websocket, response_head

left = {"http": 0, "websocket": 0}

async def state(request):
    tasks = trio.lowlevel.current_statistics().tasks_living
    return JSONResponse({"pid": os.getpid(), "tasks": tasks, "left": left})

async def drain(request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))

async def late(request):
    await trio.sleep(0.2)
    return PlainTextResponse("too large", 413)

async def big(request):
    async def pieces():
        for _ in range(200):
            yield bytes(1024 * 1024)
    return StreamingResponse(pieces())

async def wait(request):
    while not await request.is_disconnected():
        await trio.sleep(0.01)
    left["http"] += 1
    return PlainTextResponse("")

async def who(request):
    extensions = request.scope["extensions"]
    der = extensions["tls"]["client_cert_der"]
    return JSONResponse({"cert": der and der.hex(), "peer": extensions.get("peer")})

async def echo(taken):
    try:
        await accept_websocket(taken)
    except PfsError:
        await taken.send(response_head(400, [(b"connection", b"close")]))
        return
    transport = websocket.WebSocketTransport(taken.stream, dialled=False, early=taken.early)

    async def keep():
        while (data := await transport.pulse()) is not None:
            await transport.send_rest(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        try:
            while (message := await transport.receive()) is not None:
                await transport.send_rest(transport.frame(message))
        finally:
            await transport.close()
            left["websocket"] += 1
            nursery.cancel_scope.cancel()

app = Starlette(routes=[
    Route("/state", state), Route("/drain", drain, methods=["POST"]), Route("/late", late, methods=["POST"]),
    Route("/big", big), Route("/wait", wait), Route("/who", who),
])

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

async def main():
    certfile, keyfile, client_ca, unix_path = sys.argv[1:]
    tls = guard.Tls(certfile, keyfile, client_ca)
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        takers = {"/echo": echo}
        start = functools.partial(guard.serve, app, host="127.0.0.1", port=0, takers=takers, shutdown=ended.wait)
        plain = await nursery.start(functools.partial(start, unix_path=unix_path))
        secure = await nursery.start(functools.partial(start, tls=tls))
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            print(json.dumps([plain[0], secure[0]]), flush=True)
            async for _ in signals:
                break
        ended.set()

trio.run(main)
"""


@dataclasses.dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    unix_path: str
    ca: trustme.CA
    log: Path
    tasks_idle: int = 0

    def state(self) -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/state", timeout=HANGS_S) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    def tasks(self) -> int:
        return int(str(self.state()["tasks"]))

    def left(self) -> dict[str, int]:
        found = self.state()["left"]
        assert isinstance(found, dict)
        return found

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANGS_S)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    unix_path = str(folder / "s")
    args = [*(str(folder / name) for name in ("cert.pem", "key.pem", "ca.pem")), unix_path]
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-c", APP, *args], stdout=subprocess.PIPE, stderr=errors, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        ports = [int(url.rpartition(":")[2]) for url in json.loads(line)]
        server = Server(process, ports[0], ports[1], unix_path, ca, log)
        yield dataclasses.replace(server, tasks_idle=server.tasks())
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("guard")) as server:
        yield server


def hear(sock: socket.socket, start: bytes = b"") -> bytes:
    """What comes until as much as `start` is there, or the other side closes; without a start, what comes soon."""
    sock.settimeout(HANGS_S if start else 0.1)
    heard = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while (not start or len(heard) < len(start)) and (piece := sock.recv(65536)):
            heard += piece
    return heard


def ends(sock: socket.socket) -> bool:
    """Whether the other side closes, whatever it says before."""
    sock.settimeout(HANGS_S)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def sends(sock: socket.socket, piece: bytes, for_s: float) -> bool:
    """Whether `piece` can be sent again and again for so long."""
    ends = time.monotonic() + for_s
    try:
        while time.monotonic() < ends:
            sock.sendall(piece)
    except ConnectionError:
        return False
    return True


HOST = b"Host: x\r\n"
UPGRADE = (
    b"GET /echo HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(opcode: int, payload: bytes = b"", *, first: int = 0x80) -> bytes:
    """One masked WebSocket frame, right or wrong; the mask is zero."""
    return struct.pack("!BB", first | opcode, 0x80 | len(payload)) + bytes(4) + payload


def http2(*headers: tuple[str, str], data: bytes = b"") -> bytes:
    """What a client sends that speaks HTTP/2 without asking."""
    config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, list(headers), end_stream=not data)
    if data:
        connection.send_data(1, data, end_stream=True)
    return connection.data_to_send()


def get(path: bytes = b"/state", version: bytes = b"HTTP/1.1", headers: bytes = HOST) -> bytes:
    return b"GET " + path + b" " + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /drain HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"

# name: what is sent in one write, and how the answer starts (b"" where nothing has to come)
PROBES: dict[str, tuple[bytes, bytes]] = {
    # each of these ends an unguarded server: its process is gone
    "websocket upgrade with a trailing byte": (UPGRADE + b"\r\n" + b"x", b"HTTP/1.1 101"),
    "websocket upgrade with a frame behind": (UPGRADE + b"\r\n" + frame(2, b"early"), b"HTTP/1.1 101"),
    "websocket subprotocol not ascii": (UPGRADE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n", b"HTTP/1.1 400"),
    "websocket extension with a bad number": (
        UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=x\r\n\r\n",
        b"HTTP/1.1 101",
    ),
    "http2 connect without a path": (http2((":method", "CONNECT"), (":authority", "x")), b"HTTP/1.1 400"),
    "http2 path not ascii": (
        http2((":method", "GET"), (":path", "/\xe9"), (":scheme", "http"), (":authority", "x")),
        b"HTTP/1.1 400",
    ),
    "h2c upgrade with bad settings": (get(headers=HOST + H2C.replace(b"AAMA", b"\xff(!A")), b"HTTP/1.1 200"),
    # and these do not, which shall stay so
    "http2 body after an early answer": (
        http2((":method", "POST"), (":path", "/late"), (":scheme", "http"), (":authority", "x"), data=bytes(16000)),
        b"HTTP/1.1 400",
    ),
    "http2 preface and nothing": (PREFACE, b"HTTP/1.1 400"),
    "http2 preface and garbage": (PREFACE + os.urandom(4000), b"HTTP/1.1 400"),
    "h2c upgrade": (get(headers=HOST + H2C), b"HTTP/1.1 200"),
    "connect": (b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n" + b"tunnel", b"HTTP/1.1 405"),
    "version 9.9": (get(version=b"HTTP/9.9"), b"HTTP/1.1 400"),
    "version 0.9": (b"GET /state\r\n\r\n", b"HTTP/1.1 400"),
    "path not ascii": (get(b"/\xc3\xa9"), b"HTTP/1.1 400"),
    "path of escaped bytes": (get(b"/%ff%fe%00"), b"HTTP/1.1 404"),
    "path of dots": (get(b"/../../etc/passwd"), b"HTTP/1.1 404"),
    "absolute address": (get(b"http://x/state"), b"HTTP/1.1 404"),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"HTTP/1.1 404"),
    "query not ascii": (get(b"/state?\xff"), b"HTTP/1.1 400"),
    "no host": (get(headers=b""), b"HTTP/1.1 400"),
    "two hosts": (get(headers=HOST + b"Host: y\r\n"), b"HTTP/1.1 400"),
    "host not ascii": (get(headers=b"Host: \xff\xfe\r\n"), b""),
    "method of signs": (b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", b"HTTP/1.1 400"),
    "garbage": (os.urandom(3000), b""),
    "only newlines": (b"\r\n" * 3000, b""),
    "zero bytes": (bytes(3000), b"HTTP/1.1 400"),
    "tls hello on the plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"HTTP/1.1 400"),
    "zero byte in a header": (get(headers=HOST + b"A: b\x00c\r\n"), b"HTTP/1.1 400"),
    "newline in a header": (get(headers=HOST + b"A: b\n c\r\n"), b""),
    "header without a colon": (get(headers=HOST + b"nonsense\r\n"), b"HTTP/1.1 400"),
    "space before the colon": (get(headers=HOST + b"A : b\r\n"), b"HTTP/1.1 400"),
    "huge header": (get(headers=HOST + b"A: " + b"b" * 100_000 + b"\r\n"), b"HTTP/1.1 431"),
    "many headers": (get(headers=HOST + b"A: b\r\n" * 20_000), b"HTTP/1.1 431"),
    "endless request line": (b"GET /" + b"a" * 100_000, b"HTTP/1.1 431"),
    "negative length": (post(b"Content-Length: -1\r\n"), b"HTTP/1.1 400"),
    "length in words": (post(b"Content-Length: ten\r\n"), b"HTTP/1.1 400"),
    "length of 30 digits": (post(b"Content-Length: " + b"9" * 30 + b"\r\n"), b"HTTP/1.1 400"),
    "two lengths": (post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"ab"), b"HTTP/1.1 400"),
    "length and chunks": (post(b"Content-Length: 3\r\n" + CHUNKED, b"0\r\n\r\n"), b""),
    "unknown coding": (post(b"Transfer-Encoding: gzip\r\n"), b"HTTP/1.1 400"),
    "bad chunk size": (post(CHUNKED, b"zz\r\nhello\r\n"), b"HTTP/1.1 400"),
    "huge chunk size": (post(CHUNKED, b"f" * 30 + b"\r\n"), b"HTTP/1.1 400"),
    "chunk without its end": (post(CHUNKED, b"3\r\nabcXX0\r\n\r\n"), b"HTTP/1.1 400"),
    "endless chunk extension": (post(CHUNKED, b"1;" + b"a" * 100_000), b"HTTP/1.1 4"),
    "bad trailer": (post(CHUNKED, b"0\r\nbad trailer\r\n\r\n"), b"HTTP/1.1 400"),
    "expectation that nobody knows": (post(b"Expect: 200-ok\r\nContent-Length: 0\r\n"), b"HTTP/1.1 200"),
    "pipelined requests": (get() * 5, b"HTTP/1.1 200"),
    "a request and garbage behind it": (get() + bytes(100), b"HTTP/1.1 200"),
    "upgrade to something unknown": (get(headers=HOST + b"Connection: Upgrade\r\nUpgrade: tea\r\n"), b"HTTP/1.1 200"),
    "websocket without a key": (UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key") + b"\r\n", b"HTTP/1.1 400"),
    "websocket of an old version": (UPGRADE.replace(b": 13", b": 7") + b"\r\n", b"HTTP/1.1 400"),
    "websocket over http/1.0": (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", b"HTTP/1.1 400"),
    "websocket to no such path": (UPGRADE.replace(b"/echo", b"/nothing") + b"\r\n", b"HTTP/1.1 404"),
    "websocket by post": (UPGRADE.replace(b"GET /echo", b"POST /drain") + b"\r\n", b"HTTP/1.1 200"),
}

# what ends a WebSocket after it was accepted
FRAMES: dict[str, bytes] = {
    "reserved bits": frame(2, b"x", first=0xF0),
    "unknown opcode": frame(7, b"x"),
    "no mask": b"\x82\x01x",
    "continuation of nothing": frame(0, b"x"),
    "text that is no utf-8": frame(1, b"\xff\xfe"),
    "fragmented ping": frame(9, b"x", first=0),
    "close with one byte": frame(8, b"x"),
    "close with a forbidden code": frame(8, struct.pack("!H", 1005)),
    "close and more": frame(8, struct.pack("!H", 1000)) + frame(2, b"more") * 100,
    "close twice": frame(8, struct.pack("!H", 1000)) * 2,
}


def same(server: Server) -> bool:
    return server.state()["pid"] == server.process.pid


@pytest.mark.parametrize("name", PROBES)
def test_a_malformed_request_ends_its_connection_at_most(server: Server, name: str) -> None:
    request, expected = PROBES[name]
    with server.connect() as sock:
        with contextlib.suppress(ConnectionError):  # it may be refused before it is all out
            sock.sendall(request)
        heard = hear(sock, expected) + (hear(sock) if expected else b"")
        assert heard.startswith(expected)
        assert b"connection: close" not in heard or ends(sock)
    assert same(server)


@pytest.mark.parametrize("name", FRAMES)
def test_a_malformed_frame_ends_its_websocket_at_most(server: Server, name: str) -> None:
    with server.connect() as sock:
        sock.sendall(UPGRADE + b"\r\n")
        assert hear(sock, b"HTTP/1.1 101").startswith(b"HTTP/1.1 101")
        sock.sendall(FRAMES[name])
        assert ends(sock)
    assert same(server)


def test_http2_data_after_an_early_answer_harms_nobody(server: Server) -> None:
    """An unguarded server ends."""
    config = h2.config.H2Configuration()
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    request = [(":method", "POST"), (":path", "/late"), (":scheme", "http"), (":authority", "x")]
    client.send_headers(1, request)
    with server.connect() as sock:
        sock.sendall(client.data_to_send())
        hear(sock)
        time.sleep(0.3)  # until an unguarded server has answered
        client.send_data(1, bytes(16_000), end_stream=True)
        with contextlib.suppress(ConnectionError):
            sock.sendall(client.data_to_send())
        ends(sock)
    assert same(server)


def test_clients_that_just_go_harm_nobody(server: Server) -> None:
    reset = struct.pack("ii", 1, 0)
    for said in (
        b"",
        b"GET",
        get(b"/wait"),
        get(b"/big"),
        post(b"Content-Length: 1000000\r\n", b"x"),
        UPGRADE + b"\r\n",
    ):
        for linger in (None, reset):
            for _ in range(5):
                sock = server.connect()
                sock.sendall(said)
                if linger is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                sock.close()
    assert same(server)


def test_a_client_that_has_said_all_still_gets_its_answer(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(post(b"Content-Length: 3\r\n", b"abc"))
        sock.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := sock.recv(65536):
            heard += piece
    assert heard.startswith(b"HTTP/1.1 200")
    assert heard.endswith(b"3")


@pytest.mark.parametrize("size_bytes", [300_000, 20_000_000])
def test_a_refusal_reaches_a_client_that_still_sends(server: Server, size_bytes: int) -> None:
    """An unguarded server lets the sender of the larger one wait for ever."""
    with server.connect() as sock:
        head = b"POST /late HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size_bytes
        sock.sendall(head + bytes(size_bytes))
        assert hear(sock, b"HTTP/1.1 413").startswith(b"HTTP/1.1 413")
    wait_until(lambda: server.tasks() <= server.tasks_idle)


def test_a_client_that_sends_without_end_after_its_refusal_is_cut(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(b"POST /late HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n")
        assert not sends(sock, b"ffff\r\n" + bytes(0xFFFF) + b"\r\n", for_s=5)
    wait_until(lambda: server.tasks() <= server.tasks_idle)


def test_an_application_notices_that_its_client_is_gone(server: Server) -> None:
    """The application of an unguarded server never does."""
    left = server.left()["http"]
    with server.connect() as sock:
        sock.sendall(get(b"/wait"))
        hear(sock)
        assert server.left()["http"] == left
    wait_until(lambda: server.left()["http"] == left + 1)


def test_a_websocket_echoes_and_notices_that_its_client_is_gone(server: Server) -> None:
    left = server.left()["websocket"]
    message = os.urandom(3 * 1024 * 1024)
    with server.connect() as sock:
        client = WSConnection(ConnectionType.CLIENT)
        sock.sendall(client.send(Request(host="x", target="/echo")))
        assert isinstance(said(sock, client), AcceptConnection)
        sock.sendall(client.send(Pong(b"to no ping")))
        sock.sendall(client.send(BytesMessage(message)))
        echoed = b""
        while len(echoed) < len(message):
            event = said(sock, client)
            assert isinstance(event, BytesMessage)
            echoed += event.data
        assert echoed == message
    wait_until(lambda: server.left()["websocket"] == left + 1)


def test_a_websocket_message_above_the_limit_is_refused(server: Server) -> None:
    with server.connect() as sock:
        client = WSConnection(ConnectionType.CLIENT)
        sock.sendall(client.send(Request(host="x", target="/echo")))
        assert isinstance(said(sock, client), AcceptConnection)
        for _ in range(17):
            sock.sendall(client.send(BytesMessage(bytes(1024 * 1024), message_finished=False)))
        event = said(sock, client)
        assert isinstance(event, CloseConnection)
        assert event.code == 1009


def said(sock: socket.socket, client: WSConnection) -> Event:
    """The next event of the other side but its pings, which are answered."""
    sock.settimeout(5)
    while True:
        for event in client.events():
            if not isinstance(event, Ping):
                return event
            sock.sendall(client.send(event.response()))
        client.receive_data(sock.recv(1 << 20) or None)


def tls_get(server: Server, *, ca: trustme.CA | None = None) -> bytes:
    """The answer to one request over TLS, with a certificate of `ca` or without one; b"" from a server that ends it."""
    context = ssl.create_default_context()
    server.ca.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ca is not None:
        ca.issue_cert("someone@example.org").configure_cert(context)
    raw = socket.create_connection(("127.0.0.1", server.tls_port), timeout=HANGS_S)
    heard = b""
    with context.wrap_socket(raw, server_hostname="localhost") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            sock.sendall(get(b"/who", headers=HOST + b"Connection: close\r\n"))
            while piece := sock.recv(65536):
                heard += piece
    return heard


def test_the_application_sees_the_client_certificate(server: Server) -> None:
    body = tls_get(server, ca=server.ca).partition(b"\r\n\r\n")[2]
    assert b"someone@example.org" in bytes.fromhex(json.loads(body)["cert"])


def test_the_application_sees_that_there_is_no_client_certificate(server: Server) -> None:
    assert json.loads(tls_get(server).partition(b"\r\n\r\n")[2]) == {"cert": None, "peer": None}


def test_a_client_certificate_of_another_authority_is_refused(server: Server) -> None:
    assert tls_get(server, ca=trustme.CA()) == b""
    assert tls_get(server).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("name", ["plain http", "garbage", "half a hello", "nothing"])
def test_what_is_no_tls_harms_nobody_on_the_tls_port(server: Server, name: str) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)
    request = {"plain http": get(), "garbage": b"\x80" * 3000, "half a hello": hello, "nothing": b""}[name]
    with socket.create_connection(("127.0.0.1", server.tls_port), timeout=HANGS_S) as sock:
        sock.sendall(request)
        hear(sock)
    assert tls_get(server).startswith(b"HTTP/1.1 200")
    assert same(server)


def test_the_application_sees_who_is_at_the_unix_socket(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(server.unix_path)
        sock.sendall(get(b"/who", headers=HOST + b"Connection: close\r\n"))
        heard = b""
        while piece := sock.recv(65536):
            heard += piece
    peer = {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}
    assert json.loads(heard.partition(b"\r\n\r\n")[2]) == {"cert": None, "peer": peer}


def test_a_thousand_connections_on_which_nothing_happens_leave_the_rest_served(server: Server) -> None:
    """Half of them in the middle of a head or of a handshake, from several addresses and one by one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    idle: list[socket.socket] = []
    try:
        with contextlib.ExitStack() as stack:
            for number in range(1000):
                port, said = ((server.port, b"GET / HT"), (server.tls_port, hello))[number % 2]
                source = (f"127.0.1.{number % 4}", 0)
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), HANGS_S, source))
                sock.sendall(said if number % 4 < 2 else b"")
                idle.append(sock)
            assert server.tasks() > server.tasks_idle + 1000
            for _ in range(5):
                assert tls_get(server).startswith(b"HTTP/1.1 200")
                assert same(server)
            for source in {sock.getsockname()[0] for sock in idle}:
                with socket.create_connection(("127.0.0.1", server.port), HANGS_S, (source, 0)) as sock:
                    sock.sendall(get(headers=HOST + b"Connection: close\r\n"))
                    assert hear(sock, b"HTTP/1.1 200").startswith(b"HTTP/1.1 200")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: server.tasks() <= server.tasks_idle)


def test_connections_of_one_address_above_its_limit_displace_the_oldest(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with contextlib.ExitStack() as stack:
            many = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), HANGS_S, ("127.0.2.1", 0)))
                for _ in range(MOST_OF_ADDRESS + 50)
            ]
            assert all(ends(sock) for sock in many[:50])
            for sock in many[50:60] + many[-10:]:
                sock.sendall(get())
                assert hear(sock, b"HTTP/1.1 200").startswith(b"HTTP/1.1 200")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_of_all_that_left_a_task_or_a_line_in_the_log(server: Server) -> None:
    """The last of those with one server."""
    assert same(server)
    assert server.log.read_text() == ""
    wait_until(lambda: server.tasks() <= server.tasks_idle)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_term_ends_the_server_with_a_reader_that_stalls(tmp_path: Path, secure: bool) -> None:
    """An unguarded server ends when the reader goes."""
    with running(tmp_path) as server, contextlib.ExitStack() as stack:
        idle, polling, channel = (stack.enter_context(server.connect()) for _ in range(3))
        idle.sendall(get())
        polling.sendall(get(b"/wait"))
        channel.sendall(UPGRADE + b"\r\n")
        stalled = stack.enter_context(stalled_reader(server, secure=secure))
        stalled.sendall(get(b"/big"))
        assert stalled.recv(1)
        time.sleep(0.3)  # the kernel's buffers are full by then
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=HANGS_S) == 0
        assert "Traceback" not in server.log.read_text()
        assert not os.path.exists(server.unix_path)


def stalled_reader(server: Server, *, secure: bool) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", server.tls_port if secure else server.port), timeout=HANGS_S)
    if not secure:
        return raw
    context = ssl.create_default_context()
    server.ca.configure_trust(context)
    return context.wrap_socket(raw, server_hostname="localhost")
