"""What is mounted where, and who uses it."""

import subprocess
from pathlib import Path

import pytest

from fuseclient import mountpoints
from pfs.errors import Kind, PfsError

MOUNTINFO = """\
22 1 0:20 / / rw shared:1 - ext4 /dev/vda rw
40 22 0:33 / /home/ann/my\\040pfs rw,nosuid,nodev - fuse.pfs pfs rw
41 22 0:34 / /mnt rw shared:2 master:1 - tmpfs tmpfs rw
42 41 0:35 / /mnt rw - fuse.pfs pfs rw
43 22 0:36 / /data rw - fuse.pfs pfs rw
44 43 0:37 / /data rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("point", "kind"),
    [
        ("/home/ann/my pfs", "fuse.pfs"),
        ("/mnt", "fuse.pfs"),
        ("/data", "tmpfs"),
        ("/home/ann", None),
        ("/mnt/dc1", None),
    ],
)
def test_the_uppermost_mount_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, kind: str | None
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(mountpoints, "_MOUNTINFO", tmp_path / "mountinfo")
    assert mountpoints.mounted_type(point) == kind


def test_a_path_is_written_as_the_kernel_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    assert mountpoints.canonical(f"{tmp_path}/link/pfs/") == f"{tmp_path}/real/pfs"
    assert mountpoints.canonical("pfs") == f"{tmp_path}/real/pfs"
    assert mountpoints.canonical("~/pfs") == f"{tmp_path}/real/pfs"


def test_users_are_named_with_what_they_do(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path / "below") as process:
        assert mountpoints.users(str(tmp_path)) == [f"sleep (process {process.pid}) has its working directory there"]
        assert mountpoints.users(str(tmp_path / "bel")) == []
        process.kill()
    with open(tmp_path / "below/f", "w"):
        assert mountpoints.users(str(tmp_path)) == ["this command itself has a file open there"]


def test_who_asks_is_no_user_where_others_are(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w"), subprocess.Popen(["sleep", "60"], cwd=tmp_path) as process:
        assert mountpoints.users(str(tmp_path)) == [f"sleep (process {process.pid}) has its working directory there"]
        process.kill()


def test_what_is_mounted_in_a_mount_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(mountpoints, "_MOUNTINFO", tmp_path / "mountinfo")
    assert mountpoints.below("/home") == mountpoints.below("/home/ann") == ["/home/ann/my pfs"]
    assert mountpoints.below("/mn") == mountpoints.below("/mnt") == []


def test_the_number_is_that_of_the_uppermost_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(mountpoints, "_MOUNTINFO", tmp_path / "mountinfo")
    points = ("/home/ann/my pfs", "/mnt", "/data", "/elsewhere")
    assert [mountpoints.device(point) for point in points] == ["0:33", "0:35", "0:37", None]


def test_who_has_a_mount_of_others_in_mounts_of_its_own_is_named() -> None:
    own = mountpoints.device("/proc")
    assert own is not None
    assert any(phrase.endswith("has it in mounts of its own") for phrase in mountpoints.keepers(own))
    assert mountpoints.keepers("0:999999") == []


def test_where_nothing_is_mounted_nothing_is_unmounted(tmp_path: Path) -> None:
    with pytest.raises(PfsError) as caught:
        mountpoints.unmount(str(tmp_path), lazy=False)
    assert caught.value.kind is Kind.NOT_FOUND
    assert str(tmp_path) in str(caught.value)


def test_a_link_is_followed_to_where_the_kernel_lists_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/pfs").mkdir()
    (tmp_path / "near").symlink_to("real/pfs")
    (tmp_path / "real/far").symlink_to("../near")
    (tmp_path / "loop").symlink_to("loop")
    for link in ("near", "real/far", "real/far/"):
        assert mountpoints.canonical(f"{tmp_path}/{link}") == f"{tmp_path}/real/pfs"
    assert mountpoints.canonical(f"{tmp_path}/loop") == f"{tmp_path}/loop"
    assert mountpoints.canonical(f"{tmp_path}/missing") == f"{tmp_path}/missing"
    assert mountpoints.canonical("/") == "/"


def test_all_mounts_of_ours_that_can_be_seen_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(mountpoints, "_MOUNTINFO", tmp_path / "mountinfo")
    assert mountpoints.mounted() == ["/home/ann/my pfs", "/mnt"]
