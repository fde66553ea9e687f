"""The limits of processes: what frameworks need, no more than the node's owner allows, and lines that a shell takes."""

import resource
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.node.ownlimits import of_daemon, of_engine
from jobd.node.runtime import Launch
from jobd.node.ulimits import UNLIMITED, Limit, limits, script

LAUNCH = Launch("17.1.0.0", ("true",), {}, "/work", "host0")
MIB = 1 << 20


def test_what_machine_learning_needs_is_there_and_nobody_leaves_a_core() -> None:
    assert limits(LAUNCH, {}) == {
        "nofile": Limit(65_536, 1_048_576),
        "stack": Limit(64 * MIB, UNLIMITED),
        "core": Limit(0, 0),
    }
    # what is copied to a GPU has to be locked
    assert limits(replace(LAUNCH, gpus=("GPU-0",)), {})["memlock"] == Limit(UNLIMITED, UNLIMITED)


def test_the_owner_of_a_node_may_lower_them() -> None:
    launch = replace(LAUNCH, gpus=("GPU-0",), ulimits={"nofile": 100_000, "stack": 8 * MIB, "memlock": MIB})
    assert limits(launch, {}) == {
        "nofile": Limit(65_536, 100_000),
        "stack": Limit(8 * MIB, 8 * MIB),
        "core": Limit(0, 0),
        "memlock": Limit(MIB, MIB),
    }
    assert limits(replace(launch, gpus=()), {})["memlock"] == Limit(MIB, MIB)


def test_nobody_is_given_more_than_whoever_starts_it_has() -> None:
    found = limits(LAUNCH, {"nofile": 20_000, "stack": 8 * MIB, "core": UNLIMITED})
    assert (found["nofile"], found["stack"]) == (Limit(20_000, 20_000), Limit(8 * MIB, 8 * MIB))


def test_a_shell_is_told_in_its_own_units() -> None:
    found = {"nofile": Limit(100, 200), "stack": Limit(UNLIMITED, UNLIMITED), "memlock": Limit(8 * MIB, 9 * MIB)}
    assert script(found) == [
        *("ulimit -S -n 100", "ulimit -H -n 200"),
        *("ulimit -S -s unlimited", "ulimit -H -s unlimited"),
        *("ulimit -S -l 8192", "ulimit -H -l 9216"),
    ]


@pytest.mark.parametrize("lowered", [{}, {"nofile": 300}, {"nofile": 300, "stack": MIB, "memlock": 64 * 1024}])
def test_a_shell_takes_the_lines(lowered: dict[str, int]) -> None:
    lines = script(limits(replace(LAUNCH, ulimits=lowered), of_daemon()))
    text = "\n".join([*lines, "ulimit -S -n; ulimit -H -n; ulimit -S -c"])
    done = subprocess.run(["sh", "-e", "-c", text], capture_output=True, text=True, check=True, timeout=10)
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = [value for value in (1_048_576, own, lowered.get("nofile", UNLIMITED)) if value != UNLIMITED]
    assert done.stdout.split() == [str(min(65_536, *most)), str(min(most)), "0"]


def test_an_engine_gives_no_more_files_than_it_has_or_the_kernel_knows(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
        door.listen()
        # this very process stands in for it
        found = of_engine(f"unix://{tmp_path}/door")
    assert found["nofile"] <= int(Path("/proc/sys/fs/nr_open").read_text())
    assert found["nofile"] >= resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert of_engine(f"unix://{tmp_path}/none") == {}
