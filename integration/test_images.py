"""Images from real registries: how a pull is told, who may have what, which image a job ran, and what stays secret."""

import base64
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from integration.box import Box, box, wait_until
from integration.engine import OwnEngine, docker_client, own_engine
from integration.registry import CLOSED, PASSWORD, USERNAME, Registry, registries
from jobd.node.docker import open_docker
from jobd.node.engine import Engine
from jobd.node.runtime import Launch
from jobd.wire import Credential

MIB = 1 << 20
DIGEST = r"@sha256:[0-9a-f]{64}"


@dataclass(frozen=True)
class World:
    """A datacenter with one node, and two registries that its engine reaches."""

    box: Box
    engine: OwnEngine
    open: Registry
    closed: Registry

    def submit(self, name: str, image: str, command: str, more: str = "") -> Path:
        spec = f"image: {image}\ncommand: {json.dumps(command)}\n{more}"
        (self.box.dc / f"jobs/{name}.yaml").write_text(spec)
        return self.box.dc / "jobs" / name

    def ended(self, job: Path) -> str:
        self.box.sh(f"cat jobs/{job.name}/wait")
        return (job / "state").read_text().strip()

    def run(self, name: str, image: str, command: str = "cat /version", more: str = "") -> Path:
        job = self.submit(name, image, command, more)
        assert self.ended(job) == "SUCCEEDED", (job / "why").read_text()
        return job


def told(job: Path) -> list[str]:
    """Return what the node told of pulling, with numbers left out."""
    found = re.findall(r"^\[[^]]*\] \[daemon\] n0: (.*)$", (job / "log.txt").read_text(), re.MULTILINE)
    return [re.sub(r"[0-9.]+ MiB in [0-9.]+ s", "# MiB in # s", line) for line in found]


def fact(job: Path, key: str) -> str:
    return dict(line.partition(" ")[::2] for line in (job / "status").read_text().splitlines())[key]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        own_engine() as engine,
        tempfile.TemporaryDirectory(prefix="pfs-registry-") as directory,
        registries(engine, Path(directory)) as (open_, closed),
        box() as made,
    ):
        made.start_server()
        made.start_node("n0", engine.base_url, "--debug", "true")
        made.mount()
        yield World(made, engine, open_, closed)


def test_an_image_is_pulled_once_and_told_and_the_next_job_finds_it(world: World) -> None:
    image = world.open.push("team/x:1", {"version": b"one\n", "weights": os.urandom(4 * MIB)})
    job = world.run("first", image, more='resources: "2:[]"\n')
    assert told(job) == [f"pulling {image}", f"pulled {image}: # MiB in # s"]
    [size] = re.findall(r"pulled .*: ([0-9.]+) MiB", (job / "log.txt").read_text())
    assert float(size) > 4
    assert (job / "processes/0.0/log.txt").read_text() == (job / "processes/0.1/log.txt").read_text() == "one\n"
    [digest] = set(re.findall(rf"{image.rpartition(':')[0]}{DIGEST}", (job / "resolved.yaml").read_text()))
    assert fact(job, "images") == digest
    again = world.run("again", image)
    assert told(again) == []
    assert fact(again, "images") == digest


def test_another_attempt_has_the_same_image_though_the_tag_has_moved(world: World) -> None:
    image = world.open.push("team/moving:1", {"version": b"old\n"})
    job = world.submit("moving", image, "cat /version; [ $PFS_ATTEMPT = 2 ] || sleep 100")
    wait_until(lambda: "old" in (job / "log.txt").read_text())
    digest = fact(job, "images")
    world.open.push("team/moving:1", {"version": b"new\n"})
    with docker_client(world.engine.base_url) as client:
        client.pull(image)
    (job / "ctl").write_text("requeue\n")
    assert world.ended(job) == "SUCCEEDED"
    assert (job / "processes/0.0/log.txt").read_text() == "old\nold\n"
    assert fact(job, "images") == digest
    assert (world.run("moved", image) / "processes/0.0/log.txt").read_text() == "new\n"


def test_a_container_has_the_image_that_its_fellows_found_whatever_its_tag_means(world: World, tmp_path: Path) -> None:
    found: list[str] = []
    told = b""
    with docker_client(world.engine.base_url) as client:
        for version in (b"theirs\n", b"ours\n"):
            image = world.open.push("team/split:1", {"version": version})
            client.pull(image)
            found += client.inspect_image(image)["RepoDigests"]
    theirs, ours = found
    asked = []

    async def consent(image: str) -> str:
        asked.append(image)
        return theirs

    async def main() -> None:
        nonlocal told
        launch = Launch("17.1.0.1", ("cat", "/version"), {}, "/", "x", image=image)
        with trio.fail_after(60):
            async with open_docker(world.engine.base_url, tmp_path / "docker", "split") as runtime:
                await runtime.start(launch, consent=consent)
                told = b"".join([data async for data in runtime.output(launch.task_id, 0)])
                assert runtime.image(launch.task_id) == theirs
                await runtime.remove(launch.task_id)

    trio.run(main)
    assert (told, asked) == (b"theirs\n", [ours, theirs])


def test_an_engine_tells_which_digests_can_be_fetched_and_by_whom(world: World) -> None:
    with docker_client(world.engine.base_url) as client:
        digests = []
        for registry in (world.open, world.closed):
            image = registry.push("team/asked:1", {"version": b"asked\n"})
            known = {"username": USERNAME, "password": PASSWORD}
            digests.append(
                f"{image.rpartition(':')[0]}@{client.inspect_distribution(image, known)['Descriptor']['digest']}"
            )
    theirs, private = digests
    absent = f"{theirs[:-64]}{'0' * 64}"
    vault = Credential(CLOSED, USERNAME, PASSWORD)

    async def main() -> list[bool]:
        with trio.fail_after(60):
            engine = Engine(world.engine.base_url)
            try:
                asked = ((theirs, None), (absent, None), (private, vault), (private, None))
                return [await engine.registry_has(image, credential) for image, credential in asked]
            finally:
                await engine.close()

    assert trio.run(main) == [True, False, True, False]


def test_what_a_registry_refuses_fails_the_job_in_its_words(world: World) -> None:
    job = world.submit("absent", f"{world.open.address}/team/absent:1", "true")
    assert world.ended(job) == "FAILED"
    assert (job / "exit_code").read_text() == "125\n"
    why = (job / "why").read_text()
    assert f"no image '{world.open.address}/team/absent:1': " in why
    assert "not found" in why or "unknown" in why


def test_a_registry_that_is_down_is_asked_again(world: World) -> None:
    image = world.open.push("team/late:1", {"version": b"late\n"})
    world.open.stop()
    job = world.submit("late", image, "cat /version")
    wait_until(lambda: "connection refused; trying again in 1 s" in (job / "why").read_text())
    assert (job / "state").read_text() == "STARTING\n"
    world.open.start()
    assert world.ended(job) == "SUCCEEDED"
    assert told(job)[-1] == f"pulled {image}: # MiB in # s"


def test_a_kill_ends_a_job_whose_image_does_not_come(world: World) -> None:
    image = world.open.push("team/slow:1", {"version": b"slow\n"})
    with world.open.held():
        job = world.submit("slow", image, "true")
        wait_until(lambda: (job / "why").read_text() == f"n0: pulling {image}\n")
        (job / "ctl").write_text("kill\n")
        assert world.ended(job) == "CANCELLED"
    assert told(job) == [f"pulling {image}"]


def test_a_private_image_is_for_who_has_the_credential_and_for_nobody_else(world: World) -> None:
    image = world.closed.push("team/private:1", {"version": b"private\n"})
    secrets = world.box.dc / "secrets"
    (world.box.root / "early.yaml").write_text(f"image: {image}\nregistry: vault\ncommand: x\n")
    refused = world.box.sh(f"cp {world.box.root}/early.yaml jobs/")
    assert refused.returncode != 0
    assert "there is no secret vault" in (world.box.dc / "jobs/early.yaml.error").read_text()
    (secrets / "vault").write_text(f"server: {CLOSED}\nusername: {USERNAME}\npassword: {PASSWORD}\n")
    (secrets / "wrong").write_text(f"server: {CLOSED}\nusername: {USERNAME}\npassword: wrong\n")

    for name, more in (("wrong", "registry: wrong\n"), ("without", "")):
        job = world.submit(name, image, "true", more)
        assert world.ended(job) == "FAILED"
        assert re.search("unauthorized|no basic auth", (job / "why").read_text())
    job = world.run("private", image, more="registry: vault\n")
    assert told(job) == [f"pulling {image}", f"pulled {image}: # MiB in # s"]
    # it is on the engine now, and still for nobody who cannot have it from its registry
    job = world.submit("within", image, "true")
    assert world.ended(job) == "FAILED"
    assert "registry: NAME" in (job / "why").read_text()
    assert told(world.run("privately", image, more="registry: vault\n")) == []


@pytest.mark.parametrize("runtime", ["docker", "sandbox"])
def test_a_job_finds_its_secrets_in_files_in_memory_that_only_its_user_reads(world: World, runtime: str) -> None:
    (world.box.dc / "secrets/wandb").write_text(f"{PASSWORD}\n")
    command = (
        "cd /run/secrets; ls; sha256sum < wandb; stat -c '%a %u' wandb; id -u; echo x > wandb; rm -f wandb; ls;"
        " grep ' /run/secrets ' /proc/self/mounts | cut -d' ' -f3"
    )
    image = f"image: {world.open.push('team/any:1', {})}\n" if runtime == "docker" else ""
    (world.box.dc / f"jobs/token-{runtime}.yaml").write_text(
        f"{image}secrets: [wandb]\nend: any\ncommand: {json.dumps(command)}\n"
    )
    job = world.box.dc / f"jobs/token-{runtime}"
    assert world.ended(job) == "SUCCEEDED", (job / "log.txt").read_text()
    lines = [line for line in (job / "processes/0.0/log.txt").read_text().splitlines() if "wandb: " not in line]
    name, digest, mode, uid, again, kind = (line for line in lines if "'wandb'" not in line)
    assert (name, again, kind) == ("wandb", "wandb", "tmpfs")
    assert digest.split()[0] == hashlib.sha256(f"{PASSWORD}\n".encode()).hexdigest()
    assert mode == f"400 {uid}"
    instance = (world.box.root / "state-n0/instance").read_text()
    wait_until(lambda: not os.path.exists(f"/dev/shm/pfs-node-{instance}"))


def test_a_secret_can_be_written_and_removed_and_is_nowhere_to_be_read(world: World) -> None:
    secrets = world.box.dc / "secrets"
    assert {"vault", "wrong"} <= set(os.listdir(secrets))
    assert stat.S_IMODE((secrets / "vault").stat().st_mode) == 0o200
    said = world.box.sh("cat secrets/vault")
    assert said.stdout == ""
    assert "Permission denied" in said.stderr
    (world.box.root / "homedir/control").write_bytes(base64.b64encode(f"a:{PASSWORD}".encode()))
    assert len(found_in_files(world.box.root / "homedir")) == 1
    assert found_in_files(world.box.data, world.box.root / "state-n0", *world.box.root.glob("*.log")) == []
    assert found_in_files(*(world.box.dc / name for name in ("queue", "status", "me"))) == []
    for name in ("private", "wrong", "token-docker", "token-sandbox"):
        texts = ("resolved.yaml", "status", "events", "log.txt", "processes/0.0/env")
        assert found_in_files(*(world.box.dc / "jobs" / name / text for text in texts)) == []
    assert found_in_files(*(Path(f"/proc/{p.pid}/{x}") for p in world.box.processes.values() for x in PROC)) == []
    with docker_client(world.engine.base_url) as client:
        for container in client.containers(all=True):
            assert PASSWORD not in json.dumps(client.inspect_container(container["Id"]))
    (secrets / "wrong").unlink()
    assert "wrong" not in os.listdir(secrets)


PROC = ("cmdline", "environ")
# as it is, or in base64, wherever in a longer text it stands
SHIFTED = (base64.b64encode(b"x" * shift + PASSWORD.encode())[4:-4] for shift in range(3))
FORMS = (PASSWORD.encode(), *SHIFTED)


def found_in_files(*roots: Path) -> list[str]:
    """Return the files at or below these in which the secret stands, as it is or as a registry's header has it."""
    files = [file for root in roots for file in ([root] if not root.is_dir() else root.rglob("*"))]
    texts = ((file, file.read_bytes()) for file in files if file.is_file())
    return [str(file) for file, text in texts if any(form in text for form in FORMS)]
