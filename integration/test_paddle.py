"""`paddle` as PaddleCloud's users type it, against a real server and a node: what is done, and what printed."""

import json
import re
from collections.abc import Iterator

import pytest

from cli.cloud.tables import JOBS
from integration.box import Box, box, wait_until

PASSWORD = "correct horse battery staple"
SPEC = {
    "name": "word-emb",
    "groups": [
        {"name": "trainer", "count": 2, "command": "echo trainer $PROCESS_INDEX; exit $((PROCESS_INDEX * 3))"},
        {"name": "pserver", "command": "echo serving; sleep 600", "service": True},
    ],
    "on_error": "continue",
}
HEADING = "=" * 26


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    """Give a datacenter whose user has a password in the configuration, and no token."""
    with box() as made:
        with_password(made)
        made.start_server()
        made.start_node()
        (made.root / "job.json").write_text(json.dumps(SPEC))
        yield made


def with_password(made: Box) -> None:
    """Let there be ann, whose configuration has a password, as PaddleCloud's client keeps it."""
    assert made.run("jobd", "adduser", "ann", "--data-root", str(made.data)).returncode == 0
    given = made.run("jobd", "user", "password", "ann", "--data-root", str(made.data), "--password", PASSWORD)
    assert given.returncode == 0, given.stderr
    entry = f"{{name: dc1, username: ann, password: {PASSWORD}, endpoint: '{made.url}/'}}"
    (made.root / "paddle-config").write_text(f"datacenters: [{entry}]\ncurrent-datacenter: dc1\n")


def paddle(made: Box, *words: str, status: int = 0) -> str:
    done = made.run("paddlecloud", *words)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    return done.stdout if status == 0 or done.stdout else done.stderr


def submitted(made: Box) -> str:
    return paddle(made, "submit", str(made.root / "job.json")).split()[1]


def test_a_job_is_seen_from_its_submission_to_its_removal(made: Box) -> None:
    number = submitted(made)
    assert paddle(made, "wait", number, status=3) == ""
    assert paddle(made, "get", "jobs").split() == list(JOBS)
    [row] = [line.split() for line in paddle(made, "get", "-a", "jobs").splitlines()[1:]]
    assert (row[0], row[1:4], row[6:]) == ("word-emb", ["0", "1", "1"], ["0", "1"])
    [row] = [line.split() for line in paddle(made, "jobs", "-a").splitlines()[1:]]
    assert row[:4] == ["ann", "word-emb", "2", "1"]
    assert re.search(
        rf"^{number} +word-emb +ann +FAILED ", paddle(made, "get", "jobs", "-a", "-o", "wide"), re.MULTILINE
    )
    workers = json.loads(paddle(made, "get", "workers", "word-emb", "-json"))
    assert [(each["name"], each["exit_code"]) for each in workers[:2]] == [
        ("word-emb-trainer-0", 0),
        ("word-emb-trainer-1", 3),
    ]
    assert re.search(r"^word-emb-trainer-1 +Failed +\S+Z +3 +\S", paddle(made, "get", "workers", number), re.MULTILINE)
    assert "3" in paddle(made, "why", number)

    assert paddle(made, "logs", number) == (
        f"{HEADING}word-emb-trainer-0{HEADING}\ntrainer 0\n"
        f"{HEADING}word-emb-trainer-1{HEADING}\ntrainer 1\n"
        f"{HEADING}word-emb-pserver-0{HEADING}\nserving\n"
    )
    pods = [(status, "127.0.0.1") for status in ("Succeeded", "Failed", "Succeeded")]
    assert paddle(made, "logs").startswith(f"running pod list:  {pods}\n{HEADING}word-emb-trainer-0{HEADING}\n")
    assert paddle(made, "logs", "-n", "1", "-w", "word-emb-pserver-0", number) == "serving\n"
    assert paddle(made, "logs", "-f", "-w", "word-emb-trainer-1", number) == "trainer 1\n"
    assert "no worker x" in paddle(made, "logs", "-w", "x", number, status=1)

    assert paddle(made, "kill", "-rm", number) == ""
    assert paddle(made, "get", "jobs", "-a", "-q") == ""
    assert "there is no job" in paddle(made, "kill", "-rm", number, status=1)


def test_a_job_that_runs_is_ended_and_removed_at_once(made: Box) -> None:
    (made.root / "long.yaml").write_text("command: sleep 600\n")
    number = paddle(made, "submit", str(made.root / "long.yaml")).split()[1]
    wait_until(lambda: f"{number} " in paddle(made, "pods") and "Running" in paddle(made, "pods"))
    assert paddle(made, "kill", "-rm", "long") == ""
    assert "there is no job" in paddle(made, "wait", number, status=1)


def test_a_job_that_was_removed_is_brought_back_with_what_it_left(made: Box) -> None:
    (made.root / "left.yaml").write_text("command: echo said; echo 42 > ../out/result\n")
    number = paddle(made, "submit", str(made.root / "left.yaml")).split()[1]
    assert paddle(made, "wait", number) == ""
    assert paddle(made, "kill", "-rm", number) == ""
    assert "there is no job" in paddle(made, "why", number, status=1)
    assert paddle(made, "restore", "left") == ""
    assert paddle(made, "logs", "-q", "left") == "said\n"
    assert paddle(made, "cp", f"/pfs/dc1/jobs/{number}/out/result", "-") == "42\n"
    assert f"job {number} is not in the trash" in paddle(made, "restore", number, status=1)
    assert "there is no job '999'" in paddle(made, "restore", "999", status=1)


def test_a_registry_is_kept_listed_and_deleted(made: Box) -> None:
    words = ["-name", "corp", "-username", "ann", "-password", "x", "-server", "registry.example.org"]
    assert paddle(made, "registry", *words) == ""
    assert re.search(r"^0 +corp +\S+Z$", paddle(made, "get", "registry"), re.MULTILINE)
    assert paddle(made, "delete", "registry", "corp") == "registry: [corp] is deleted\n"
    assert "there is no registry" in paddle(made, "delete", "registry", "corp", status=1)
    assert paddle(made, "get", "registry", "-q") == ""


def test_what_there_is_is_told(made: Box) -> None:
    assert paddle(made, "get", "nodes", "-q") == "n0\n"
    assert json.loads(paddle(made, "get", "quota", "--json"))[0]["of"] == "ann"
    assert paddle(made, "queue").startswith("PLACE  JOB  USER ")
    assert json.loads(paddle(made, "queue", "--json")) == []


def test_the_token_is_kept_and_another_one_got_when_it_is_taken_back(made: Box) -> None:
    paddle(made, "get", "nodes")
    done = made.run("paddle", "get", "nodes")
    assert (done.returncode, done.stderr) == (0, "")
    [(key, token)] = json.loads((made.root / "token_cache").read_text()).items()
    assert key == f"ann {made.url}"
    env = {**made.env, "PADDLE_CONFIG": str(made.root / "none"), "PADDLE_ENDPOINT": made.url, "PADDLE_TOKEN": token}
    assert made.run("paddle", "get", "nodes", "-q", env=env).stdout == "n0\n"
    name = next(each["name"] for each in json.loads(paddle(made, "tokens", "--json")) if each["own"])
    paddle(made, "tokens", "--revoke", name)
    assert made.run("paddle", "get", "nodes", "-q", env=env).returncode == 2
    assert paddle(made, "get", "nodes", "-q") == "n0\n"
    assert token not in (made.root / "token_cache").read_text()
