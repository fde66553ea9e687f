"""A client of PaddleCloud, written from its protocol alone, does its day's work: a real server, a node, containers."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from integration.box import Box, box, wait_until
from integration.engine import BUSYBOX_IMAGE, busybox_image, docker_client, own_engine
from tests.restclient import RestClient, RestError

PASSWORD = "correct horse battery staple"
HOME = "/pfs/dc1/home/ann"
CHUNK = 64 * 1024
# parameter servers run the entry as well, where an image has no paddle; the trainers tell who they are, and end
TRAIN = """
if [ "$PADDLE_TRAINING_ROLE" = PSERVER ]; then echo serving; sleep 600; fi
echo trainer $PADDLE_INIT_TRAINER_ID of $TRAINERS in $(pwd)
[ "$MODE" = wait ] && sleep 600
cp data out-$PADDLE_INIT_TRAINER_ID
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with own_engine() as engine, box() as made:
        with docker_client(engine.base_url) as client:
            busybox_image(client)
        made.run("jobd", "adduser", "ann", "--data-root", str(made.data))
        given = made.run("jobd", "user", "password", "ann", "--data-root", str(made.data), "--password", PASSWORD)
        assert given.returncode == 0, given.stderr
        made.start_server()
        made.start_node("n0", engine.base_url)
        yield made


def test_from_the_log_in_to_the_result(made: Box, tmp_path: Path) -> None:
    package, data = f"{HOME}/jobs/emb", os.urandom(10 * CHUNK + 1)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "train.sh").write_text(TRAIN)
    client = RestClient(made.url)
    with pytest.raises(RestError, match="401"):
        client.log_in("ann", PASSWORD[:-1])
    client.log_in("ann", PASSWORD)

    client.mkdir(package)
    client.upload(tmp_path / "train.sh", f"{package}/train.sh", CHUNK)

    def cut(offset: int) -> None:
        if offset == 4 * CHUNK:
            raise ConnectionError

    client.before_chunk = cut
    with pytest.raises(ConnectionError):
        client.upload(tmp_path / "data", f"{package}/data", CHUNK)
    client.before_chunk = lambda offset: None
    client.sent.clear()
    client.upload(tmp_path / "data", f"{package}/data", CHUNK)
    assert client.sent == [n * CHUNK for n in range(4, 11)]

    fields = {"jobPackage": "./emb", "entry": "sh train.sh", "image": BUSYBOX_IMAGE, "datacenter": "dc1"}
    fields |= {"parallelism": 2, "pservers": 1, "topology": "", "registry": "", "memory": "64Mi", "psmemory": "64Mi"}
    client.submit(name="emb", **fields)
    wait_until(lambda: client.jobs()[0]["status"]["completionTime"] is not None)
    (job,) = client.jobs()
    assert (job["state"], job["status"]["succeeded"]) == ("SUCCEEDED", 2), client.logs(jobname="emb")
    lines = client.logs(jobname="emb").splitlines()
    for number in range(2):
        said = lines[lines.index(f"{'=' * 26}emb-trainer-{number}{'=' * 26}") + 1]
        assert said == f"trainer {number} of 2 in {package}"
        assert client.download(f"{package}/out-{number}", tmp_path / f"out-{number}", CHUNK)
        assert (tmp_path / f"out-{number}").read_bytes() == data
    assert client.logs(jobname="emb", w="emb-pserver-0") == "serving"
    assert httpx.get(client.publish(f"{package}/out-0")).content == data

    client.submit(name="long", **fields | {"jobPackage": package}, env={"MODE": "wait"})
    wait_until(lambda: client.jobs()[0]["status"]["active"] == 2)
    client.kill("long")
    wait_until(lambda: client.jobs()[0]["state"] == "CANCELLED")
    workers = client.call("GET", "workers", params={"jobname": "long"})["msg"]
    assert {each["node"] for each in workers} == {"n0"}
    client.kill("long", rm=True)
    assert [job["name"] for job in client.jobs()] == ["emb"]
    client.close()
