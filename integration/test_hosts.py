"""Jobs over two hosts with an engine each: they find one another, see all of their variables, and learn together.

And many of all kinds at once, as many as `PFS_MIXED` says; `script/slow` wants two hundred.
"""

import contextlib
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.jobd import jobd
from integration.box import wait_until
from integration.engine import docker_client, python_image
from integration.hosts import Cluster, cluster
from integration.mixed import ALIASES, GPUS, KILLED, read_history, workload
from integration.stubnvml import stub_gpus

PROGRAMS = Path(__file__).parent / "programs"
MIXED = int(os.environ.get("PFS_MIXED", "40"))
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


@pytest.fixture
def gpus(world: Cluster) -> Iterator[None]:
    """Give the nodes GPUs, and room for as many processes as they like."""
    with ExitStack() as stack:
        for host, name in zip(world.hosts, GPUS, strict=True):
            world.end(name)
            world.start_node_on(host, name, env=stack.enter_context(stub_gpus(GPUS[name], name)))
        for alias, model in ALIASES.items():
            with contextlib.redirect_stdout(io.StringIO()):
                jobd.main(["alias", "--data-root", str(world.data), alias, model], standalone_mode=False)
        yield


def test_mixed_jobs_all_end_as_they_should_and_no_gpu_is_had_twice(world: Cluster, gpus: None) -> None:
    wait_until(lambda: len(os.listdir(world.dc / "aliases")) == len(ALIASES))
    jobs = world.dc / "jobs"
    wanted = {}
    for name, kind in workload(MIXED, world.image):
        (jobs / f"{name}.yaml").write_text(json.dumps(kind.spec) + "\n")
        wanted[os.readlink(jobs / name)] = kind
    killed = [number for number, kind in wanted.items() if kind.end == KILLED]
    # one of them while it has its GPUs, the others wherever they are
    wait_until(lambda: (jobs / killed[0] / "state").read_text() == "RUNNING\n")
    for number in killed:
        (jobs / number / "ctl").write_text("kill\n")
    for number in wanted:
        (jobs / number / "wait").read_text()
    told = {number: (jobs / number / "state").read_text().strip() for number in wanted}
    wrong = {number: kind for number, kind in wanted.items() if told[number] != kind.end}
    assert not wrong, [(kind.name, (jobs / number / "why").read_text()) for number, kind in wrong.items()]

    history = read_history(jobs / number for number in wanted)
    assert history.twice() == []
    assert Counter(node for nodes in history.nodes.values() for node in nodes).keys() == set(GPUS)
    assert {hold.gpu for hold in history.holds} == {(name, i) for name in GPUS for i in range(len(GPUS[name]))}
    assert history.both
