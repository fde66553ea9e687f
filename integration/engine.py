"""A container engine for tests, and images made on the spot: no registry is needed.

An engine that runs on this machine is used; else a `dockerd` of its own is started, with all its state in a
temporary directory and a network without a way out, and ended again.
"""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker

from integration.box import FORGET_MOUNTS
from jobd.node import processes

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
BUSYBOX_IMAGE = "pfs-test-busybox:1"
PYTHON_IMAGE = "pfs-test-python:1"
NUMPY_IMAGE = "pfs-test-numpy:1"

# what a swarm keeps below /run/docker must not be that of another engine of this machine
_OWN_RUN_DOCKER = [
    *("unshare", "--mount", "sh", "-c"),
    f'{FORGET_MOUNTS}; mkdir -p /run/docker && mount -t tmpfs none /run/docker && exec "$@"',
    "sh",
]
_SKIPPED = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "__pycache__"}


@contextmanager
def engine() -> Iterator[str]:
    """Give the URL of a container engine while the block runs."""
    running = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if _answers(running):
        yield running
        return
    with own_engine() as own:
        yield own.base_url


class OwnEngine:
    """A `dockerd` of this test's own, which it may kill and start again.

    Args:
        network: the network namespace that it runs in; None for one of its own without a way out, since engines on one
            machine would share a bridge and give out its addresses twice.
        options: more for its command line.
    """

    def __init__(self, directory: Path, network: str | None = None, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self._options = options
        self._enter = ["unshare", "--net"] if network is None else ["nsenter", f"--net={network}", *_OWN_RUN_DOCKER]
        self.base_url = f"unix://{directory}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        here = self.directory
        program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        assert program is not None, "these tests need a Docker engine: install docker.io (dockerd)"
        assert os.geteuid() == 0, "these tests need a running Docker engine, or root to start one"
        with open(here / "engine.log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._enter,
                    program,
                    f"--data-root={here}/data",
                    f"--exec-root={here}/exec",
                    f"--pidfile={here}/engine.pid",
                    f"--host={self.base_url}",
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.base_url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (here / "engine.log").read_text(errors="replace")
                raise AssertionError(f"dockerd does not start:\n{log_text[-2000:]}")
            time.sleep(0.1)

    def inside(self, *command: str) -> list[str]:
        """Return a command that runs another one in the engine's network, where loopback addresses are its own."""
        assert self._process is not None
        return ["nsenter", f"--net=/proc/{self._process.pid}/ns/net", *command]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; containers are ended with TERM, and not by KILL."""
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._end_containerd()

    def signal(self, number: int) -> None:
        """Send it a signal that does not end it."""
        assert self._process is not None
        self._process.send_signal(number)

    def _end_containerd(self) -> None:
        """See the engine's other half off; the next one would take one that nobody has buried for alive."""
        mark = self.directory / "exec/containerd/containerd.pid"
        if mark.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(mark.read_text()), signal.SIGKILL)
            mark.unlink()

    def end_containers(self) -> None:
        """End what a killed engine left running."""
        for process in map(int, filter(str.isdigit, os.listdir("/proc"))):
            shim = processes.find(process)
            try:
                command = Path(f"/proc/{process}/cmdline").read_bytes()
            except OSError:
                continue
            if shim is not None and f"{self.directory}/exec".encode() in command:
                for below in [*processes.descendants(shim), shim]:
                    processes.send(below, signal.SIGKILL)

    def close(self) -> None:
        """End it with all that it holds."""
        if self._process is not None and self._process.poll() is None:
            with docker_client(self.base_url) as client, contextlib.suppress(docker.errors.APIError):
                for container in client.containers(all=True, quiet=True):
                    client.remove_container(container["Id"], force=True, v=True)
        self.stop()
        self.end_containers()
        _unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def own_engine(*options: str) -> Iterator[OwnEngine]:
    """Start an engine that nobody else uses, and end it with all that it holds after the block."""
    own = OwnEngine(Path(tempfile.mkdtemp(prefix="pfs-engine-")), options=options)
    try:
        own.start()
        yield own
    finally:
        own.close()


def _unmount_below(directory: Path) -> None:
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[1])
        if target.startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", target], check=False)


def _answers(base_url: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as door:
            # not by the SDK, which leaves a socket open where nobody answers
            door.settimeout(5)
            door.connect(base_url.removeprefix("unix://"))
            door.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in door.recv(100)
    except OSError:
        return False


@contextmanager
def docker_client(base_url: str) -> Iterator[docker.APIClient]:
    """Give a client of the docker SDK while the block runs."""
    client = docker.APIClient(base_url=base_url, version="auto", timeout=60)
    try:
        yield client
    finally:
        client.close()


def busybox_image(client: docker.APIClient) -> str:
    """Return an image with a shell and the usual small programs; made from the machine's static busybox."""
    if not client.images(BUSYBOX_IMAGE, quiet=True):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            add_busybox(archive)
        _import(client, tar, BUSYBOX_IMAGE)
    return BUSYBOX_IMAGE


def python_image(client: docker.APIClient) -> str:
    """Return an image with the Python that runs the tests, its standard library, and a shell."""
    if not client.images(PYTHON_IMAGE, quiet=True):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            add_busybox(archive)
            _add_python(archive)
        _import(client, tar, PYTHON_IMAGE)
    return PYTHON_IMAGE


def numpy_image(client: docker.APIClient) -> str:
    """Return the same with numpy, as the tests have it."""
    if not client.images(NUMPY_IMAGE, quiet=True):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            add_busybox(archive)
            _add_python(archive)
            _add_numpy(archive)
        _import(client, tar, NUMPY_IMAGE)
    return NUMPY_IMAGE


def _import(client: docker.APIClient, tar: io.BytesIO, image: str) -> None:
    repository, _, tag = image.partition(":")
    client.import_image_from_data(tar.getvalue(), repository=repository, tag=tag)


def add_busybox(archive: tarfile.TarFile) -> None:
    """Put a shell and the usual small programs into an image."""
    program = shutil.which("busybox")
    assert program is not None, "these tests need busybox-static"
    archive.add(os.path.realpath(program), "bin/busybox")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in sorted(set(applets) - {"busybox"}):
        link = tarfile.TarInfo(f"bin/{applet}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(link)
    for name, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o755)):
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, mode
        archive.addfile(directory)


def _add_python(archive: tarfile.TarFile) -> None:
    program = Path(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}")
    libraries = {Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))}
    objects = [program]
    for library in libraries:
        archive.add(library, str(library).lstrip("/"), filter=_without_the_rest)
        objects += (library / "lib-dynload").glob("*.so")
    archive.add(os.path.realpath(program), str(program).lstrip("/"))
    for name in ("python", "python3"):
        link = tarfile.TarInfo(f"bin/{name}")
        link.type, link.linkname = tarfile.SYMTYPE, str(program)
        archive.addfile(link)
    for file in sorted(_needed_by(objects)):
        archive.add(os.path.realpath(file), file.lstrip("/"))


def _add_numpy(archive: tarfile.TarFile) -> None:
    installed = Path(sysconfig.get_path("platlib"))
    place = Path(sys.base_prefix, "lib", f"python{sysconfig.get_python_version()}", "site-packages")
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            archive.add(installed / name, str(place / name).lstrip("/"), filter=_without_the_rest)
    objects = [*(installed / "numpy").rglob("*.so"), *(installed / "numpy.libs").glob("*.so*")]
    there = set(archive.getnames())
    for file in sorted(_needed_by(objects)):
        if not file.startswith(f"{installed}/") and file.lstrip("/") not in there:
            archive.add(os.path.realpath(file), file.lstrip("/"))


def _without_the_rest(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(member.name)
    return None if name in _SKIPPED or name.startswith("config-3") else member


def _needed_by(objects: list[Path]) -> set[str]:
    """Return the shared libraries that programs and modules need, the dynamic loader among them."""
    done = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, check=False)
    return set(re.findall(r"(?:=> |^\s+)(/\S+)", done.stdout, re.MULTILINE))
