"""From inside of a container and of a sandbox: what a task is and sees is what was planned, and nothing else opens.

One task for each runtime looks at everything; it is started as the daemon starts it, behind the rules of a node.
"""

import os
import re
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from integration.engine import BUSYBOX_IMAGE, busybox_image, docker_client, engine
from jobd.node.admission import Admitted, Rules
from jobd.node.dataroot import DataRoot
from jobd.node.docker import open_docker
from jobd.node.hostmounts import parse_mounts
from jobd.node.hostpaths import HostPaths
from jobd.node.policy import Policy
from jobd.node.runtime import Consent, Launch, Runtime, RuntimeFailure, Tell, granted, untold
from jobd.node.sandbox import SandboxRuntime
from jobd.node.staging import Staging, shares_mounts
from jobd.wire import DOCKER, SANDBOX, Assignment, TaskVolume
from tests.jobd.node.conformance import TASK, read

LIMIT_S = 120.0
OWNER, EVE = 200001, 200002
SECRET = "pfs1.do-not-tell"
HOME, SHARED = "/pfs/dc1/home/ann", "/pfs/dc1/shared"
NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")
# what every container and every sandbox has of its own
OWN_MOUNTS = r"/|/proc(/.*)?|/dev(/.*)?|/sys(/.*)?|/tmp|/etc(/(resolv.conf|hostname|hosts))?|/sbin/docker-init|/usr"
DEVICES = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"

LOOKS = f"""
echo == status; cat /proc/self/status
echo == mounts; cat /proc/self/mountinfo
echo == devices; ls /dev
echo == processes; for p in /proc/[0-9]*; do cat $p/comm; done
echo == namespaces; for n in {" ".join(NAMESPACES)}; do echo $n $(readlink /proc/self/ns/$n); done
echo == environment; cat /proc/[0-9]*/environ 2> /dev/null | tr '\\0' '\\n'
echo == root; for d in {HOME} {SHARED} /data /ro /; do touch $d/written 2> /dev/null && echo $d; done
echo == device; cat {HOME}/null > /dev/null 2>&1 && echo opened
echo == suid; {HOME}/busybox id -u
echo == sockets; find / -xdev -type s 2> /dev/null
echo == pids; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2> /dev/null
echo == hostnames; hostname
echo == limits; ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; ulimit -Ss
echo == rooms; df -k /tmp /dev/shm | sed -n 's/.* \\([0-9]*\\)  *[0-9]*  *[0-9]*  *[0-9]*%.*/\\1/p'
echo == unshared; unshare -U true 2> /dev/null && echo made
"""


@dataclass
class World:
    """A datacenter's tree with a secret of each kind, and what must not be seen of the machine."""

    path: Path
    engine_url: str

    @property
    def hidden(self) -> list[str]:
        door = self.engine_url.removeprefix("unix://")
        return [
            *(
                f"{self.path}/{name}"
                for name in ("", "tree", "tree/home/eve/secret", "state", "state/key", "daemon.env")
            ),
            *("/pfs/dc1/home/eve", f"{HOME}/../eve/secret", f"{HOME}/link", "/paperspace/../../tree"),
            *(
                door,
                os.path.dirname(door),
                "/var/run/docker.sock",
                "/run/docker.sock",
                "/run/containerd",
                "/run/pfs-node",
            ),
            *("/root/.paperspace", "/etc/shadow", "/var/lib/pfs-node", "/var/lib/docker", "/proc/1/root/home"),
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("confinement")
    for name, owner in (("home/ann", OWNER), ("home/eve", EVE), ("shared", 0), ("jobs/17/data/src", OWNER)):
        (path / "tree" / name).mkdir(parents=True)
        os.chown(path / "tree" / name, owner, owner)
        (path / "tree" / name).chmod(0o755 if owner == 0 else 0o700)
    home = path / "tree/home/ann"
    for file in ("tree/.pfs-id", "tree/home/eve/secret", "daemon.env"):
        (path / file).write_text(SECRET)
    (home / "link").symlink_to(path / "tree/home/eve/secret")
    os.mknod(home / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (home / "null").chmod(0o666)
    shutil.copyfile(os.path.realpath(str(shutil.which("busybox"))), home / "busybox")
    (home / "busybox").chmod(0o4755)
    for name in ("data", "ro"):
        (path / name).mkdir()
        (path / name).chmod(0o777)
    with engine() as url:
        with docker_client(url) as client:
            busybox_image(client)
        yield World(path, url)


def rules(world: World, policy: Policy) -> Rules:
    mounts = parse_mounts([f"{world.path}/data:/data,{world.path}/ro:/ro:ro"])
    return Rules("n0", policy, mounts, HostPaths(), DataRoot(world.path / "tree"))


@asynccontextmanager
async def opened(world: World, kind: str, policy: Policy) -> AsyncIterator[Runtime]:
    staging = Staging(world.path / "run", f"i{kind}")
    state = world.path / "state" / kind
    if kind == SANDBOX:
        yield Admitted(SandboxRuntime(state), rules(world, policy), staging, every=False)
        return
    assert shares_mounts(world.engine_url)
    async with open_docker(world.engine_url, state, f"walls{os.getpid()}") as runtime:
        yield Admitted(runtime, rules(world, policy), staging, every=True)


def launch(world: World, kind: str, script: str) -> Launch:
    volumes = [
        TaskVolume("home/ann", HOME, read_only=False),
        TaskVolume("shared", SHARED, read_only=True),
        TaskVolume("jobs/17/data", "/pfs/dc1/jobs/17", read_only=False),
    ]
    if kind == DOCKER:
        volumes.append(TaskVolume("jobs/17/data/src", "/paperspace", read_only=False))
    return DataRoot(world.path / "tree").launch(
        Assignment(
            TASK,
            ("sh", "-c", script),
            {"PFS_USER": "ann"},
            HOME,
            "digits-17-0",
            image=BUSYBOX_IMAGE if kind == DOCKER else None,
            uid=OWNER,
            gid=OWNER,
            volumes=tuple(volumes),
            runtime=kind,
        )
    )


def run(world: World, kind: str, script: str, policy: Policy | None = None, **changes: object) -> str:
    async def main() -> str:
        with trio.fail_after(LIMIT_S):
            async with opened(world, kind, policy or Policy()) as runtime:
                try:
                    await runtime.start(replace(launch(world, kind, script), **changes))  # type: ignore[arg-type]
                    return (await read(runtime)).decode(errors="replace")
                finally:
                    await runtime.remove(TASK)

    return trio.run(main)


@dataclass(frozen=True)
class Inside:
    """What a task saw, by the name of the look."""

    kind: str
    seen: dict[str, list[str]]

    @property
    def status(self) -> dict[str, str]:
        return dict(line.replace("\t", "").split(":", 1) for line in self.seen["status"])


@pytest.fixture(scope="module", params=[DOCKER, SANDBOX])
def inside(request: pytest.FixtureRequest, world: World) -> Inside:
    kind = request.param
    looks = LOOKS + "echo == hidden\n" + "".join(f"[ -e {path} ] && echo {path}\n" for path in world.hidden)
    policy = Policy() if kind == SANDBOX else Policy(sandbox=False, processes=77)
    policy = replace(policy, disk_bytes=64 << 20, shm_bytes=32 << 20, ulimits={"nofile": 4096})
    parts = re.split(r"^== (\w+)\n", run(world, kind, looks, policy), flags=re.MULTILINE)
    return Inside(kind, {name: text.splitlines() for name, text in zip(parts[1::2], parts[2::2], strict=True)})


def test_it_has_no_capability_and_can_gain_none(inside: Inside) -> None:
    status = inside.status
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert inside.seen["suid"] == [str(OWNER)]


def test_it_is_its_owner_and_in_no_other_group(inside: Inside) -> None:
    ids = f"{OWNER}" * 4
    assert (inside.status["Uid"], inside.status["Gid"]) == (ids, ids)
    assert set(inside.status["Groups"].split()) <= {str(OWNER)}


def test_it_reaches_the_kernel_through_a_filter_and_makes_no_namespaces(inside: Inside) -> None:
    assert inside.status["Seccomp"] == "2"
    assert inside.seen["unshared"] == []


def test_it_sees_its_volumes_and_the_nodes_mounts_and_nothing_else_of_the_machine(inside: Inside) -> None:
    planned = {HOME: "rw", SHARED: "ro", "/pfs/dc1/jobs/17": "rw", "/data": "rw", "/ro": "ro"}
    if inside.kind == DOCKER:
        planned["/paperspace"] = "rw"
    found = {}
    for line in inside.seen["mounts"]:
        point, options = line.split(" ")[4:6]
        if not re.fullmatch(OWN_MOUNTS, point):
            flags = options.split(",")
            found[point] = flags[0]
            assert {"nosuid", "nodev"} <= set(flags), line
    assert found == planned


def test_it_can_write_where_it_may_and_nowhere_else(inside: Inside) -> None:
    assert inside.seen["root"] == [HOME, "/data"]


def test_devices_are_the_harmless_ones_and_none_counts_in_a_volume(inside: Inside) -> None:
    assert set(inside.seen["devices"]) <= set(DEVICES.split())
    assert inside.seen["device"] == []


def test_it_sees_its_own_processes_only(inside: Inside) -> None:
    assert set(inside.seen["processes"]) <= {"docker-init", "tini", "bwrap", "sh", "cat", "busybox", "setpriv"}
    assert len(inside.seen["processes"]) <= 4


def test_it_shares_no_namespace_with_the_machine_but_a_sandbox_its_network(inside: Inside) -> None:
    shared = {
        name
        for name, own in (line.split() for line in inside.seen["namespaces"])
        if own == os.readlink(f"/proc/self/ns/{name}")
    }
    assert shared == (set() if inside.kind == DOCKER else {"net"})
    assert inside.seen["hostnames"] == ["digits-17-0"]


def test_nothing_of_others_of_the_daemon_and_of_the_engine_is_there(inside: Inside) -> None:
    assert inside.seen["hidden"] == []
    assert inside.seen["sockets"] == []


def test_no_variable_tells_a_key(inside: Inside) -> None:
    told = [line.split("=")[0] for line in inside.seen["environment"]]
    assert "PFS_USER" in told
    assert not [line for line in inside.seen["environment"] if "pfs1." in line or line.startswith("GRADIENT_NODE")]


def test_a_container_has_as_many_processes_as_the_policy_gives(inside: Inside) -> None:
    if inside.kind == SANDBOX:
        pytest.skip("a sandbox limits no processes, so a policy that does has to forbid sandboxes")
    assert inside.seen["pids"] == ["77"]


def test_its_processes_have_the_limits_of_the_node(inside: Inside) -> None:
    assert inside.seen["limits"] == ["4096", "4096", "0", "0", str(64 << 10)]


def test_what_it_writes_to_memory_has_an_end(inside: Inside) -> None:
    rooms = inside.seen["rooms"]
    assert rooms[1:] == [str(32 << 10)]
    if inside.kind == SANDBOX:
        assert rooms[0] == str(64 << 10)


@pytest.mark.parametrize("kind", [DOCKER, SANDBOX])
def test_a_volume_that_was_led_elsewhere_is_not_shown(world: World, kind: str) -> None:
    home = world.path / "tree/home/ann"
    (home / "set").mkdir(exist_ok=True)
    planned = launch(world, kind, "ls /set")
    volume = replace(planned.volumes[0], source=f"{home}/set", target="/set")
    (home / "set").rmdir()
    (home / "set").symlink_to("/etc")
    try:
        with pytest.raises((RuntimeFailure, ExceptionGroup)) as caught:
            run(world, kind, "ls /set", volumes=(*planned.volumes, volume))
    finally:
        (home / "set").unlink()
    assert "the volume 'home/ann/set' cannot be had: Not a directory" in repr(caught.value)


@dataclass
class Swapping:
    """A runtime whose task's owner leads a path elsewhere after it was looked at, and before it is mounted."""

    inner: Runtime
    path: Path

    @property
    def name(self) -> str:
        return self.inner.name

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        self.path.rename(self.path.with_name("away"))
        self.path.symlink_to("../eve")
        await self.inner.start(launch, tell, consent)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


@pytest.mark.parametrize("kind", [DOCKER, SANDBOX])
def test_a_task_that_sees_something_else_than_was_looked_at_is_ended_at_once(world: World, kind: str) -> None:
    path = world.path / "tree/home/ann/set"
    path.mkdir()
    planned = launch(world, kind, "sleep 600")
    volume = replace(planned.volumes[0], source=str(path), target="/set")

    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            async with opened(world, kind, Policy()) as runtime:
                assert isinstance(runtime, Admitted)
                # nothing keeps the path where it is: neither root nor a kernel that could
                raced = Admitted(
                    Swapping(runtime._runtime, path),  # type: ignore[arg-type]
                    rules(world, Policy()),
                    None,
                    every=kind == DOCKER,
                )
                with pytest.raises(
                    RuntimeFailure, match="it was ended at once: something else is mounted at /set than"
                ):
                    await raced.start(replace(planned, volumes=(*planned.volumes, volume)))
                assert await runtime.tasks() == []

    try:
        trio.run(main)
    finally:
        path.unlink()
        path.with_name("away").rmdir()


def test_nothing_stays_mounted(world: World, inside: Inside) -> None:
    assert os.listdir(world.path / "run") == []
    assert str(world.path) not in Path("/proc/self/mountinfo").read_text()
