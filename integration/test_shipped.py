"""PaddleCloud's shipped client, by what it takes of each answer: a real server, a node and processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import Box, box, wait_until
from tests.shippedclient import ShippedClient, ShippedError

PASSWORD = "correct horse battery staple"
HOME = "/pfs/dc1/home/ann"
CHUNK = 4096
FOLDER = f"{HOME}/jobs/emb"
# as PaddleCloud's jobs, whose own fields want an image, and with that Docker; one trainer fails
TRAIN = """
echo trainer $PROCESS_INDEX
while [ ! -e $USER_DIR/go ]; do sleep 0.1; done
[ $PROCESS_INDEX = 0 ] || kill -SEGV $$
"""
EMB = {
    "name": "emb",
    "src": FOLDER,
    "command": "sh train.sh",
    "groups": [
        {"name": "trainer", "count": 2},
        {"name": "pserver", "command": "echo serving; sleep 600", "service": True},
    ],
    "on_error": "continue",
    "registry": "",
    "image": "",
}


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.run("jobd", "adduser", "ann", "--data-root", str(made.data))
        given = made.run("jobd", "user", "password", "ann", "--data-root", str(made.data), "--password", PASSWORD)
        assert given.returncode == 0, given.stderr
        made.start_server()
        made.start_node()
        yield made


@pytest.fixture
def client(made: Box) -> Iterator[ShippedClient]:
    client = ShippedClient(made.url)
    client.log_in("ann", PASSWORD)
    yield client
    client.close()


def test_from_the_package_to_the_exit_codes(client: ShippedClient, tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(TRAIN)
    client.mkdir(FOLDER)
    assert client.upload(tmp_path / "train.sh", f"{FOLDER}/train.sh", CHUNK) == [0]
    assert client.upload(tmp_path / "train.sh", FOLDER, CHUNK) == []
    assert client.ls(FOLDER, "dc1") == ["train.sh"]
    client.submit(**EMB)
    wait_until(lambda: client.jobs()[0][1] == 2)
    [(name, *counts, started, ended, ready, total)] = client.jobs()
    assert (name, counts, ended, ready, total) == ("emb", [2, 0, 0], None, 1, 1)
    workers = client.workers("emb")
    assert [row[:2] for row in workers] == [
        (f"emb-{each}", "Running") for each in ("trainer-0", "trainer-1", "pserver-0")
    ]
    assert (started in {row[2] for row in workers}, {row[3:] for row in workers}) == (True, {(None, None)})
    wait_until(lambda: "trainer 1" in client.logs("emb"))

    client.put(tmp_path / "train.sh", f"{HOME}/go")
    wait_until(lambda: client.jobs()[0][5] is not None)
    assert client.jobs()[0][1:4] == (0, 1, 1)
    ((code, message),) = [row[3:] for row in client.workers("emb") if row[0] == "emb-trainer-1"]
    assert (code, message) == (139, "killed by SIGSEGV")
    assert client.logs("emb", worker="emb-pserver-0") == "serving"


def test_a_job_that_is_killed_and_what_is_refused(client: ShippedClient, made: Box) -> None:
    (made.data / "home/ann/go").unlink(missing_ok=True)
    before = len(client.jobs())
    client.submit(**EMB)
    wait_until(lambda: client.jobs()[0][1] == 2)
    client.kill("emb")
    wait_until(lambda: len(client.jobs()) == before + 1 and client.jobs()[0][5] is not None)
    assert client.jobs()[0][1:4] == (0, 0, 2)
    with pytest.raises(ShippedError, match="no topology or entry specified"):
        client.submit(**EMB | {"command": ""})


def test_limits_and_credentials(client: ShippedClient, made: Box) -> None:
    assert client.quota() == {}
    limited = made.run("jobd", "quota", "ann", "--gpus", "4", "--bytes", "1GiB", "--data-root", str(made.data))
    assert limited.returncode == 0, limited.stderr
    wait_until(lambda: client.quota() == {"alpha.kubernetes.io/nvidia-gpu": "4", "requests.storage": "1Gi"})
    client.keep_registry("corp", username="ann", password="secret", server="r.example.org")
    assert [row[0] for row in client.registries()] == ["corp"]
    client.forget_registry("corp")
    assert client.registries() == []
