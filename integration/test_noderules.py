"""What the owner of a node lays down, as jobs meet it: mounts, the places in containers, the policy; and an upgrade."""

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.box import Box, box, wait_until
from integration.engine import BUSYBOX_IMAGE, busybox_image, docker_client, engine

# one number after the other, until it is told that these are enough
COUNTS = "i=0; while [ ! -e /storage/enough ]; do i=$((i+1)); echo $i; sleep 0.01; done; echo $i; exit 7"


@pytest.fixture(scope="module")
def engine_url() -> Iterator[str]:
    with engine() as url:
        with docker_client(url) as client:
            busybox_image(client)
        yield url


@pytest.fixture(scope="module")
def node(world: Box, engine_url: str) -> Callable[[], None]:
    """Start the node as its owner does."""
    options = (
        "--policy",
        f"{world.root}/node.yaml",
        "--mount",
        f"{world.root}/datasets:/data:ro,{world.root}/datasets:/paperspace/hi",
    )
    return lambda: world.start_node("n0", engine_url, *options)


@pytest.fixture(scope="module", autouse=True)
def started(world: Box, node: Callable[[], None]) -> None:
    node()
    world.mount()


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        (made.root / "datasets").mkdir()
        (made.root / "datasets/digits").write_text("0123456789\n")
        allowed = f"images: [{BUSYBOX_IMAGE.partition(':')[0]}]\nmounts: [{made.root}/datasets]\n"
        (made.root / "node.yaml").write_text(f"{allowed}sandbox: false\ncpus: 2\nmemory: 256MiB\nshm: 64MiB\n")
        made.start_server()
        yield made


def submit(world: Box, name: str, spec: str, image: str = BUSYBOX_IMAGE) -> Path:
    (world.dc / f"jobs/{name}.yaml").write_text(f"image: {image}\n{spec}")
    return world.dc / "jobs" / name


def ended(world: Box, job: Path) -> int:
    world.sh(f"cat jobs/{job.name}/wait")
    return int((job / "exit_code").read_text())


def printed(job: Path) -> list[str]:
    """Return what the job's process wrote, line by line."""
    said = re.findall(r"^\[[^]]*\] \[worker 0\] (.*)$", (job / "log.txt").read_text(), re.MULTILINE)
    return [line for line in said if not line.startswith("Worker 0 ")]


def running(engine_url: str) -> list[tuple[str, str]]:
    """Return what is another after a container was started again."""
    with docker_client(engine_url) as client:
        found = [client.inspect_container(each["Id"]) for each in client.containers()]
    return [(each["Id"], each["State"]["StartedAt"]) for each in found]


def test_a_container_has_its_places_and_the_nodes_mounts(world: Box) -> None:
    (world.dc / "home/demo/mine").write_text("mine\n")
    command = (
        "pwd; echo ~; cat /data/digits ~/hi/digits /storage/mine; echo kept > /artifacts/kept; echo x > ~/here; ls"
    )
    job = submit(world, "places", f"command: '{command}'\n")
    assert ended(world, job) == 0
    number = (world.dc / "jobs" / job.name).readlink().name
    assert printed(job) == [
        f"/pfs/dc1/jobs/{number}/src",
        "/paperspace",
        "0123456789",
        "0123456789",
        "mine",
        "here",
        "hi",
    ]
    assert (job / "out/kept").read_text() == "kept\n"


def test_what_a_job_leaves_open_is_limited_by_the_policy(world: Box) -> None:
    files = "memory.max memory/memory.limit_in_bytes cpu.max cpu/cpu.cfs_quota_us"
    command = f"cd /sys/fs/cgroup; cat {files} 2>/dev/null; df -k /dev/shm | tail -1"
    job = submit(world, "limits", f"command: '{command}'\n")
    assert ended(world, job) == 0
    memory, cpus, shm = printed(job)
    assert memory == str(256 << 20)
    assert cpus.split()[0] == "200000"  # of 100000 µs
    assert shm.split()[1] == str(64 << 10)


@pytest.mark.parametrize(
    ("name", "image", "asked", "words"),
    [
        (
            "large",
            BUSYBOX_IMAGE,
            "groups: [{count: 1, resources: {cpu: 3}}]",
            "needs 3 CPUs, but the largest node, n0, has 2",
        ),
        (
            "shared",
            BUSYBOX_IMAGE,
            "shm: 1GiB",
            "needs 1GiB of shared memory, but no node gives a process more than n0 does, 64MiB",
        ),
        (
            "foreign",
            "registry.example.org/x:1",
            "groups: [{count: 1}]",
            "no node allows the image registry.example.org/x:1: n0 allows docker.io/library/pfs-test",
        ),
    ],
)
def test_what_the_policy_does_not_give_is_refused_when_it_is_submitted(
    world: Box, name: str, image: str, asked: str, words: str
) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        submit(world, name, f"command: 'true'\n{asked}\n", image)
    assert words in (world.dc / f"jobs/{name}.yaml.error").read_text()


def test_a_job_goes_to_a_node_with_the_attributes_that_it_requires_and_waits_where_there_is_none(world: Box) -> None:
    fits = submit(world, "fits", "require: {cpuCount: '>=1'}\ncommand: 'true'\n")
    wide = submit(world, "wide", "require: {cpuCount: '>=4096'}\ncommand: 'true'\n")
    assert (
        f"needs a node with cpuCount >= 4096: 1 node is online, it does not have it (n0: {os.cpu_count()})"
        in (wide / "why").read_text()
    )
    (wide / "ctl").write_text("kill\n")
    none = submit(world, "none", "require: {gpuName: H200}\ncommand: 'true'\n")
    assert "it does not have it (n0: none)" in (none / "why").read_text()
    (none / "ctl").write_text("kill\n")
    assert ended(world, fits) == 0


def test_what_the_server_named_keeps_its_name(world: Box) -> None:
    job = submit(world, "named", "command: 'true'\n")
    assert ended(world, job) == 0
    number = job.with_name(os.readlink(job))
    [cluster] = (world.dc / "clusters").glob("cl*")
    for path in (number, job, number / "state", number / "processes", world.dc / "nodes/n0", cluster, cluster / "name"):
        with pytest.raises(PermissionError) as refused:
            path.rename(path.with_name("other"))
        assert refused.value.errno == errno.EPERM, path
        assert os.path.lexists(path)


def test_a_daemon_is_replaced_under_a_job_that_runs(world: Box, engine_url: str, node: Callable[[], None]) -> None:
    job = submit(world, "counts", f"command: '{COUNTS}'\n")
    wait_until(lambda: (job / "log.txt").exists() and "9" in printed(job))
    before = running(engine_url)
    assert world.end("n0", signal.SIGTERM) == 0
    node()
    assert running(engine_url) == before != []
    (world.dc / "home/demo/enough").touch()
    assert ended(world, job) == 7
    *numbers, last = printed(job)
    assert numbers == [str(number + 1) for number in range(int(last))]
