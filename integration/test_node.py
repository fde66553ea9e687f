"""The real daemon process with real runtimes: killed at any moment, it costs its tasks nothing and their log no byte.

The server's end is that of the unit tests, behind a WebSocket on the loopback interface.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import docker.errors
import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request

from integration.engine import busybox_image, docker_client, engine
from integration.stubnvml import MEMORY_BYTES, stub_gpus, uuids
from jobd.imagelists import Side
from jobd.node import record
from jobd.wire import CUT_OFF, DOCKER, Assignment, NodeGpu, TaskVolume, decode_gpus
from pfs.keys import make_key
from tests.jobd.node.server import MARK, Server, eventually
from tests.pfs.plain import PlainTransport

ROOT = Path(__file__).parent.parent
LIMIT_S = 120.0
OWNER = 200001
TASK = "17.1.0.0"
NUMBERS = 600
COUNTS = f"i=0; while [ $i -lt {NUMBERS} ]; do i=$((i+1)); echo $i; sleep 0.005; done; echo err >&2; exit 7"
COUNTED = "".join(f"{n + 1}\n" for n in range(NUMBERS)).encode() + b"err\n"


class WebSocketTransport(PlainTransport):
    """The server's end of a WebSocket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.SERVER)
        self._messages: list[bytes] = []
        self._part = b""
        self._over = False

    async def accept(self, key: str) -> bool:
        while True:
            self._ws.receive_data(bytes(await self._stream.receive_some()))
            for event in self._ws.events():
                assert isinstance(event, Request)
                right = (b"authorization", f"Bearer {key}".encode()) in event.extra_headers
                answer = AcceptConnection() if right else RejectConnection(status_code=401)
                await self._stream.send_all(self._ws.send(answer))
                return right

    def frame(self, message: bytes) -> bytes:
        return self._ws.send(BytesMessage(data=message))

    async def send_rest(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes | None:
        while not self._messages and not self._over:
            try:
                data = bytes(await self._stream.receive_some())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            self._ws.receive_data(data or None)
            for event in self._ws.events():
                if isinstance(event, BytesMessage):
                    self._part += event.data
                    if event.message_finished:
                        self._messages.append(self._part)
                        self._part = b""
                elif isinstance(event, CloseConnection):
                    self._over = True
        return self._messages.pop(0) if self._messages else None

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


@dataclass
class World:
    """A server, and a place for one daemon's state; daemons are processes."""

    directory: Path
    server: Server
    key: str
    docker_url: str
    image: str | None
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> str:
        return (self.directory / "node.log").read_text()

    def daemon(
        self, *more: str, key: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        words = ["--apiKey", key or self.key, "--name", "n0", "--data-root", str(self.directory / "root")]
        words += ["--state-dir", str(self.directory / "state"), "--docker-host", self.docker_url, *more]
        with open(self.directory / "node.log", "ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", "from cli.gradient_node import main; main()", *words],
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.children.append(child)
        return child

    def assignment(self, command: str) -> Assignment:
        volume = TaskVolume("home/ann", "/pfs/dc1/home/ann", read_only=False)
        argv = ("sh", "-c", command)
        plain = Assignment(TASK, argv, {}, volume.target, "h0", uid=OWNER, gid=OWNER, volumes=(volume,))
        if self.image is None:
            return plain
        return replace(plain, image=self.image, runtime=DOCKER, network="pfs-cl1-17-1", hosts=(("h0", ""),))

    def networks(self) -> list[str]:
        """Return the names of the networks that were made for gangs of this node."""
        if self.image is None:
            return []
        with docker_client(self.docker_url) as client:
            found = client.networks(filters={"label": f"pfs.node-state={self.instance}"})
            return [network["Name"] for network in found]

    async def kill(self, child: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
        child.send_signal(number)
        return await self.exit_of(child)

    async def exit_of(self, child: subprocess.Popen[bytes]) -> int:
        return await trio.to_thread.run_sync(child.wait, LIMIT_S)

    async def said(self, words: str) -> None:
        while words not in self.log:
            await trio.sleep(0.01)

    def identity(self) -> str:
        """Return what is different after a task was started again."""
        if self.image is None:
            noted = record.read(self.directory / "state/sandbox/tasks" / TASK)
            assert noted is not None
            return str(noted.supervisor)
        with docker_client(self.docker_url) as client:
            (container,) = client.containers(all=True, filters={"label": [f"pfs.node-state={self.instance}"]})
            state = client.inspect_container(container["Id"])["State"]
            return f"{container['Id']} {state['StartedAt']}"

    @property
    def instance(self) -> str:
        return (self.directory / "state/instance").read_text()


@pytest.fixture(scope="module")
def engine_url() -> Iterator[str]:
    with engine() as url:
        with docker_client(url) as client:
            busybox_image(client)
        yield url


Run = Callable[[Callable[[World], Awaitable[None]]], None]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    home = tmp_path / "root/home/ann"
    home.mkdir(parents=True)
    os.chown(home, OWNER, OWNER)
    (tmp_path / "root/.pfs-id").write_text(MARK)
    (tmp_path / "node.log").touch()
    return tmp_path


@asynccontextmanager
async def world_of(directory: Path, docker_url: str, image: str | None) -> AsyncIterator[World]:
    server = Server()
    secret = "secret"

    async def talk(stream: trio.SocketStream) -> None:
        transport = WebSocketTransport(stream)
        if await transport.accept(world.key):
            await server.talk(transport)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, talk, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        world = World(directory, server, make_key(f"http://127.0.0.1:{port}", secret), docker_url, image)
        try:
            yield world
        finally:
            for child in world.children:
                child.kill()
                child.wait()
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["sandbox", "docker"])
def run(request: pytest.FixtureRequest, directory: Path) -> Iterator[Run]:
    """Run a test in a world with one kind of runtime."""
    docker_url, image = f"unix://{directory}/none", None
    if request.param == "docker":
        docker_url = request.getfixturevalue("engine_url")
        with docker_client(docker_url) as client:
            image = busybox_image(client)

    def run(test: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            with trio.fail_after(LIMIT_S):
                async with world_of(directory, docker_url, image) as world:
                    await test(world)

        trio.run(main)

    yield run
    if image is not None:
        with docker_client(docker_url) as client:
            instance = (directory / "state/instance").read_text()
            for container in client.containers(all=True, filters={"label": f"pfs.node-state={instance}"}):
                # the daemon that has just ended may have asked for that
                with contextlib.suppress(docker.errors.NotFound):
                    client.remove_container(container["Id"], force=True)
            for network in client.networks(filters={"label": f"pfs.node-state={instance}"}):
                client.remove_network(network["Id"])


@pytest.fixture
def run_sandboxed(directory: Path) -> Run:
    """Run a test for which any runtime will do."""

    def run(test: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            with trio.fail_after(LIMIT_S):
                async with world_of(directory, f"unix://{directory}/none", None) as world:
                    await test(world)

        trio.run(main)

    return run


def test_a_daemon_killed_at_any_moment_costs_nothing(run: Run) -> None:
    seed = int(os.environ.get("PFS_TEST_SEED", "0")) or random.randrange(1 << 30)
    print("PFS_TEST_SEED", seed)
    dice = random.Random(seed)

    async def test(world: World) -> None:
        daemon = world.daemon()
        await world.server.start(world.assignment(COUNTS))
        seen = world.server.seen(TASK)
        await world.server.until(lambda: seen.output)
        identity = world.identity()
        kills = 0
        while not seen.ends and b"err" not in seen.output:
            await trio.sleep(dice.uniform(0, 0.5))
            if not seen.ends:
                assert world.identity() == identity
            await world.kill(daemon)
            kills += 1
            await trio.sleep(dice.choice([0, 0, 0.3]))
            hellos = len(world.server.hellos)
            daemon = world.daemon()
            await world.server.greeted(hellos + 1)
        end = await world.server.ended(TASK)
        assert (end["code"], end["reason"], end["offset"]) == (7, "", len(COUNTED))
        # two streams: the engine promises no order between them
        assert sorted(bytes(seen.output).splitlines()) == sorted(COUNTED.splitlines())
        assert bytes(seen.output).replace(b"err\n", b"") == COUNTED.replace(b"err\n", b"")
        assert kills > 0
        await eventually(lambda: not world.networks())

    run(test)


def test_a_task_that_ends_while_the_daemon_is_dead_is_told_completely(run: Run) -> None:
    async def test(world: World) -> None:
        daemon = world.daemon()
        command = "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two; printf three; touch gone; exit 9"
        await world.server.start(world.assignment(command))
        await world.server.until(lambda: world.server.seen(TASK).output == b"one\n")
        await world.kill(daemon)
        home = world.directory / "root/home/ann"
        (home / "go").touch()
        while not (home / "gone").exists():
            await trio.sleep(0.02)
        world.daemon()
        assert (await world.server.ended(TASK))["code"] == 9
        assert world.server.seen(TASK).output == b"one\ntwo\nthree"

    run(test)


def test_a_stop_is_finished_by_the_next_daemon(run: Run) -> None:
    async def test(world: World) -> None:
        daemon = world.daemon()
        await world.server.start(world.assignment("trap 'echo no' TERM; echo up; while :; do sleep 0.02; done"))
        seen = world.server.seen(TASK)
        await world.server.until(lambda: b"up" in seen.output)
        await world.server.ask("task.stop", task=TASK, grace_s=1.5)
        await world.server.until(lambda: b"no" in seen.output)
        await world.kill(daemon)
        world.daemon()
        end = await world.server.ended(TASK)
        assert end["code"] == 128 + signal.SIGKILL

    run(test)


def test_term_ends_the_daemon_at_once_and_not_its_tasks(run: Run) -> None:
    async def test(world: World) -> None:
        daemon = world.daemon()
        await world.server.start(world.assignment("echo up; while [ ! -e go ]; do sleep 0.02; done; echo end"))
        await world.server.until(lambda: world.server.seen(TASK).output)
        identity = world.identity()
        assert await world.kill(daemon, signal.SIGTERM) == 0
        assert world.server.goodbyes == 1
        assert world.identity() == identity
        (world.directory / "root/home/ann/go").touch()
        world.daemon()
        assert (await world.server.ended(TASK))["code"] == 0
        assert world.server.seen(TASK).output == b"up\nend\n"
        assert "Traceback" not in world.log

    run(test)


def test_a_task_has_its_files_at_the_top_to_read_only_until_it_is_gone(run: Run) -> None:
    command = "cat /trainer_id /train.list; grep -c ' /train.list .*[ ,]ro[ ,]' /proc/mounts; echo $LIBRARIES"

    async def test(world: World) -> None:
        world.daemon()
        files, lists = {"trainer_id": b"1\n", "train.list": b"a\nb\n"}, {"LIBRARIES": Side.BEHIND}
        task = replace(world.assignment(command), files=files, env={"LIBRARIES": "/own"}, extended=lists)
        await world.server.start(task)
        assert (await world.server.ended(TASK))["code"] == 0
        assert world.server.seen(TASK).output == b"1\na\nb\n1\n/own\n"
        await eventually(lambda: list((world.directory / "state/files").iterdir()) == [])

    run(test)


def test_what_cannot_be_started_is_told(run: Run) -> None:
    async def test(world: World) -> None:
        world.daemon()
        volume = TaskVolume("home/ann", "/dev/null/x", read_only=True)
        await world.server.start(replace(world.assignment("true"), volumes=(volume,), workdir="/"))
        end = await world.server.ended(TASK)
        assert end["code"] == 125
        assert end["reason"]
        assert world.server.seen(TASK).running == 0

    run(test)


def test_the_daemon_says_who_it_is(run_sandboxed: Run) -> None:
    async def test(world: World) -> None:
        world.daemon()
        await world.said("GradientNode runtimes: ")
        lines = world.log.splitlines()
        date, clock, starting = lines[0].split(" ", 2)
        assert (len(date.split("/")), len(clock.split(":"))) == (3, 3)
        assert starting.startswith("Starting gradient-node ")
        said = dict(line.split("GradientNode ", 1)[1].split(": ", 1) for line in lines[1:])
        assert list(said) == ["name", "id", "cluster", "clusterId", "nodeAttrs", "runtimes"]
        assert (said["name"], said["id"], said["cluster"], said["clusterId"]) == (
            "n0",
            "cm1",
            "GradientNode Cluster",
            "cl1",
        )
        assert said["nodeAttrs"].startswith('{"cpuHostname":')
        assert said["runtimes"].startswith("no docker (")
        assert said["runtimes"].endswith("), sandbox")
        assert world.server.hellos[0]["runtimes"] == ["sandbox"]

    run_sandboxed(test)


def test_a_task_that_may_be_started_elsewhere_ends_without_its_daemon_and_its_server(run: Run) -> None:
    async def test(world: World) -> None:
        daemon = world.daemon()
        stubborn = "trap 'echo no' TERM; echo up; while :; do sleep 0.05; done"
        assignment = replace(world.assignment("sleep 1000"), watchdog_s=1.0)
        await world.server.start(assignment)
        lasting = replace(world.assignment(stubborn), task_id="18.1.0.0", network="pfs-cl1-18-1")
        await world.server.start(lasting)
        await world.server.until(lambda: all(world.server.seen(t).running for t in (TASK, lasting.task_id)))
        # a server that answers no beat, and a daemon that is gone
        world.server.deaf = True
        await world.kill(daemon)
        while not json.loads((world.directory / "state/watchdog" / TASK).read_text())["ended"]:
            await trio.sleep(0.05)
        await trio.sleep(0.5)
        world.server.deaf = False
        world.daemon()
        end = await world.server.ended(TASK)
        assert (end["code"], end["reason"]) == (128 + signal.SIGTERM, CUT_OFF)
        await world.server.ask("task.stop", task=lasting.task_id, grace_s=0.0)
        assert (await world.server.ended(lasting.task_id))["reason"] == "killed by SIGKILL"

    run(test)


def test_a_node_tells_of_its_gpus_and_its_tasks_see_theirs(run_sandboxed: Run) -> None:
    models = ["NVIDIA GeForce GTX 1070", "NVIDIA H200"]

    async def test(world: World) -> None:
        with stub_gpus(models) as env:
            world.daemon("--address", "10.0.0.7", "--cpus", "1.5", env=env)
            await world.server.greeted(1)
        (hello,) = world.server.hellos
        found = [NodeGpu(uuid, i, models[i], MEMORY_BYTES) for i, uuid in enumerate(uuids(models))]
        assert list(decode_gpus(hello["gpus"])) == found
        told = {name: hello["attrs"][name] for name in ("address", "offerCpus", "maxProcesses", "swarm")}
        assert told == {"address": "10.0.0.7", "offerCpus": 1.5, "maxProcesses": 64, "swarm": ""}
        await world.said("sandbox, NVIDIA GeForce GTX 1070, NVIDIA H200")
        # the driver's own files are not there: nothing more is shown than without
        assignment = replace(world.assignment("ls /dev | grep -c nvidia"), gpus=(found[1].uuid,))
        await world.server.start(assignment)
        assert (await world.server.ended(TASK))["code"] == 1
        assert bytes(world.server.seen(TASK).output) == b"0\n"

    run_sandboxed(test)


def test_a_key_that_the_server_does_not_accept_ends_with_one_line_and_2(run_sandboxed: Run) -> None:
    async def test(world: World) -> None:
        assert await world.exit_of(world.daemon(key=world.key[:-1])) == 2
        assert [line for line in world.log.splitlines() if line.startswith("gradient-node: ")] == [
            world.log.splitlines()[-1]
        ]
        assert "Traceback" not in world.log

    run_sandboxed(test)


def test_another_tree_ends_with_one_line_and_2(run_sandboxed: Run) -> None:
    async def test(world: World) -> None:
        (world.directory / "root/.pfs-id").write_text("another")
        assert await world.exit_of(world.daemon()) == 2
        assert "is not the tree of datacenter dc1; see --data-root" in world.log.splitlines()[-1]

    run_sandboxed(test)


def test_a_second_daemon_ends_with_one_line_and_1(run_sandboxed: Run) -> None:
    async def test(world: World) -> None:
        world.daemon()
        await world.said("GradientNode id")
        assert await world.exit_of(world.daemon()) == 1
        assert "another gradient-node runs with the state in" in world.log

    run_sandboxed(test)


def test_a_server_that_is_away_is_waited_for(run_sandboxed: Run) -> None:
    async def test(world: World) -> None:
        with trio.socket.socket() as nobody:
            await nobody.bind(("127.0.0.1", 0))
            away = make_key(f"http://127.0.0.1:{nobody.getsockname()[1]}", "x")
        daemon = world.daemon(key=away)
        await world.said("trying again")
        await trio.sleep(1)
        assert daemon.poll() is None
        assert world.log.count("trying again") == 1
        assert await world.kill(daemon, signal.SIGINT) == 0
        assert "Traceback" not in world.log

    run_sandboxed(test)
