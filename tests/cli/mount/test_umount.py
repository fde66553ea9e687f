"""What `paddle umount` does in which order; the kernel's part is played."""

import errno
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import click
import pytest
from click.testing import CliRunner

from cli.mount import point as mountpoint
from cli.mount import umount
from cli.paddle import paddle
from fuseclient import mountpoints
from fuseclient.status import Status
from pfs.errors import Kind, PfsError
from tests.scripts.mount.verbs import SERVER, STATUS

POINT = "/mnt/pfs"
ALL_THERE = STATUS
WAITING = replace(STATUS, servers={"dc1": replace(SERVER, waiting_bytes=2048, waiting_operations=3)})


class Kernel:
    """What is mounted at `POINT`, and what was done.

    Attributes:
        answers: what the mount says, one after the other; the last one again and again.
        refusal: what unmounting fails with.
        refusals: how often.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mounts = 1
        self.answers: list[Status | int] = [ALL_THERE]
        self.refusal: PfsError | None = None
        self.refusals, self.refused = math.inf, 0
        self.unmounted: list[bool] = []
        monkeypatch.setattr(mountpoints, "canonical", lambda point: point)
        monkeypatch.setattr(umount, "is_mounted", lambda point: self.mounts > 0)
        monkeypatch.setattr(umount, "ask", self.ask)
        monkeypatch.setattr(mountpoints, "unmount", self.unmount)
        self.users: list[str] = []
        self.inside: list[str] = []
        monkeypatch.setattr(mountpoints, "below", lambda point: self.inside)
        monkeypatch.setattr(mountpoints, "users", lambda point: self.users)
        monkeypatch.setattr(mountpoints, "device", lambda point: "0:40")
        monkeypatch.setattr(umount, "_wait_for_end", lambda point, device: True)
        monkeypatch.setattr(umount, "LOOK_EVERY_S", 0.0)

    def ask(self, point: str) -> bytes:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            raise OSError(answer, "no answer")
        return answer.encode()

    def unmount(self, point: str, *, lazy: bool) -> None:
        if self.refusal is not None and not lazy:
            self.refused += 1
            if self.refused <= self.refusals:
                raise self.refusal
        self.mounts -= 1
        self.unmounted.append(lazy)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_it_is_unmounted(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    assert umount.umount_command(POINT) == 0
    assert kernel.unmounted == [False]
    assert capsys.readouterr() == (f"{POINT}: unmounted\n", "")


def test_who_types_it_is_told_in_the_way_that_was_asked_for(kernel: Kernel) -> None:
    told = {"mountpoint": POINT, "mounted": False}
    for words, out in (([], f"{POINT}: unmounted\n"), (["-q"], ""), (["--json"], json.dumps(told, indent=2) + "\n")):
        kernel.mounts = 1
        done = CliRunner().invoke(paddle, ["umount", POINT, *words])
        assert (done.exit_code, done.output) == (0, out)


def test_what_waits_is_waited_for_and_told_once(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    kernel.answers = [WAITING, WAITING, WAITING, ALL_THERE]
    umount.umount_command(POINT, quiet=True)
    assert kernel.unmounted == [False]
    told = f"{POINT}: waiting for 2KiB in 3 changes to reach dc1; Ctrl-C leaves it mounted\n"
    assert capsys.readouterr() == ("", told)


def test_what_was_refused_is_told(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    refused = replace(SERVER, refused=["home/ann/f: the disk is full"])
    kernel.answers = [replace(STATUS, servers={"dc1": refused, "dc2": SERVER})]
    umount.umount_command(POINT, quiet=True)
    told = capsys.readouterr().err
    assert told.startswith(f"{POINT}: dc1 has refused changes, which stay in the journal; `paddle mount --write-behind")
    assert told.count("\n") == 1


def test_who_gives_up_waiting_leaves_the_mount(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    kernel.answers = [WAITING]
    monkeypatch.setattr(umount.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        umount.umount_command(POINT)
    assert (kernel.unmounted, kernel.mounts) == ([], 1)


def test_lazily_nothing_is_waited_for(kernel: Kernel) -> None:
    kernel.answers = [WAITING]
    umount.umount_command(POINT, lazy=True)
    assert kernel.unmounted == [True]


@pytest.mark.parametrize(
    ("code", "lazy"), [(errno.ENOTCONN, True), (errno.ECONNABORTED, True), (errno.ETIMEDOUT, False), (errno.EIO, False)]
)
def test_what_a_killed_process_left_goes_though_it_is_in_use(kernel: Kernel, code: int, lazy: bool) -> None:
    kernel.answers = [code]
    umount.umount_command(POINT)
    assert kernel.unmounted == [lazy]


def test_below_a_dead_mount_a_live_one_is_waited_for(kernel: Kernel) -> None:
    kernel.mounts = 2
    kernel.answers = [errno.ENOTCONN, WAITING, ALL_THERE]
    umount.umount_command(POINT)
    assert kernel.unmounted == [True, False]


def test_who_uses_it_is_told(kernel: Kernel) -> None:
    kernel.refusal = PfsError(Kind.BUSY, "busy")
    kernel.inside = ["/mnt/pfs/dc1/x"]
    kernel.users = ["vim (process 7) has a file open there"]
    kernel.answers = [WAITING]  # for as long as it has
    with pytest.raises(
        click.ClickException, match=r"/mnt/pfs/dc1/x is mounted in it; vim \(process 7\) has a file open there; end"
    ):
        umount.umount_command(POINT)
    kernel.refusal = PfsError(Kind.DENIED, "not allowed")
    with pytest.raises(click.ClickException, match="not allowed"):
        umount.umount_command(POINT)


def test_who_has_only_had_a_glance_at_it_is_waited_for(kernel: Kernel) -> None:
    kernel.refusal = PfsError(Kind.BUSY, "busy")
    kernel.refusals = 2
    umount.umount_command(POINT)
    assert (kernel.refused, kernel.unmounted) == (3, [False])


def test_it_is_given_up_where_nobody_can_say_who_uses_it(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umount, "GLANCE_S", 0.0)
    kernel.refusal = PfsError(Kind.BUSY, "busy")
    with pytest.raises(click.ClickException, match="a program that this user cannot see uses it"):
        umount.umount_command(POINT)


def test_a_mount_that_is_slow_to_answer_is_asked_again(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    kernel.answers = [errno.ETIMEDOUT, errno.ETIMEDOUT, ALL_THERE]
    umount.umount_command(POINT, quiet=True)
    assert (len(kernel.answers), kernel.unmounted) == (1, [False])
    assert capsys.readouterr().err.splitlines() == 2 * [
        f"{POINT}: the mount does not answer; asking again; Ctrl-C leaves it mounted"
    ]


def test_a_process_that_is_long_about_to_end_is_told_of_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    now_s, held_s = 100.0, 125.0

    def wait(for_s: float) -> None:
        nonlocal now_s
        now_s += for_s

    def lock(point: str) -> IO[str] | None:
        return open(tmp_path / "lock", "w") if now_s >= held_s else None

    monkeypatch.setattr(umount, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=wait))
    monkeypatch.setattr(umount, "take_lock", lock)
    assert umount._wait_for_end(POINT, None)
    assert capsys.readouterr().err.splitlines() == 2 * [f"{POINT}: unmounted; its process is about to end"]
    held_s = 1000.0
    assert not umount._wait_for_end(POINT, None)


def test_who_has_copies_of_mounts_is_told(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umount, "_wait_for_end", lambda point, device: False)
    monkeypatch.setattr(mountpoints, "keepers", lambda device: [f"dockerd has {device}"])
    with pytest.raises(click.ClickException) as caught:
        umount.umount_command(POINT)
    assert caught.value.message == (
        "/mnt/pfs is unmounted, but its process does not end, with those for whom it is still there: dockerd has 0:40"
    )


def test_a_process_that_does_not_end_is_told(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umount, "_wait_for_end", lambda point, device: False)
    with pytest.raises(click.ClickException, match="its process does not end"):
        umount.umount_command(POINT)


def test_only_a_mount_is_unmounted(kernel: Kernel) -> None:
    kernel.mounts = 0
    with pytest.raises(click.ClickException, match=r"^/mnt/pfs: no pfs is mounted here$"):
        umount.umount_command(POINT)


def test_who_means_a_folder_in_a_mount_is_told_where_that_is(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.mounts = 0
    monkeypatch.setattr(mountpoint, "mounted", lambda: ["/mnt", "/mnt/p", "/mnt/pfs", "/mnt/pfs/dc1/x"])
    with pytest.raises(click.ClickException, match=r"^/mnt/pfs/dc1: no pfs is mounted here, but at /mnt/pfs$"):
        umount.umount_command(f"{POINT}/dc1")


def test_no_name_is_not_the_directory_where_one_is(kernel: Kernel) -> None:
    for command in ("mount", "umount"):
        done = CliRunner().invoke(paddle, [command, ""])
        assert (done.exit_code, f"paddle {command} ~/pfs" in done.output) == (2, True)
    assert kernel.unmounted == []
