"""gradient-node against a real server: who nodes are, over restarts, renames, second machines and other clusters."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from cli.jobd import jobd
from integration.box import BIN, WAIT_S, Box, box, wait_until

LINES = ["name", "id", "cluster", "clusterId", "nodeAttrs", "runtimes"]


class World:
    """A datacenter, and daemons on machines that have nothing in common but this one."""

    def __init__(self, b: Box) -> None:
        self.box = b
        self.key = (b.root / "node.key").read_text().strip()

    def start(self, state: str, *options: str, key: str | None = None) -> dict[str, str]:
        """Start a daemon with a state directory of this name; return what it says of itself."""
        words = ["--data-root", str(self.box.data), "--state-dir", str(self.box.root / f"state-{state}")]
        words += ["--docker-host", f"unix://{self.box.root}/none", "--apiKey", key or self.key, *options]
        (self.box.root / f"{state}.log").unlink(missing_ok=True)
        process = self.box.spawn(state, "gradient-node", *words)
        wait_until(lambda: "runtimes" in self.box.log_of(state) or process.poll() is not None)
        lines = self.box.log_of(state).splitlines()
        assert process.poll() is None, lines
        assert all(re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", line) for line in lines)
        said = [line.split(" ", 2)[2] for line in lines]
        assert re.fullmatch(r"Starting gradient-node \S+ \S+ \d{4}-\d\d-\d\d_\d\d:\d\d:\d\d_UTC", said[0])
        shown = [line.removeprefix("GradientNode ").partition(": ") for line in said[1:]]
        assert [name for name, *_ in shown] == LINES
        return {name: value for name, _, value in shown}

    def stop(self, state: str) -> None:
        assert self.box.end(state) == 0

    def begin(self, *options: str) -> "subprocess.Popen[str]":
        """Start a daemon that will not get far."""
        words = [str(BIN / "gradient-node"), "--data-root", str(self.box.data), *options]
        return subprocess.Popen(words, env=self.box.env, stderr=subprocess.PIPE, text=True)

    def jobd(self, command: str, *words: str) -> str:
        """Run a command of the administrator here: a process would take a second for its imports."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            jobd.main([*command.split(), "--data-root", str(self.box.data), *words], standalone_mode=False)
        return said.getvalue()

    def tree(self, path: str) -> str:
        """Return a file of the tree, or the names in a directory."""
        url = f"{self.box.url}/api/v1/fs/{path}"
        words = ["curl", "-sf", "-H", f"Authorization: Bearer {self.box.token}", url]
        return subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout

    def put(self, name: str, text: str) -> str:
        """Submit a job; return what the server says."""
        url = f"{self.box.url}/api/v1/fs/jobs/{name}.yaml"
        words = ["curl", "-s", "-X", "PUT", "--data-binary", text, "-H", f"Authorization: Bearer {self.box.token}", url]
        return subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with box() as made:
        made.start_server()
        yield World(made)


def ids(said: dict[str, str]) -> tuple[str, str]:
    return said["id"], said["clusterId"]


def test_nodes_are_known_again_renamed_taken_over_and_told_apart_by_clusters(world: World) -> None:
    first = world.start("a", "--name", "n0")
    assert re.fullmatch(r"cm[a-z0-9]{12}", first["id"])
    assert re.fullmatch(r"cl[a-z0-9]{7}", first["clusterId"])
    assert (first["name"], first["cluster"]) == ("n0", "GradientNode Cluster")
    # a second machine of that name: the same node, and both are there
    assert ids(world.start("b", "--name", "n0")) == ids(first)
    assert world.tree(f"clusters/{first['clusterId']}/nodes") == "n0\n"
    assert (world.tree("nodes/n0/state"), world.tree("nodes/n0/instances/2/state")) == ("ONLINE\n", "ONLINE\n")
    # the server goes and comes, and each is who it was
    world.box.end("server", signal.SIGKILL)
    world.box.start_server()
    for state in ("a", "b"):
        wait_until(lambda state=state: "connected to the server again" in world.box.log_of(state))
    assert world.tree("nodes/n0/instances/2/state") == "ONLINE\n"
    # one is stopped: a third machine takes its place
    world.stop("b")
    assert ids(world.start("c", "--name", "n0")) == ids(first)
    assert "instances" in world.tree("nodes/n0")
    assert '"3"' not in world.tree("nodes/n0/instances")
    # a rename by the id, which the other instance has, too
    world.stop("a")
    renamed = world.start("a", "--id", first["id"], "--name", "alpha")
    assert (renamed["name"], ids(renamed)) == ("alpha", ids(first))
    assert world.tree("nodes/alpha/instances/2/state") == "ONLINE\n"
    # a machine that keeps its name in another cluster is another node
    other = world.start("d", "--name", "alpha", "--cluster", "The lab")
    assert other["cluster"] == "The lab"
    assert ids(other)[0] != first["id"]
    assert ids(other)[1] != first["clusterId"]
    assert world.tree(f"nodes/alpha@{other['clusterId']}/state") == "ONLINE\n"
    assert world.tree(f"clusters/{other['clusterId']}/default") == "no\n"
    # the administrator changes clusters while the server runs
    said = world.jobd("cluster", "The lab", "--rename", "Lab 2", "--default")
    assert f"{other['clusterId']}: Lab 2, the default\n" in said
    wait_until(lambda: world.tree(f"clusters/{other['clusterId']}/name") == "Lab 2\n")
    assert world.start("e", "--name", "n5")["cluster"] == "Lab 2"
    # and the id of one counts more than a name
    assert (
        ids(world.start("f", "--name", "n6", "--cluster", "x", "--clusterId", first["clusterId"]))[1] == ids(first)[1]
    )
    for state in "acdef":
        world.stop(state)


def test_a_mistake_is_one_line_and_a_status(world: World, tmp_path: Path) -> None:
    world.start("a", "--name", "n0")
    mine = ("--apiKey", world.key, "--docker-host", f"unix://{tmp_path}/none", "--name", "m")
    cases = (
        ((*mine, "--id", "cmnothere"), 2, "there is no node cmnothere in this datacenter; leave --id out"),
        ((*mine, "--clusterId", "clnothere"), 2, "there is no cluster clnothere in this datacenter; there are: cl"),
        ((*mine, "--cluster", "x" * 101), 2, "cannot be a cluster's name"),
        (("--apiKey", world.key[:-1]), 2, "does not accept the token"),
        (("--apiKey", world.box.token), 2, "this key is a user's token, and no node's key"),
        ((*mine, "--state-dir", str(world.box.root / "state-a")), 1, "another gradient-node runs with the state in"),
        ((*mine, "--state-dir", "/proc/nothing"), 1, "cannot keep the node's state in"),
    )
    begun = [
        world.begin("--state-dir", str(tmp_path / f"state{number}"), *options)
        for number, (options, *_) in enumerate(cases)
    ]
    for process, (_, status, words) in zip(begun, cases, strict=True):
        said = process.communicate(timeout=WAIT_S)[1].splitlines()[-1]
        assert (process.returncode, words in said) == (status, True), said
        assert said.startswith("gradient-node: ")
    world.stop("a")


def test_a_node_on_a_users_key_is_that_users(world: World) -> None:
    world.jobd("adduser", "ann")
    key = world.jobd("node-key", "ann").strip()
    own = world.start("own", "--name", "laptop", key=key)
    assert own["cluster"] == "GradientNode Cluster"
    assert world.tree(f"clusters/{own['clusterId']}/owner") == "ann\n"
    assert "\nowner ann\n" in world.tree("nodes/laptop/status")
    world.put("mine", "command: echo of demo")
    assert "node laptop is ann's own" in world.put("there", "command: echo of demo as well\nnodes: laptop")
    world.start("a", "--name", "n7")
    assert world.tree("jobs/mine/wait") == "0\n"
    assert world.tree("jobs/mine/processes/0.0/node") == "n7\n"
    # it stays that user's, also where they decide for all
    world.jobd("user admin", "ann")
    world.stop("own")
    assert ids(world.start("own", "--name", "laptop", key=key)) == ids(own)
    assert "\nowner ann\n" in world.tree("nodes/laptop/status")
    # and goes with them
    world.jobd("user admin", "ann", "--no")
    world.jobd("user remove", "ann")
    process = world.box.processes["own"]
    wait_until(lambda: process.poll() is not None)
    assert "does not accept" in world.box.log_of("own")
    wait_until(lambda: '"laptop"' not in world.tree("nodes"))
    assert own["clusterId"] not in world.tree("clusters")
    world.stop("a")


def test_output_may_go_another_way(world: World) -> None:
    beside = world.box.url.replace("127.0.0.1", "localhost")
    said = world.start("a", "--name", "n0", "--logHost", beside)
    world.put("out", f"command: echo this way\ncluster: {said['cluster']}")
    assert world.tree("jobs/out/wait") == "0\n"
    assert world.tree("jobs/out/processes/0.0/log") == "this way\n"
    world.stop("a")


def test_a_key_is_all_that_is_needed_for_a_server_with_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    with box("--tls-ca", str(tmp_path / "ca.pem"), scheme="https") as b:
        pem = str(tmp_path / "server.pem")
        b.start_server("--tls-cert", pem, "--tls-key", pem)
        b.start_node("n0", f"unix://{tmp_path}/none")
        listed = b.run("paddle", "get", "nodes")
        assert (listed.returncode, "ONLINE" in listed.stdout) == (0, True), listed.stderr
        # who stands at that address with another certificate learns nothing
        b.end("server")
        other = trustme.CA().issue_cert("127.0.0.1")
        other.private_key_and_cert_chain_pem.write_to_path(pem)
        b.start_server("--tls-cert", pem, "--tls-key", pem)
        wait_until(lambda: "its certificate is not trusted" in b.log_of("n0"))
        assert b.run("paddle", "get", "nodes").returncode == 1


def test_a_datacenter_comes_with_tls_and_machines_and_users_with_keys_of_their_own(tmp_path: Path) -> None:
    with box(scheme="https") as b:
        world = World(b)
        refused = b.run("jobd", "serve", "--data-root", str(b.data), "--host", "0.0.0.0", "--no-tls")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "0.0.0.0 can be reached from other machines" in refused.stderr
        b.start_server()
        # a machine joins once, and needs nothing more to come again
        token = world.jobd("join-token").strip()
        world.start("a", "--name", "n0", key=token)
        world.stop("a")
        b.start_node("a", f"unix://{b.root}/none", env={"GRADIENT_NODE_API_KEY": ""})
        kept = b.root / "state-a/key"
        assert kept.stat().st_mode & 0o7777 == 0o600
        # what was stolen there is good nowhere else
        for key, says in ((token, "good no more"), (json.loads(kept.read_text())["key"], "another machine's own")):
            process = world.begin("--state-dir", str(b.root / "state-b"), "--name", "n1", "--apiKey", key)
            _, said = process.communicate(timeout=WAIT_S)
            assert (process.returncode, says in said) == (2, True), said
        # a certificate is all that a mount needs
        told = world.jobd("user cert", "demo", "--out", str(tmp_path))
        (b.root / "paddle-config").write_text("dc1:\n" + told.partition("\ndc1:\n")[2])
        b.mount()
        assert "name demo\n" in (b.dc / "me").read_text()
        assert "a" in os.listdir(b.dc / "nodes")
        key = next(line for line in world.jobd("user keys", "demo").splitlines() if "certificate" in line).split()[0]
        world.jobd("user revoke", "demo", key)
        assert "does not know this certificate" in b.run("paddle", "get", "nodes").stderr
        wait_until(lambda: b.sh("ls /proc/self/cwd/nodes").returncode != 0)
