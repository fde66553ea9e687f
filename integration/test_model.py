"""Random system calls in mounts, beside a directory of a local file system that makes the same; see `model.machine`.

These are short rounds that are the same each time; `script/soak` does long ones.
"""

from pathlib import Path
from typing import cast

import pytest

from integration.box import Box
from integration.model.machine import machine
from integration.model.rounds import MOUNTS, calls, crowd
from integration.model.world import World, world


@pytest.mark.parametrize(("name", "examples", "steps"), [("one", 6, 40), ("two", 4, 30), ("behind", 4, 40)])
def test_a_mount_does_what_a_local_directory_does(name: str, examples: int, steps: int) -> None:
    with world(*MOUNTS[name]) as where:
        calls(where, 1, examples=examples, steps=steps)


# the thread beside is that which hears of more tests: it holds nothing that the child needs
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_two_mounts_do_what_a_local_directory_does_while_others_are_at_work_beside() -> None:
    with world(*MOUNTS["crowd"]) as where:
        crowd(where, 1, examples=2, steps=25)


def test_a_mount_does_what_a_local_directory_does_also_while_its_server_is_restarted() -> None:
    with world(*MOUNTS["restart"]) as where:
        calls(where, 2, examples=2, steps=25, restarts=True)


def test_a_mount_that_promises_does_so_also_while_its_server_and_itself_are_killed() -> None:
    with world(*MOUNTS["restart-behind"]) as where:
        calls(where, 4, examples=1, steps=30, restarts=True, kills=True)


@pytest.fixture
def pretended(tmp_path: Path) -> World:
    """A local directory in place of a mount."""
    for name in ("local", "mount"):
        (tmp_path / name).mkdir()
    return World(cast(Box, None), [tmp_path / "mount"], tmp_path / "mount", tmp_path / "local")


def test_two_local_directories_do_the_same(pretended: World) -> None:
    calls(pretended, 3, examples=12, steps=40)


def test_the_model_sees_what_is_wrong(pretended: World) -> None:
    made = machine(pretended)()
    made.begin(prepared=True, looks_each=1, mount=0)
    with open(made.mounted[0].at("d/a"), "r+b") as file:
        file.seek(3000)
        file.write(b"!")
    with pytest.raises(AssertionError) as caught:
        made.look()
    said = str(caught.value)
    assert "write_file('d/a', Data(seed=1, size=5000)) = 5000" in said
    assert "'top/d/a': bytes is 5000 bytes instead of 5000, 1 differ, the first at 3000" in said
