"""Mounting as people and machines do it: options, /etc/fstab by mount(8) itself, the status, and the end of it."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.mount.fuse import FAILURE, USAGE
from integration.box import BIN, Box, box, is_mounted, wait_until, with_own_mounts

HELPERS = {"mount.fuse.pfs": "main", "umount.fuse.pfs": "umount_main"}
COMMAND_SECONDS_MAX = 60
# mounts autofs at the place that is named, as systemd does, and runs a command that is none of its own
AUTOMOUNT = """
import ctypes, os, subprocess, sys
_, told = os.pipe()
data = f"fd={told},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
assert ctypes.CDLL(None).mount(b"systemd-1", sys.argv[1].encode(), b"autofs", 0, data) == 0
sys.exit(subprocess.run(sys.argv[2:], start_new_session=True, timeout=30).returncode)
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.mountpoint.mkdir()
        yield made


@pytest.fixture
def here(world: Box) -> Iterator[Box]:
    """The box with nothing mounted, before and after."""
    yield world
    for pid in daemons(world):
        os.kill(pid, signal.SIGCONT)
    while is_mounted(world.mountpoint):
        world.run("paddle", "umount", "--lazy", str(world.mountpoint))


def mount(world: Box, *options: str) -> subprocess.CompletedProcess[str]:
    return world.run("paddle", "mount", str(world.mountpoint), *options)


def umount(world: Box) -> subprocess.CompletedProcess[str]:
    return world.run("paddle", "umount", str(world.mountpoint))


def daemons(world: Box) -> list[int]:
    """The processes behind the mount."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(world.mountpoint).encode() in command and b"mount" in command:
                found.append(int(process.name))
    return found


def kernel_options(world: Box) -> set[str]:
    """What the kernel lists of the mount."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next(set(line[3].split(",")) for line in lines if line[1] == str(world.mountpoint))


def in_namespace(world: Box, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where mount(8) finds our helpers and a line of /etc/fstab; nobody else sees its mounts."""
    sbin, fstab = world.root / "sbin", world.root / "fstab"
    sbin.mkdir(exist_ok=True)
    for name, function in HELPERS.items():
        program = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {os.getcwd()!r})\n"
        (sbin / name).write_text(f"{program}from cli.mount.fuse import {function}\n{function}()\n")
        (sbin / name).chmod(0o755)
    config = world.env["PADDLE_CONFIG"]
    options = f"config={config},ro,_netdev,noauto,nofail,x-systemd.automount"
    fstab.write_text(f"{world.url} {world.mountpoint} fuse.pfs {options} 0 0\n")
    prepare = f"mount --bind {sbin} /usr/sbin && mount --bind {fstab} /etc/fstab || exit 99\n"
    env = {**world.env, "P": str(world.mountpoint), "CONFIG": config, "URL": world.url}
    command = with_own_mounts(prepare + script)
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False, cwd="/"
    )


def test_what_is_mounted_read_only_is_refused_by_the_kernel(here: Box) -> None:
    (here.data / "home/demo/f").write_text("there")
    assert mount(here, "-o", "ro,noexec,_netdev").returncode == 0
    home = here.dc / "home/demo"
    assert (home / "f").read_text() == "there"
    for change in (
        lambda: (home / "f").write_text("x"),
        (home / "new").mkdir,
        (home / "f").unlink,
        lambda: os.utime(home / "f"),
        lambda: os.setxattr(home / "f", "user.x", b""),
    ):
        with pytest.raises(OSError, match="Read-only") as caught:
            change()
        assert caught.value.errno == errno.EROFS
    assert {"ro", "noexec", "nosuid", "nodev"} <= kernel_options(here)
    assert umount(here).returncode == 0


def test_the_servers_own_numbers_are_for_administrators(here: Box) -> None:
    told = here.run("jobd", "adduser", "--data-root", str(here.data), "bob").stdout
    ordinary = here.root / "bob-config"
    ordinary.write_text(told[told.index("dc1:") :])
    refused = mount(here, "-o", f"ids=numeric,config={ordinary}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"paddle: .* are for administrators: bob is none at .*; leave .*\n", refused.stderr)
    assert not is_mounted(here.mountpoint)

    assert mount(here, "-o", "ids=numeric").returncode == 0
    path = here.dc / "home/demo/owned"
    path.write_text("x")
    os.chown(path, 54321, 54322)
    os.chmod(path, 0o4751)
    on_disk = os.stat(here.data / "home/demo/owned")
    assert (on_disk.st_uid, on_disk.st_gid, on_disk.st_mode & 0o7777) == (54321, 54322, 0o4751)
    assert (os.stat(path).st_uid, os.stat(path).st_mode & 0o7777) == (54321, 0o4751)
    assert "allow_other" in kernel_options(here)
    assert umount(here).returncode == 0


def test_a_line_in_fstab_is_all_that_mount_needs(here: Box) -> None:
    done = in_namespace(
        here,
        """
        mount $P || exit 1
        findmnt -n -o SOURCE,FSTYPE $P; ls $P
        touch $P/dc1/home/demo/new 2>&1; echo touched $?
        mount $P; echo again $?
        mount -a; echo all $?
        umount -c $P; echo unmounted $?
        findmnt $P; echo found $?
        """,
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == [here.url, "fuse.pfs"], done.stderr
    assert lines[1] == "dc1"
    assert "Read-only file system" in lines[2]
    assert lines[3:] == ["touched 1", f"again {FAILURE}", "all 0", "unmounted 0", "found 1"]
    assert done.stderr.count("\n") == 1
    assert "pfs is mounted here already" in done.stderr


def test_mount_and_umount_say_what_is_wrong_in_one_line(here: Box) -> None:
    config = here.root / "nobody-config"
    config.write_text("dc1: {username: demo, token: pfs1.x, endpoint: 'http://127.0.0.1:1'}\n")
    done = in_namespace(
        here,
        f"""
        mount -t fuse.pfs dc1 $P -o config={config}; echo $?
        mount -t fuse.pfs $URL $P -o config={config}; echo $?
        mount -t fuse.pfs $URL $P -o config=$CONFIG,foo; echo $?
        mount -s -t fuse.pfs dc1 $P -o config=$CONFIG,foo; echo $?
        mount -o remount,ro $P; echo $?
        sleep 60 < $P/dc1/README.txt & sleep 0.2
        umount -c $P; echo $?
        umount -l $P; echo $?
        kill $!
        """,
    )
    assert done.stdout.split() == [str(code) for code in (FAILURE, FAILURE, USAGE, 0, USAGE, FAILURE, 0)]
    said = ["no connection to the server", "knows no datacenter", "there is no option 'foo'", "unmount it", "sleep"]
    lines = done.stderr.splitlines()
    assert len(lines) == len(said), done.stderr
    for line, words in zip(lines, said, strict=True):
        assert re.match(r"u?mount\.fuse\.pfs: ", line)
        assert words in line


@pytest.mark.skipif(
    "autofs" not in Path("/proc/filesystems").read_text(), reason="this kernel mounts nothing on demand"
)
def test_what_is_mounted_on_demand_is_not_waited_for_by_itself(here: Box) -> None:
    (here.root / "automount.py").write_text(AUTOMOUNT)
    done = in_namespace(
        here,
        f"""
        {sys.executable} {here.root}/automount.py $P mount $P; echo $?
        findmnt -n -o FSTYPE $P
        ls $P
        umount -c $P; echo $?
        """,
    )
    assert done.stdout.split() == ["0", "autofs", "fuse.pfs", "dc1", "0"], done.stderr


def test_who_gives_up_while_a_server_is_looked_for_leaves_nothing_that_mounts_later(here: Box, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "config").write_text(f"dc1: {{username: demo, token: pfs1.x, endpoint: '{url}'}}\n")
        command = [str(BIN / "paddle"), "mount", str(here.mountpoint)]
        env = {**here.env, "PADDLE_CONFIG": str(tmp_path / "config")}
        with (
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting,
            silent.accept()[0],  # from the process in the background
        ):
            wait_until(lambda: len(daemons(here)) == 2)
            waiting.send_signal(signal.SIGINT)
            said = waiting.communicate(timeout=COMMAND_SECONDS_MAX)
            assert (waiting.returncode, said) == (130, ("", "\n"))
            again = mount(here)  # while the server would still be waited for
        assert again.returncode == 0, again.stderr


def test_the_status_tells_what_was_done(here: Box) -> None:
    assert mount(here, "--cache-dir", str(here.root / "cache"), "--no-shortcut").returncode == 0
    home = here.dc / "home/demo"
    (home / "big").write_bytes(bytes(3 << 20))
    for _ in range(3):
        (home / "big").stat()
    with open(home / "big", "rb") as file:
        file.read()
        told = here.run("paddle", "mount", "--status", str(here.mountpoint))
        status = json.loads(os.getxattr(here.mountpoint, "user.pfs.status"))
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{here.mountpoint}: mounted for ")
    server = status["servers"]["dc1"]
    assert (server["url"], server["connected"]) == (here.url, True)
    assert (status["written_bytes"], server["sent_bytes"], status["open_files"]) == (3 << 20, 3 << 20, 1)
    assert (server["waiting_bytes"], server["waiting_operations"]) == (0, 0)
    assert server["attributes"]["hits"] > 0 < server["leases"]
    assert status["options"].startswith("noshortcut,cache_dir=")
    assert status["pid"] in daemons(here)
    assert str(here.mountpoint) in here.run("paddle", "mount", "--status").stdout
    assert umount(here).returncode == 0


def test_a_server_that_is_gone_is_told_as_away(here: Box) -> None:
    assert mount(here).returncode == 0
    here.end("server")
    wait_until(lambda: ", away for " in here.run("paddle", "mount", "--status", str(here.mountpoint)).stdout)
    here.start_server()
    wait_until(lambda: ", connected for " in here.run("paddle", "mount", "--status", str(here.mountpoint)).stdout)
    assert umount(here).returncode == 0


def test_a_mount_that_hangs_holds_nobody(here: Box) -> None:
    assert mount(here).returncode == 0
    for pid in daemons(here):
        os.kill(pid, signal.SIGSTOP)
    link = here.root / "link"
    link.symlink_to(here.mountpoint)  # to find out where that leads the mount must not be asked
    told = here.run("paddle", "mount", "--status", str(link))
    assert (told.returncode, told.stdout) == (1, "")
    assert f"`paddle umount --lazy {here.mountpoint}` takes it away" in told.stderr
    assert here.run("paddle", "umount", "--lazy", str(link)).returncode == 0
    assert not is_mounted(here.mountpoint)
    link.unlink()


def test_umount_waits_for_what_was_promised_and_whoever_gives_up_leaves_the_mount(here: Box) -> None:
    assert mount(here, "--write-behind").returncode == 0
    home, server = here.dc / "home/demo", here.processes["server"]
    os.listdir(home)
    server.send_signal(signal.SIGSTOP)
    try:
        (home / "made").mkdir()
        (home / "written").write_text("promised")
        command = ["paddle", "umount", str(here.mountpoint)]
        waiting = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            env=here.env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        told = waiting.stderr.readline()
        assert re.fullmatch(
            rf"{here.mountpoint}: waiting for .* changes? to reach dc1.*; Ctrl-C leaves it mounted\n", told
        )
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=COMMAND_SECONDS_MAX)
        assert waiting.returncode == 130
        assert is_mounted(here.mountpoint)
        assert not (here.data / "home/demo/written").exists()
    finally:
        server.send_signal(signal.SIGCONT)
    assert umount(here).returncode == 0
    assert (here.data / "home/demo/written").read_text() == "promised"
    assert (here.data / "home/demo/made").is_dir()


def test_after_a_plain_umount_the_process_goes_on_until_the_server_has_what_was_promised(here: Box) -> None:
    assert mount(here, "--write-behind").returncode == 0
    server, (process,) = here.processes["server"], daemons(here)
    os.listdir(here.dc / "home/demo")
    server.send_signal(signal.SIGSTOP)
    try:
        (here.dc / "home/demo/late").write_text("promised")
        # -i: as where no umount.fuse.pfs is found; -c: the mount is not asked for its path, and through it the server
        subprocess.run(["umount", "-i", "-c", here.mountpoint], check=True, timeout=COMMAND_SECONDS_MAX)
        assert not is_mounted(here.mountpoint)
        assert not (here.data / "home/demo/late").exists()
        again = mount(here)
        assert (again.returncode, "try again" in again.stderr) == (1, True)
    finally:
        server.send_signal(signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{process}").exists())
    assert (here.data / "home/demo/late").read_text() == "promised"
