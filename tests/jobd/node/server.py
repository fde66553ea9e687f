"""The server's end of a node's connection, reduced to what it owes a node: it takes output at the right offset only."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from jobd import attach
from jobd.wire import Assignment, Json, TaskStanding, Wanted, Welcome, encode_assignment, encode_welcome
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, ChannelClosed, Handler, Transport
from tests.pfs.plain import PlainTransport

MARK = "0123456789abcdef"


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells of."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.001)


@dataclass
class Seen:
    """What a server has been told of one task."""

    output: bytearray = field(default_factory=bytearray)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    running: int = 0
    image: str = ""
    news: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    ends: list[Json] = field(default_factory=list)


class Server:
    """A server for tests.

    Attributes:
        wanted: what a hello is answered about a task; RUN for all others.
        refuse: questions that are answered with an error, once each.
        image: what tasks that ask for an image are told to have; "" for what their node found.
        cut_after: operation after which the connection is cut before its answer goes out, once.
        deaf: beats are not answered.
        came, overs: what sessions in tasks said, and how they ended.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Seen] = {}
        self.hellos: list[Json] = []
        self.beats = 0
        self.goodbyes = 0
        self.troubles: Json = {}
        self.gpus: list[Json] = []
        self.wanted: dict[str, Wanted] = {}
        self.mark = MARK
        self.refuse: set[str] = set()
        self.image = ""
        self.cut_after = ""
        self.deaf = False
        self.channel: Channel | None = None
        self.came = bytearray()
        self.overs: list[Json] = []
        self._changed = trio.Event()

    def seen(self, task_id: str) -> Seen:
        return self.tasks.setdefault(task_id, Seen())

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that a node told makes the condition true."""
        while not condition():
            await self._changed.wait()

    async def greeted(self, times: int) -> None:
        await self.until(lambda: len(self.hellos) >= times)

    async def ended(self, task_id: str) -> Json:
        await self.until(lambda: self.seen(task_id).ends)
        return self.seen(task_id).ends[0]

    async def ask(self, op: str, **args: object) -> Json:
        await self.until(lambda: self.channel is not None)
        assert self.channel is not None
        return (await self.channel.ask(op, args))[0]

    async def send(self, session: str, piece: bytes, *, eof: bool) -> None:
        """Send something to a session in a task."""
        assert self.channel is not None
        await self.channel.ask(attach.SEND, {"session": session, "eof": eof}, piece)

    async def start(self, assignment: Assignment) -> None:
        await self.ask("task.start", assignment=encode_assignment(assignment))

    async def cut(self) -> None:
        """Cut the connection, as a network does."""
        assert self.channel is not None
        await self.channel.close()

    async def talk(self, transport: Transport) -> None:
        """Talk with a node over one connection."""
        channel = Channel(transport, self.handle)
        self._next = channel
        try:
            await channel.run()
        finally:
            if self.channel is channel:
                self.channel = None
            self._tell()

    async def handle(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        if op in self.refuse:
            self.refuse.discard(op)
            raise PfsError(Kind.INTERNAL, "a defect")
        result = await self._take(op, args, body)
        self._tell()
        if op == self.cut_after:
            self.cut_after = ""
            await self.cut()
        return result, b""

    async def _take(self, op: str, args: Json, body: bytes) -> Json:
        match op:
            case "node.hello":
                self.hellos.append(args)
                self.channel = self._next
                return encode_welcome(self._welcome(args["tasks"]))
            case "node.beat":
                self.beats += 1
                self.troubles = args["troubles"]
                if self.deaf:
                    await trio.sleep_forever()
            case "node.bye":
                self.goodbyes += 1
            case "node.gpus":
                self.gpus.append(args)
            case "task.news":
                self.seen(args["task"]).news.append(args["text"])
            case "task.image":
                self.seen(args["task"]).found.append(args["image"])
                return {"image": self.image or args["image"]}
            case "task.running":
                self.seen(args["task"]).running += 1
                self.seen(args["task"]).image = args["image"]
            case "task.output":
                return {"offset": self._append(self.seen(args["task"]), args, body)}
            case "task.ended":
                self.seen(args["task"]).ends.append(args)
            case attach.CAME:
                self.came += body
            case attach.OVER:
                self.overs.append(args)
        return {}

    def _append(self, seen: Seen, args: Json, body: bytes) -> int:
        assert sum(length for _, length in args["pieces"]) == len(body)
        if args["offset"] == len(seen.output):
            seen.output += body
            seen.pieces += [(time_ns, length) for time_ns, length in args["pieces"]]
        return len(seen.output)

    def _welcome(self, tasks: list[str]) -> Welcome:
        standings = {
            task: TaskStanding(self.wanted.get(task, Wanted.RUN), len(self.seen(task).output)) for task in tasks
        }
        return Welcome("cm1", "n0", "GradientNode Cluster", "cl1", "dc1", self.mark, standings)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class MemoryTransport(PlainTransport):
    """One end of a connection in memory."""

    def __init__(self, out: trio.MemorySendChannel[bytes], incoming: trio.MemoryReceiveChannel[bytes]) -> None:
        self._out, self._incoming = out, incoming

    async def send_rest(self, data: bytes) -> None:
        await self._out.send(data)

    async def receive(self) -> bytes | None:
        try:
            return await self._incoming.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return None

    async def close(self) -> None:
        self._out.close()
        self._incoming.close()


class LogServer:
    """The end of a second connection to the same server.

    Attributes:
        ops: what was asked there, without repetitions.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.ops: list[str] = []
        self.channel: Channel | None = None

    async def talk(self, transport: Transport) -> None:
        """Talk with a node over one connection."""
        self.channel = Channel(transport, self.handle)
        await self.channel.run()

    async def handle(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        if op not in self.ops:
            self.ops.append(op)
        return await self._server.handle(op, args, body)


class MemoryNetwork:
    """Connects nodes to a server in the same process.

    Attributes:
        down: the error that connecting fails with, if it shall.
    """

    def __init__(self, server: Server | LogServer) -> None:
        self.server = server
        self.down: PfsError | None = None
        self.attempts = 0

    @asynccontextmanager
    async def connect(self, handler: Handler) -> AsyncIterator[Channel]:
        self.attempts += 1
        if self.down is not None:
            raise self.down
        to_server, at_server = trio.open_memory_channel[bytes](100)
        to_node, at_node = trio.open_memory_channel[bytes](100)
        channel = Channel(MemoryTransport(to_server, at_node), handler)
        failure: PfsError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.talk, MemoryTransport(to_node, at_server))
            nursery.start_soon(channel.run)
            try:
                yield channel
            except ChannelClosed:
                pass
            except PfsError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
