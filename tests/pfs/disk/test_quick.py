"""When a disk may be asked without a worker thread."""

import pytest

from pfs.disk.quick import AVERAGED, LOOK_EVERY_NS, SLOW_NS, WARY_NS, Mounted, Quickness, all_local, parse_mounts

MOUNTINFO = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
31 22 0:25 / /srv/my\\040data rw shared:2 master:1 - nfs4 host:/x rw
32 22 0:26 / /tmp rw - tmpfs tmpfs rw
nonsense
"""


def test_the_list_of_mounts_is_read_with_its_escapes() -> None:
    assert parse_mounts(MOUNTINFO) == [
        Mounted("/", "ext4"),
        Mounted("/srv/my data", "nfs4"),
        Mounted("/tmp", "tmpfs"),
    ]


@pytest.mark.parametrize(
    ("mounts", "local"),
    [
        ([("/", "ext4")], True),
        ([("/", "nfs4")], False),
        ([("/", "nfs4"), ("/srv", "xfs")], True),
        ([("/", "ext4"), ("/srv", "fuse.sshfs")], False),
        ([("/", "ext4"), ("/srv/pfs", "nfs")], False),
        ([("/", "ext4"), ("/srv/pfs/data/big", "nfs")], False),
        ([("/", "ext4"), ("/srv/pfs/data/big", "xfs")], True),
        ([("/", "ext4"), ("/srv/pfs-old", "nfs")], True),
        ([("/", "ext4"), ("/srv/pfs", "ext4"), ("/srv/pfs", "fuse.pfs")], False),
        ([("/", "nfs"), ("/srv/pfs", "nfs"), ("/srv/pfs", "ext4")], True),
        ([], False),
    ],
)
def test_a_root_is_local_when_nothing_at_or_below_it_is_elsewhere(mounts: list[tuple[str, str]], local: bool) -> None:
    assert all_local("/srv/pfs", [Mounted(*each) for each in mounts]) is local


def test_nothing_is_done_at_once_before_the_mounts_were_looked_at() -> None:
    quickness = Quickness()
    assert quickness.wants_look(0)
    assert not quickness.is_quick(0)
    quickness.looked(True, 0)
    assert quickness.is_quick(0)


def test_the_mounts_are_looked_at_again_after_a_while() -> None:
    quickness = Quickness()
    quickness.looked(True, 0)
    assert not quickness.wants_look(LOOK_EVERY_NS - 1)
    assert quickness.wants_look(LOOK_EVERY_NS)
    quickness.looked(False, LOOK_EVERY_NS)
    assert not quickness.is_quick(LOOK_EVERY_NS)


def test_a_disk_that_was_slow_is_given_threads_for_a_while() -> None:
    quickness = Quickness()
    quickness.looked(True, 0)
    late_ns = SLOW_NS * AVERAGED
    quickness.took(0, late_ns)
    assert quickness.is_quick(late_ns)
    quickness.took(0, late_ns)
    assert not quickness.is_quick(late_ns + WARY_NS - 1)
    assert quickness.is_quick(late_ns + WARY_NS)


def test_one_late_call_among_quick_ones_is_let_pass_but_not_a_row_of_them() -> None:
    quickness = Quickness()
    quickness.looked(True, 0)
    for _ in range(100):
        quickness.took(0, 5 * SLOW_NS)
        for _ in range(20):
            quickness.took(0, 20_000)
    assert quickness.is_quick(0)
    for _ in range(30):
        quickness.took(0, 2 * SLOW_NS)
    assert not quickness.is_quick(0)
