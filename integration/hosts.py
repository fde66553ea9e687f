"""Hosts on this machine: each a network namespace with an address of its own, and a Docker engine of its own.

    with hosts(2, swarm=True) as (one, two):
        one.run("ping", "-c1", two.address)

They are joined by a bridge, which is this machine's way to them, too; `cut` unplugs a host's cable and `heal` plugs
it in again. Needs root, iproute2 and a `dockerd` that can be started. All hosts see this machine's files.
"""

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme

from integration.box import WAIT_S, Box, wait_until
from integration.engine import OwnEngine, docker_client

_NSENTER = shutil.which("nsenter") or "/usr/bin/nsenter"
_numbers = itertools.count()


class Host:
    """One host.

    Attributes:
        address: its own, on the bridge.
        gateway: this machine's on the bridge.
        engine: its Docker engine.
    """

    def __init__(self, namespace: str, address: str, engine: OwnEngine) -> None:
        self.namespace = namespace
        self.address = address
        self.gateway = address.rpartition(".")[0] + ".254"
        self.engine = engine

    def inside(self, *command: str) -> list[str]:
        """Return a command as it runs on the host's network."""
        return [_NSENTER, f"--net=/run/netns/{self.namespace}", *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the host's network to its end."""
        return subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=WAIT_S, check=False)

    def cut(self) -> None:
        """Unplug its cable."""
        _ip("link", "set", f"{self.namespace}v", "down")

    def heal(self) -> None:
        """Plug its cable in again."""
        _ip("link", "set", f"{self.namespace}v", "up")


@contextmanager
def on_network_of(host: Host) -> Iterator[None]:
    """Move this thread, with whatever it starts, to the host's network while the block runs."""
    system = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{host.namespace}") as there:
        assert system.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert system.setns(before.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def hosts(count: int, *, swarm: bool = False) -> Iterator[list[Host]]:
    """Give `count` hosts with running engines, which form a swarm if wanted; end them with all that they hold."""
    number = next(_numbers)
    mark = f"pt{os.getpid() % 100_000}{chr(ord('a') + number % 26)}"
    net = f"10.{64 + os.getpid() % 64}.{(os.getpid() // 64 + number) % 256}"
    with ExitStack() as stack:
        stack.enter_context(_bridge(mark, f"{net}.254"))
        made = [stack.enter_context(_host(f"{mark}{i}", mark, f"{net}.{i}", f"{net}.254")) for i in _from_one(count)]
        for host in made:
            host.engine.start()
        if swarm:
            _join(made)
        yield made


def _from_one(count: int) -> range:
    return range(1, count + 1)


@contextmanager
def _bridge(name: str, address: str) -> Iterator[None]:
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("addr", "add", f"{address}/24", "dev", name)
        _ip("link", "set", name, "up")
        # where this machine runs an engine of its own, that drops what is forwarded, on bridges too
        for way in ("-i", "-o"):
            subprocess.run(["iptables", "-I", "FORWARD", way, name, "-j", "ACCEPT"], check=True)
        yield
    finally:
        for way in ("-i", "-o"):
            subprocess.run(["iptables", "-D", "FORWARD", way, name, "-j", "ACCEPT"], check=False, capture_output=True)
        _ip("link", "del", name)


@contextmanager
def _host(name: str, bridge: str, address: str, gateway: str) -> Iterator[Host]:
    directory = Path(tempfile.mkdtemp(prefix="pfs-host-"))
    engine = OwnEngine(directory, network=f"/run/netns/{name}")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", f"{name}v", "master", bridge, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", gateway)
        made = Host(name, address, engine)
        # everybody may ping, as distributions have it; a new network does not
        made.run("sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        yield made
    finally:
        engine.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", f"{name}v")
        _ip("netns", "del", name)
        shutil.rmtree(directory, ignore_errors=True)


def _join(made: Sequence[Host]) -> None:
    first, *others = made
    with docker_client(first.engine.base_url) as client:
        client.init_swarm(advertise_addr=first.address, listen_addr=f"{first.address}:2377")
        token = client.inspect_swarm()["JoinTokens"]["Worker"]
    for host in others:
        with docker_client(host.engine.base_url) as client:
            client.join_swarm([f"{first.address}:2377"], token, f"{host.address}:2377", host.address)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cluster(Box):
    """A datacenter whose server speaks TLS on the bridge, and whose nodes are on hosts.

    Attributes:
        image: one that all its engines have; set by whoever makes it.
    """

    def __init__(self, root: Path, made: Sequence[Host]) -> None:
        super().__init__(root)
        self.hosts = made
        self.image = ""
        self.address = made[0].address.rpartition(".")[0] + ".254"
        self.url = f"https://{self.address}:{self.port}"
        authority = trustme.CA()
        issued = authority.issue_cert(self.address)
        authority.cert_pem.write_to_path(root / "ca.pem")
        issued.private_key_pem.write_to_path(root / "server.key")
        for blob in issued.cert_chain_pems:
            blob.write_to_path(root / "server.pem", append=True)
        told = root / "paddle-config"
        told.write_text(re.sub(r"endpoint: \S+", f"endpoint: {self.url}\n  ca: {root / 'ca.pem'}", told.read_text()))

    def start_server(self) -> None:
        """Start it and wait until it listens."""
        words = ["--data-root", str(self.data), "--host", self.address, "--port", str(self.port)]
        words += ["--tls-cert", str(self.root / "server.pem"), "--tls-key", str(self.root / "server.key")]
        process = self.spawn("server", "jobd", "serve", *words)
        wait_until(lambda: "serving" in self.log_of("server") or process.poll() is not None)
        assert process.poll() is None, self.log_of("server")

    def start_node_on(self, host: Host, name: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        """Start a node on a host, with the host's engine, and wait until the server has it."""
        more = {"GRADIENT_NODE_API_HOST": self.url, "SSL_CERT_FILE": str(self.root / "ca.pem"), **(env or {})}
        self.start_node(name, host.engine.base_url, *options, env=more, inside=host.inside())


@contextmanager
def cluster(count: int, *, swarm: bool = False) -> Iterator[Cluster]:
    """Give a datacenter with `count` hosts; nothing is started but their engines."""
    with hosts(count, swarm=swarm) as made, tempfile.TemporaryDirectory(prefix="pfs-box-") as directory:
        box = Cluster(Path(directory), made)
        try:
            yield box
        finally:
            box.close()
