"""A server that means harm to whoever mounts it, in a process of its own: `python -m integration.rogue PORT`.

It has a small tree, which it serves properly as long as it is told nothing else. Each line of its standard input names
one of `WAYS` to behave from then on, and is answered with the same line.
"""

import functools
import itertools
import json
import random
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from pfs.api import Attr, Entry, NodeType
from pfs.errors import Kind, PfsError
from pfs.protocol.listing import pack_entry, unpack_entries
from pfs.protocol.wire import Answer, Ask, Cancel, Json, decode_frame, encode_error, encode_frame
from pfs.server.session import FileSession
from tests.memoryfs import MemoryFileSystem

SECRET = "5ec7e7" * 5 + "00"
BIG = bytes(range(256)) * 8192  # 2 MiB: more than a message holds
GREETINGS = {"hello", "alive", "bye"}
Reply = tuple[Json, bytes]
Way = Callable[[str, Json, Reply], Reply]

_dice = random.Random(7)
_counter = itertools.count()


def _entry(name: bytes, attr: Attr) -> bytes:
    """A record with a name that nobody checks."""
    record = pack_entry(Entry("x", attr))
    return struct.pack(">H", len(name)) + name + record[3:]


FILE = Attr(NodeType.FILE, 77, 0o644, 5, leased=True)


def _names(op: str, args: Json, reply: Reply) -> Reply:
    bad = _dice.choice([b"..", b".", b"", b"a/b", b"../../etc/passwd", b"a\0b", b"x" * 256, b"x" * 60_000])
    match op:
        case "listdir":
            return {"more": False}, _entry(bad, FILE)
        case "contents":
            return {}, _entry(bad, FILE) + struct.pack(">I", _dice.choice([0, 5, 2**32 - 1]))
        case "readlink":
            return {"target": _dice.choice(["", "a\0b", "x" * 5000, 5])}, b""
        case "listxattr":
            return {"names": ["security.evil", bad.decode()]}, b""
    return reply


def _numbers(op: str, args: Json, reply: Reply) -> Reply:
    result, body = reply
    wild: Any = _dice.choice([-1, 2**64, 10**400, 1.5, float("inf"), float("nan"), None, "5", [], {}, True])
    return dict.fromkeys(result, wild) | {"attr": {"size": wild}, "handle": wild, "size": wild}, body


def _sizes(op: str, args: Json, reply: Reply) -> Reply:
    """All numbers are in their range, and none of them is true."""
    result, body = reply
    wild = {"size": 2**63 - 1, "blocks": 2**63 - 1, "nlink": 2**31 - 1, "mtime_ns": -(2**63), "uid": 2**32 - 2}
    if "size" in result:
        result = result | wild
    if "attr" in result:
        result = result | {"attr": result["attr"] | wild}
    if op == "read":
        body = bytes(5_000_000)
    return result, body


def _words(op: str, args: Json, reply: Reply) -> Reply:
    result, body = reply
    if op == "listdir":
        return result, b"\xff" * 500
    return dict.fromkeys(result, "volcano") | {"type": "volcano", "flags": "leased", "more": "yes"}, body


def _types(op: str, args: Json, reply: Reply) -> Reply:
    """The same nodes are something else each time."""
    types = list(NodeType)
    if op == "listdir":
        names = sorted(f"n{number}" for number in range(20))
        attrs = [Attr(_dice.choice(types), 1 + _dice.randrange(9), 0o777, 5, 9, leased=True) for _ in names]
        return {"more": False}, b"".join(map(pack_entry, map(Entry, names, attrs)))
    result, body = reply
    if "type" in result:
        result = result | {"type": _dice.choice(types).value, "node_id": 1 + _dice.randrange(9)}
    return result, body


def _endless(op: str, args: Json, reply: Reply) -> Reply:
    if op != "listdir":
        return reply
    names = (f"{next(_counter):020}" for _ in range(60_000))
    return {"more": True}, b"".join(pack_entry(Entry(name, FILE)) for name in names)


def _again(op: str, args: Json, reply: Reply) -> Reply:
    """The same page, over and over, with the same name twice."""
    return ({"more": True}, pack_entry(Entry("same", FILE)) * 2) if op == "listdir" else reply


def _forms(op: str, args: Json, reply: Reply) -> Reply:
    wild: Any = _dice.choice([[], {}, {"attr": []}, {"entries": 5, "files": 5, "names": 5}, {"error": {}}])
    return ({"x": wild} if isinstance(wild, list) else wild), b""


WAYS: dict[str, Way | None] = {
    "names": _names,
    "numbers": _numbers,
    "sizes": _sizes,
    "words": _words,
    "types": _types,
    "endless": _endless,
    "again": _again,
    "forms": _forms,
    **dict.fromkeys(
        (
            "well",
            "refusals",
            "unknown refusals",
            "unasked",
            "oversize",
            "half",
            "trickle",
            "recalls",
            "wild recalls",
            "many questions",
            "deep",
            "text",
            "bytes",
            "hangs up",
            "bulk short",
            "bulk long",
            "bulk elsewhere",
            "bulk rubbish",
            "bulk error",
            "bulk head",
            "bulk length",
        )
    ),
}


def _leased(op: str, reply: Reply) -> Reply:
    """Say of everything that it is leased."""
    result, body = reply
    if op == "listdir":
        found = (Entry(each.name, replace(each.attr, leased=True)) for each in unpack_entries(body))
        return result, b"".join(map(pack_entry, found))
    for told in (result, result.get("attr", {})):
        if "flags" in told:
            told["flags"] = ["leased"]
    return reply


class Rogue:
    """The server.

    Attributes:
        way: how it behaves now.
    """

    def __init__(self) -> None:
        self.way = "well"
        self.fs = MemoryFileSystem()
        self.fs.put("good", b"good\n")
        self.fs.put("big", BIG)
        self.fs.make_directory("dir")
        for name in "abc":
            self.fs.put(f"dir/{name}", name.encode())
        self._sessions: set[FileSession] = set()

    async def converse(self, stream: trio.SocketStream) -> None:
        """Serve one connection: a WebSocket, or requests for bulk bytes."""
        try:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head and len(head) < 100_000:
                    data = await stream.receive_some()
                    if not data:
                        return
                    head += bytes(data)
                if b"websocket" in head.lower():
                    await self._channel(stream, head)
                else:
                    await self._bulk(stream, head)
        except (trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError, RemoteProtocolError, PfsError):
            return  # who is harmed hangs up

    # ---- the channel

    async def _channel(self, stream: trio.SocketStream, head: bytes) -> None:
        ws = WSConnection(ConnectionType.SERVER)
        ws.receive_data(head)
        assert any(isinstance(event, Request) for event in ws.events())
        await stream.send_all(ws.send(AcceptConnection()))
        session = FileSession(self.fs)
        self._sessions.add(session)
        lock = trio.Lock()

        async def send(data: bytes) -> None:
            async with lock:
                await stream.send_all(data)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pester, ws, send)
                parts: list[bytes] = []
                while data := await stream.receive_some():
                    ws.receive_data(bytes(data))
                    for event in ws.events():
                        if isinstance(event, BytesMessage):
                            parts.append(bytes(event.data))
                            if event.message_finished:
                                frame = decode_frame(b"".join(parts))
                                parts.clear()
                                if isinstance(frame, Ask):
                                    nursery.start_soon(self._answer, frame, session, ws, send)
                        elif isinstance(event, Ping):
                            await send(ws.send(event.response()))
                        elif isinstance(event, CloseConnection):
                            nursery.cancel_scope.cancel()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError, PfsError):
            pass
        finally:
            self._sessions.discard(session)

    async def _answer(
        self, ask: Ask, session: FileSession, ws: WSConnection, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        way = self.way
        message = encode_frame(Answer(ask.number, *await self._reply(ask, session, way)))
        wild = way if ask.op not in GREETINGS else "well"
        if wild == "unknown refusals":
            message = _framed({"answer": ask.number, "error": {"kind": "volcano", "message": 5, "path": []}})
        elif wild == "refusals":
            refusal = PfsError(_dice.choice(list(Kind)), "x" * 100_000 + "\n\x1b[2J")
            message = _framed({"answer": ask.number, "error": encode_error(refusal)})
        elif wild == "unasked":
            for number in (0, ask.number + 1000, 2**62, -1 if _dice.random() < 0.1 else 5):
                await send(ws.send(BytesMessage(_framed({"answer": number, "result": {}}))))
            await send(ws.send(BytesMessage(message)))  # and twice
        elif wild == "oversize":
            message = struct.pack(">I", 100) + bytes(17 << 20)
        elif wild == "deep":
            message = struct.pack(">I", 200_000) + b"[" * 200_000
        elif wild == "bytes":
            message = _dice.randbytes(300)
        data = ws.send(BytesMessage(message))
        if wild == "half":
            await send(data[: len(data) // 2])
            raise trio.BrokenResourceError
        if wild == "text":
            data = b"\x81\x03\xff\xfe\xfd"
        if wild == "hangs up":
            raise trio.BrokenResourceError
        if wild == "trickle":
            for byte in data:
                await send(bytes([byte]))
                await trio.sleep(0.2)
            return
        await send(data)

    async def _reply(self, ask: Ask, session: FileSession, way: str) -> Reply:
        if ask.op in GREETINGS:
            if way == "numbers":
                return {"bulk": 5, "socket": [], "admin": "yes"}, b""
            if way == "words":
                return {"bulk": "../../x HTTP/1.1\r\nHost: y\r\n\r\n", "socket": "/\0" + "x" * 5000}, b""
            return {"bulk": SECRET, "socket": ""}, b""
        try:
            reply = await session.handle(ask.op, ask.args, ask.body)
        except PfsError:
            reply = {}, b""
        reply = _leased(ask.op, reply)
        change = WAYS[way]
        return reply if change is None else change(ask.op, ask.args, reply)

    async def _pester(self, ws: WSConnection, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Ask the mount, without end."""
        before = self.way
        for number in itertools.count(1):
            await trio.sleep(0.005)
            args: Json | None = None
            if self.way != before:  # whatever it has been told till now, it shall ask again, and greet before that
                await send(ws.send(BytesMessage(encode_frame(Ask(number, "lapse", {})))))
                raise trio.BrokenResourceError
            if self.way == "recalls":
                args = {"nodes": list(range(1, 300)), "names": [[node, "good"] for node in range(1, 20)]}
            elif self.way == "wild recalls":
                wild: Any = _dice.choice([None, [None], [float("inf")], [[1]], "nodes", [2**70], [[1, 5]], {"a": 1}])
                args = {"nodes": wild, "names": wild}
            elif self.way == "many questions" and number % 20 == 0:
                for other in range(500):
                    await send(ws.send(BytesMessage(encode_frame(Ask(10**6 + number * 500 + other, "what?", {})))))
                    await send(ws.send(BytesMessage(encode_frame(Cancel(10**6 + number * 500 + other)))))
            if args is not None:
                await send(ws.send(BytesMessage(_framed({"ask": number, "op": "break", "args": args}))))

    # ---- bulk

    async def _bulk(self, stream: trio.SocketStream, head: bytes) -> None:
        http = h11.Connection(h11.SERVER)
        http.receive_data(head)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await stream.receive_some()
                if not data:
                    return
                http.receive_data(bytes(data))
            elif isinstance(event, h11.Request):
                request, size = event, 0
            elif isinstance(event, h11.Data):
                size += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                await stream.send_all(self._bulk_answer(request, size))
                if self.way.startswith("bulk"):
                    return
                http = h11.Connection(h11.SERVER)
            else:
                return

    def _bulk_answer(self, request: h11.Request, size: int) -> bytes:
        if request.method == b"PUT":
            body = json.dumps({"size": size + (self.way.startswith("bulk"))}).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        first, last = map(int, dict(request.headers)[b"range"].removeprefix(b"bytes=").split(b"-"))
        body = BIG[first : last + 1]
        told, start, length = body, first, len(body)
        match self.way:
            case "bulk short":
                told = body[: len(body) // 2]
            case "bulk long":
                told, length = body * 3, len(body) * 3
            case "bulk elsewhere":
                start = first + 1
            case "bulk rubbish":
                return _dice.randbytes(5000)
            case "bulk error":
                error = b'{"error": [5]}' + b" " * 200_000
                return b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%s" % (len(error), error)
            case "bulk head":
                return b"HTTP/1.1 206 OK\r\n" + b"X: y\r\n" * 50_000
            case "bulk length":
                return b"HTTP/1.1 206 OK\r\nContent-Length: 99999999999999999999\r\n\r\n" + body
        answer = b"HTTP/1.1 206 Partial\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/*\r\n\r\n"
        return answer % (length, start, start + length - 1) + told


def _framed(header: Json) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text


async def _listen(rogue: Rogue) -> None:
    """Behave as the standard input says."""
    stream = trio.lowlevel.FdStream(0)
    rest = b""
    while data := await stream.receive_some(1000):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            assert line.decode() in WAYS
            rogue.way = line.decode()
            print(rogue.way, flush=True)


async def main(port: int) -> None:
    """Serve until the standard input ends."""
    rogue = Rogue()
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_tcp, rogue.converse, port, host="127.0.0.1"))
        print("well", flush=True)
        await _listen(rogue)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
