"""`paddle mount /pfs`: a path is the same on a desktop, in a job, and for commands that need no mount.

The desktop is a mount namespace, so that nobody else of this machine sees its `/pfs`; the empty directory is there for
as long as the test runs.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, WAIT_S, Box, box, is_mounted, with_own_mounts

PFS = Path("/pfs")
HOME = PFS / "dc1/home/demo"

pytestmark = pytest.mark.skipif(os.getuid() != 0 or PFS.exists(), reason="only root makes a /pfs, where there is none")

# what is typed is read by the job, and what that writes is read here, each by one absolute path
DESKTOP = f"""
set -e
paddle mount -q /pfs
trap 'cd /; paddle umount -q /pfs' EXIT
mkdir -p {HOME}/$NODE
echo "from the desktop" > {HOME}/$NODE/x
cat > /pfs/dc1/jobs/both.yaml <<END
command: cat {HOME}/$NODE/x > {HOME}/$NODE/y; pwd > {HOME}/$NODE/where; echo made > made
nodes: [$NODE]
END
test "$(cat /pfs/dc1/jobs/both/wait)" = 0 || cat /pfs/dc1/jobs/both/log
cat {HOME}/$NODE/y
cat "$(cat {HOME}/$NODE/where)/made"
ls -d {HOME}/$NODE/*
paddle ls {HOME}/$NODE
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """A datacenter with a node that has the data, and one that mounts the tree for each job."""
    with box() as made:
        made.start_server()
        made.start_node("n0")
        made.start_node("n1", direct=False)
        made.mountpoint.mkdir()
        PFS.mkdir()
        try:
            yield made
        finally:
            PFS.rmdir()


@pytest.mark.parametrize("node", ["n0", "n1"])
def test_a_path_below_pfs_is_the_same_on_the_desktop_in_a_job_and_for_commands(world: Box, node: str) -> None:
    env = {**world.env, "PATH": f"{BIN}:{os.environ['PATH']}", "NODE": node}
    done = subprocess.run(
        with_own_mounts(DESKTOP), env=env, capture_output=True, text=True, timeout=2 * WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    paths = [str(HOME / node / name) for name in ("where", "x", "y")]
    said, made, *lines = done.stdout.splitlines()
    assert (said, made, lines[:3]) == ("from the desktop", "made", paths)
    assert [line.split()[-1] for line in lines[4:]] == paths  # behind a heading
    assert not is_mounted(PFS)
