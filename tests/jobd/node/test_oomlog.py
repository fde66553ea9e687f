"""The kernel's log: who died in which container for want of memory, as far back as it goes."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from jobd.node import oomlog
from jobd.node.oomlog import ran_out_of_memory

DIED, ASKED, LIVES = "d1ed" * 16, "a5ced" * 12 + "0000", "11fe5" * 12 + "0000"
Records = list[bytes | OSError]


def of_a_death(group: str, asked: str = ASKED, name: str = "sh") -> bytes:
    """Return the kernel's record of a process that died in `group`, when one in the container `asked` wanted memory."""
    return (
        f"6,2101,80097840032,-,caller=T29096;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={asked},"
        f"mems_allowed=0,oom_memcg={group},task_memcg={group},task={name},pid=29096,uid=200001\n"
    ).encode()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Records], str]:
    path = tmp_path / "kmsg"
    path.touch()

    def make(records: Records) -> str:
        coming = iter([*records, BlockingIOError()])

        def read(fd: int, size: int) -> bytes:
            record = next(coming)
            if isinstance(record, OSError):
                raise record
            return record

        monkeypatch.setattr(oomlog.os, "read", read)
        return str(path)

    return make


@pytest.mark.parametrize(
    "group", [f"/docker/{DIED}", f"/system.slice/docker-{DIED}.scope", f"/docker/{DIED}/of/its/own"]
)
def test_a_container_is_known_by_the_group_of_who_died(kernel: Callable[[Records], str], group: str) -> None:
    path = kernel([b"6,1,2,-;docker0: port 1 entered disabled state\n", of_a_death(group)])
    assert ran_out_of_memory(DIED, path)


def test_who_only_asked_for_memory_did_not_run_out_of_it(kernel: Callable[[Records], str]) -> None:
    assert not ran_out_of_memory(ASKED, kernel([of_a_death(f"/docker/{DIED}")]))


def test_the_name_of_a_program_is_no_container(kernel: Callable[[Records], str]) -> None:
    record = of_a_death("/user.slice", name=f"x,task_memcg=/docker/{LIVES},task=")
    assert not ran_out_of_memory(LIVES, kernel([record, b"6,1,2,-;a job says oom-kill: " + record]))


def test_records_that_the_kernel_let_go_of_do_not_hide_later_ones(kernel: Callable[[Records], str]) -> None:
    assert ran_out_of_memory(DIED, kernel([OSError(errno.EPIPE, "gone"), of_a_death(f"/docker/{DIED}")]))


def test_a_log_that_may_not_be_read_says_nothing(kernel: Callable[[Records], str], tmp_path: Path) -> None:
    assert not ran_out_of_memory(DIED, str(tmp_path / "none"))
    assert not ran_out_of_memory(DIED, kernel([OSError(errno.EPERM, "not yours"), of_a_death(f"/docker/{DIED}")]))
