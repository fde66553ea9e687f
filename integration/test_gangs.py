"""Gangs: processes find one another by name and talk, strangers are kept out, and nothing of it stays behind."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import docker
import pytest
import trio

from integration.engine import BUSYBOX_IMAGE, OwnEngine, busybox_image, docker_client, own_engine
from integration.hosts import Host, hosts, on_network_of
from jobd.node import networks, nftables, wall
from jobd.node.docker import DockerRuntime, open_docker
from jobd.node.runtime import Exit, Launch, Runtime, RuntimeAway
from jobd.node.sandbox import SandboxRuntime
from pfs.errors import Kind, PfsError
from tests.jobd.node.conformance import read, read_until

LIMIT_S = 60.0
INSTANCE = f"gang{os.getpid()}"
FIRST, SECOND, STRANGER = "17.1.0.0", "17.1.1.0", "18.1.0.0"
GANG = "pfs-cl1-17-1"
NAMES = ("digits-17-0", "digits-17-1")
ENV = {"HOST_GROUP0_PROCESS0": NAMES[0], "HOST_GROUP1_PROCESS0": NAMES[1], "PATH": "/usr/bin:/bin"}

# each waits for the other's word, and tells its own to whoever asks at its own name
TALK = """
nc -l -p 7000 -e echo hello from $(hostname) &
until heard=$(nc -w 5 $OTHER 7000 < /dev/null) && [ "$heard" ]; do sleep 0.1; done 2> /dev/null
echo $heard; env | grep ^HOST_ | sort
wait
"""
# in sandboxes they share the machine's network, where each has an address of its own
TALK_IN_SANDBOX = """
import os, socket, time
with socket.create_server((socket.gethostname(), 7917)) as door:
    while True:
        try:
            other = socket.create_connection((os.environ["OTHER"], 7917), 5)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    caller = door.accept()[0]
    caller.sendall(b"hello from " + os.uname().nodename.encode())
    caller.close()
    print(other.recv(100).decode())
    for name in sorted(os.environ):
        if name.startswith("HOST_"):
            print(f"{name}={os.environ[name]}")
"""
HEARD = [f"hello from {name}\n" + "".join(f"{key}={ENV[key]}\n" for key in sorted(ENV)[:2]) for name in NAMES]
LISTEN = "hostname -i; while :; do nc -l -p 7000 -e echo reached; done"
ASK = "nc -w {s} {place} 7000 < /dev/null || echo no\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with with_image() as made:
        yield made


@contextmanager
def with_image(*options: str) -> Iterator[OwnEngine]:
    with own_engine(*options) as made:
        with docker_client(made.base_url) as client:
            busybox_image(client)
        yield made


def member(index: int, script: str, image: str | None = BUSYBOX_IMAGE) -> Launch:
    return Launch(
        (FIRST, SECOND)[index],
        ("sh", "-c", script),
        {**ENV, "OTHER": NAMES[1 - index]},
        "/tmp",
        NAMES[index],
        image=image,
        uid=200001,
        gid=200001,
        hosts=tuple((name, "") for name in NAMES),
        network=GANG,
    )


def alone(script: str, task_id: str = STRANGER) -> Launch:
    return replace(member(0, script), task_id=task_id, hostname="other-18-0", hosts=(), network=None)


@asynccontextmanager
async def runtime_on(engine: OwnEngine, state: Path, instance: str = INSTANCE) -> AsyncIterator[DockerRuntime]:
    with trio.fail_after(LIMIT_S):
        async with open_docker(engine.base_url, state, instance) as runtime:
            yield runtime


def gang_networks(engine: OwnEngine) -> list[str]:
    with docker_client(engine.base_url) as client:
        return [network["Name"] for network in client.networks(filters={"label": "pfs=gang"})]


async def both_talk(runtime: Runtime, *launches: Launch) -> None:
    for launch in launches:
        await runtime.start(launch)
    for launch, heard in zip(launches, reversed(HEARD), strict=True):
        assert (await read(runtime, launch.task_id)).decode() == heard
        assert await runtime.wait(launch.task_id) == Exit(0)


def test_processes_of_a_gang_talk_by_name_and_their_network_goes_with_the_last(
    engine: OwnEngine, tmp_path: Path
) -> None:
    async def main() -> None:
        async with runtime_on(engine, tmp_path / "state") as runtime:
            await both_talk(runtime, member(0, TALK), member(1, TALK))
            assert gang_networks(engine) == [f"{GANG}-{INSTANCE}"]
            await runtime.remove(FIRST)
            assert gang_networks(engine) == [f"{GANG}-{INSTANCE}"]
            await runtime.remove(SECOND)
            assert gang_networks(engine) == []

    trio.run(main)


def test_strangers_reach_neither_a_gang_nor_one_another(engine: OwnEngine, tmp_path: Path) -> None:
    trio.run(are_kept_out, engine, tmp_path, networks.SHARED)


def test_strangers_in_a_network_of_the_engines_own_that_keeps_them_apart(tmp_path: Path) -> None:
    with with_image("--icc=false") as engine:
        trio.run(are_kept_out, engine, tmp_path, networks.ENGINES_OWN)


async def are_kept_out(engine: OwnEngine, tmp_path: Path, expected: str) -> None:
    async with runtime_on(engine, tmp_path / "state") as runtime:
        await runtime.start(member(0, LISTEN))
        await runtime.start(alone(LISTEN))
        places = [(await read_until(runtime, b"\n", task)).decode().split()[0] for task in (FIRST, STRANGER)]
        with docker_client(engine.base_url) as client:
            found = client.inspect_container(runtime.container(STRANGER))["NetworkSettings"]["Networks"]
        assert list(found) == [expected]
        asks = "".join(f"nc -w 1 {place} 7000 < /dev/null || echo no; " for place in places)
        await runtime.start(alone(asks, "19.1.0.0"))
        answers = (await read(runtime, "19.1.0.0")).split(b"\n")
        assert [line for line in answers if line in (b"no", b"reached")] == [b"no"] * 2
        # who belongs there does reach it
        await runtime.start(member(1, f"nc -w 3 {places[0]} 7000 < /dev/null"))
        assert await read(runtime, SECOND) == b"reached\n"
        for task in await runtime.tasks():
            await runtime.remove(task)


def test_strangers_on_the_bridge_of_an_engine_as_it_comes_are_kept_apart_by_a_wall(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with hosts(1) as (host,):
        world = socket.create_server((host.gateway, 7000))
        with world, on_network_of(host), socket.create_server(("172.17.0.1", 7000)) as machine:
            with docker_client(host.engine.base_url) as client:
                busybox_image(client)
                foreign = container(client, LISTEN)
                ours = container(client, ASK.format(s=3, place=place_of(client, foreign)), wall.address("ours", ()))
                client.wait(ours)
                assert client.logs(ours) == b"reached\n", "without a wall they reach one another"
            trio.run(are_behind_the_wall, host, tmp_path, foreign, [machine, world], caplog)


async def are_behind_the_wall(
    host: Host, tmp_path: Path, foreign: str, doors: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        runtime_on(host.engine, tmp_path / "one") as one,
        runtime_on(host.engine, tmp_path / "two", "two") as two,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, tell_that_it_is_reached, [listener(door) for door in doors])
        with docker_client(host.engine.base_url) as client:
            await one.start(alone(LISTEN))
            stranger = (await read_until(one, b"\n", STRANGER)).decode().split()[0]
            assert place_of(client, one.container(STRANGER)) == stranger
            places = (stranger, place_of(client, foreign), *(door.getsockname()[0] for door in doors))
            asks = "".join(ASK.format(s=1, place=place) for place in places)
            await one.start(alone(asks, "19.1.0.0"))
            await two.start(alone(asks, "20.1.0.0"))
            for runtime, task in ((one, "19.1.0.0"), (two, "20.1.0.0")):
                answers = (await read(runtime, task)).split(b"\n")
                kept = [line for line in answers if line in (b"no", b"reached")]
                assert kept == [b"no", b"no", b"reached", b"reached"]

            clear_away_the_wall()
            while sum("stands again" in text for text in caplog.messages) == 0:
                await trio.sleep(0.01)
            ask = client.exec_create(foreign, ["sh", "-c", ASK.format(s=1, place=stranger)])
            assert b"reached" not in client.exec_start(ask)
        for runtime in (one, two):
            for task in await runtime.tasks():
                await runtime.remove(task)
        nursery.cancel_scope.cancel()


def container(client: docker.APIClient, script: str, hardware: str | None = None) -> str:
    made = client.create_container(BUSYBOX_IMAGE, ["sh", "-c", script], mac_address=hardware)
    client.start(made["Id"])
    return str(made["Id"])


def place_of(client: docker.APIClient, name: str) -> str:
    return str(client.inspect_container(name)["NetworkSettings"]["Networks"][networks.ENGINES_OWN]["IPAddress"])


def listener(door: socket.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(door))


async def tell_that_it_is_reached(caller: trio.SocketStream) -> None:
    async with caller:
        await caller.send_all(b"reached\n")


def clear_away_the_wall() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nftables.NETFILTER) as kernel:
        kernel.send(nftables.replace(wall.TABLE, wall.CHAIN, []))


def test_a_gang_outlives_its_daemon_and_its_network_is_removed_by_the_next(engine: OwnEngine, tmp_path: Path) -> None:
    async def main() -> None:
        async with runtime_on(engine, tmp_path / "state") as runtime:
            await runtime.start(member(0, LISTEN))
        async with runtime_on(engine, tmp_path / "state") as runtime:
            assert await runtime.tasks() == [FIRST]
            await runtime.start(member(1, "until nc -w 3 $OTHER 7000 < /dev/null; do sleep 0.1; done 2> /dev/null"))
            assert await read(runtime, SECOND) == b"reached\n"
            for task in (SECOND, FIRST):
                assert gang_networks(engine) == [f"{GANG}-{INSTANCE}"]
                await runtime.remove(task)
            assert gang_networks(engine) == []

    trio.run(main)


def test_a_network_that_a_killed_daemon_made_for_nobody_is_cleared_away(engine: OwnEngine, tmp_path: Path) -> None:
    with docker_client(engine.base_url) as client:
        client.create_network(f"{GANG}-{INSTANCE}", labels={"pfs": "gang", "pfs.node-state": INSTANCE})
        client.create_network("pfs-cl1-9-1-other", labels={"pfs": "gang", "pfs.node-state": "other"})

    async def main() -> None:
        async with runtime_on(engine, tmp_path / "state") as runtime:
            await runtime.tasks()
            assert gang_networks(engine) == ["pfs-cl1-9-1-other"]

    trio.run(main)
    with docker_client(engine.base_url) as client:
        client.remove_network("pfs-cl1-9-1-other")


def test_networks_that_somebody_cleared_away_are_made_again(engine: OwnEngine, tmp_path: Path) -> None:
    async def main() -> None:
        async with runtime_on(engine, tmp_path / "state") as runtime:
            for launch in (alone("echo one"), member(0, "echo one")):
                await runtime.start(launch)
                assert await read(runtime, launch.task_id) == b"one\n"
            with docker_client(engine.base_url) as client:
                client.prune_networks()
            for launch in (alone("echo two", "19.1.0.0"), member(1, "echo two")):
                await runtime.start(launch)
                assert await read(runtime, launch.task_id) == b"two\n"
            for task in await runtime.tasks():
                await runtime.remove(task)
            assert gang_networks(engine) == []

    trio.run(main)


def test_a_swarm_has_networks_across_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "DROP_PATIENCE_S", 0.5)

    async def main(one: OwnEngine, two: OwnEngine) -> None:
        async with runtime_on(one, tmp_path / "one") as manager, runtime_on(two, tmp_path / "two") as worker:
            name, is_manager = await manager.swarm()
            assert name
            assert is_manager
            assert await worker.swarm() == (name, False)
            for _ in range(2):
                await manager.make_network(GANG)
            # the first asks for its fellow's name until that is there
            await manager.start(replace(member(0, TALK), overlay=True))
            await worker.start(replace(member(1, TALK), overlay=True))
            assert (await read(manager, FIRST)).decode() == HEARD[1]
            assert (await read(worker, SECOND)).decode() == HEARD[0]
            await manager.remove(FIRST)
            await worker.start(replace(alone("sleep 1000"), network=GANG, overlay=True))
            with pytest.raises(PfsError, match="is in use") as caught:
                await manager.drop_network(GANG)
            assert caught.value.kind is Kind.BUSY
            for task in await worker.tasks():
                await worker.remove(task)
            monkeypatch.setattr(networks, "DROP_PATIENCE_S", 30.0)
            for _ in range(2):
                await manager.drop_network(GANG)
            assert gang_networks(one) == []

    with hosts(2, swarm=True) as made:
        for host in made:
            with docker_client(host.engine.base_url) as client:
                busybox_image(client)
        trio.run(main, made[0].engine, made[1].engine)


def test_an_engine_without_a_swarm_spans_no_machines(engine: OwnEngine, tmp_path: Path) -> None:
    async def main() -> None:
        async with runtime_on(engine, tmp_path / "state") as runtime:
            assert await runtime.swarm() == ("", False)
            with pytest.raises(PfsError, match="no network across machines") as caught:
                await runtime.make_network(GANG)
            assert caught.value.kind is Kind.UNSUPPORTED

    trio.run(main)


def test_processes_in_sandboxes_of_one_machine_talk_by_name(tmp_path: Path) -> None:
    places = tuple((name, f"127.17.0.{index + 1}") for index, name in enumerate(NAMES))

    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            runtime = SandboxRuntime(tmp_path / "state")
            argv = ("/usr/bin/python3", "-c", TALK_IN_SANDBOX)
            gang = [replace(member(i, "", None), argv=argv, hosts=places, network=None) for i in (0, 1)]
            await both_talk(runtime, *gang)
            for task in (FIRST, SECOND):
                await runtime.remove(task)

    trio.run(main)


def test_an_engine_that_is_away_tells_of_no_swarm(tmp_path: Path) -> None:
    with own_engine() as engine:

        async def main() -> None:
            async with runtime_on(engine, tmp_path / "state") as runtime:
                engine.stop()
                with pytest.raises(RuntimeAway):
                    await runtime.swarm()

        trio.run(main)
