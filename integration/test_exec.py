"""Into a running job, with real nodes: a program beside it in a sandbox and in a container, and its ports here."""

import hashlib
import re
import signal
import socket
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

from integration.box import BIN, WAIT_S, Box, box, free_port, wait_until
from integration.engine import docker_client, engine, python_image

KINDS = ("sandbox", "docker")
SERVE = "python3 -m http.server --bind 127.0.0.1 $PORT"


@dataclass
class Inside:
    """A datacenter in which a job runs in each runtime."""

    box: Box
    image: str
    jobs: dict[str, str]
    ports: dict[str, int]

    def spec(self, kind: str, command: str, env: str = "") -> str:
        image = f"image: {self.image}\n" if kind == "docker" else ""
        return f"{image}command: {command}\n{env}"

    def submit(self, spec: str) -> str:
        (self.box.root / "job.yaml").write_text(spec)
        done = self.box.run("paddle", "submit", str(self.box.root / "job.yaml"), "--name", f"j{uuid.uuid4().hex[:8]}")
        assert done.returncode == 0, done.stderr
        number = re.findall(r"\d+", done.stdout)[-1]
        wait_until(lambda: self.fact(number, "state") == "RUNNING")
        return number

    def fact(self, job: str, name: str) -> str:
        found = re.search(rf"^{name} (.*)$", (self.box.dc / "jobs" / job / "status").read_text(), re.MULTILINE)
        assert found is not None
        return found[1]

    def words(self, job: str, *words: str) -> list[str]:
        return [str(BIN / "paddle"), "exec", job, *words]

    def exec(self, job: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = self.words(job, *words)
        return subprocess.run(command, env=self.box.env, input=stdin, capture_output=True, timeout=WAIT_S, check=False)

    def at_terminal(self, job: str, *words: str) -> pexpect.spawn:
        command = self.words(job, *words)
        env = {**self.box.env, "TERM": "vt100"}
        return pexpect.spawn(command[0], command[1:], env=env, timeout=WAIT_S, dimensions=(31, 101))


@pytest.fixture(scope="module")
def inside() -> Iterator[Inside]:
    with engine() as url, box() as made:
        with docker_client(url) as client:
            image = python_image(client)
        made.start_server()
        made.start_node("n0", url)
        made.mount()
        there = Inside(made, image, {}, {})
        for kind in KINDS:
            port = there.ports[kind] = free_port()
            there.jobs[kind] = there.submit(there.spec(kind, SERVE, f"env: {{PORT: '{port}', SAID: hello}}\n"))
        yield there


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def marked(mark: str) -> list[str]:
    """Return the processes of this machine with a mark on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


@contextmanager
def program(inside: Inside, job: str, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell script in a job that says when it is ready."""
    words = inside.words(job, "sh", "-c", f"echo ready; {script}")
    with subprocess.Popen(
        words, env=inside.box.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_a_program_runs_as_the_job_does_and_its_exit_code_comes_back(inside: Inside, kind: str) -> None:
    job = inside.jobs[kind]
    done = inside.exec(job, "sh", "-c", "echo $SAID in $(pwd); echo no >&2; exit 7")
    assert (done.returncode, done.stderr) == (7, b"no\n")
    assert done.stdout.startswith(b"hello in /")
    missing = inside.exec(job, "no-such-program")
    assert missing.returncode != 0
    assert b"no-such-program" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1


def test_a_program_that_a_signal_ends_has_the_code_of_a_shell(inside: Inside, kind: str) -> None:
    assert inside.exec(inside.jobs[kind], "sh", "-c", "kill -9 $$").returncode == 137


def test_it_has_no_more_rights_than_the_job(inside: Inside, kind: str) -> None:
    of_job = "python3 -c \"print([l for l in open('/proc/self/status') if l[:3] in ('Uid','Gid','Cap','NoN','Sec')])\""
    number = inside.submit(inside.spec(kind, f"{of_job}; sleep 1000").replace("command: ", "command: |\n  "))
    wait_until(lambda: "Uid" in (inside.box.dc / "jobs" / number / "log.txt").read_text())
    said = (inside.box.dc / "jobs" / number / "log.txt").read_text()
    found = inside.exec(number, "sh", "-c", of_job).stdout.decode().strip()
    inside.box.run("paddle", "kill", number)
    assert found
    assert found in said


def test_ten_megabytes_go_in_and_come_back(inside: Inside, kind: str) -> None:
    data = bytes(range(256)) * 40_000 + b"end"
    done = inside.exec(inside.jobs[kind], "cat", stdin=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_the_end_of_input_is_heard(inside: Inside, kind: str) -> None:
    done = inside.exec(inside.jobs[kind], "wc", "-c", stdin=b"x" * 100_000)
    assert (done.returncode, done.stdout.strip()) == (0, b"100000")


def test_a_terminal_has_its_size_and_every_change_of_it(inside: Inside, kind: str) -> None:
    script = "import os, signal; print(*os.get_terminal_size(), os.environ['TERM'], os.isatty(2))\n"
    script += "signal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size()))\nprint('ready')\n"
    script += "while True: signal.pause()"
    with inside.at_terminal(inside.jobs[kind], "python3", "-uc", script) as here:
        here.expect_exact("101 31 vt100 True\r\n")
        here.expect_exact("ready\r\n")
        here.setwinsize(40, 120)
        here.expect_exact("120 40\r\n")


def test_ctrl_c_goes_to_the_program_at_its_terminal(inside: Inside, kind: str) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    with inside.at_terminal(inside.jobs[kind], "sh", "-c", script) as here:
        here.expect_exact("ready\r\n")
        here.sendintr()
        here.expect_exact("caught\r\n")
        here.expect(pexpect.EOF)
    assert here.exitstatus == 5


def test_a_shell_is_there_without_a_command(inside: Inside, kind: str) -> None:
    with inside.at_terminal(inside.jobs[kind]) as here:
        here.sendline("echo $((6 * 7))$SAID; exit 3")
        here.expect_exact("42hello\r\n")
        here.expect(pexpect.EOF)
    assert here.exitstatus == 3


def test_a_signal_is_sent_on_where_there_is_no_terminal(inside: Inside, kind: str) -> None:
    with program(inside, inside.jobs[kind], "trap 'echo term; exit 4' TERM; while :; do sleep 0.1; done") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.read() == b"term\n"
        assert process.wait(WAIT_S) == 4


def test_who_is_killed_here_ends_the_program_and_its_children_there(inside: Inside, kind: str) -> None:
    mark = f"{uuid.uuid4().int % 10**9}.25"
    with program(inside, inside.jobs[kind], f"sleep {mark} & wait") as process:
        wait_until(lambda: bool(marked(f"sleep\0{mark}")))
        process.kill()
    wait_until(lambda: not marked(f"sleep\0{mark}"))
    assert inside.fact(inside.jobs[kind], "state") == "RUNNING"


def test_the_end_of_the_job_is_the_end_of_the_program(inside: Inside, kind: str) -> None:
    number = inside.submit(inside.spec(kind, "sleep 1000"))
    with program(inside, number, "sleep 1000") as process:
        assert inside.box.run("paddle", "kill", number).returncode == 0
        assert process.wait(WAIT_S) != 0
    done = inside.exec(number, "true")
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"paddle: job {number} is over: CANCELLED")


def test_a_job_is_entered_by_its_name_and_by_pit(inside: Inside) -> None:
    job = inside.jobs["sandbox"]
    assert inside.exec(inside.fact(job, "name"), "true").returncode == 0
    done = inside.box.run("pit", "exec", "-w", "0", job, "--", "sh", "-c", "exit 2")
    assert (done.returncode, done.stderr) == (2, "")
    assert (
        inside.exec("no-such-job", "true").stderr == b"paddle: there is no job 'no-such-job'; see: paddle get jobs -a\n"
    )


def test_a_port_of_the_jobs_own_loopback_is_here(inside: Inside, kind: str) -> None:
    words = [str(BIN / "paddle"), "forward", inside.jobs[kind], f"0:{inside.ports[kind]}"]
    with subprocess.Popen(words, env=inside.box.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            found = re.match(rb"127\.0\.0\.1:(\d+) is port", process.stderr.readline())
            assert found is not None
            url = f"http://127.0.0.1:{int(found[1])}/"
            for _ in range(3):
                with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
                    assert b"Directory listing" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()


ANSWER = """
import socket
with socket.create_server(("127.0.0.1", {port})) as listener:
    print("listens", flush=True)
    peer = listener.accept()[0]
    count = 0
    while data := peer.recv(65536):
        count += len(data)
    peer.sendall(b"%d" % count)
"""


def test_each_half_of_a_connection_is_closed_for_itself(inside: Inside, kind: str) -> None:
    job, port = inside.jobs[kind], free_port()
    script = f"python3 -c '{ANSWER.format(port=port)}'"
    words = [str(BIN / "paddle"), "forward", job, f"0:{port}"]
    with (
        program(inside, job, script) as server,
        subprocess.Popen(words, env=inside.box.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process,
    ):
        try:
            assert server.stdout is not None
            assert process.stderr is not None
            assert server.stdout.readline() == b"listens\n"
            here = int(process.stderr.readline().split()[0].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", here), timeout=WAIT_S) as connection:
                connection.sendall(bytes(3_000_000))
                connection.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: connection.recv(100), b"")) == b"3000000"
        finally:
            process.kill()


def test_it_is_on_record(inside: Inside) -> None:
    job = inside.jobs["sandbox"]
    inside.exec(job, "echo", "to be found")
    lines = (inside.box.dc / "audit").read_text().splitlines()
    [found] = [line for line in lines if "to%20be%20found" in line]
    assert " demo " in found
    assert f" job.exec jobs/{job} done process=0.0 command=echo%20to%20be%20found " in found
