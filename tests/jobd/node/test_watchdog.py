"""The watchdog: what has no contact for too long is ended, with TERM and then KILL, and nothing else is."""

import os
import signal
from pathlib import Path

import pytest

from jobd.node import record, watchdog
from jobd.node.watchdog import AGAIN_S, GRACE_S, Standing, Watchdog

TASK, OTHER = "17.1.0.0", "18.1.0.0"


class Machine:
    """Tasks, and a clock that only sleeping moves."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = directory
        self.now_s = 1000.0
        self.sent: list[tuple[float, str, int]] = []
        self.over: set[str] = set()
        self.there_from_s = 0.0
        self.ends_by = {TASK: signal.SIGKILL, OTHER: signal.SIGKILL}
        self.spawned = 0
        monkeypatch.setattr(watchdog, "_standing", self._standing)
        monkeypatch.setattr(watchdog, "_send", self._send)
        monkeypatch.setattr(watchdog, "boottime", lambda: self.now_s)
        self.dog = Watchdog(directory, self._spawn)

    def _spawn(self, state: Path) -> int:
        self.spawned += 1
        return 1

    def _standing(self, reach: dict[str, str]) -> Standing:
        if self.now_s < self.there_from_s:
            return Standing.NOT_YET
        return Standing.OVER if reach["task"] in self.over else Standing.THERE

    def _send(self, reach: dict[str, str], number: int) -> None:
        self.sent.append((self.now_s, reach["task"], number))
        if number == self.ends_by[reach["task"]]:
            self.over.add(reach["task"])

    def sleep(self, pause_s: float) -> None:
        assert pause_s > 0
        self.now_s += pause_s

    def watch(self, task_id: str, within_s: float = 60.0) -> None:
        self.dog.watch(task_id, within_s, {"task": task_id})

    def run(self) -> None:
        watchdog.run(self.state, self.sleep, lambda: self.now_s)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_task_without_contact_is_ended_with_term_and_then_kill(machine: Machine) -> None:
    machine.watch(TASK)
    machine.run()
    times = [time_s - 1000.0 for time_s, _, _ in machine.sent]
    assert [number for _, _, number in machine.sent[:-1]] == [signal.SIGTERM] * (len(times) - 1)
    assert machine.sent[-1][2] == signal.SIGKILL
    assert times[0] == 60.0
    assert 60.0 + GRACE_S <= times[-1] < 85.0
    assert machine.dog.has_ended(TASK)


def test_one_that_ends_at_term_is_left_alone_then(machine: Machine) -> None:
    machine.ends_by[TASK] = signal.SIGTERM
    machine.watch(TASK)
    machine.run()
    assert machine.sent == [(1060.0, TASK, signal.SIGTERM)]


def test_one_that_begins_when_its_time_is_over_is_ended_at_once(machine: Machine) -> None:
    machine.there_from_s = 1200.0
    machine.watch(TASK)
    machine.run()
    [(time_s, task, number)] = machine.sent
    assert (task, number) == (TASK, signal.SIGKILL)
    assert 1200.0 <= time_s <= 1200.0 + AGAIN_S


def test_a_task_is_overdue_as_long_as_there_is_no_contact(machine: Machine) -> None:
    assert not machine.dog.is_overdue(TASK)
    machine.watch(TASK)
    machine.now_s += 59.0
    assert not machine.dog.is_overdue(TASK)
    machine.now_s += 1.0
    assert machine.dog.is_overdue(TASK)
    assert not machine.dog.is_overdue(OTHER)
    machine.dog.contact(1030.0)
    assert not machine.dog.is_overdue(TASK)


@pytest.mark.parametrize(
    ("answer", "standing"),
    [
        ((404, b"{}"), Standing.NOT_YET),
        ((200, b'{"State": {"Status": "created", "Running": false}}'), Standing.NOT_YET),
        ((200, b'{"State": {"Status": "running", "Running": true}}'), Standing.THERE),
        ((200, b'{"State": {"Status": "exited", "Running": false}}'), Standing.OVER),
        ((500, b"{}"), Standing.THERE),
        (OSError(), Standing.THERE),
    ],
)
def test_a_container_may_come_yet(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes] | OSError, standing: Standing
) -> None:
    def ask(*args: str) -> tuple[int, bytes]:
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(watchdog, "_ask", ask)
    assert watchdog._standing({"engine": "unix:///e", "container": "c"}) is standing


def test_a_sandbox_may_come_yet(tmp_path: Path) -> None:
    reach = {"directory": str(tmp_path)}
    assert watchdog._standing(reach) is Standing.NOT_YET
    (tmp_path / record.NAME).touch()
    assert watchdog._standing(reach) is Standing.OVER


def test_contact_gives_all_their_time_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.watch(TASK)
    machine.watch(OTHER, 100.0)
    contacts = iter([1050.0, 1090.0])

    def sleep(pause_s: float) -> None:
        machine.now_s += pause_s
        if contact_s := next(contacts, None):
            machine.dog.contact(contact_s)

    watchdog.run(machine.state, sleep, lambda: machine.now_s)
    first = {task: time_s for time_s, task, _ in reversed(machine.sent)}
    assert first == {TASK: 1150.0, OTHER: 1190.0}


def test_what_is_over_or_dropped_needs_no_watchdog(machine: Machine) -> None:
    machine.watch(TASK)
    machine.watch(OTHER)
    machine.dog.drop(TASK)
    machine.dog.drop("99.1.0.0")
    machine.over.add(OTHER)
    machine.run()
    assert machine.sent == []
    assert not machine.dog.has_ended(TASK)
    assert not machine.dog.has_ended(OTHER)


def test_what_is_dropped_while_the_watchdog_looks_at_it_stays_dropped_and_is_left_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def standing(reach: dict[str, str]) -> Standing:
        machine.dog.drop(TASK)
        return Standing.THERE

    monkeypatch.setattr(watchdog, "_standing", standing)
    machine.watch(TASK)
    machine.run()
    assert machine.sent == []
    assert not (machine.state / "watchdog" / TASK).exists()


def test_nothing_is_looked_for_that_the_node_does_not_know_any_more(machine: Machine) -> None:
    machine.watch(TASK)
    machine.watch(OTHER)
    again = Watchdog(machine.state, machine._spawn)
    again.keep_only([OTHER, "99.1.0.0"])
    machine.there_from_s = 1e9
    assert watchdog._look(machine.state / "watchdog", 1061.0) == AGAIN_S
    again.keep_only([])
    machine.run()
    assert machine.now_s == 1000.0


def test_there_is_one_watchdog_and_another_when_it_is_gone(machine: Machine) -> None:
    machine.watch(TASK)
    lock = watchdog._lock(machine.state / "watchdog")
    assert lock is not None
    machine.run()
    assert machine.sent == []
    machine.dog.contact(1001.0)
    assert machine.spawned == 1
    os.close(lock)
    machine.dog.contact(1002.0)
    assert machine.spawned == 2


def test_a_restarted_daemon_knows_whom_the_watchdog_ended(machine: Machine) -> None:
    machine.watch(TASK)
    machine.run()
    again = Watchdog(machine.state, machine._spawn)
    assert again.has_ended(TASK)
    again.drop(TASK)
    assert not again.has_ended(TASK)
    assert not (machine.state / "watchdog" / TASK).exists()


def test_after_a_restart_of_the_machine_nothing_is_watched(machine: Machine) -> None:
    machine.watch(TASK)
    machine.run()
    contact = machine.state / "watchdog/contact"
    contact.write_text(f"another {contact.read_text().split()[1]}")
    (machine.state / "watchdog" / OTHER).touch()  # a loss of power may leave that
    assert not Watchdog(machine.state, machine._spawn).has_ended(TASK)
    machine.sent.clear()
    machine.run()
    assert machine.sent == []
