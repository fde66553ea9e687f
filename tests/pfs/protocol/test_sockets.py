"""Sockets: what a mistake in an address or a certificate is called, what is left behind, how long a write may take."""

import contextlib
import os
import socket
import ssl
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from pfs.certificates import Issued, issue_server, make_authority
from pfs.errors import Kind, PfsError
from pfs.protocol.sockets import GRACE_S, WRITE_PIECE_BYTES, WRITE_TIMEOUT_S, Deadlines, Tls, listening, tls_context

Run = Callable[[Callable[[], Awaitable[None]]], None]
NOW_NS = time.time_ns()
AUTHORITY = make_authority("pfs authority of dc1", NOW_NS)


class Reader:
    """A stream whose other side takes each piece after so long."""

    def __init__(self, *delays_s: float) -> None:
        self.delays_s = list(delays_s)
        self.taken = bytearray()

    async def send_all(self, data: bytes) -> None:
        await trio.sleep(self.delays_s.pop(0))
        self.taken += data


def timeless(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_slow_reader_has_time_for_each_piece() -> None:
    async def main() -> None:
        reader: Any = Reader(*[WRITE_TIMEOUT_S - 1] * 3)
        data = os.urandom(2 * WRITE_PIECE_BYTES + 1)
        await Deadlines().send(reader, data)
        assert reader.taken == data

    timeless(main)


def test_a_reader_that_stalls_within_a_piece_is_too_slow() -> None:
    async def main() -> None:
        reader: Any = Reader(0, WRITE_TIMEOUT_S + 1)
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await Deadlines().send(reader, bytes(2 * WRITE_PIECE_BYTES))
        assert trio.current_time() - began == pytest.approx(WRITE_TIMEOUT_S)

    timeless(main)


@pytest.mark.parametrize("begun_before", [True, False])
def test_no_write_goes_beyond_the_grace_once_the_server_ends(begun_before: bool) -> None:
    async def main() -> None:
        deadlines = Deadlines()
        reader: Any = Reader(*[GRACE_S * 0.8] * 3)
        if not begun_before:
            deadlines.end()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            if begun_before:
                nursery.start_soon(trio.testing.wait_all_tasks_blocked)
                nursery.start_soon(_end_soon, deadlines)
            with pytest.raises(trio.TooSlowError):
                await deadlines.send(reader, bytes(3 * WRITE_PIECE_BYTES))
        assert trio.current_time() - began == pytest.approx(GRACE_S)

    timeless(main)


async def _end_soon(deadlines: Deadlines) -> None:
    await trio.testing.wait_all_tasks_blocked()
    deadlines.end()


def test_the_port_and_the_unix_socket_take_connections(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def main() -> None:
        async with listening("localhost", 0, path) as (tcp, local):
            assert tcp.family == socket.AF_INET
            for address, family in ((tcp.getsockname(), socket.AF_INET), (path, socket.AF_UNIX)):
                with socket.socket(family) as client:
                    client.connect(address)
            assert [sock.getsockname() for sock in local] == [path]
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o666

    run(main)
    assert not os.path.exists(path)


def test_an_ipv6_address_is_listened_on(run: Run) -> None:
    async def main() -> None:
        async with listening("::1", 0, None) as (tcp, local):
            assert tcp.family == socket.AF_INET6
            assert local == []

    run(main)


async def refused(host: str, port: int, unix_path: str | None = None) -> PfsError:
    with pytest.raises(PfsError) as caught:
        async with listening(host, port, unix_path):
            pass
    return caught.value


def test_a_port_in_use_is_refused_by_its_name(run: Run) -> None:
    async def main() -> None:
        async with listening("127.0.0.1", 0, None) as (tcp, _):
            port = tcp.getsockname()[1]
            error = await refused("127.0.0.1", port)
        assert error.kind is Kind.BUSY
        assert f"127.0.0.1:{port}: Address already in use" in error.message

    run(main)


@pytest.mark.parametrize(
    ("host", "port"), [("a" * 300, 0), ("::nothing::", 0), ("127.0.0.1", 70_000), ("192.0.2.1", 0)]
)
def test_an_address_that_is_none_is_refused(run: Run, host: str, port: int) -> None:
    async def main() -> None:
        assert (await refused(host, port)).kind is Kind.INVALID

    run(main)


def test_the_socket_that_a_killed_server_left_is_replaced(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(path)
        async with listening("127.0.0.1", 0, path):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)

    run(main)


def test_the_socket_of_a_server_that_runs_is_left_to_it(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        async with listening("127.0.0.1", 0, path):
            assert (await refused("127.0.0.1", 0, path)).kind is Kind.BUSY
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)

    run(main)


def test_a_file_in_the_place_of_the_socket_is_left_alone(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        path.write_text("mine")
        assert (await refused("127.0.0.1", 0, str(path))).kind is Kind.INVALID
        assert path.read_text() == "mine"

    run(main)


def test_at_the_end_only_the_own_socket_is_removed(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        async with listening("127.0.0.1", 0, str(path)):
            path.unlink()
            path.write_text("another's")
        assert path.read_text() == "another's"

    run(main)


def test_tls_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(PfsError) as caught:
        tls_context(Tls(str(tmp_path / "cert"), str(tmp_path / "key")))
    assert caught.value.kind is Kind.INVALID
    assert str(tmp_path / "cert") in caught.value.message
    assert "No such file" in caught.value.message


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    one, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    one.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    other.private_key_pem.write_to_path(tmp_path / "key")
    with pytest.raises(PfsError) as caught:
        tls_context(Tls(str(tmp_path / "cert"), str(tmp_path / "key")))
    assert caught.value.kind is Kind.INVALID


def test_only_http_1_is_offered_by_tls(run: Run, tmp_path: Path) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    context = tls_context(Tls(str(tmp_path / "cert"), str(tmp_path / "key")))

    async def main() -> None:
        client_context = ssl.create_default_context()
        ca.configure_trust(client_context)
        client_context.set_alpn_protocols(["h2", "http/1.1"])
        near, far = trio.testing.memory_stream_pair()
        client = trio.SSLStream(near, client_context, server_hostname="localhost")
        server = trio.SSLStream(far, context, server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
        assert client.selected_alpn_protocol() == "http/1.1"
        with contextlib.suppress(trio.BrokenResourceError):
            await trio.aclose_forcefully(client)

    run(main)


@pytest.fixture
def files(tmp_path: Path) -> Tls:
    """A server's certificate and key in one file, which the test replaces."""
    made = str(tmp_path / "server.pem")
    write(made, issue_server(AUTHORITY, ["localhost"], NOW_NS))
    return Tls(made, made)


def write(path: str, issued: Issued) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(issued.certificate + issued.key)
    os.replace(f"{path}.new", path)


def agree(server: ssl.SSLContext, versions: ssl.TLSVersion | None = None, ciphers: str = "") -> ssl.SSLObject:
    """Let a client in memory talk with the server; return its side."""
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    if versions is not None:
        context.minimum_version = context.maximum_version = versions
    if ciphers:
        context.set_ciphers(ciphers)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = context.wrap_bio(down, up, server_hostname="localhost")
    far = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return near


def serial(server: ssl.SSLContext) -> object:
    return (agree(server).getpeercert() or {})["serialNumber"]


def test_a_certificate_that_was_renewed_is_shown_to_who_comes_next(files: Tls) -> None:
    server = tls_context(files)
    before = serial(server)
    assert serial(server) == before
    write(files.certfile, issue_server(AUTHORITY, ["localhost"], NOW_NS))
    assert serial(server) not in (before, None)


def test_a_renewal_that_fails_leaves_the_certificate_of_before(files: Tls) -> None:
    server = tls_context(files)
    before = serial(server)
    for broken in (b"nonsense", issue_server(AUTHORITY, ["localhost"], NOW_NS).certificate):
        Path(files.certfile).write_bytes(broken)
        assert serial(server) == before
    Path(files.certfile).unlink()
    assert serial(server) == before
    write(files.certfile, issue_server(AUTHORITY, ["localhost"], NOW_NS))
    assert serial(server) != before


@pytest.mark.parametrize(
    ("versions", "ciphers", "agreed"),
    [
        (None, "", "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, "", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA", ""),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256", ""),
    ],
)
def test_only_what_is_authenticated_as_a_whole_is_spoken(
    files: Tls, versions: ssl.TLSVersion | None, ciphers: str, agreed: str
) -> None:
    server = tls_context(files)
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    if agreed:
        assert agree(server, versions, ciphers).version() == agreed
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)shared.cipher"):
            agree(server, versions, ciphers)
