"""A whole datacenter on this machine: server, nodes and mounts as real processes in a directory of their own.

    with box() as b:
        b.start_server(); b.start_node(); b.mount()
        (b.dc / "jobs/a.yaml").write_text("command: echo hi\\n")

Everything that it started is gone afterwards, however the block ends.
"""

import contextlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.jobd import jobd

WAIT_S = 60.0  # for what hangs, on a machine that does much else
PORT_MIN = 10_000
BIN = Path(sys.executable).parent
FORGET_MOUNTS = "umount --internal-only --lazy --all --types fuse.pfs"  # for who has copies of the mounts of others


class Box:
    """One datacenter, `dc1`, with the user `demo`."""

    def __init__(self, root: Path, *options: str, scheme: str = "http") -> None:
        self.root = root
        self.data = root / "data"
        self.mountpoint = root / "pfs"
        self.dc = self.mountpoint / "dc1"
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.env = {
            **os.environ,
            "PADDLE_CONFIG": str(root / "paddle-config"),
            "PIT_CONFIG_DIR": str(root),
            "XDG_STATE_HOME": str(root / "state"),
            "HOME": str(root / "homedir"),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (root / "homedir").mkdir()
        said = {"--data-root": self.data, "--admin": "demo", "--endpoint": self.url, "--pit-config": root}
        said |= {"--client-config": root / "paddle-config", "--node-key": root / "node.key"}
        words = [str(word) for option in said.items() for word in option] + list(options)
        # here, and not by a process: that takes a second for its imports, of each of two dozen boxes
        with contextlib.redirect_stdout(io.StringIO()):
            jobd.main(["init", *words], standalone_mode=False)
        self.token = (root / ".pituser.txt").read_text().split()[1]

    def run(self, program: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of our programs to its end."""
        command = [str(BIN / program), *arguments]
        env = env or self.env
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * WAIT_S, check=False)

    def spawn(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start one of our daemons, logging into the box."""
        with open(self.root / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env=env or self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def log_of(self, name: str) -> str:
        """Return what a daemon logged."""
        return (self.root / f"{name}.log").read_text()

    # ---- the server

    def start_server(self, *options: str) -> None:
        """Start it and wait until it listens."""
        words = ["--data-root", str(self.data), "--port", str(self.port), *options]
        process = self.spawn("server", "jobd", "serve", *words)
        wait_until(lambda: listens(self.port) or process.poll() is not None)
        assert process.poll() is None, self.log_of("server")

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a daemon and return its exit status."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return process.wait(timeout=WAIT_S)

    # ---- nodes

    def start_node(
        self,
        name: str = "n0",
        docker: str | None = None,
        *options: str,
        env: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
        direct: bool = True,
    ) -> None:
        """Start a node and wait until the server has it.

        Args:
            options: more of its own.
            env: more variables for it.
            inside: the words that run a command somewhere else.
            direct: it has the data root; else it mounts the tree for each job.
        """
        env = {**self.env, "GRADIENT_NODE_API_KEY": (self.root / "node.key").read_text().strip(), **(env or {})}
        words = ["--state-dir", str(self.root / f"state-{name}"), "--name", name]
        if direct:
            words += ["--data-root", str(self.data)]
        if docker is not None:
            words += ["--docker-host", docker]
        words += options
        (self.root / f"{name}.log").unlink(missing_ok=True)
        self.spawn(name, *inside, str(BIN / "gradient-node"), *words, env=env)
        wait_until(lambda: "nodeAttrs" in self.log_of(name) or self.processes[name].poll() is not None)
        assert self.processes[name].poll() is None, self.log_of(name)

    # ---- the mount

    def mount(self) -> None:
        """Mount, as a user does."""
        self.mountpoint.mkdir(exist_ok=True)
        mounted = self.run("paddle", "mount", str(self.mountpoint))
        assert mounted.returncode == 0, mounted.stderr

    def umount(self) -> None:
        """Unmount, as a user does."""
        assert self.run("paddle", "umount", str(self.mountpoint)).returncode == 0

    # ---- a user at the mount

    def sh(self, script: str, timeout_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the datacenter's directory."""
        command = ["timeout", "-k", "1", str(timeout_s), "bash", "-c", script]
        return subprocess.run(command, cwd=self.dc, env=self.env, capture_output=True, text=True, check=False)

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for entry in self._unfinished():
            with contextlib.suppress(OSError):
                (self.dc / "jobs" / entry / "ctl").write_text("kill\n")
        for entry in self._unfinished():
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(["cat", str(self.dc / "jobs" / entry / "wait")], timeout=10, check=False)
        if is_mounted(self.mountpoint):
            self.run("paddle", "umount", str(self.mountpoint))
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=False, capture_output=True)
        for name in list(self.processes):
            process = self.processes.pop(name)
            process.terminate()
            try:
                process.wait(timeout=WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _unfinished(self) -> list[str]:
        if not is_mounted(self.mountpoint) or "server" not in self.processes:
            return []
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(self.dc / "jobs") if name.isdigit()]
            return [name for name in names if not (self.dc / "jobs" / name / "exit_code").exists()]
        return []


@contextmanager
def box(*options: str, scheme: str = "http") -> Iterator[Box]:
    """Give a new, empty datacenter; end everything afterwards.

    Args:
        options: more for `jobd init`.
    """
    with tempfile.TemporaryDirectory(prefix="pfs-box-", ignore_cleanup_errors=True) as directory:
        made = Box(Path(directory), *options, scheme=scheme)
        try:
            yield made
        finally:
            made.close()


def with_own_mounts(script: str) -> list[str]:
    """Return a command that runs a shell script whose mounts nobody else sees.

    It begins without copies of the mounts that others have at the moment: they could not end before the script does.
    """
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{FORGET_MOUNTS}\n{script}"]


def free_port() -> int:
    """Return a port that nobody uses, and that no connection is given while a server is being restarted."""
    given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(PORT_MIN, max(given_from, PORT_MIN + 10_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """Tell whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_mounted(mountpoint: Path) -> bool:
    """Look into the kernel's list, without touching the mount."""
    return f" {mountpoint} fuse.pfs " in Path("/proc/mounts").read_text()


def wait_until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for something that other processes bring about."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
