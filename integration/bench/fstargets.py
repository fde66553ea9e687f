"""What is compared: directories to work in, each behind a file system of its own, all on the same disk.

A target is made in an empty folder and ends without a trace, whatever state it is in. `cold` gives it a fresh client
that has nothing on disk and nothing in memory, and drops the pages of everybody: all read from the disk then.

To measure the mount with other options, add a line to `TARGETS`.
"""

import contextlib
import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import trustme

from fuseclient.mountpoints import mounted_type
from integration.bench.fsrows import drop_pages
from integration.box import Box, free_port, listens, wait_until

COMMAND_S = 60.0
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


class Target(Protocol):
    """A directory to work in."""

    @property
    def directory(self) -> Path:
        """Where the work is done."""

    @property
    def mountpoint(self) -> Path | None:
        """Where the file system of the directory is mounted for this target alone."""

    def cold(self) -> None:
        """Forget everything that makes the next access faster than the first one was."""

    def processes(self) -> Mapping[str, int]:
        """Return the processes that do the work, `mount` and `server`; each with all its children."""


class Plain:
    """A directory of the disk."""

    def __init__(self, root: Path) -> None:
        self.directory = root
        self.mountpoint = None

    def cold(self) -> None:
        drop_pages()

    def processes(self) -> Mapping[str, int]:
        return {}


class Sshd:
    """A server of OpenSSH on this machine's loopback, with keys and configuration of its own.

    Attributes:
        config: what clients are given by -F; the server's name there is `bench`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.config = root / "ssh_config"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make keys, and start the server."""
        for name in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self._root / name)]
            subprocess.run(command, check=True, timeout=COMMAND_S, stdin=subprocess.DEVNULL)
        port = free_port()
        self._write_configurations(port)
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where sshd locks up its unprivileged part
        program = sshd()
        assert program is not None, "sshd is not installed: run this by script/bench fs"
        self._server = self._spawn("sshd", program, "-D", "-e", "-f", str(self._root / "sshd_config"))
        wait_until(lambda: listens(port) or self._ended(self._server))
        assert not self._ended(self._server), self._log("sshd")

    def close(self) -> None:
        """End it, whatever state it is in."""
        end(self._server)

    def _write_configurations(self, port: int) -> None:
        host, user = ((self._root / f"{name}.pub").read_text() for name in ("host", "user"))
        (self._root / "authorized_keys").write_text(user)
        (self._root / "known_hosts").write_text(f"bench {host}")
        (self._root / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\n"
            f'HostKey "{self._root}/host"\n'
            f'AuthorizedKeysFile "{self._root}/authorized_keys"\n'
            "AuthenticationMethods publickey\n"
            "PermitRootLogin prohibit-password\n"
            "StrictModes no\n"
            "UsePAM yes\n"
            "PidFile none\n"
            "Subsystem sftp internal-sftp\n"
        )
        self.config.write_text(
            "Host bench\n"
            "HostName 127.0.0.1\n"
            "HostKeyAlias bench\n"
            f"Port {port}\n"
            f"User {getpass.getuser()}\n"
            f'IdentityFile "{self._root}/user"\n'
            "IdentitiesOnly yes\n"
            "BatchMode yes\n"
            f'UserKnownHostsFile "{self._root}/known_hosts"\n'
            "StrictHostKeyChecking yes\n"
        )

    def _spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with open(self._root / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )

    def _log(self, name: str) -> str:
        return (self._root / f"{name}.log").read_text(errors="replace")

    @staticmethod
    def _ended(process: subprocess.Popen[bytes] | None) -> bool:
        return process is None or process.poll() is not None


class Sshfs(Sshd):
    """The same disk by sshfs with its own options, and a server on this machine's loopback."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._served = root / "served"
        self._mount: subprocess.Popen[bytes] | None = None
        self.mountpoint = root / "mnt"
        self.directory = self.mountpoint

    def start(self) -> None:
        """Start the server, and mount."""
        self._served.mkdir()
        self.mountpoint.mkdir()
        super().start()
        self._start_mount()

    def cold(self) -> None:
        self._end_mount()
        self._start_mount()
        drop_pages()

    def processes(self) -> Mapping[str, int]:
        assert self._server is not None
        assert self._mount is not None
        return {"mount": self._mount.pid, "server": self._server.pid}

    def close(self) -> None:
        """End everything, whatever state it is in."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self._end_mount()
        end(self._mount)
        super().close()
        detach(self.mountpoint)

    def _start_mount(self) -> None:
        where = [f"bench:{self._served}", str(self.mountpoint)]
        self._mount = self._spawn("sshfs", "sshfs", "-f", "-F", str(self.config), *where)
        wait_until(lambda: is_mounted(self.mountpoint) or self._ended(self._mount))
        assert not self._ended(self._mount), self._log("sshfs")

    def _end_mount(self) -> None:
        if self._mount is not None and is_mounted(self.mountpoint):
            subprocess.run(["fusermount3", "-u", str(self.mountpoint)], check=True, timeout=COMMAND_S)
            self._mount.wait(timeout=COMMAND_S)


class Pfs:
    """The same disk by the mount, and a server on this machine's loopback."""

    def __init__(self, root: Path, *options: str, tls: bool = False) -> None:
        self._box = Box(root)
        self._cache = root / "cache"
        self._box.env["XDG_CACHE_HOME"] = str(self._cache)
        self._options = options
        self._tls = tls
        self.mountpoint = self._box.mountpoint
        self.directory = self._box.dc / "home/demo"

    def start(self) -> None:
        """Start the server and mount."""
        if self._tls:
            self.start_server_with_tls()
        else:
            self._box.start_server()
        self._start_mount()

    def cold(self) -> None:
        self._box.umount()
        self._box.end("mount")
        shutil.rmtree(self._cache, ignore_errors=True)
        self._start_mount()
        drop_pages()

    def processes(self) -> Mapping[str, int]:
        return {name: self._box.processes[name].pid for name in ("mount", "server")}

    def close(self) -> None:
        """End everything, whatever state it is in."""
        point = self.mountpoint
        if is_mounted(point):
            with contextlib.suppress(subprocess.SubprocessError):
                self._box.run("paddle", "umount", str(point))
        end(self._box.processes.pop("mount", None))
        detach(point)
        self._box.close()

    def start_server_with_tls(self) -> None:
        """Start it with a certificate of its own authority, and let the client trust that one."""
        box, authority = self._box, trustme.CA()
        issued, ca = authority.issue_cert("127.0.0.1"), box.root / "ca.pem"
        certificate, key = box.root / "server.pem", box.root / "server.key"
        authority.cert_pem.write_to_path(ca)
        issued.private_key_pem.write_to_path(key)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(certificate, append=True)
        told = box.root / "paddle-config"
        endpoint = f"endpoint: https://127.0.0.1:{box.port}\n  ca: {ca}"
        told.write_text(re.sub(r"endpoint: \S+", endpoint, told.read_text()))
        words = ["--data-root", str(box.data), "--port", str(box.port)]
        process = box.spawn("server", "jobd", "serve", *words, "--tls-cert", str(certificate), "--tls-key", str(key))
        wait_until(lambda: listens(box.port) or process.poll() is not None)
        assert process.poll() is None, box.log_of("server")

    def _start_mount(self) -> None:
        point = self.mountpoint
        point.mkdir(exist_ok=True)
        (self._box.root / "mount.log").unlink(missing_ok=True)
        process = self._box.spawn("mount", "paddle", "mount", "-f", *self._options, str(point))
        wait_until(lambda: f"{point}: mounted" in self._box.log_of("mount") or process.poll() is not None)
        assert process.poll() is None, self._box.log_of("mount")


def sshd() -> str | None:
    """Return where the program of OpenSSH's server is; None where it is not installed."""
    return shutil.which("sshd", path=SYSTEM_PATH)


def is_mounted(point: Path) -> bool:
    """Look into the kernel's list, without touching the mount."""
    return (mounted_type(str(point)) or "").startswith("fuse")


def detach(point: Path) -> None:
    """Take a mount away that nobody serves any more."""
    if is_mounted(point):
        subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True, timeout=COMMAND_S)


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a process, by force where it does not want to."""
    if process is None:
        return
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


Maker = Callable[[Path], AbstractContextManager[Target]]


@contextmanager
def plain(root: Path) -> Iterator[Target]:
    """Give a directory of the disk."""
    yield Plain(root)


@contextmanager
def sshfs(root: Path) -> Iterator[Target]:
    """Give a directory behind sshfs."""
    target = Sshfs(root)
    with contextlib.closing(target):
        target.start()
        yield target


def pfs(*options: str, tls: bool = False) -> Maker:
    """Return what gives a directory behind the mount, mounted with these options."""

    @contextmanager
    def made(root: Path) -> Iterator[Target]:
        target = Pfs(root, *options, tls=tls)
        with contextlib.closing(target):
            target.start()
            yield target

    return made


TARGETS: Mapping[str, Maker] = {
    "plain": plain,
    "sshfs": sshfs,
    "pfs": pfs("--no-shortcut"),
    "pfs same machine": pfs(),
    "pfs write-behind": pfs("--no-shortcut", "--write-behind"),
    "pfs TLS": pfs("--no-shortcut", tls=True),
}
ONLY: Mapping[str, Set[str]] = {"pfs write-behind": {"small_create", "rmtree"}}  # rows, of a target that has not all
