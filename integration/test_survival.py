"""What a node lives through: its daemon killed again and again, and its network cut.

`PFS_KILLS` says how often the daemon is killed; with `PFS_CUT_LONG` set the network is also cut for so long that the
server may give a job to another node (three minutes). `script/slow` does both in full.
"""

import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.box import Box, box, wait_until
from integration.engine import busybox_image, docker_client, engine, python_image
from integration.hosts import Cluster, cluster

KILLS = int(os.environ.get("PFS_KILLS", "20"))
# a number each millisecond, until the file `stop` is there
COUNTS = """
import os, time
number, began = 0, time.monotonic()
while not os.path.exists("stop"):
    print(number, flush=True)
    number += 1
    time.sleep(max(0, began + number / 1000 - time.monotonic()))
raise SystemExit(7)
"""


def submit(world: Box, name: str, **spec: object) -> str:
    """Drop a job; return its number."""
    (world.dc / "jobs" / f"{name}.yaml").write_text(json.dumps(spec) + "\n")
    return os.readlink(world.dc / "jobs" / name)


def fact(world: Box, job: str, name: str) -> str:
    return (world.dc / "jobs" / job / name).read_text().strip()


# ---- the daemon is killed


@pytest.mark.skipif(KILLS < 1, reason="not wanted")
def test_a_daemon_killed_again_and_again_costs_no_line_and_no_exit_code() -> None:
    seed = int(os.environ.get("PFS_TEST_SEED", "0")) or random.randrange(1 << 30)
    print("PFS_TEST_SEED", seed)
    dice = random.Random(seed)
    with engine() as url, docker_client(url) as client, box() as world:
        image = python_image(client)
        world.start_server()
        world.start_node(docker=url)
        world.mount()
        (world.dc / "home/demo/counts.py").write_text(COUNTS)
        command = "exec python3 $USER_DIR/counts.py"
        jobs = [submit(world, "boxed", command=command), submit(world, "contained", command=command, image=image)]
        for job in jobs:
            wait_until(lambda job=job: "5" in fact(world, job, "log.txt").split())
        own = {"label": f"pfs.node-state={(world.root / 'state-n0/instance').read_text()}"}
        containers = [each["Id"] for each in client.containers(filters=own)]
        assert len(containers) == 1
        for _ in range(KILLS):
            time.sleep(dice.uniform(0, 0.4))
            world.end("n0", 9)
            time.sleep(dice.choice([0, 0, 0.5]))
            world.start_node(docker=url)
        assert [each["Id"] for each in client.containers(filters=own)] == containers
        for job in jobs:
            (world.data / f"jobs/{job}/data/src/stop").touch()
        for job in jobs:
            assert fact(world, job, "wait") == "7", fact(world, job, "why")
            numbers = fact(world, job, "processes/0.0/log").split()
            assert len(numbers) > 100 * KILLS
            assert numbers == [str(number) for number in range(len(numbers))]
            assert fact(world, job, "status").count("attempt 1") == 1


# ---- two hosts


@contextmanager
def two_hosts() -> Iterator[Cluster]:
    """Give a datacenter with a node on each of two hosts, and a mount on this machine."""
    with cluster(2) as made:
        made.start_server()
        for host, name in zip(made.hosts, ("n1", "n2"), strict=True):
            with docker_client(host.engine.base_url) as client:
                made.image = busybox_image(client)
            made.start_node_on(host, name)
        made.mount()
        yield made


@pytest.fixture(scope="module")
def world() -> Iterator[Cluster]:
    with two_hosts() as made:
        yield made


def test_a_short_cut_of_the_network_leaves_a_job_as_it_was(world: Cluster) -> None:
    command = "n=0; while [ ! -e stop ]; do echo $n; n=$((n+1)); sleep 0.05; done"
    jobs = [
        submit(world, "cut-boxed", command=command, nodes=["n1"]),
        submit(world, "cut-contained", command=command, nodes=["n1"], image=world.image),
    ]
    for job in jobs:
        wait_until(lambda job=job: "5" in fact(world, job, "processes/0.0/log.txt").split())
    world.hosts[0].cut()
    try:
        wait_until(lambda: fact_of_node(world, "n1", "state") == "SUSPECT", 40)
        assert [fact(world, job, "state") for job in jobs] == ["RUNNING", "RUNNING"]
    finally:
        world.hosts[0].heal()
    wait_until(lambda: fact_of_node(world, "n1", "state") == "ONLINE")
    for job in jobs:
        (world.data / f"jobs/{job}/data/src/stop").touch()
        assert fact(world, job, "wait") == "0", fact(world, job, "why")
        numbers = fact(world, job, "processes/0.0/log").split()
        assert numbers == [str(number) for number in range(len(numbers))]
        assert re.search(r"^attempt 1$", fact(world, job, "status"), re.MULTILINE)


def fact_of_node(world: Box, node: str, name: str) -> str:
    return Path(world.dc, "nodes", node, name).read_text().strip()


@pytest.mark.skipif("PFS_CUT_LONG" not in os.environ, reason="takes three minutes; `script/slow` does it")
def test_a_long_cut_starts_a_job_elsewhere_only_where_that_is_allowed_and_never_twice_at_once() -> None:
    with two_hosts() as world:
        # both write who they are into their owner's home, twenty times a second
        alive = 'while :; do date +%s.%N >> "$USER_DIR/$PFS_JOB_NAME.$PFS_ATTEMPT"; sleep 0.05; done'
        (world.dc / "nodes/n2/ctl").write_text("drain\n")  # so that both begin on the node that is cut off
        stays = submit(world, "stays", command=alive, nodes=["n1"])
        moves = submit(world, "moves", command=alive, retry={"max": 1, "on": ["node"]})
        for job in (stays, moves):
            wait_until(lambda job=job: fact(world, job, "state") == "RUNNING")
        assert fact(world, moves, "processes/0.0/node") == "n1"
        (world.dc / "nodes/n2/ctl").write_text("resume\n")
        world.hosts[0].cut()
        try:
            wait_until(lambda: fact_of_node(world, "n1", "state") == "UNKNOWN", 90)
            assert "UNKNOWN" in fact(world, stays, "why")
            wait_until(lambda: fact(world, moves, "status").count("attempt 2") == 1, 90)
            wait_until(lambda: fact(world, moves, "state") == "RUNNING")
            assert fact(world, stays, "state") == "RUNNING"
            home = world.data / "home/demo"
            before = [float(line) for line in (home / "moves.1").read_text().split()]
            after = [float(line) for line in (home / "moves.2").read_text().split()]
            assert max(before) < min(after)
        finally:
            world.hosts[0].heal()
        wait_until(lambda: fact_of_node(world, "n1", "state") == "ONLINE", 60)
        assert fact(world, stays, "state") == "RUNNING"
        assert fact(world, stays, "status").count("attempt 1") == 1
        for job in (stays, moves):
            (world.dc / "jobs" / job / "ctl").write_text("kill\n")
            fact(world, job, "wait")
        assert max(float(line) for line in (home / "moves.1").read_text().split()) == max(before)
