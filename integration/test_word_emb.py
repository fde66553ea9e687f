"""The session that PaddleCloud's design shows, typed on this machine: data and package go up, four trainers learn, the
model comes down. Two hosts with an engine each run the trainers and the parameter servers, which they reach by name.
"""

import ast
import json
import pydoc_data.topics
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from integration.box import BIN, WAIT_S, wait_until
from integration.engine import docker_client, numpy_image
from integration.hosts import Cluster, cluster
from integration.word_emb.make_data import make

HERE = Path(__file__).parent / "word_emb"
FOLDER = "/pfs/dc1/home/user1/job_word_emb"
DONE = ["Collecting package ... Done", "Uploading package ... Done", "Starting job ... Done"]
TRAINERS = 4
UPTIME_STEP_S = 0.02
# every trainer looks all processes up, once; the last parameter server answers when all trainers have asked it
FIND = r"""
import json, os, socket, time
said = {"role": os.environ["TRAINING_ROLE"], "me": os.environ["POD_IP"], "number": os.environ.get("PADDLE_TRAINER_ID")}
port, servers = int(os.environ["PADDLE_PORT"]), os.environ["PADDLE_INIT_PSERVERS"].split(",")
if said["role"] == "PSERVER":
    with socket.create_server(("", port)) as door:
        came = [door.accept()[0] for _ in range(int(os.environ["PADDLE_INIT_NUM_GRADIENT_SERVERS"]))]
        for connection in came:
            connection.sendall(b"parameters of " + connection.makefile("rb").readline())
        time.sleep(600)
said["at"] = {name: socket.gethostbyname(name) for name in os.environ["PADDLE_TRAINER_IPS"].split(",") + servers}
said["own"] = socket.gethostbyname(socket.gethostname())
while True:
    try:
        connection = socket.create_connection((servers[-1], port))
        break
    except ConnectionRefusedError:  # it was started, and does not listen yet
        time.sleep(0.05)
connection.sendall(f"{said['me']}\n".encode())
said["asked"] = connection.makefile().readline().strip()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Cluster]:
    """Give a datacenter with two hosts and the account of user1, whose package is in the folder `work`."""
    with cluster(2, swarm=True) as made:
        for host in made.hosts:
            with docker_client(host.engine.base_url) as client:
                image = numpy_image(client)
        said = administer(made, "adduser", "user1")
        [token] = re.findall(r"token: (\S+)", said)
        entry = {"username": "user1", "token": token, "endpoint": made.url, "ca": str(made.root / "ca.pem")}
        (made.root / "paddle-config").write_text(json.dumps({"dc1": entry}))
        administer(made, "image", image)
        made.start_server()
        for host, name in zip(made.hosts, ("n1", "n2"), strict=True):
            made.start_node_on(host, name, "--max-processes", str(TRAINERS))
        shutil.copytree(HERE / "job_word_emb", made.root / "work/job_word_emb")
        make(made.root / "work/job_word_emb", "\n\n".join(pydoc_data.topics.topics.values()))
        yield made


def administer(world: Cluster, *words: str) -> str:
    done = world.run("jobd", *words, "--data-root", str(world.data))
    assert done.returncode == 0, done.stderr
    return done.stdout


def paddlecloud(world: Cluster, line: str) -> str:
    """Type a line in the user's folder."""
    done = subprocess.run(
        f"exec {BIN}/paddlecloud {line}",
        shell=True,
        cwd=world.root / "work",
        env=world.env,
        capture_output=True,
        text=True,
        timeout=3 * WAIT_S,
        check=False,
    )
    if done.returncode != 0:
        logs = world.run("paddlecloud", "logs", "-n", "100").stdout
        pytest.fail(f"{line}: {done.stdout}{done.stderr}\n{logs}", pytrace=False)
    return done.stdout


def test_the_session_of_the_design(world: Cluster) -> None:
    paddlecloud(world, f"pfs cp -r ./job_word_emb/data {FOLDER}")
    entry = f'-entry "python3 train.py {FOLDER}" -passes 2 -jobname word-emb'
    limits = "-p 4 -c 1 -m 512Mi -psmemory 512Mi"
    told = paddlecloud(world, f"submit ./job_word_emb {limits} {entry}").splitlines()
    assert told[:-1] == DONE
    number = told[-1].removeprefix("Job ")

    [heading, row] = [line.split() for line in paddlecloud(world, "jobs").splitlines()]
    assert heading == ["NAMESPACE", "NAME", "DESIRED", "SUCCESSFUL", "AGE"]
    assert row[:4] == ["user1", "word-emb", str(TRAINERS), "0"]

    paddlecloud(world, f"wait {number}")
    log = paddlecloud(world, "logs -n 100")
    [pods] = re.findall(r"^running pod list:  (\[.*\])$", log, re.MULTILINE)
    assert {host for _, host in ast.literal_eval(pods)} == {host.address for host in world.hosts}, "one ran all of it"
    costs = [float(cost) for cost in re.findall(r"Pass \d, Batch \d+, Cost (\S+)", log)]
    last = len(costs) // TRAINERS - 1
    of_trainers = [costs[start : start + last + 1] for start in range(0, len(costs), last + 1)]
    assert len(of_trainers) == TRAINERS
    assert all(each[-1] < each[0] - 0.5 for each in of_trainers), of_trainers

    paddlecloud(world, f"pfs cp {FOLDER}/output ./output")
    result = json.loads((world.root / "work/output/result.json").read_text())
    assert result["loss"] < result["unigram"] - 0.1
    assert loss_of_what_came_down(world.root / "work") == pytest.approx(result["loss"], rel=1e-3)

    workers = {each["name"]: each for each in json.loads(paddlecloud(world, f"get workers {number} --json"))}
    assert [workers[f"word-emb-trainer-{trainer}"]["exit_code"] for trainer in range(TRAINERS)] == [0] * TRAINERS
    wait_until(lambda: left_on(world) == [])  # the parameter servers were let go


def test_trainers_begin_when_all_can_be_found_and_each_keeps_its_number(world: Cluster) -> None:
    package = world.root / "work/find"
    package.mkdir()
    (package / "find.py").write_text(FIND)
    limits = "-p 4 -pservers 2 -m 128Mi -psmemory 128Mi"
    entry = "cat /proc/uptime > begun.$PADDLE_TRAINER_ID; exec python3 find.py"
    number = paddlecloud(world, f"submit -q ./find {limits} -jobname find -entry '{entry}'").strip()
    paddlecloud(world, f"wait {number}")
    began_s = [float((folder(world) / f"begun.{trainer}").read_text().split()[0]) for trainer in range(TRAINERS)]
    assert min(began_s) >= last_start_s(world, number) - UPTIME_STEP_S
    found = [json.loads(line) for line in re.findall(r"^\{.*\}$", paddlecloud(world, f"logs {number}"), re.MULTILINE)]
    trainers = [each for each in found if each["role"] == "TRAINER"]
    assert [each["number"] for each in trainers] == ["0", "1", "2", "3"]
    assert all(each["at"] == trainers[0]["at"] for each in trainers)
    assert len(trainers[0]["at"]) == 6
    assert [trainers[0]["at"][each["me"]] for each in trainers] == [each["own"] for each in trainers]
    assert all(each["asked"] == f"parameters of {each['me']}" for each in trainers)


def folder(world: Cluster) -> Path:
    """Return where the job ran that looks for fellows, as this machine has it."""
    return world.data / "home/user1/jobs/find"


def last_start_s(world: Cluster, number: str) -> float:
    """Return when the last process of a job was started, in seconds since this machine was."""
    events = paddlecloud(world, f"pfs cp /pfs/dc1/jobs/{number}/events -")
    starts = [datetime.fromisoformat(moment) for moment in re.findall(r"^(\S+) started .*$", events, re.MULTILINE)]
    assert len(starts) == TRAINERS + 2
    return max(starts).timestamp() - time.time() + time.clock_gettime(time.CLOCK_BOOTTIME)


def left_on(world: Cluster) -> list[str]:
    """Return the containers that the engines still have."""
    found = []
    for host in world.hosts:
        with docker_client(host.engine.base_url) as client:
            found += [each["Id"] for each in client.containers(all=True)]
    return found


def loss_of_what_came_down(work: Path) -> float:
    """Return the loss of the model on the test data, computed here."""
    sys.path.insert(0, str(work / "job_word_emb"))
    try:
        import ngram
    finally:
        sys.path.pop(0)
    with np.load(work / "output/model.npz") as model:
        numbers = ngram.read_dictionary(work / "job_word_emb/dict1.pickle")
        return ngram.loss_of(dict(model), ngram.grams([work / "job_word_emb/data/test/test.txt-00000"], numbers))
