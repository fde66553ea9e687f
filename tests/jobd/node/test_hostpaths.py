"""What tasks may see of the machine, by what its paths really are."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobd.node.hostmounts import HostMount
from jobd.node.hostpaths import HostPaths
from pfs.errors import Kind, PfsError


def opened(source: object, paths: HostPaths | None = None) -> str:
    with (paths or HostPaths()).opened([HostMount(str(source), "/data", read_only=False)]) as (found,):
        assert os.path.samestat(os.fstat(found.descriptor), os.stat(found.real))
        return found.real


def refusal(source: object, paths: HostPaths | None = None) -> str:
    with pytest.raises(PfsError) as caught:
        opened(source, paths)
    assert caught.value.kind is Kind.INVALID
    return str(caught.value)


def test_a_path_counts_as_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert opened(tmp_path / "link") == str(tmp_path / "real")
    (tmp_path / "out").symlink_to("/etc/ssl")
    said = refusal(tmp_path / "out")
    assert f"tasks may not see {tmp_path}/out (/etc/ssl" in said
    assert "it lies in /etc, the machine's settings" in said


def test_a_file_may_be_shown(tmp_path: Path) -> None:
    (tmp_path / "licence").write_text("x")
    assert opened(tmp_path / "licence") == str(tmp_path / "licence")


@pytest.mark.parametrize(
    "path", ["/", "/proc", "/proc/self", "/sys", "/dev", "/dev/shm", "/etc", "/etc/hostname", "/."]
)
def test_what_opens_the_machine_is_refused(path: str) -> None:
    assert "tasks may not see" in refusal(path)


def test_sockets_pipes_and_devices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("door")
        for name in ("pipe", "door"):
            assert "neither a directory nor a file" in refusal(tmp_path / name)


def test_what_is_kept_is_refused_with_all_above_and_below(tmp_path: Path) -> None:
    for name in ("state/sub", "other"):
        (tmp_path / name).mkdir(parents=True)
    paths = HostPaths({str(tmp_path / "state"): "what this daemon keeps"})
    assert "it is " in refusal(tmp_path / "state", paths)
    assert f"it lies in {tmp_path}/state, what this daemon keeps" in refusal(tmp_path / "state/sub", paths)
    assert f"it contains {tmp_path}/state, what this daemon keeps" in refusal(tmp_path, paths)
    assert opened(tmp_path / "other", paths)


def test_what_is_kept_counts_as_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "kept").symlink_to("real")
    assert "tasks may not see" in refusal(tmp_path / "real", HostPaths({str(tmp_path / "kept"): "kept"}))


def test_a_policy_counts_for_where_a_link_leads(tmp_path: Path) -> None:
    for name in ("data", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/out").symlink_to(tmp_path / "other")
    paths = HostPaths(allowed=(str(tmp_path / "data"),))
    assert opened(tmp_path / "data", paths)
    assert "the policy of this node allows mounts of" in refusal(tmp_path / "data/out", paths)


def test_what_is_not_there_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    mounts = [HostMount(str(tmp_path / name), f"/{name}", read_only=False) for name in ("there", "gone")]
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PfsError, match=r"gone:/gone: .*: No such file"), HostPaths().opened(mounts):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


def _in_own_mounts(words: Sequence[str], script: str) -> str:
    program = (
        "import sys; from jobd.node.hostmounts import HostMount; from jobd.node.hostpaths import HostPaths\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        with HostPaths().opened([HostMount(path, '/data', False)]): print('shown')\n"
        "    except Exception as error: print(error)\n"
    )
    command = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        f'{script}\nexec "$@"',
        "sh",
        sys.executable,
        "-c",
        program,
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_the_kernels_file_systems_are_known_wherever_they_are_mounted(tmp_path: Path) -> None:
    for name in ("proc", "out/proc", "disk", "root", "etc"):
        (tmp_path / name).mkdir(parents=True)
    here = tmp_path
    script = f"mount -t proc p {here}/proc; mount -t proc p {here}/out/proc; mount -t tmpfs t {here}/disk"
    script += f"; mount --bind / {here}/root; mount --bind /etc {here}/etc"
    said = _in_own_mounts([f"{here}/{name}" for name in ("proc", "out", "disk", "root", "etc")], script).splitlines()
    assert "it lies in a file system of the kernel (proc)" in said[0]
    assert f"it contains {here}/out/proc, a file system of the kernel (proc)" in said[1]
    assert said[2] == "shown"
    assert "it is the whole machine" in said[3]
    assert "it is /etc, the machine's settings" in said[4]
