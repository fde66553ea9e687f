"""What extended attributes may be called, and how large they may be."""

import pytest

from pfs.errors import Kind, PfsError
from pfs.xattr import VALUE_BYTES_MAX, check_xattr


@pytest.mark.parametrize("name", ["user.a", "user.mime type", "user.\udcff", "user." + "x" * 250, "user." + "é" * 125])
def test_a_name_of_a_user(name: str) -> None:
    assert check_xattr(name, bytes(VALUE_BYTES_MAX)) == name


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [
        ("", 0, Kind.UNSUPPORTED),
        ("user", 0, Kind.UNSUPPORTED),
        ("USER.a", 0, Kind.UNSUPPORTED),
        ("security.selinux", 0, Kind.UNSUPPORTED),
        ("system.posix_acl_access", 0, Kind.UNSUPPORTED),
        ("user.", 0, Kind.INVALID),
        ("user.a\0b", 0, Kind.INVALID),
        ("user.\ud800", 0, Kind.INVALID),
        ("user." + "x" * 251, 0, Kind.NAME_TOO_LONG),
        ("user." + "é" * 126, 0, Kind.NAME_TOO_LONG),
        ("user.a", VALUE_BYTES_MAX + 1, Kind.TOO_LARGE),
    ],
)
def test_what_cannot_be(name: str, size: int, kind: Kind) -> None:
    with pytest.raises(PfsError) as caught:
        check_xattr(name, bytes(size))
    assert caught.value.kind is kind
