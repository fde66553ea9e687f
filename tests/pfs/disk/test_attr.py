"""What the operating system tells of nodes and is told to change, beyond what the tests of domains come to."""

import os
from pathlib import Path

import pytest

from pfs.api import Changes, NodeType
from pfs.disk.attr import USER, Powers, attr_of, change, check_powers, node_id_of
from pfs.errors import Kind, PfsError


def info(mode: int, inode: int = 5, device: int = 7) -> os.stat_result:
    return os.stat_result((mode, inode, device, 1, 2, 3, 4, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "type_"),
    [
        (0o040755, NodeType.DIRECTORY),
        (0o100644, NodeType.FILE),
        (0o120777, NodeType.SYMLINK),
        (0o010644, NodeType.FIFO),
        (0o140755, NodeType.SOCKET),
        (0o020644, NodeType.FILE),  # a device is nothing that can be opened here, whatever it is called
    ],
)
def test_what_stands_there_is_told(mode: int, type_: NodeType) -> None:
    assert attr_of(info(mode)).type is type_


def test_hidden_names_are_not_told() -> None:
    assert attr_of(info(0o100644), 1).nlink == 0


def test_a_nodes_number_has_63_bits_and_is_never_0() -> None:
    for inode, device in ((5, 7), (2**64 - 1, 2**64 - 1), (0, 0), (7 << 48, 7)):
        assert 0 < node_id_of(info(0o100644, inode, device)) < 2**63
    assert node_id_of(info(0o100644, 5, 7)) != node_id_of(info(0o100644, 5, 8))


@pytest.mark.parametrize(
    ("changes", "powers", "kind"),
    [
        (Changes(mode=0), USER, None),
        (Changes(uid=0), USER, Kind.FORBIDDEN),
        (Changes(gid=0), USER, Kind.FORBIDDEN),
        (Changes(uid=0, gid=0), Powers(admin=True), None),
        (Changes(mode=0), Powers(changes=False), Kind.DENIED),
        (Changes(uid=0), Powers(changes=False, admin=True), Kind.DENIED),
    ],
)
def test_who_may_change_what(changes: Changes, powers: Powers, kind: Kind | None) -> None:
    met = None
    try:
        check_powers(changes, powers)
    except PfsError as error:
        met = error.kind
    assert met is kind


def test_times_survive_what_changes_with_them(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    told = change(str(tmp_path / "x"), Changes(size=2, mode=0o600, atime_ns=1, mtime_ns=2), USER)
    assert (told.st_size, told.st_mode & 0o7777, told.st_atime_ns, told.st_mtime_ns) == (2, 0o600, 1, 2)
