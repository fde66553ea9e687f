"""More than may wait on one mount: who is one too many is told at once, and nobody else is the worse for it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseclient.kernel.held import HELD_MAX
from integration.box import WAIT_S, Box, box, wait_until
from integration.submitting import spec_of, submit

CROWD = Path(__file__).parent / "programs/crowd.py"
TOO_MANY = 10


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.mount()
        yield made


def test_so_many_wait_on_one_mount_and_those_beyond_are_refused_alone(world: Box, tmp_path: Path) -> None:
    job = world.dc / "jobs" / submit(world, "quiet", spec_of("true", hold=True))
    words = [sys.executable, str(CROWD), str(job / "wait"), str(HELD_MAX + TOO_MANY)]
    said = tmp_path / "said"
    with said.open("w") as out, subprocess.Popen(words, stdout=out) as crowd:
        try:
            wait_until(lambda: said.read_text() == "EMFILE\n" * TOO_MANY)
            cat = subprocess.run(["cat", job / "wait"], capture_output=True, text=True, timeout=WAIT_S, check=False)
            assert (cat.returncode, cat.stdout) == (1, "")
            assert cat.stderr == f"cat: {job}/wait: Too many open files\n"
            assert (job / "state").read_text() == "WAITING\n"  # what need not wait is answered
            (world.dc / "home/demo/beside").write_text("written\n")
        finally:
            (job / "ctl").write_text("kill\n")
    assert crowd.returncode == 0
    code = (job / "exit_code").read_text()
    assert said.read_text() == "EMFILE\n" * TOO_MANY + code * HELD_MAX
    assert (job / "wait").read_text() == code
    assert "Traceback" not in world.log_of("server")
