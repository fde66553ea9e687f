"""Every kind of error has an errno, and none that would mislead."""

import errno

import pytest

from fuseclient.kernel.errnos import KIND_TO_ERRNO
from pfs.errors import Kind


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_an_errno_that_fuse_can_carry(kind: Kind) -> None:
    assert 0 < KIND_TO_ERRNO[kind] < 512


@pytest.mark.parametrize("kind", [Kind.UNREACHABLE, Kind.TIMED_OUT])
def test_the_network_is_no_broken_disk(kind: Kind) -> None:
    assert KIND_TO_ERRNO[kind] == errno.ETIMEDOUT


def test_what_was_opened_and_is_gone_is_stale() -> None:
    assert KIND_TO_ERRNO[Kind.BAD_HANDLE] == KIND_TO_ERRNO[Kind.STALE] == errno.ESTALE


def test_nothing_switches_a_request_off_or_looks_like_a_dead_daemon() -> None:
    assert not {errno.ENOSYS, errno.ENOTCONN, errno.EINTR} & set(KIND_TO_ERRNO.values())
