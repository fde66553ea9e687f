"""`pit` and its jobs on a real server: those of years ago and of others, one that waits, is over, or is entered.

One who comes for the first time looks, and nobody's pit but their own is asked: there is no node before a job waits.
"""

import os
import re
import signal
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

from integration.bench.finished import fill
from integration.box import BIN, WAIT_S, Box, box, free_port, wait_until

PASSWORD = "correct horse battery staple"
OLD, LATELY = 300, 20
# the jobs of a filled database are copies of one: each has its own times in its row
OWN_TIMES = "UPDATE job SET life = json_set(life, '$.changed_at_ns', ended_at_ns, '$.ended_at_ns', ended_at_ns)"


@dataclass
class Pit:
    """A pit as one of its users has it, in a directory of their own."""

    box: Box
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / ".pitconnect.txt").write_text(f"{self.box.url}\n")

    def env(self) -> dict[str, str]:
        return {**self.box.env, "PIT_CONFIG_DIR": str(self.folder)}

    def type(self, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "pit"), *words],
            **{"cwd": self.folder, "env": self.env(), "input": said, "timeout": WAIT_S},
            capture_output=True,
            text=True,
            check=False,
        )

    def out(self, *words: str) -> str:
        done = self.type(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, *words: str) -> str:
        done = self.type(*words)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.splitlines()[-1]

    def submit(self, *words: str) -> str:
        found = re.search(r"^Job number: (\d+)$", self.out("run", *words), re.MULTILINE)
        assert found is not None
        return found[1]


@pytest.fixture(scope="module")
def demo() -> Iterator[Pit]:
    with box() as made:
        assert made.run("jobd", "registration", "--data-root", str(made.data), "open").returncode == 0
        fill(made.data, OLD, recent=LATELY)
        with closing(sqlite3.connect(made.data / "server/pfs.sqlite", isolation_level=None)) as database:
            database.execute(OWN_TIMES)
        made.start_server()
        pit = Pit(made, made.root / "demo")
        (pit.folder / ".pituser.txt").write_text(f"demo\n{made.token}\n")
        yield pit


@pytest.fixture(scope="module")
def ann(demo: Pit) -> Pit:
    """Come for the first time, by a pipe."""
    pit = Pit(demo.box, demo.box.root / "ann")
    answers = ("ann", "yes", "Ann", "ann@example.org", PASSWORD, PASSWORD)
    done = pit.type("show", "me", said="".join(f"{line}\n" for line in answers))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Username:         ann\nFull name:        Ann\n")
    assert done.stderr.startswith("No user info found.")
    assert PASSWORD not in done.stderr
    assert os.stat(pit.folder / ".pituser.txt").st_mode & 0o777 == 0o600
    return pit


def rows(text: str) -> list[list[str]]:
    header, *lines = text.splitlines()
    assert header.split() == ["JOB", "S", "DATE", "UC%", "UM%", "USER", "TITLE", "RESOURCE"]
    return [line.split() for line in lines]


def test_jobs_of_years_ago_are_listed_to_everybody(demo: Pit, ann: Pit) -> None:
    newest = rows(ann.out("show", "jobs"))
    assert len(newest) == 100
    assert {row[5] for row in newest} == {"demo"}
    [first] = rows(ann.out("show", "jobs", "asc=date", "limit=1"))
    dates = [row[2] for row in newest]
    assert dates == sorted(dates, reverse=True)
    assert first[2] < dates[-1]
    assert rows(ann.out("show", "jobs", f"till={first[2]}")) == [first] == rows(demo.out("show", "jobs", "offset=299"))
    middle = rows(demo.out("show", "jobs", "offset=150", "limit=3"))
    assert rows(demo.out("show", "jobs", f"since={middle[-1][2]}", f"till={middle[0][2]}")) == middle
    assert rows(ann.out("show", "jobs", "user=ann")) == rows(ann.out("show", "jobs", "title=%none%")) == []


def test_of_somebody_elses_job_there_is_what_everybody_may_know(demo: Pit, ann: Pit) -> None:
    number = rows(ann.out("show", "jobs", "asc=date", "limit=1"))[0][0]
    known = ann.out("show", f"job:{number}").splitlines()
    assert [line.partition(":")[0] for line in known[:3]] == ["Job number", "Title", "Owner"]
    assert known[2].split() == ["Owner:", "demo"]
    assert known[-1].split() == ["State:", "FIN"]
    assert "State changes" in demo.out("show", number)
    assert ann.refusal("log", number) == "Command failed: Job not found"
    refused = ann.refusal("run", "-c", number, "x", "[]")
    assert refused.startswith("Command failed: Continuing provided job not allowed for current user: ")
    refused = ann.refusal("run", "-c", "9999", "x", "[]")
    assert refused.startswith("Command failed: The job to continue is not existing: ")


def test_a_log_is_awaited_while_its_job_waits_and_what_is_over_is_stopped_no_more(demo: Pit, ann: Pit) -> None:
    number = demo.submit("Later", "[]", "-d", "for i in 1 2 3; do echo line $i; sleep 0.1; done")
    nothing = demo.submit("Nothing", "[]")  # there is no script: it is prepared, and ends well
    words = [str(BIN / "pit"), "log", number]
    with subprocess.Popen(words, cwd=demo.folder, env=demo.env(), stdout=subprocess.PIPE, text=True) as reader:
        assert re.search(rf"^ *{number} WAI ", ann.out("status"), re.MULTILINE)
        assert "State:         WAI (position 1)" in demo.out("show", number)
        demo.box.start_node()
        log = reader.communicate(timeout=WAIT_S)[0]
    assert reader.returncode == 0
    said = [line.partition("] ")[2] for line in log.splitlines()]
    assert [line for line in said if line.startswith("[worker 0] line")] == [f"[worker 0] line {i}" for i in (1, 2, 3)]
    assert said[-1] == "[daemon] Worker 0 requested stop. Stopping pit..."
    assert log == demo.out("log", number)
    demo.out("log", nothing)
    assert "[0, 0]: Status code: 0" in demo.out("show", nothing)
    assert "over" in demo.refusal("stop", number)


def test_what_no_node_could_run_is_refused_in_snakepits_words(demo: Pit, ann: Pit) -> None:
    refused = ann.refusal("run", "x", "[gtx1070]", "-d", "true")
    assert refused.startswith("Command failed: Cluster cannot fulfill resource request: needs ")


@pytest.fixture(scope="module")
def running(demo: Pit) -> Iterator[tuple[str, int]]:
    """Give a job that serves its folder on a port of its own."""
    if "n0" not in demo.box.processes:
        demo.box.start_node()
    port = free_port()
    serve = f"exec python3 -m http.server --bind 127.0.0.1 {port}"
    number = demo.submit("Serves", "[]", "-a", "-d", serve)
    wait_until(lambda: re.search(rf"^ *{number} RUN ", demo.out("status"), re.MULTILINE) is not None)
    yield number, port
    demo.out("stop", number)


def at_terminal(pit: Pit, *words: str) -> "pexpect.spawn[bytes]":
    env = {**pit.env(), "TERM": "vt100"}
    return pexpect.spawn(
        str(BIN / "pit"), [*words], cwd=pit.folder, env=env, timeout=WAIT_S, dimensions=(31, 101), echo=False
    )


def test_a_program_at_a_terminal_has_its_size_and_ctrl_c(demo: Pit, running: tuple[str, int]) -> None:
    script = (
        "trap 'stty size' WINCH; trap 'echo caught; exit 5' INT; stty size; echo ready; while :; do sleep 0.1; done"
    )
    with at_terminal(demo, "exec", running[0], "bash", "-c", script) as here:
        here.expect_exact("31 101\r\n")
        here.expect_exact("ready\r\n")
        here.setwinsize(40, 120)
        here.expect_exact("40 120\r\n")
        here.sendintr()
        here.expect_exact("caught\r\n")
        here.expect(pexpect.EOF)
    assert here.exitstatus == 5


def test_a_page_of_a_job_is_read_through_a_port(demo: Pit, running: tuple[str, int]) -> None:
    number, port = running
    words = [str(BIN / "pit"), "forward", number, f"0:{port}"]
    with subprocess.Popen(words, cwd=demo.folder, env=demo.env(), stderr=subprocess.PIPE, text=True) as forwarding:
        assert forwarding.stderr is not None
        found = re.match(r"127\.0\.0\.1:(\d+) is port", forwarding.stderr.readline())
        assert found is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=WAIT_S) as answer:
            assert b"Directory listing" in answer.read()
        forwarding.send_signal(signal.SIGINT)
        assert forwarding.wait(WAIT_S) == 0
