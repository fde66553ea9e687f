"""What the owner of a node laid down, looked at once before the daemon starts."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from cli.node import rules as noderules
from cli.node.options import Settings, parse, settings_of
from cli.node.rules import NodeRules, read_rules
from jobd.node.runtime import Runtime
from pfs.errors import Kind, PfsError
from pfs.keys import make_key

KEY = make_key("http://127.0.0.1:9", "secret")


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(noderules, "RUN_DIR", tmp_path / "run")
    for name in ("home/.paperspace", "state", "tree/home", "data"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def settings(world: Path, *more: str, env: dict[str, str] | None = None) -> Settings:
    words = ["--apiKey", KEY, "--name", "n0", "--data-root", str(world / "tree"), "--state-dir", str(world / "state")]
    words += ["--docker-host", f"unix://{world}/engine/door"]
    return settings_of(parse([*words, *more]), env or {})


def rules(world: Path, *more: str, env: dict[str, str] | None = None) -> NodeRules:
    return read_rules(settings(world, *more, env=env), "i", None)


@pytest.mark.parametrize(
    "words", [["--mount", "{}/data:/a,{}/data:/b"], ["-mounts={}/data:/a", "-mount", "{}/data:/b"]]
)
def test_mounts_of_the_command_line(world: Path, words: list[str]) -> None:
    found = rules(world, *(word.replace("{}", str(world)) for word in words)).rules.mounts
    assert [str(mount) for mount in found] == [f"{world}/data:/a", f"{world}/data:/b"]


def test_mounts_of_the_environment_count_where_no_others_are_given(world: Path) -> None:
    env = {"GRADIENT_NODE_MOUNTS": f"{world}/data:/a:ro"}
    assert [str(mount) for mount in rules(world, env=env).rules.mounts] == [f"{world}/data:/a:ro"]
    assert [mount.target for mount in rules(world, "--mount", f"{world}/data:/b", env=env).rules.mounts] == ["/b"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("state", "what this daemon keeps of its tasks"),
        ("tree/home", "the data root"),
        ("", "it contains"),
        ("engine", "the container engine's socket"),
        ("none", "No such file"),
    ],
)
def test_what_would_open_the_machine_ends_the_daemon(world: Path, source: str, words: str) -> None:
    (world / "engine").mkdir()
    with pytest.raises(PfsError, match=words) as caught:
        rules(world, "--mount", f"{world}/{source}:/x")
    assert caught.value.kind is Kind.INVALID


def test_the_key_of_the_node_is_shown_to_nobody(world: Path) -> None:
    assert rules(world, "--mount", f"{world}/home:/x")
    (world / "home/.paperspace/config.json").write_text("{}")
    for source in ("home", "home/.paperspace", "home/.paperspace/config.json"):
        with pytest.raises(PfsError, match="the key of this node"):
            rules(world, "--mount", f"{world}/{source}:/x")


def test_a_policy_limits_the_nodes_own_mounts(world: Path) -> None:
    (world / "policy").write_text(f"mounts: [{world}/other]\n")
    with pytest.raises(PfsError, match="the policy of this node allows mounts of"):
        rules(world, "--policy", f"{world}/policy", "--mount", f"{world}/data:/x")
    (world / "policy").write_text(f"mounts: [{world}/data]\n")
    assert rules(world, "--policy", f"{world}/policy", "--mount", f"{world}/data:/x").rules.mounts


def test_the_policy_itself_is_shown_to_nobody(world: Path) -> None:
    (world / "data/policy").write_text("images: [x]\n")
    with pytest.raises(PfsError, match="the policy of this node"):
        rules(world, "--policy", f"{world}/data/policy", "--mount", f"{world}/data:/x")


def test_a_spoiled_policy_ends_the_daemon(world: Path) -> None:
    (world / "policy").write_text("image: x\n")
    with pytest.raises(PfsError, match="line 1, column 1: there is no key 'image'"):
        rules(world, "--policy", f"{world}/policy")


@pytest.mark.parametrize(
    ("target", "has_place"),
    [("/usr/x/y", False), ("/etc/x", False), ("/usr/bin", True), ("/usr/bin/env", False), ("/x", True)],
)
def test_a_mount_needs_a_place_in_sandboxes(world: Path, target: str, has_place: bool) -> None:
    found = rules(world, "--mount", f"{world}/data:{target}")
    if has_place:
        found.check_sandbox()
    else:
        with pytest.raises(PfsError, match="tasks in a sandbox see this machine's"):
            found.check_sandbox()


@dataclass
class Engine:
    name: str


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_an_engine_that_does_not_see_our_mounts_is_told_of(world: Path) -> None:
    said: list[str] = []
    runtimes = {name: cast("Runtime", Engine(name)) for name in ("docker", "sandbox")}
    for more, count in (([], 0), (["--mount", f"{world}/data:/x"], 1)):
        kept = rules(world, *more).keep(runtimes, f"unix://{world}/none", said.append)
        assert list(kept) == ["docker", "sandbox"]
        assert len(said) == count
    assert "docker takes what --mount shows by its path (it does not see this daemon's mounts)" in said[0]
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(world / "door"))
        door.listen()
        rules(world, *more).keep(runtimes, f"unix://{world}/door", pytest.fail)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("", {}),
        ("images: [python, 'team/*']\n", {"allowedImages": "python team/*"}),
        ("registries: []\n", {"allowedRegistries": ""}),
        ("sandbox: false\ncpus: 2\nmemory: 1GiB\n", {"allowsSandbox": False, "mostCpus": 2.0, "mostMemory": 1 << 30}),
        ("shm: 1GiB\n", {"mostShm": 1 << 30}),
    ],
)
def test_a_node_tells_what_its_policy_lets_jobs_do(world: Path, policy: str, told: dict[str, object]) -> None:
    (world / "node.yaml").write_text(policy)
    (world / "node.yaml").chmod(0o600)
    assert rules(world, "--policy", str(world / "node.yaml")).told() == told
