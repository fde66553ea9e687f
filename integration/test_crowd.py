"""More than may wait, or be open, on one mount: who is one too many is told, and nobody else is the worse for it."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseclient.kernel.held import HELD_MAX
from integration.box import WAIT_S, Box, box, wait_until
from integration.submitting import spec_of, submit
from tests.functional.posix import errno_of

CROWD = Path(__file__).parent / "programs/crowd.py"
TOO_MANY = 10
# a server that lets a mount have few files open; there is no option for that, and 65,536 take long
OPEN_MAX = 50
STRICT = f"from pfs.server import session\nsession.HANDLES_MAX = {OPEN_MAX}\n"


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


def test_so_many_files_are_open_and_one_more_is_refused_until_one_is_closed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STRICT)
    with box() as made, contextlib.ExitStack() as stack:
        plain = made.env
        path = os.pathsep.join([str(tmp_path), *filter(None, [plain.get("PYTHONPATH")])])
        made.env = {**plain, "PYTHONPATH": path}
        made.start_server()
        made.env = plain
        made.mount()
        home = made.dc / "home/demo"
        for number in range(OPEN_MAX + 1):
            (made.data / f"home/demo/file{number}").write_text("before\n")
        opened = [stack.enter_context((home / f"file{number}").open("r+")) for number in range(OPEN_MAX)]
        last = home / f"file{OPEN_MAX}"
        assert errno_of(lambda: last.open("r+")) == errno.EMFILE
        done = made.sh(f"echo x >> {last}")
        assert (done.returncode, done.stderr.rpartition(": ")[2]) == (1, "Too many open files\n")
        for number, file in enumerate(opened):
            assert file.read() == "before\n"
            file.write(f"text {number}\n")
            file.flush()
            os.fsync(file.fileno())
            assert (made.data / f"home/demo/file{number}").read_text() == f"before\ntext {number}\n"
        opened.pop().close()
        wait_until(
            lambda: made.sh(f"echo after >> {last}").returncode == 0
        )  # close returns before the server has let go
        assert last.read_text() == "before\nafter\n"
