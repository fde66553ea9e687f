"""What is said when a machine cannot mount, and what the end of a mount waits for."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fuseclient import mount
from pfs.errors import Kind, PfsError


def refusal() -> PfsError:
    with pytest.raises(PfsError) as caught:
        mount.check_machine()
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_machine_without_fuse_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    assert refusal().kind is Kind.UNSUPPORTED
    assert "modprobe fuse" in str(refusal())


def test_a_device_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").mkdir()
    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    assert refusal().kind is Kind.DENIED
    assert str(tmp_path / "fuse") in str(refusal())


def test_a_user_needs_the_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "fuse3" in str(refusal())
    (tmp_path / "fusermount3").touch(mode=0o755)
    mount.check_machine()


def test_what_the_library_prints_is_collected() -> None:
    lines: list[str] = []
    with mount._stderr_into(lines):
        os.write(2, b"fuse: first\n\nfuse: second\n")
    assert lines == ["fuse: first", "fuse: second"]


@pytest.mark.parametrize(
    ("uid", "said", "told"),
    [
        (0, "fusermount3: mount failed: Operation not permitted", "; in a container root may mount when that was"),
        (1000, "fusermount3: mount failed: Operation not permitted", "; fusermount3 needs its setuid bit, and a"),
        (1000, "fusermount3: option allow_other only allowed if", ""),
    ],
)
def test_who_may_not_mount_is_told_what_helps(monkeypatch: pytest.MonkeyPatch, uid: int, said: str, told: str) -> None:
    def connect(*_: object, **__: object) -> None:
        os.write(2, f"{said}\n".encode())
        raise RuntimeError("fuse_session_mount failed")

    monkeypatch.setattr(mount, "connect", connect)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    operations: Any = None
    with pytest.raises(PfsError) as caught:
        mount._mount(operations, "/mnt", set(), "pfs", set_id_bits=False)
    assert caught.value.message.startswith(f"cannot mount at /mnt: {said}{told}")


class Unwritten:
    """A file system that has something that its server has not, and the pace at which that gets less."""

    def __init__(self, size_bytes: int, taken_each_s: int, error: PfsError | None = None) -> None:
        self.left = size_bytes
        self._taken_each_s = taken_each_s
        self._error = error

    def waiting(self) -> tuple[int, int]:
        return self.left, int(self.left > 0)

    async def settle(self, node_id: int | None) -> None:
        if self._error is not None:
            raise self._error
        while self.left:
            await trio.sleep(1.0)
            self.left = max(0, self.left - self._taken_each_s)


def settled(*filesystems: Any) -> float:
    """Return how many seconds the end of a mount waits for these."""

    async def main() -> float:
        began_s = trio.current_time()
        await mount._settle(filesystems)
        return trio.current_time() - began_s

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_end_waits_as_long_as_what_waits_gets_less(caplog: pytest.LogCaptureFixture) -> None:
    slow, quick = Unwritten(100, 1), Unwritten(10, 10)
    assert settled(slow, quick) > 100.0
    assert (slow.left, quick.left, caplog.records) == (0, 0, [])


def test_the_end_does_not_wait_for_a_server_that_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert settled(Unwritten(100, 0)) == pytest.approx(mount.SETTLE_S)
    assert "the mount ended before the server had everything: bytes 100, changes 1; they are lost" in caplog.text
    assert "they are lost" in caplog.text


def test_a_refusal_at_the_end_is_logged_and_the_others_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    other = Unwritten(3, 1)
    settled(Unwritten(5, 0, PfsError(Kind.NO_SPACE, "the disk is full")), other)
    assert other.left == 0
    assert "the disk is full" in caplog.text
