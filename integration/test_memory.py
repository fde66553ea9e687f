"""What a mount needs for each file that it knows, that it does not know more and more of them, and what clients that
stream cost the server. In full size: `python -m integration.memory`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import memory
from integration.box import Box, box, wait_until
from integration.memory import MIB, Memory

DIRECTORIES, FILES_EACH = 10, 1000
FILES = DIRECTORIES * FILES_EACH
MOUNT_MIB, MOUNT_NEW_MIB, KNOWN = (
    300,
    45,
    200_000,
)  # a mount is under the first with so many; with none, under the second
BYTES_EACH_MAX = (MOUNT_MIB - MOUNT_NEW_MIB) * MIB / KNOWN
FEW = 2_000
# a mount whose kernel is made to forget early; there is no option for that
FORGETFUL = f"from fuseclient.kernel import prune\nprune.prune.__defaults__ = ({FEW},)\n"
CLIENTS, STREAM_BYTES, SERVER_MIB_EACH_MAX = 10, 16 * MIB, 10


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        memory.fill(made, "few", 1, FILES_EACH)
        memory.fill(made, "many", DIRECTORIES, FILES_EACH)
        yield made


def test_a_mount_needs_little_for_each_file_that_it_knows(made: Box) -> None:
    with memory.mounted(made) as pid:
        assert Memory.of(pid).most < MOUNT_NEW_MIB
        memory.walk(made.dc / "home/demo/few")  # what is needed once
        before = Memory.of(pid)
        assert memory.walk(made.dc / "home/demo/many") == FILES
        after = Memory.of(pid)
        assert memory.inodes(made.mountpoint) > FILES // 2  # the kernel may be short of memory itself
    each_bytes = (after.most - before.most) * MIB / FILES
    print(f"{each_bytes:.0f} bytes for each file")
    assert each_bytes < BYTES_EACH_MAX


def test_a_kernel_that_knows_too_many_files_is_made_to_forget_them(made: Box, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORGETFUL)
    env = made.env
    made.env = {**env, "PYTHONPATH": str(tmp_path)}
    try:
        with memory.mounted(made):
            assert memory.walk(made.dc / "home/demo/many") == FILES
            wait_until(lambda: memory.inodes(made.mountpoint) < FEW + 100)
            held = made.dc / "home/demo/many/d0000/file-000000.txt"
            with held.open() as file:
                assert memory.walk(made.dc / "home/demo/many") == FILES
                wait_until(lambda: memory.inodes(made.mountpoint) < FEW + 100)
                assert file.read() == ""
            assert held.read_text() == ""
            assert "Traceback" not in made.log_of("mount")
    finally:
        made.env = env


# the thread beside is that which hears of more tests: it holds nothing that the child needs
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_clients_that_stream_cost_the_server_little(made: Box) -> None:
    server = made.processes["server"].pid
    memory.stream(made, 2, STREAM_BYTES)
    before = Memory.of(server)
    memory.stream(made, CLIENTS, STREAM_BYTES)
    after = Memory.of(server)
    print(f"{after.most - before.most:.0f} MiB more for {CLIENTS} clients, {after.most} MiB at most")
    assert after.most - before.most < SERVER_MIB_EACH_MAX * CLIENTS
    assert "Traceback" not in made.log_of("server")
