"""A node that has no way to the server's data root: it mounts the tree for each job, with the job's own key."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from integration.box import Box, box, wait_until
from integration.engine import docker_client, engine, python_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="such a node mounts for others, which needs root")

MOUNTS = Path("/run/pfs-node-jobs")
HEALED_S = 10.0
# writes a number each tenth of a second, at the file's path, and goes on when that fails for a while
COUNTS = """
import os, time
path = os.environ["USER_DIR"] + "/count"
deadline = time.time() + 60
for number in range(10**6):
    try:
        with open(path, "a") as file: print(number, file=file)
    except OSError as error:
        print("no:", error.strerror, flush=True)
    if os.path.exists(os.environ["SRC_DIR"] + "/stop") or time.time() > deadline: break
    time.sleep(0.1)
try: os.stat("stop")
except OSError as error: print("where it stood:", error.strerror)
os.chdir(os.environ["WORK_DIR"])
print("over", os.stat("stop").st_size, flush=True)
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[tuple[str, str]]:
    with engine() as url, docker_client(url) as client:
        yield url, python_image(client)


@pytest.fixture(scope="module")
def world(docker: tuple[str, str]) -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node("far", docker[0], direct=False)
        made.mount()
        yield made


@pytest.fixture(params=["sandbox", "docker"])
def image(request: pytest.FixtureRequest, docker: tuple[str, str]) -> str | None:
    return docker[1] if request.param == "docker" else None


def submit(world: Box, name: str, command: str, image: str | None, **more: object) -> str:
    """Drop a job; return its number."""
    spec = {"command": command, **more} | ({} if image is None else {"image": image})
    (world.dc / "jobs" / f"{name}.yaml").write_text(json.dumps(spec) + "\n")
    return os.readlink(world.dc / "jobs" / name)


def read(world: Box, job: str, file: str) -> str:
    return (world.dc / "jobs" / job / file).read_text()


def finished(world: Box, job: str) -> str:
    """Wait for a job; return its log."""
    code = read(world, job, "wait")
    assert code == "0\n", read(world, job, "why") + read(world, job, "log.txt") + world.log_of("far")
    return read(world, job, "log.txt")


def mounted(job: str) -> list[Path]:
    return list(MOUNTS.glob(f"*/{job}.*"))


def client_of(job: str) -> int:
    """Return the process that serves a job's mount."""
    return int(json.loads((mounted(job)[0] / "client").read_text())[0])


def test_a_job_has_its_owners_files_and_its_own_and_leaves_nothing_mounted(world: Box, image: str | None) -> None:
    name = f"files-{'image' if image else 'sandbox'}"
    (world.dc / "home/demo/given").write_text("from home\n")
    (world.data / "shared/model").write_text("from shared\n")
    command = "cat $USER_DIR/given $SHARED_DIR/model; echo made >$USER_DIR/made; echo kept >$JOB_DIR/keep/k; id -u; pwd"
    job = submit(world, name, command, image)
    log = finished(world, job)
    assert "from home" in log
    assert "from shared" in log
    assert (world.dc / "home/demo/made").read_text() == "made\n"
    assert (world.data / f"jobs/{job}/data/keep/k").read_text() == "kept\n"
    assert (world.data / "home/demo/made").stat().st_uid == (world.data / "home/demo").stat().st_uid
    wait_until(lambda: not mounted(job))
    assert f"/{job}." not in Path("/proc/self/mountinfo").read_text()


def test_a_job_sees_nothing_else_of_the_tree(world: Box, image: str | None) -> None:
    world.run("jobd", "adduser", "--data-root", str(world.data), "eve")
    (world.data / "home/eve/secret").write_text("secret\n")
    name = f"sees-{'image' if image else 'sandbox'}"
    command = "cd $DATA_ROOT; ls . home jobs; ls home/eve || true; touch $SHARED_DIR/x || true"
    job = submit(world, name, command, image)
    log = finished(world, job)
    assert "eve\n" not in log.replace("home/eve", "")
    assert "secret" not in log
    assert "queue" not in log
    assert "Read-only" in log or "ermission denied" in log
    assert not (world.data / "shared/x").exists()


def test_a_folder_that_has_become_a_link_to_elsewhere_is_refused(world: Box) -> None:
    away = world.dc / "home/demo/away"
    away.mkdir()
    job = submit(world, "linked", "ls /data", None, mounts=["away:/data:ro"], hold=True)
    away.rmdir()
    away.symlink_to("/etc")
    (world.dc / "jobs" / job / "ctl").write_text("release\n")
    assert read(world, job, "wait") != "0\n"
    assert "passwd" not in read(world, job, "log.txt")
    assert "away" in read(world, job, "why")


def test_a_job_goes_on_when_the_process_behind_its_files_is_killed(world: Box, image: str | None) -> None:
    name = f"healed-{'image' if image else 'sandbox'}"
    count = world.dc / "home/demo/count"
    count.unlink(missing_ok=True)
    (world.dc / "home/demo/count.py").write_text(COUNTS)
    job = submit(world, name, "python3 $USER_DIR/count.py", image)
    wait_until(lambda: count.exists() and count.read_text().count("\n") > 3)
    os.kill(client_of(job), signal.SIGKILL)
    killed_s, seen = time.monotonic(), count.read_text()
    wait_until(lambda: len(count.read_text()) > len(seen), HEALED_S)
    assert time.monotonic() - killed_s < HEALED_S
    (world.data / f"jobs/{job}/data/src/stop").touch()
    log = finished(world, job)
    assert "where it stood: Transport endpoint is not connected" in log
    assert "over 0" in log
    numbers = [int(line) for line in count.read_text().split()]
    assert numbers == sorted(set(numbers))


def test_a_mount_outlives_the_daemon_and_the_next_daemon_takes_it_up(world: Box, docker: tuple[str, str]) -> None:
    job = submit(world, "outlives", "while [ ! -e $USER_DIR/go ]; do sleep 0.1; done; cat $USER_DIR/go", None)
    wait_until(lambda: read(world, job, "state") == "RUNNING\n")
    client = client_of(job)
    world.end("far", signal.SIGKILL)
    world.start_node("far", docker[0], direct=False)
    assert client_of(job) == client
    os.kill(client, signal.SIGKILL)
    wait_until(lambda: client_of(job) != client)
    (world.dc / "home/demo/go").write_text("gone on\n")
    assert "gone on" in finished(world, job)
    wait_until(lambda: not mounted(job))


def test_the_key_of_a_job_opens_nothing_when_the_job_is_over(world: Box) -> None:
    job = submit(world, "key", "sleep 60", None)
    wait_until(lambda: read(world, job, "state") == "RUNNING\n")
    key = next(iter(json.loads((mounted(job)[0] / "config").read_text()).values()))["token"]
    url = f"http://127.0.0.1:{world.port}/api/v1/fs"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
        found = {path: client.get(path).status_code for path in ("home/demo/", "jobs/", "queue", "status")}
        assert found == {"home/demo/": 200, "jobs/": 200, "queue": 404, "status": 404}
        (world.dc / "jobs" / job / "ctl").write_text("kill\n")
        read(world, job, "wait")
        assert client.get("home/demo/").status_code == 401
