"""`script/demo` in a clone of its own: what a newcomer sees, what works then, and that nothing of it stays.

The clone borrows this clone's virtual environment, and its path has a blank in it.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEMO_SECONDS_MAX, COMMAND_SECONDS_MAX = 240, 120


@dataclass(frozen=True)
class Clone:
    """A copy of this tree, with a home directory that nothing may be written to."""

    path: Path
    home: Path

    @property
    def env(self) -> dict[str, str]:
        mine = {"HOME": str(self.home), "PYTHONPATH": str(self.path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return mine | {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}

    def demo(self, *arguments: str) -> list[tuple[float, str]]:
        """Run `script/demo`; return each line that it wrote with the second at which it came."""
        command = ["timeout", "-k", "5", str(DEMO_SECONDS_MAX), "script/demo", *arguments]
        with subprocess.Popen(
            command, cwd=self.path, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            lines = [(time.monotonic(), line.rstrip("\n")) for line in process.stdout]
        assert process.returncode == 0, "\n".join(line for _, line in lines)
        return lines

    def sh(self, text: str, *, check: bool = True) -> str:
        """Run a shell's line with `.demo/env` read; return what it wrote."""
        command = ["sh", "-c", f". .demo/env && {text}"]
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.env,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS_MAX,
        )
        assert not check or done.returncode == 0, f"{text}: {done.stdout}"
        return done.stdout.strip()

    def processes(self) -> dict[int, str]:
        """Return the processes that have this clone's path among their arguments, or work in it."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = os.readlink(directory / "cwd")
            except OSError:
                continue
            if str(self.path) in arguments or where.startswith(str(self.path)):
                found[int(directory.name)] = arguments
        return found

    def mounts(self) -> list[str]:
        escaped = str(self.path).replace(" ", "\\040")
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if escaped in line]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    base = tmp_path_factory.mktemp("demo")
    made = Clone(base / "a clone", base / "home")
    made.home.mkdir()
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (made.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, made.path / name)
    (made.path / ".venv").symlink_to(ROOT / ".venv")
    (made.path / "idle.yaml").write_text('command: ["sh", "-c", "echo here; exec sleep 6174"]\n')
    yield made
    subprocess.run(["script/demo", "down"], cwd=made.path, env=made.env, check=False, timeout=DEMO_SECONDS_MAX)


@pytest.fixture(scope="module")
def output(clone: Clone) -> list[tuple[float, str]]:
    return clone.demo()


def test_the_job_is_seen_learning_and_tells_what_it_reached(output: list[tuple[float, str]]) -> None:
    epochs = [(second, int(m[1])) for second, line in output if (m := re.search(r"epoch +(\d+)  loss \d", line))]
    assert [number for _, number in epochs] == list(range(1, 21))
    # the log came while the job ran, not when it was over
    assert epochs[-1][0] - epochs[0][0] > 1
    text = "\n".join(line for _, line in output)
    assert re.search(r"^\S.* accuracy 0\.9\d\d$", text, re.MULTILINE)
    assert re.search(r"\$ cat \S+/state\nSUCCEEDED\n\$ cat \S+/exit_code\n0\n", text)
    assert re.search(r'"accuracy": 0\.9', text)


def test_the_mount_point_that_it_tells_of_is_one(clone: Clone, output: list[tuple[float, str]]) -> None:
    (told,) = [line.partition("mounted at ")[2] for _, line in output if "mounted at " in line]
    assert clone.sh('echo "$PFS"') == told
    assert [line.split()[2] for line in clone.mounts()] == ["fuse.pfs"]
    assert "digits" in clone.sh('ls "$PFS/jobs"').split()
    assert {"train.py", "model.json", "metrics.json"} <= set(clone.sh('ls "$PFS/home/demo/digits"').split())


@pytest.mark.usefixtures("output")
def test_files_submit_tell_and_end_a_job(clone: Clone) -> None:
    clone.sh('cp idle.yaml "$PFS/jobs/"')
    assert clone.sh('grep -m 1 here "$PFS/jobs/idle/log"').endswith(" [worker 0] here")
    assert clone.sh('cat "$PFS/jobs/idle/state"') == "RUNNING"
    clone.sh('echo kill > "$PFS/jobs/idle/ctl"')
    clone.sh('cat "$PFS/jobs/idle/log"')
    assert clone.sh('cat "$PFS/jobs/idle/state"') == "CANCELLED"
    assert clone.sh('cat "$PFS/jobs/idle/exit_code"') != "0"
    assert "idle" in clone.sh("paddle get jobs -a")


@pytest.mark.usefixtures("output")
def test_a_refused_spec_says_why(clone: Clone) -> None:
    (clone.path / "bad.yaml").write_text("comand: true\n")
    assert "Invalid argument" in clone.sh('cp bad.yaml "$PFS/jobs/"', check=False)
    assert "command" in clone.sh('cat "$PFS/jobs/bad.yaml.error"')


@pytest.mark.usefixtures("output")
def test_it_may_be_run_again_after_everything_was_killed(clone: Clone) -> None:
    daemons = [pid for pid, arguments in clone.processes().items() if "/.venv/bin/" in arguments]
    assert len(daemons) >= 3
    for pid in daemons:
        os.kill(pid, signal.SIGKILL)
    lines = [line for _, line in clone.demo()]
    assert "SUCCEEDED" in lines
    assert len(clone.mounts()) == 1


@pytest.mark.usefixtures("output")
def test_down_leaves_no_process_and_no_mount(clone: Clone) -> None:
    clone.sh('cp idle.yaml "$PFS/jobs/" && grep -m 1 here "$PFS/jobs/idle/log"')
    clone.demo("down")
    assert clone.processes() == {}
    assert clone.mounts() == []
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _is_idle_job(p)]
    assert clone.demo("down")
    assert list(clone.home.iterdir()) == []


def _is_idle_job(cmdline: Path) -> bool:
    try:
        return cmdline.read_bytes() == b"sleep\x006174\x00"
    except OSError:
        return False
