"""More than may wait, or be open, on one mount: who is one too many is told, and nobody else is the worse for it."""

import contextlib
import errno
import os
import select
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
# a server that lets a mount have few files open, and a mount on which few are polled: many more would take long
OPEN_MAX, POLLED_MAX = 50, 20
STRICT = f"""\
from fuseclient.kernel import polls
from pfs.server import session
session.HANDLES_MAX, polls.WATCHED_MAX = {OPEN_MAX}, {POLLED_MAX}
"""


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


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    place = tmp_path_factory.mktemp("strict")
    (place / "sitecustomize.py").write_text(STRICT)
    with box() as made:
        made.env["PYTHONPATH"] = os.pathsep.join([str(place), *filter(None, [made.env.get("PYTHONPATH")])])
        made.start_server()
        made.mount()
        yield made


def test_so_many_files_are_open_and_one_more_is_refused_until_one_is_closed(strict: Box) -> None:
    home, there = strict.dc / "home/demo", strict.data / "home/demo"
    for number in range(OPEN_MAX + 1):
        (there / f"file{number}").write_text("before\n")
    last = home / f"file{OPEN_MAX}"
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context((home / f"file{number}").open("r+")) for number in range(OPEN_MAX)]
        assert errno_of(lambda: last.open("r+")) == errno.EMFILE
        done = strict.sh(f"echo x >> {last}")
        assert (done.returncode, done.stderr.rpartition(": ")[2]) == (1, "Too many open files\n")
        for number, file in enumerate(opened):
            assert file.read() == "before\n"
            file.write(f"text {number}\n")
            file.flush()
            os.fsync(file.fileno())
            assert (there / f"file{number}").read_text() == f"before\ntext {number}\n"
        opened.pop().close()
        wait_until(lambda: strict.sh(f"echo after >> {last}").returncode == 0)  # the server hears of it a moment later
    assert last.read_text() == "before\nafter\n"


def test_so_many_files_are_polled_and_one_more_is_an_error_that_harms_no_other(strict: Box) -> None:
    job = strict.dc / "jobs" / submit(strict, "polled", spec_of("true", hold=True))
    waits = [os.open(job / "wait", os.O_RDONLY | os.O_NONBLOCK) for _ in range(POLLED_MAX + 1)]
    poll = select.poll()
    for each in waits[:-1]:
        poll.register(each, select.POLLIN)
    assert poll.poll(1) == []  # a poll that does not wait at all is not waited for
    one_more = select.poll()
    one_more.register(waits[-1], select.POLLIN)
    assert one_more.poll(WAIT_S * 1000) == [(waits[-1], select.POLLERR)]
    (job / "ctl").write_text("kill\n")
    assert poll.poll(WAIT_S * 1000) != []
    assert [os.read(each, 64) for each in waits] == [(job / "exit_code").read_bytes()] * len(waits)
    for each in waits:
        os.close(each)
