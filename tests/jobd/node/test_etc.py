"""/etc of a sandbox: the machine's files in one directory, anew when they change, and what is the task's own."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.node import etc
from jobd.node.etc import SharedEtc
from jobd.node.runtime import Launch

LAUNCH = Launch("17.1.0.0", ("true",), {"PFS_USER": "ann", "HOME": "/pfs/dc1/home/ann"}, "/work", "host0")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's /etc with what sandboxes may see, and more."""
    made = tmp_path / "machine"
    (made / "ssl/certs").mkdir(parents=True)
    (made / "ssl/private").mkdir()
    (made / "ssl/private/key").write_text("secret")
    (made / "ssl/certs/own.pem").write_text("own")
    (made / "ssl/certs/usr.pem").symlink_to("/usr/bin/env")
    (made / "ssl/certs/elsewhere.pem").symlink_to(tmp_path / "elsewhere")
    (made / "ssl/certs/dangling.pem").symlink_to(tmp_path / "nowhere")
    (tmp_path / "elsewhere").write_text("elsewhere")
    (made / "shadow").write_text("secret")
    (made / "services").write_text("http 80/tcp\n")
    return made


def test_what_sandboxes_may_see_is_there_and_nothing_else(machine: Path, tmp_path: Path) -> None:
    found = SharedEtc(tmp_path / "etc", machine).path()
    names = {str(path.relative_to(found)) for path in found.rglob("*")}
    own = {"passwd", "group", "hosts"}
    certs = {f"ssl/certs/{name}.pem" for name in ("own", "usr", "elsewhere")}
    assert names == {"ssl", "ssl/certs", "services", "nsswitch.conf"} | own | certs
    assert all(os.readlink(found / name) == f"/run/etc/{name}" for name in own)
    # what a link leads to outside of /usr is not in the sandbox
    assert os.readlink(found / "ssl/certs/usr.pem") == "/usr/bin/env"
    assert not (found / "ssl/certs/elsewhere.pem").is_symlink()
    assert (found / "ssl/certs/elsewhere.pem").read_text() == "elsewhere"


def test_everybody_may_read_it_whatever_the_daemons_umask(machine: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        found = SharedEtc(tmp_path / "etc", machine).path()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (found, found / "ssl", found / "ssl/certs")} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in (found / "services", found / "ssl/certs/own.pem")} == {0o444}


def test_it_is_made_once_and_again_when_the_machine_changes(machine: Path, tmp_path: Path) -> None:
    shared = SharedEtc(tmp_path / "etc", machine)
    first = shared.path()
    assert shared.path() == SharedEtc(tmp_path / "etc", machine).path() == first
    (machine / "services").write_text("https 443/tcp\n")
    second = shared.path()
    assert second != first
    assert (first / "services").read_text() == "http 80/tcp\n"
    (machine / "ssl/certs/new.pem").touch()
    third = shared.path()
    assert (third / "ssl/certs/new.pem").exists()
    shared.forget_unless(lambda name: name == second.name)
    assert [path.name for path in (tmp_path / "etc").iterdir()] == [second.name]


def test_what_a_killed_daemon_left_half_made_is_made_anew(machine: Path, tmp_path: Path) -> None:
    found = SharedEtc(tmp_path / "etc", machine).path()
    found.rename(tmp_path / "etc" / f"{found.name}.new")
    assert (SharedEtc(tmp_path / "etc", machine).path() / "services").exists()


def test_paths_that_the_machines_owner_adds_have_a_place_to_be_mounted_on(machine: Path, tmp_path: Path) -> None:
    (machine / "java/security").mkdir(parents=True)
    (machine / "java/security/policy").write_text("not copied, mounted")
    paths = [machine / "java", machine / "java/security/policy", Path("/opt")]
    found = SharedEtc(tmp_path / "etc", machine, paths).path()
    assert (found / "java").is_dir()
    assert (found / "java/security/policy").read_text() == ""


def test_etc_knows_root_the_owner_and_nobody() -> None:
    files = etc.own_files(LAUNCH, 200001, 200001)
    assert files["passwd"].splitlines() == [
        "root:x:0:0:root:/:/bin/sh",
        "ann:x:200001:200001::/pfs/dc1/home/ann:/bin/sh",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    ]
    assert files["group"].splitlines() == ["root:x:0:", "ann:x:200001:", "nogroup:x:65534:"]
    assert "127.0.1.1 host0\n" in files["hosts"]
    assert set(files) == {"passwd", "group", "hosts"}


@pytest.mark.parametrize("login", ["", "root", "nobody", "a:b", "a\nb", "A", "x" * 40])
def test_a_login_that_would_spoil_passwd_is_replaced(login: str) -> None:
    files = etc.own_files(replace(LAUNCH, env={"PFS_USER": login, "HOME": "/a:b"}), 200001, 200001)
    assert files["passwd"].splitlines()[1] == "user:x:200001:200001::/:/bin/sh"


def test_fellows_are_known_by_name_and_the_task_by_the_address_that_they_know() -> None:
    hosts = (("host0", "127.17.0.1"), ("host1", "127.17.0.2"), ("host2", ""))
    lines = etc.own_files(replace(LAUNCH, hosts=hosts), 200001, 200001)["hosts"].splitlines()
    assert [line for line in lines if "host" in line and "localhost" not in line][:2] == [
        "127.17.0.1 host0",
        "127.17.0.2 host1",
    ]
    assert not [line for line in lines if "host2" in line or line.startswith("127.0.1.1")]
