"""Processes: found with all their descendants, and reached only while they are the ones that were meant."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobd.node import processes


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    text = "sh -c 'sleep 1000 & sleep 1000 & echo up; wait' & wait; exit 3"
    with subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        yield parent
        if parent.poll() is None:
            processes.send_to_all_below(_found(parent.pid), signal.SIGKILL, 1)


def _found(pid: int) -> processes.Process:
    process = processes.find(pid)
    assert process is not None
    return process


def test_descendants_come_with_their_depth(family: subprocess.Popen[bytes]) -> None:
    parent = _found(family.pid)
    assert (parent.parent, parent.name) == (os.getpid(), "sh")
    below = processes.descendants(parent)
    assert [process.depth for process in below] == [1, 2, 2]
    assert list(processes.children(family.pid)) == [below[0].pid]
    assert sorted(processes.children(below[0].pid)) == sorted(each.pid for each in below[1:])


def test_a_process_that_was_another_gets_no_signal(family: subprocess.Popen[bytes]) -> None:
    parent = _found(family.pid)
    stranger = replace(parent, start_ticks=parent.start_ticks - 1)
    assert processes.open_pidfd(stranger) is None
    assert not processes.send(stranger, signal.SIGKILL)
    assert family.poll() is None


def test_all_below_are_reached_and_the_ancestor_is_not(family: subprocess.Popen[bytes]) -> None:
    assert processes.send_to_all_below(_found(family.pid), signal.SIGKILL, 1) == 3
    assert family.wait(10) == 3


def test_only_those_far_enough_below_are_reached(family: subprocess.Popen[bytes]) -> None:
    (child, *_) = processes.descendants(_found(family.pid))
    assert processes.send_to_all_below(_found(family.pid), signal.SIGKILL, 2) == 2
    assert family.wait(10) == 3
    assert not processes.send(child, signal.SIGKILL)


def test_one_that_is_gone_is_none() -> None:
    child = subprocess.Popen(["true"])
    found = _found(child.pid)
    assert processes.children(child.pid) == []
    child.wait()
    assert processes.find(child.pid) is None
    assert not processes.send(found, signal.SIGTERM)


def test_one_that_waits_to_be_buried_is_dead() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _found(child.pid).is_dead
    child.wait()


@pytest.fixture
def session() -> Iterator[subprocess.Popen[bytes]]:
    text = "sleep 1000 & (setsid sleep 1000; true) & echo up; wait"
    with subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"up\n"
        while len(processes.descendants(_found(leader.pid))) < 3:
            os.sched_yield()
        yield leader
        processes.end_session(leader.pid)


def test_a_session_is_what_its_leader_began_and_all_below(session: subprocess.Popen[bytes]) -> None:
    below = [each.pid for each in processes.descendants(_found(session.pid))]
    assert sorted(each.pid for each in processes.of_session(session.pid)) == sorted([session.pid, *below])


def test_a_session_ends_with_all_that_is_in_it_and_below(session: subprocess.Popen[bytes]) -> None:
    processes.end_session(session.pid)
    assert processes.of_session(session.pid) == []
    assert session.wait() == -signal.SIGKILL
    processes.end_session(session.pid)


def test_of_a_session_nothing_is_ended_outside_the_container(session: subprocess.Popen[bytes]) -> None:
    processes.end_session(session.pid, container="no-such-container")
    processes.send_to_group(session.pid, signal.SIGKILL, "no-such-container")
    assert session.poll() is None


def test_a_signal_for_a_group_reaches_no_other_group(session: subprocess.Popen[bytes]) -> None:
    (apart,) = (each for each in processes.descendants(_found(session.pid)) if each.session == each.pid)
    try:
        processes.send_to_group(session.pid, signal.SIGKILL, "")
        assert session.wait() == -signal.SIGKILL
        assert not _found(apart.pid).is_dead
    finally:
        processes.send(apart, signal.SIGKILL)
