"""The gate before a program: it waits in the kernel, ends by a signal, and goes on when the gate is open."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from jobd.node.gate import NAME, PLACE, Gate, keep_only
from jobd.node.runtime import Launch, RuntimeFailure

TASK = "17.1.0.0"
PROGRAM = ("sh", "-c", 'cat allowed; echo "$0 $*"', "a b", "c")
WAIT_S = 30.0


def start(gate: Gate, folder: Path) -> subprocess.Popen[str]:
    """Start a program behind a gate; what a task has at `PLACE` is the gate's directory here."""
    launch = gate.before(Launch(TASK, PROGRAM, {}, "/", "x"))
    [volume] = launch.volumes
    assert (volume.target, volume.read_only) == (PLACE, True)
    words = [word.replace(f"{PLACE}/{NAME}", f"{volume.source}/{NAME}") for word in launch.argv]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def waits(process: subprocess.Popen[str]) -> bool:
    """Tell whether a shell waits for the other end of a FIFO, or has gone on."""
    with suppress(OSError):
        if "wait_for_partner" in Path(f"/proc/{process.pid}/wchan").read_text():
            return True
    return process.poll() is not None


def test_a_program_begins_when_its_gate_is_opened(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "state", TASK)
    process = start(gate, tmp_path)
    until(lambda: waits(process))
    (tmp_path / "allowed").write_text("began\n")
    gate.open()
    gate.open()
    assert process.communicate(timeout=WAIT_S) == ("began\na b c\n", "")
    gate.drop()


def test_a_shell_that_comes_late_goes_through(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "state", TASK)
    (tmp_path / "allowed").touch()
    gate.before(Launch(TASK, PROGRAM, {}, "/", "x"))
    gate.open()
    assert start(gate, tmp_path).communicate(timeout=WAIT_S) == ("a b c\n", "")
    gate.drop()


def test_a_daemon_that_was_started_anew_opens_it_as_well(tmp_path: Path) -> None:
    process = start(Gate(tmp_path / "state", TASK), tmp_path)
    until(lambda: waits(process))
    (tmp_path / "allowed").touch()
    keep_only(tmp_path / "state", {TASK})
    anew = Gate(tmp_path / "state", TASK)
    anew.open()
    assert process.communicate(timeout=WAIT_S) == ("a b c\n", "")
    anew.drop()


def test_a_program_that_waits_is_ended_by_a_signal(tmp_path: Path) -> None:
    process = start(Gate(tmp_path / "state", TASK), tmp_path)
    until(lambda: waits(process))
    process.terminate()
    assert process.communicate(timeout=WAIT_S) == ("", "")
    assert process.returncode == -15


def test_what_is_gone_leaves_nothing(tmp_path: Path) -> None:
    gates = [Gate(tmp_path, task) for task in (TASK, "18.1.0.0", "19.1.0.0")]
    for gate in gates:
        gate.before(Launch(TASK, PROGRAM, {}, "/", "x"))
    gates[0].open()
    gates[0].drop()
    keep_only(tmp_path, {"18.1.0.0"})
    assert [path.name for path in (tmp_path / "gates").iterdir()] == ["18.1.0.0"]


def test_a_task_that_never_waited_is_let_go_all_the_same(tmp_path: Path) -> None:
    gate = Gate(tmp_path, TASK)
    gate.open()
    gate.drop()
    keep_only(tmp_path, set())


def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "gates").write_text("")
    with pytest.raises(RuntimeFailure, match=r"^nothing can hold the program back: Not a directory \("):
        Gate(tmp_path, TASK).before(Launch(TASK, PROGRAM, {}, "/", "x"))
