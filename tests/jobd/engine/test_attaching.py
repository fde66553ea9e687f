"""Who is let into which process of a job, what is handed on between client and node, and what ends it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from jobd.attach import PIECE_BYTES_MAX, Program, Terminal, encode_program
from jobd.engine import attaching
from jobd.engine.sessions import Datacenter, NodeSessions
from jobd.identity import Claim
from jobd.life.life import State
from jobd.wire import encode_claim
from pfs.accounts.store import Identity, KeyKind
from pfs.audit.origin import acting
from pfs.audit.record import record_in
from pfs.errors import Kind, PfsError
from pfs.perm import EVERYTHING, Scope, Subject
from pfs.protocol.channel import Channel
from pfs.protocol.websocket import WebSocketTransport
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving

BOUND_S = 30
SPEC = "command: x\n"
PROGRAM = encode_program(Program(("cat", "-n"), {"TERM": "xterm"}, Terminal(80, 24)))
Answer = Callable[[dict[str, Any], bytes], Awaitable[None]]


class Peer:
    """One end of a connection: notes what it is asked, and answers as the test has it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], bytes]] = []
        self.answers: dict[str, Answer] = {}
        self._heard = trio.Event()
        self.visit = trio.CancelScope()
        self.channel: Channel

    async def handle(self, op: str, args: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        self.asked.append((op, args, body))
        self._heard.set()
        self._heard = trio.Event()
        if op in self.answers:
            await self.answers[op](args, body)
        return {}, b""

    async def ask(self, op: str, body: bytes = b"", **args: Any) -> None:
        await self.channel.ask(op, args, body)

    async def hears(self, op: str, count: int = 1) -> list[tuple[dict[str, Any], bytes]]:
        """Return what it was asked with `op`, once that is so often."""
        with trio.fail_after(BOUND_S):
            while len(found := [(args, body) for each, args, body in self.asked if each == op]) < count:
                await self._heard.wait()
        return found

    async def refusal(self, op: str, body: bytes = b"", **args: Any) -> PfsError:
        with pytest.raises(PfsError) as caught:
            await self.ask(op, body, **args)
        return caught.value


class Node(Peer):
    """A node that starts whatever it is given."""

    async def starts(self, count: int = 1, now_ns: int = 1) -> list[str]:
        """Say that the processes run that it was given; return their tasks."""
        tasks = [args["assignment"]["task_id"] for args, _ in await self.hears("task.start", count)]
        for task in tasks:
            await self.ask("task.running", task=task, time_ns=now_ns, image="")
        return sorted(tasks)


class World:
    def __init__(self, drive: Drive, nursery: trio.Nursery) -> None:
        self.drive = drive
        self.service = drive.service
        self._nursery = nursery
        self._nodes = NodeSessions(drive.engine, Datacenter("dc1", "id"), lambda: drive.service.now_ns)

    async def _connected(self, peer: Peer, conversation: Any, identity: Identity) -> None:
        near, far = memory_stream_pair()
        peer.channel = Channel(WebSocketTransport(near, dialled=True), peer.handle)
        self._nursery.start_soon(peer.channel.run)

        async def serve() -> None:
            there: Channel
            with peer.visit, acting(identity.subject.user, "10.0.0.7", "k"):
                async with conversation(identity, lambda: there) as handler:
                    there = Channel(WebSocketTransport(far, dialled=False), handler)
                    await there.run()

        self._nursery.start_soon(serve)

    async def node(self, name: str = "n0") -> Node:
        node = Node()
        await self._connected(node, self._nodes.conversation, Identity(KeyKind.NODE, Subject("root", admin=True)))
        attrs = {"offerCpus": 4, "offerMemory": 8 << 30, "maxProcesses": 80}
        claim = encode_claim(Claim(name, token=name))
        await node.ask(
            "node.hello", claim=claim, attrs=attrs, runtimes=["sandbox"], gpus=[], boot_id="b", troubles={}, tasks=[]
        )
        return node

    async def client(self, subject: Subject | None = None) -> Peer:
        client = Peer()

        @asynccontextmanager
        async def talk(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Any]:
            async def answer(op: str, args: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
                return {"files": op}, b""

            yield answer

        conversation = self.drive.engine.attaching.conversation(talk, self.service.audit.about)
        await self._connected(client, conversation, Identity(KeyKind.USER, subject or self.service.ann))
        return client

    async def running(self, spec: str = SPEC, count: int = 1) -> tuple[int, Node, list[str]]:
        """Return a job of ann's that runs, its node, and its tasks."""
        job = await self.drive.submit(spec)
        node = await self.node()
        return job, node, await node.starts(count, self.service.now_ns)

    def records(self) -> list[tuple[str, str, str, str, dict[str, str]]]:
        """Return what is on record of sessions."""
        found = map(record_in, self.service.audit.lines_now())
        return [
            (each.who, each.what, each.on, each.result, dict(each.more))
            for each in found
            if each.what in ("job.exec", "job.dial")
        ]


@pytest.fixture
def world(service: Service, run):
    """Run an async test in a datacenter with connections in memory."""

    def within(main: Callable[[World], Awaitable[None]]) -> None:
        async def outer() -> None:
            async with driving(service) as drive, trio.open_nursery() as nursery:
                await main(World(drive, nursery))
                nursery.cancel_scope.cancel()

        run(outer)

    return within


async def never(args: dict[str, Any], body: bytes) -> None:
    await trio.sleep_forever()


async def entered(client: Peer, node: Node, job: int, session: str = "1", count: int = 1, **more: Any) -> str:
    """Begin a program, and return what the node calls the session."""
    await client.ask("attach.exec", session=session, job=job, process=None, **{**PROGRAM, **more})
    return str((await node.hears("attach.exec", count))[-1][0]["session"])


def test_a_program_is_begun_in_the_task_that_is_meant_as_it_was_asked_for(world) -> None:
    async def main(world: World) -> None:
        job, node, [task] = await world.running()
        client = await world.client()
        name = await entered(client, node, job)
        [(args, _)] = await node.hears("attach.exec")
        assert args == {"session": name, "task": task, **PROGRAM}
        assert world.records() == [
            ("ann", "job.exec", f"jobs/{job}", "done", {"process": "0.0", "command": "cat -n"}),
        ]

    world(main)


def test_what_is_no_word_to_a_job_is_answered_as_before(world) -> None:
    async def main(world: World) -> None:
        client = await world.client()
        assert (await client.channel.ask("getattr", {}))[0] == {"files": "getattr"}

    world(main)


def test_bytes_go_both_ways_and_the_end_comes_with_its_code(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        name = await entered(client, node, job)
        await client.ask("attach.send", b"\0in\xff", session="1", eof=False)
        await client.ask("attach.send", session="1", eof=True)
        assert await node.hears("attach.send", 2) == [
            ({"session": name, "eof": False}, b"\0in\xff"),
            ({"session": name, "eof": True}, b""),
        ]
        await client.ask("attach.resize", session="1", columns=100, lines=30)
        await client.ask("attach.signal", session="1", signal=2)
        assert await node.hears("attach.resize") == [({"session": name, "columns": 100, "lines": 30}, b"")]
        assert await node.hears("attach.signal") == [({"session": name, "signal": 2}, b"")]
        await node.ask("attach.came", b"out", session=name, stream=1)
        await node.ask("attach.came", b"err", session=name, stream=2)
        await node.ask("attach.over", session=name, code=3, reason="why")
        assert client.asked == [
            ("attach.came", {"session": "1", "stream": 1}, b"out"),
            ("attach.came", {"session": "1", "stream": 2}, b"err"),
            ("attach.over", {"session": "1", "code": 3, "reason": "why"}, b""),
        ]
        assert (await client.refusal("attach.send", session="1", eof=False)).kind is Kind.NOT_FOUND
        assert (await node.channel.ask("attach.over", {"session": name, "code": 0, "reason": ""}))[0] == {}

    world(main)


def test_a_connection_is_made_to_a_port_and_is_on_record(world) -> None:
    async def main(world: World) -> None:
        job, node, [task] = await world.running()
        client = await world.client()
        await client.ask("attach.dial", session="1", job=job, process=None, port=6006)
        [(args, _)] = await node.hears("attach.dial")
        assert (args["task"], args["port"]) == (task, 6006)
        assert world.records() == [("ann", "job.dial", f"jobs/{job}", "done", {"process": "0.0", "port": "6006"})]

    world(main)


@pytest.mark.parametrize(("process", "place"), [(None, "0.0"), ("0.1", "0.1"), ("1.0", "1.0"), ("2", "1.0")])
def test_a_process_is_named_by_its_group_or_counted_over_all_groups(world, process: str | None, place: str) -> None:
    spec = "groups: [{name: a, command: x, count: 2}, {name: b, command: y}]\n"

    async def main(world: World) -> None:
        job, node, _ = await world.running(spec, 3)
        client = await world.client()
        await client.ask("attach.exec", session="1", job=job, process=process, **PROGRAM)
        [(args, _)] = await node.hears("attach.exec")
        assert args["task"] == f"{job}.1.{place}"

    world(main)


@pytest.mark.parametrize(
    ("process", "kind", "said"),
    [("0.1", Kind.NOT_FOUND, "has no process 0.1; it has 0.0"), ("x", Kind.INVALID, "is no process"), (7, None, "")],
)
def test_a_process_that_is_not_there_is_told(world, process: object, kind: Kind | None, said: str) -> None:
    async def main(world: World) -> None:
        job, _, _ = await world.running()
        error = await (await world.client()).refusal("attach.exec", session="1", job=job, process=process, **PROGRAM)
        assert error.kind is (kind or Kind.INVALID)
        assert said in error.message

    world(main)


# ---- rights

READER = Subject("bob", groups=frozenset({"ml"}))
RIGHTS = [
    (Subject("ann"), None),
    (Subject("root", admin=True), None),
    (READER, Kind.FORBIDDEN),
    (Subject("bob"), Kind.NOT_FOUND),
    (Subject("ann", scopes=EVERYTHING - {Scope.SUBMIT}), Kind.FORBIDDEN),
]


@pytest.mark.parametrize(("subject", "refused"), RIGHTS, ids=["owner", "admin", "reader", "stranger", "token"])
@pytest.mark.parametrize("op", ["attach.exec", "attach.dial", "attach.check"])
def test_who_commands_a_job_enters_it_and_nobody_else(world, op: str, subject: Subject, refused: Kind | None) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        await world.drive.engine.ledger.share(job, frozenset({"ml"}), frozenset())
        client = await world.client(subject)
        wanted = {"session": "1", "job": job, "process": None, "port": 80, **PROGRAM}
        if refused is None:
            await client.ask(op, **wanted)
        else:
            assert (await client.refusal(op, **wanted)).kind is refused
            assert not [each for each, _, _ in node.asked if each.startswith("attach.")]
        if op != "attach.check":
            [(who, what, _, result, _)] = world.records()
            assert (who, what, result) == (subject.user, op.replace("attach", "job"), refused or "done")

    world(main)


def test_a_job_that_is_not_there_looks_like_that_of_somebody_else(world) -> None:
    async def main(world: World) -> None:
        job, _, _ = await world.running()
        stranger = await world.client(Subject("bob"))
        foreign = await stranger.refusal("attach.exec", session="1", job=job, process="7.7", **PROGRAM)
        none = await stranger.refusal("attach.exec", session="1", job=job + 1, process="7.7", **PROGRAM)
        assert (foreign.kind, foreign.message) == (Kind.NOT_FOUND, f"there is no job {job}")
        assert (none.kind, none.message) == (Kind.NOT_FOUND, f"there is no job {job + 1}")

    world(main)


# ---- what runs


@pytest.mark.parametrize("op", ["attach.exec", "attach.check"])
def test_a_job_that_does_not_run_says_how_it_stands(world, op: str) -> None:
    async def main(world: World) -> None:
        job = await world.drive.submit(SPEC)
        client = await world.client()
        wanted = {"session": "1", "job": job, "process": None, **PROGRAM}
        waits = await client.refusal(op, **wanted)
        assert (waits.kind, waits.message) == (Kind.BUSY, f"job {job} is not running: it waits")
        node = await world.node()
        [(start, _)] = await node.hears("task.start")
        task = start["assignment"]["task_id"]
        starting = await client.refusal(op, **wanted)
        assert starting.message == f"process 0.0 of job {job} is not running: it is starting"
        await node.ask("task.running", task=task, time_ns=world.service.now_ns, image="")
        await client.ask(op, **wanted)
        await node.ask("task.ended", task=task, code=0, reason="", time_ns=world.service.now_ns, offset=0)
        await world.drive.until(job, State.SUCCEEDED)
        over = await client.refusal(op, **{**wanted, "session": "2"})
        assert over.kind is Kind.BUSY
        assert f"job {job} is over: SUCCEEDED" in over.message

    world(main)


def test_a_process_that_ended_is_not_entered_while_its_fellow_is(world) -> None:
    async def main(world: World) -> None:
        job, node, tasks = await world.running("groups: [{name: a, command: x, count: 2}]\non_error: continue\n", 2)
        await node.ask("task.ended", task=tasks[0], code=3, reason="", time_ns=world.service.now_ns, offset=0)
        client = await world.client()
        error = await client.refusal("attach.exec", session="1", job=job, process="0.0", **PROGRAM)
        assert (error.kind, error.message) == (
            Kind.BUSY,
            f"process 0.0 of job {job} is not running: it ended with 3",
        )
        await client.ask("attach.exec", session="1", job=job, process="0.1", **PROGRAM)

    world(main)


def test_what_a_node_refuses_is_told_and_leaves_no_session(world) -> None:
    async def refuse(args: dict[str, Any], body: bytes) -> None:
        raise PfsError(Kind.NOT_FOUND, "there is no program 'cat' there")

    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        node.answers["attach.exec"] = refuse
        error = await client.refusal("attach.exec", session="1", job=job, process=None, **PROGRAM)
        assert error.message == "there is no program 'cat' there"
        del node.answers["attach.exec"]
        await entered(client, node, job, count=2)  # the name is free again

    world(main)


# ---- sessions apart, and their number


def test_sessions_of_the_same_name_on_two_connections_are_two(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        first, second = await world.client(), await world.client()
        names = [await entered(client, node, job, count=at) for at, client in enumerate((first, second), 1)]
        await node.ask("attach.came", b"to the second", session=names[1], stream=1)
        await node.ask("attach.came", b"to the first", session=names[0], stream=1)
        assert [body for _, _, body in first.asked] == [b"to the first"]
        assert [body for _, _, body in second.asked] == [b"to the second"]
        taken = await first.refusal("attach.exec", session="1", job=job, process=None, **PROGRAM)
        assert taken.kind is Kind.INVALID
        assert (await first.refusal("attach.send", session="2", eof=True)).kind is Kind.NOT_FOUND

    world(main)


def test_a_node_tells_nothing_of_another_ones_sessions(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client, stranger = await world.client(), await world.node("n1")
        name = await entered(client, node, job)
        assert (await stranger.refusal("attach.came", b"x", session=name, stream=1)).kind is Kind.NOT_FOUND
        await stranger.ask("attach.over", session=name, code=0, reason="")
        await node.ask("attach.came", b"y", session=name, stream=1)
        assert client.asked == [("attach.came", {"session": "1", "stream": 1}, b"y")]

    world(main)


@pytest.mark.parametrize("limit", ["SESSIONS_OF_USER_MAX", "SESSIONS_ON_NODE_MAX"])
def test_so_many_sessions_and_no_more(world, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(attaching, limit, 2)

    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client, other = await world.client(), await world.client(world.service.admin)
        for session in ("1", "2"):
            await entered(client, node, job, session, int(session))
        who = client if limit == "SESSIONS_OF_USER_MAX" else other
        error = await who.refusal("attach.exec", session="3", job=job, process=None, **PROGRAM)
        assert error.kind is Kind.TOO_MANY
        await client.ask("attach.end", session="1")
        await entered(who, node, job, "3", 3)

    world(main)


# ---- what is no proper word


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("attach.exec", {"session": "", **PROGRAM}),
        ("attach.exec", {"session": "2", **PROGRAM, "argv": []}),
        ("attach.exec", {"session": "2", **PROGRAM, "argv": "ls"}),
        ("attach.exec", {"session": "2", **PROGRAM, "argv": ["a\0b"]}),
        ("attach.exec", {"session": "2", **PROGRAM, "argv": ["x" * 200_000]}),
        ("attach.exec", {"session": "2", **PROGRAM, "env": {"A=B": "c"}}),
        ("attach.exec", {"session": "2", **PROGRAM, "columns": -1}),
        ("attach.exec", {"session": "2", **PROGRAM, "job": "17"}),
        ("attach.dial", {"session": "2", "port": 0}),
        ("attach.dial", {"session": "2", "port": 65536}),
        ("attach.resize", {"session": "1", "columns": 1}),
        ("attach.signal", {"session": "1", "signal": 65}),
    ],
)
def test_what_is_no_proper_word_is_refused_and_reaches_no_node(world, op: str, args: dict[str, Any]) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        await entered(client, node, job)
        assert (await client.refusal(op, **{"job": job, "process": None, **args})).kind is Kind.INVALID
        assert [each for each, _, _ in node.asked if each.startswith("attach.")] == ["attach.exec"]

    world(main)


def test_a_piece_that_is_too_long_is_refused_in_both_directions(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        name = await entered(client, node, job)
        long = bytes(PIECE_BYTES_MAX + 1)
        assert (await client.refusal("attach.send", long, session="1", eof=False)).kind is Kind.TOO_LARGE
        assert (await node.refusal("attach.came", long, session=name, stream=1)).kind is Kind.TOO_LARGE
        await node.ask("attach.came", long[1:], session=name, stream=1)

    world(main)


# ---- flow


def test_a_reader_who_does_not_read_holds_up_his_own_writer_and_nobody_else(world) -> None:
    reads = trio.Event()

    async def wait(args: dict[str, Any], body: bytes) -> None:
        await reads.wait()

    async def main(world: World) -> None:
        job, node, _ = await world.running()
        slow, quick = await world.client(), await world.client()
        slow.answers["attach.came"] = wait
        held, free = await entered(slow, node, job), await entered(quick, node, job, count=2)
        taken: list[int] = []

        async def write() -> None:
            for piece in range(3):
                await node.ask("attach.came", b"x", session=held, stream=1)
                taken.append(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await slow.hears("attach.came")
            for _ in range(20):
                await node.ask("attach.came", b"y", session=free, stream=1)
                await node.ask("node.beat", troubles={})
            assert taken == []
            assert len(await slow.hears("attach.came")) == 1
            reads.set()
        assert taken == [0, 1, 2]

    world(main)


def test_a_program_that_does_not_read_holds_up_who_sends_to_it_and_can_be_sent_a_signal(world) -> None:
    reads = trio.Event()

    async def wait(args: dict[str, Any], body: bytes) -> None:
        await reads.wait()

    async def main(world: World) -> None:
        job, node, _ = await world.running()
        node.answers["attach.send"] = wait
        client = await world.client()
        await entered(client, node, job)
        async with trio.open_nursery() as nursery:
            for _ in range(50):  # a client that does not wait its turn fills nothing but its own connection
                nursery.start_soon(lambda: client.ask("attach.send", b"x", session="1", eof=False))
            await node.hears("attach.send")
            await client.ask("attach.signal", session="1", signal=15)
            assert len(await node.hears("attach.send")) == 1
            reads.set()
        assert len(await node.hears("attach.send")) == 50

    world(main)


def test_what_waits_is_given_up_when_the_session_is_ended(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        client.answers["attach.came"] = node.answers["attach.send"] = never
        name = await entered(client, node, job)
        refused: list[Kind] = []

        async def refusal(peer: Peer, op: str, **args: Any) -> None:
            refused.append((await peer.refusal(op, b"x", **args)).kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: refusal(node, "attach.came", session=name, stream=1))
            nursery.start_soon(lambda: refusal(client, "attach.send", session="1", eof=False))
            await client.hears("attach.came")
            await node.hears("attach.send")
            await client.ask("attach.end", session="1")
        assert refused == [Kind.NOT_FOUND] * 2
        assert await node.hears("attach.end") == [({"session": name}, b"")]

    world(main)


# ---- what ends it


def test_a_client_that_is_gone_ends_all_of_its_sessions_and_no_other(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client, other = await world.client(), await world.client()
        names = [await entered(client, node, job, session, int(session)) for session in ("1", "2")]
        kept = await entered(other, node, job, count=3)
        await client.channel.close()
        ended = await node.hears("attach.end", 2)
        assert {args["session"] for args, _ in ended} == set(names)
        await node.ask("attach.came", b"x", session=kept, stream=1)

    world(main)


def test_a_key_that_is_taken_back_ends_what_was_begun_with_it(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        name = await entered(client, node, job)
        client.visit.cancel()
        assert await node.hears("attach.end") == [({"session": name}, b"")]

    world(main)


def test_a_client_that_is_gone_while_its_program_is_being_begun_ends_that_too(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        node.answers["attach.exec"] = never
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.refusal("attach.exec", session="1", job=job, process=None, **PROGRAM))
            [(args, _)] = await node.hears("attach.exec")
            await client.channel.close()
        assert await node.hears("attach.end") == [({"session": args["session"]}, b"")]

    world(main)


def test_a_node_that_is_gone_ends_its_sessions_with_a_sentence(world) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()
        await entered(client, node, job)
        await node.channel.close()
        [(args, _)] = await client.hears("attach.over")
        assert args == {"session": "1", "code": 255, "reason": "the node n0 is not connected any more"}
        error = await client.refusal("attach.exec", session="1", job=job, process=None, **PROGRAM)
        assert (error.kind, error.message) == (Kind.BUSY, "the node n0 is not connected; try again when it is back")

    world(main)


def test_nothing_is_begun_that_cannot_be_put_on_record(world, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        job, node, _ = await world.running()
        client = await world.client()

        async def refuse(record: object) -> None:
            raise PfsError(Kind.NO_SPACE, "the disk is full")

        with monkeypatch.context() as full:
            full.setattr(world.service.audit, "_keep", refuse)
            error = await client.refusal("attach.exec", session="1", job=job, process=None, **PROGRAM)
        assert error.kind is Kind.NO_SPACE
        assert not [op for op, _, _ in node.asked if op.startswith("attach.")]
        await entered(client, node, job)

    world(main)
