"""Groups and quotas where they have to hold in the end: for what programs do in containers."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cli.jobd import jobd
from integration.box import WAIT_S, Box, box, wait_until
from integration.engine import docker_client, engine, python_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers of several users, which need root")

NEAR, FAR = "near", "far"  # with the data root, and with a mount for each job
GROUP = "/pfs/dc1/groups/research"
MIB = 1 << 20
LIMIT, LIMIT_BYTES = "2MiB", 2 * MIB
# writes until it is refused, and says by what
FILLS = """
import errno, os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    try:
        for _ in range(64):
            file.write(bytes(1 << 17))
            os.fsync(file.fileno())
    except OSError as error:
        print("refused with", errno.errorcode[error.errno], flush=True)
"""


@dataclass
class World:
    """A datacenter with ann and bob in the group research, eve in none, and a node of either kind."""

    box: Box
    image: str
    tokens: dict[str, str]

    def ask(self, who: str, method: str, path: str, text: str = "") -> httpx.Response:
        head = {"Authorization": f"Bearer {self.tokens[who]}"}
        url = f"{self.box.url}/api/v1/fs/{path}"
        return httpx.request(method, url, headers=head, content=text or None, timeout=2 * WAIT_S)

    def log_of(self, who: str, name: str, node: str, command: str) -> str:
        """Run a job in a container; return what it wrote."""
        spec = f"image: {self.image}\nnodes: [{node}]\ncommand: |\n"
        spec += "".join(f"  {line}\n" for line in command.splitlines())
        put = self.ask(who, "PUT", f"jobs/{name}.yaml", spec)
        assert put.is_success, put.text
        ended = self.ask(who, "GET", f"jobs/{name}/wait").text
        log = self.ask(who, "GET", f"jobs/{name}/processes/0.0/log.txt").text
        assert ended == "0\n", self.ask(who, "GET", f"jobs/{name}/why").text + log
        return log


def administer(b: Box, *words: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        jobd.main([*words, "--data-root", str(b.data)], standalone_mode=False)
    return said.getvalue()


def token_of(config: str) -> str:
    return config.partition("token: ")[2].split()[0]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with engine() as url, docker_client(url) as client, box() as made:
        made.start_server()
        tokens = {name: token_of(administer(made, "adduser", name)) for name in ("ann", "bob", "eve")}
        for name in ("ann", "bob"):
            administer(made, "group", "add", "research", name)
        made.start_node(NEAR, url)
        made.start_node(FAR, url, direct=False)
        there = World(made, python_image(client), tokens)
        wait_until(lambda: there.ask("ann", "GET", "groups/research/").is_success)
        yield there


def directory(world: World) -> Path:
    return world.box.data / "groups/research"


@pytest.mark.parametrize("node", [NEAR, FAR])
def test_in_a_container_a_member_reads_and_writes_the_files_of_a_group_as_that_group(world: World, node: str) -> None:
    assert world.ask("bob", "PUT", "groups/research/given", "from bob\n").is_success
    command = (
        f"cd {GROUP}; cat given; echo of ann > {node}; mkdir d-{node}; echo deep > d-{node}/f; id -u\n"
        'echo more >> given; [ "$RESEARCH_GROUP_DIR" = "$(pwd)" ] && echo named'
    )
    log = world.log_of("ann", f"member-{node}", node, command).split("\n")
    assert {"from bob", "named"} <= set(log)
    gid = directory(world).stat().st_gid
    for path in (directory(world) / node, directory(world) / f"d-{node}/f"):
        assert path.stat().st_gid == gid >= 200000
        assert str(path.stat().st_uid) in log
    # and the other members have what the container made
    assert world.ask("bob", "GET", f"groups/research/{node}").text == "of ann\n"
    assert world.ask("bob", "PUT", f"groups/research/d-{node}/f", "of bob\n").is_success
    assert world.ask("bob", "GET", "groups/research/given").text == "from bob\nmore\n"
    bobs = f"cd {GROUP}; echo of bob >> {node}; rm -r d-{node}; cat {node}"
    assert "of ann\nof bob\n" in world.log_of("bob", f"other-{node}", node, bobs)


@pytest.mark.parametrize("node", [NEAR, FAR])
def test_in_a_container_who_is_in_no_group_sees_nothing_of_it(world: World, node: str) -> None:
    assert world.ask("ann", "PUT", "groups/research/secret", "of the group alone\n").is_success
    command = f"ls {GROUP} /pfs/dc1/groups; cat {GROUP}/secret; echo x > {GROUP}/eve; id -G; env; ls -R /pfs; true"
    log = world.log_of("eve", f"outside-{node}", node, command)
    gid = directory(world).stat().st_gid
    assert "No such file or directory" in log
    assert "of the group alone" not in log
    assert "secret\n" not in log
    assert "RESEARCH" not in log
    assert str(gid) not in log.split()
    assert not (directory(world) / "eve").exists()


@pytest.mark.parametrize(
    ("holder", "path"),
    [("ann", "/pfs/dc1/home/ann/f"), ("ann", "$JOB_DIR/keep/f"), ("groups/research", f"{GROUP}/f")],
    ids=["home", "keep", "group"],
)
def test_in_a_container_writing_above_a_quota_is_refused(world: World, holder: str, path: str) -> None:
    assert world.ask("ann", "PUT", "home/ann/fills.py", FILLS).is_success
    name = f"full-{holder.partition('/')[0]}-{'keep' if 'keep' in path else 'tree'}"
    administer(world.box, "quota", holder, "--bytes", LIMIT)
    try:
        wait_until(lambda: LIMIT in world.ask("ann", "GET", "quota").text)
        command = f"python3 $USER_DIR/fills.py {path}\necho $(stat -c %s {path}) bytes; rm {path}"
        log = world.log_of("ann", name, FAR, command)
    finally:
        administer(world.box, "quota", holder, "--bytes", "none")
    assert "refused with EDQUOT" in log
    written = int(log.partition(" bytes")[0].split()[-1])
    assert LIMIT_BYTES - MIB < written <= LIMIT_BYTES
