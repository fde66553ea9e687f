"""A node's connection: what it asks and is answered, and what it is asked."""

from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from jobd.engine.sessions import Datacenter, NodeSessions
from jobd.identity import Claim
from jobd.life.life import State
from jobd.nodestate import NodeState
from jobd.wire import OUT_OF_MEMORY, Wanted, decode_assignment, decode_welcome, encode_claim
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import driving

HANG_S = 20
ADMIN = Subject("root", admin=True)
GPU = {"uuid": "GPU-0", "index": 0, "model": "GTX", "memory_bytes": 8 << 30}


class Channel:
    """A connection that notes what the server asks of the node."""

    def __init__(self):
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.heard = trio.Event()

    async def ask(self, op: str, args: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        self.asked.append((op, args))
        self.heard.set()
        self.heard = trio.Event()
        return {}, b""

    async def asks(self, op: str) -> dict[str, Any]:
        """Return what the server wants with `op`, once it does."""
        with trio.fail_after(HANG_S):
            while not (found := [args for each, args in self.asked if each == op]):
                await self.heard.wait()
        return found[-1]


class Peer:
    """The node's end of a connection."""

    def __init__(self, handler, channel: Channel):
        self._handler = handler
        self.channel = channel

    async def ask(self, op: str, body: bytes = b"", **args: Any) -> dict[str, Any]:
        return (await self._handler(op, args, body))[0]

    async def hello(self, *tasks: str, boot_id: str = "boot", **args: Any):
        hello = {
            "claim": encode_claim(Claim("n0", token="a")),
            "attrs": {"offerCpus": 4, "offerMemory": 8 << 30, "maxProcesses": 8},
            "runtimes": ["sandbox"],
            "gpus": [],
            "boot_id": boot_id,
            "tasks": list(tasks),
        }
        return decode_welcome(await self.ask("node.hello", **(hello | args)))

    async def refusal(self, op: str, **args: Any) -> Kind:
        with pytest.raises(PfsError) as caught:
            await self.ask(op, **args)
        return caught.value.kind


@pytest.fixture
def sessions(service, run):
    """Run an async test with a drive, and something that connects a node."""

    def within(main):
        async def outer():
            async with driving(service) as drive:
                there = NodeSessions(drive.engine, Datacenter("dc1", "root-id"), lambda: service.now_ns)

                @asynccontextmanager
                async def connect(subject: Subject = ADMIN):
                    channel = Channel()
                    async with there.conversation(Identity(KeyKind.NODE, subject), lambda: channel) as handler:
                        yield Peer(handler, channel)

                await main(drive, connect)

        run(outer)

    return within


def test_a_node_is_told_who_it_is_and_where(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            welcome = await peer.hello()
            assert (welcome.name, welcome.datacenter, welcome.data_root_id) == ("n0", "dc1", "root-id")
            standing = drive.engine.fleet.named("n0")
            assert (standing.row.entry_id, standing.state) == (welcome.node_id, NodeState.ONLINE)

    sessions(main)


def test_a_node_says_hello_before_anything_else(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            assert await peer.refusal("node.beat") is Kind.INVALID
            await peer.hello()
            assert await peer.ask("node.beat") == {}

    sessions(main)


def test_a_node_says_hello_once(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            await peer.hello()
            assert await peer.refusal("node.hello", claim=encode_claim(Claim("n9", token="b"))) is Kind.INVALID
            assert await peer.ask("node.beat") == {}
            assert [standing.row.name for standing in drive.engine.fleet.standings()] == ["n0"]

    sessions(main)


@pytest.mark.parametrize(
    ("op", "args", "kind"),
    [
        ("node.dance", {}, Kind.UNSUPPORTED),
        ("task.running", {"task": "1.1.0.0"}, Kind.INVALID),
        ("task.running", {"task": "1.1.0.0", "time_ns": "soon"}, Kind.INVALID),
        ("task.output", {"task": "1.1.0.0", "offset": 0, "pieces": [1]}, Kind.INVALID),
        ("task.ended", {"task": "1.1.0.0", "code": None, "reason": "", "time_ns": 0}, Kind.INVALID),
    ],
    ids=["unknown", "missing", "no number", "no piece", "no code"],
)
def test_what_a_server_does_not_understand_it_refuses(sessions, op, args, kind):
    async def main(drive, connect):
        async with connect() as peer:
            await peer.hello()
            assert await peer.refusal(op, **args) is kind

    sessions(main)


def test_a_hello_without_all_of_it_is_refused_and_leaves_no_node(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            assert await peer.refusal("node.hello", claim=encode_claim(Claim("n0", token="a"))) is Kind.INVALID
        assert drive.engine.fleet.standings() == []

    sessions(main)


def test_a_job_runs_over_a_connection_from_its_start_to_its_end(sessions, service):
    async def main(drive, connect):
        job = await drive.submit()
        async with connect() as peer:
            await peer.hello()
            task = decode_assignment((await peer.channel.asks("task.start"))["assignment"]).task_id
            assert task == f"{job}.1.0.0"
            await peer.ask("task.running", task=task, time_ns=service.now_ns, image="")
            assert (await drive.life(job)).state is State.RUNNING
            pieces = [(service.now_ns, 3)]
            assert await peer.ask("task.output", b"hi\n", task=task, offset=0, pieces=pieces) == {"offset": 3}
            await peer.ask("task.ended", task=task, code=3, reason="", time_ns=service.now_ns)
            life = await drive.until(job, State.FAILED)
            assert life.exit_code == 3
            assert "[worker 0] hi" in await drive.texts(job)

    sessions(main)


def test_a_task_that_ran_out_of_memory_is_known_by_its_reason(sessions, service):
    async def main(drive, connect):
        job = await drive.submit()
        async with connect() as peer:
            await peer.hello()
            await peer.channel.asks("task.start")
            task = f"{job}.1.0.0"
            await peer.ask("task.running", task=task, time_ns=service.now_ns, image="")
            await peer.ask("task.ended", task=task, code=137, reason=OUT_OF_MEMORY, time_ns=service.now_ns)
            await drive.until(job, State.OUT_OF_MEMORY)

    sessions(main)


def test_what_is_wanted_of_a_task_is_asked_of_its_node(sessions, service):
    async def main(drive, connect):
        job = await drive.submit("command: x\ngrace: 7s\n")
        async with connect() as peer:
            await peer.hello()
            await peer.channel.asks("task.start")
            task = f"{job}.1.0.0"
            await peer.ask("task.running", task=task, time_ns=service.now_ns, image="")
            await drive.engine.signal(service.ann, job, 10)
            assert await peer.channel.asks("task.signal") == {"task": task, "signal": 10}
            await drive.engine.kill(service.ann, job)
            assert await peer.channel.asks("task.stop") == {"task": task, "grace_s": 7.0}

    sessions(main)


def test_a_node_that_comes_back_is_told_how_its_tasks_stand(sessions, service):
    async def main(drive, connect):
        job = await drive.submit()
        async with connect() as peer:
            await peer.hello()
            await peer.channel.asks("task.start")
            await peer.ask("task.running", task=f"{job}.1.0.0", time_ns=service.now_ns, image="")
        async with connect() as peer:
            standings = (await peer.hello(f"{job}.1.0.0", f"{job}.7.0.0")).tasks
            assert {task: standing.wanted for task, standing in standings.items()} == {
                f"{job}.1.0.0": Wanted.RUN,
                f"{job}.7.0.0": Wanted.FORGET,
            }

    sessions(main)


def test_a_node_whose_connection_ends_gets_no_new_work(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            await peer.hello()
        assert drive.engine.fleet.named("n0").state is NodeState.SUSPECT
        await drive.submit()
        await drive.quiet()
        assert peer.channel.asked == []

    sessions(main)


def test_a_node_that_says_goodbye_gets_no_new_work_and_is_offline(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            await peer.hello()
            assert await peer.ask("node.bye") == {}
            await drive.submit()
            await drive.quiet()
            assert peer.channel.asked == []
            assert drive.engine.fleet.named("n0").state is NodeState.OFFLINE
        assert drive.engine.fleet.named("n0").state is NodeState.OFFLINE
        async with connect() as peer:
            await peer.hello()
            assert drive.engine.fleet.named("n0").state is NodeState.ONLINE
            await peer.channel.asks("task.start")

    sessions(main)


def test_a_connection_that_never_said_hello_ends_without_a_word(sessions):
    async def main(drive, connect):
        async with connect():
            pass
        assert drive.engine.fleet.standings() == []

    sessions(main)


def test_whatever_a_node_says_it_is_heard_by_it(sessions, service):
    async def main(drive, connect):
        async with connect() as peer:
            await peer.hello()
            service.now_ns += 20 * SECOND_NS
            assert drive.engine.fleet.named("n0").state is NodeState.SUSPECT
            assert await peer.refusal("node.dance") is Kind.UNSUPPORTED
            assert drive.engine.fleet.named("n0").state is NodeState.ONLINE

    sessions(main)


def test_what_a_node_tells_of_its_gpus_is_shown(sessions):
    async def main(drive, connect):
        async with connect() as peer:
            await peer.hello(gpus=[GPU])
            standing = drive.engine.fleet.named("n0")
            assert [gpu["uuid"] for gpu in standing.row.gpus] == ["GPU-0"]

    sessions(main)
