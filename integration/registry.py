"""Registries of images beside an engine of the tests, in its network: one for everybody, one that asks for a name."""

import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import docker

from integration.engine import OwnEngine, add_busybox, docker_client

OPEN, CLOSED = "127.0.0.1:5001", "127.0.0.1:5002"
USERNAME, PASSWORD = "ann", "canary-7Qx2-vault"
_HTPASSWD = "ann:$2y$04$uhozBmVbJsR.O9hThNeBouaz73.SBKyQUqiseXdN5t2X2SKqefg/O\n"
_STARTED_S = 30.0


class Registry:
    """A registry at `address` of an engine's network."""

    def __init__(self, engine: OwnEngine, directory: Path, address: str) -> None:
        self.address = address
        self._engine = engine
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        auth = ""
        if address == CLOSED:
            (directory / "htpasswd").write_text(_HTPASSWD)
            auth = f"auth: {{htpasswd: {{realm: tests, path: {directory}/htpasswd}}}}\n"
        (directory / "config.yml").write_text(
            f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
            f"http: {{addr: {address}}}\n{auth}"
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = self._engine.inside("docker-registry", "serve", f"{self._directory}/config.yml")
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        port = int(self.address.rpartition(":")[2])
        deadline = time.monotonic() + _STARTED_S
        while f"0100007F:{port:04X} 00000000:0000 0A" not in Path(f"/proc/{self._process.pid}/net/tcp").read_text():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let it answer nothing while the block runs."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def push(self, name: str, files: Mapping[str, bytes]) -> str:
        """Put an image into it, which the engine has not afterwards: busybox with these files; return its name."""
        image = f"{self.address}/{name}"
        with docker_client(self._engine.base_url) as client:
            self._make(client, image, files)
            login = {"username": USERNAME, "password": PASSWORD}
            said = client.push(image, auth_config=login if self.address == CLOSED else None)
            assert "errorDetail" not in said, said
            client.remove_image(image, force=True)
        return image

    def _make(self, client: docker.APIClient, image: str, files: Mapping[str, bytes]) -> None:
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            add_busybox(archive)
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        repository, _, tag = image.rpartition(":")
        client.import_image_from_data(tar.getvalue(), repository=repository, tag=tag)


@contextmanager
def registries(engine: OwnEngine, directory: Path) -> Iterator[tuple[Registry, Registry]]:
    """Give the registry for everybody and the one that is not, while the block runs."""
    subprocess.run(engine.inside("ip", "link", "set", "lo", "up"), check=True)
    found = Registry(engine, directory / "open", OPEN), Registry(engine, directory / "closed", CLOSED)
    try:
        for registry in found:
            registry.start()
        yield found
    finally:
        for registry in found:
            registry.stop()
