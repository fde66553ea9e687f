"""Jobs over two hosts with an engine each: they find one another, see all of their variables, and learn together."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.engine import docker_client, python_image
from integration.hosts import Cluster, cluster

PROGRAMS = Path(__file__).parent / "programs"
DIGITS = Path(__file__).parent.parent / "script/demo-job/digits.csv.gz"


@pytest.fixture(scope="module")
def world() -> Iterator[Cluster]:
    """Give a datacenter with two hosts in a swarm, one node on each, and a mount on this machine."""
    with cluster(2, swarm=True) as made:
        for host in made.hosts:
            with docker_client(host.engine.base_url) as client:
                made.image = python_image(client)
        made.start_server()
        for host, name in zip(made.hosts, ("n1", "n2"), strict=True):
            made.start_node_on(host, name, "--max-processes", "1")
        made.mount()
        for program in (PROGRAMS / "meet.py", PROGRAMS / "allreduce.py", DIGITS):
            shutil.copy(program, made.dc / "home/demo")
        yield made


def run(world: Cluster, name: str, spec: dict[str, object]) -> str:
    """Run a job to its end and return its log."""
    done = world.sh(f"cat > jobs/{name}.yaml <<'.'\n{json.dumps(spec)}\n.\ncat jobs/{name}/log", timeout_s=60)
    assert done.returncode == 0, world.sh(f"cat jobs/{name}/{{status,log.txt}}").stdout
    return done.stdout


def nodes_of(world: Cluster, name: str) -> set[str]:
    return {(process / "node").read_text().strip() for process in (world.dc / "jobs" / name / "processes").iterdir()}


@pytest.mark.parametrize("runtime", ["docker", "sandbox"])
def test_two_processes_on_two_hosts_meet(world: Cluster, runtime: str):
    image = {"image": world.image} if runtime == "docker" else {}
    spec = {"resources": "2:[]", "command": "exec python3 $USER_DIR/meet.py", **image}
    log = run(world, f"meet-{runtime}", spec)
    told = [json.loads(line) for line in re.findall(r"\[worker \d\] (\{.*\})", log)]
    assert len(told) == 2, log
    names = {"HOST_GROUP0_PROCESS0", "HOST_GROUP0_PROCESS1"}
    assert {one["me"] for one in told} == names
    for one in told:
        assert one["said"] == {name: name for name in names}
        assert one["pinged"] == dict.fromkeys(names, True)
    assert told[0]["told"] == told[1]["told"]
    assert {"NUM_GROUPS", "NUM_PROCESSES_GROUP0", "MASTER_ADDR", "MASTER_PORT", *names} <= set(told[0]["told"])
    assert nodes_of(world, f"meet-{runtime}") == {"n1", "n2"}
    assert (world.dc / f"jobs/meet-{runtime}/exit_code").read_text() == "0\n"


@pytest.mark.parametrize("runtime", ["docker", "sandbox"])
def test_two_hosts_learn_as_one(world: Cluster, runtime: str):
    image = {"image": world.image} if runtime == "docker" else {}
    command = "exec python3 $USER_DIR/allreduce.py $USER_DIR/digits.csv.gz"
    both = run(world, f"both-{runtime}", {"resources": "2:[]", "command": command, **image})
    alone = run(world, f"alone-{runtime}", {"command": command, **image})
    losses = [re.findall(r"\[worker 0\] epoch +\d+ +loss (\S+)", log) for log in (both, alone)]
    assert len(losses[0]) > 5
    assert losses[0] == losses[1]
    ends = re.findall(r"\[worker (\d)\] rank (\d) of 2: accuracy (\S+) weights (\w+)", both)
    assert {(worker, rank) for worker, rank, _, _ in ends} == {("0", "0"), ("1", "1")}
    assert len({weights for _, _, _, weights in ends}) == 1
    assert float(ends[0][2]) > 0.85
    assert nodes_of(world, f"both-{runtime}") == {"n1", "n2"}
