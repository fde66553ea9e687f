"""What the kernel answers when it is told something."""

import errno

import pyfuse3
import pytest

from fuseclient.kernel.telling import forget_attributes, forget_name, give, wake


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(pyfuse3, call, refused)


def test_a_kernel_that_has_let_go_of_an_inode_has_nothing_to_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "invalidate_inode", errno.ENOENT)
    forget_attributes(5)
    refuse(monkeypatch, "invalidate_inode", errno.ENODEV)
    with pytest.raises(OSError, match="no"):
        forget_attributes(5)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOMEM])
def test_bytes_that_the_kernel_does_not_take_are_not_kept_there(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse(monkeypatch, "notify_store", code)
    assert not give(5, b"text")


def test_a_kernel_that_cannot_wake_anybody_any_more_is_left_alone() -> None:
    class Handle:
        def notify(self) -> None:
            raise OSError(errno.ENODEV, "no")

    wake(Handle())


def test_names_go_to_the_kernel_as_the_bytes_that_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, bytes]] = []
    monkeypatch.setattr(pyfuse3, "invalidate_entry_async", lambda parent, name, **_: told.append((parent, name)))
    forget_name(5, "\udcff")
    assert told == [(5, b"\xff")]
