"""Large files over HTTP on loopback, in one request each: given, taken, cut, and compared by checksums."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from pfs.disk.domains import DiskDomain
from pfs.protocol.sockets import Tls
from pfs.server import ranges
from tests.cli.files.site import Site
from tests.pfs.served import Served
from tests.pfs.world import World

SIZE = 3_000_017
HEAD = "{} /api/v1/ranges/{} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}-token\r\n{}\r\n"


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def asking(site: Site, run: Callable[..., Any], work: Callable[[Served], Any]) -> Any:
    async def main() -> Any:
        async with site.serving() as server:
            return await work(server)

    return run(main)


async def ask(server: Served, method: str, path: str, *, who: str = "ann", more: str = "", body: bytes = b"") -> bytes:
    """Ask, and return the whole answer."""
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        if body or method == "PUT":
            more += f"content-length: {len(body)}\r\n"
        await stream.send_all(HEAD.format(method, path, who, more).encode() + body)
        return b"".join([bytes(piece) async for piece in stream])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("in_threads", [True, False])
@pytest.mark.parametrize("turn", [ranges.TURN_BYTES, 100_000])
def test_a_file_comes_in_and_goes_out(
    site: Site, run, home: Path, monkeypatch: pytest.MonkeyPatch, turn: int, in_threads: bool
) -> None:
    monkeypatch.setattr(ranges, "TURN_BYTES", turn)
    if not in_threads:
        monkeypatch.setattr(ranges, "OnDisk", type(None))
    data = os.urandom(SIZE)

    async def work(server: Served) -> None:
        answer = await ask(server, "PUT", "home/ann/x?offset=0", body=data)
        assert (answer[:12], body_of(answer)) == (b"HTTP/1.1 200", b'{"size":%d}' % SIZE)
        for start in (0, 1, SIZE - 1):
            answer = await ask(server, "GET", "home/ann/x", more=f"range: bytes={start}-\r\n")
            assert answer[:12] == b"HTTP/1.1 206"
            assert b"content-range: bytes %d-%d/%d\r\n" % (start, SIZE - 1, SIZE) in answer
            assert body_of(answer) == data[start:]
        assert (await ask(server, "GET", "home/ann/x", more=f"range: bytes={SIZE}-\r\n"))[:12] == b"HTTP/1.1 416"

    asking(site, run, work)
    assert (home / "x").read_bytes() == data
    assert (home / "x").stat().st_mode & 0o777 == 0o600


def test_what_is_sent_from_an_offset_on_is_all_that_is_behind_it(site: Site, run, home: Path) -> None:
    (home / "x").write_bytes(b"0123456789")

    async def work(server: Served) -> None:
        assert (await ask(server, "PUT", "home/ann/x?offset=4", body=b"ab"))[:12] == b"HTTP/1.1 200"
        assert (home / "x").read_bytes() == b"0123ab"
        answer = await ask(server, "PUT", "home/ann/x?offset=7", body=b"ab")
        assert answer[:12] == b"HTTP/1.1 409"
        assert b"there are 6 bytes of it" in answer
        assert (await ask(server, "PUT", "home/ann/x?offset=2"))[:12] == b"HTTP/1.1 200"

    asking(site, run, work)
    assert (home / "x").read_bytes() == b"01"


def test_what_came_of_a_request_that_is_cut_stays(site: Site, run, home: Path) -> None:
    data = os.urandom(SIZE)

    async def work(server: Served) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            head = HEAD.format("PUT", "home/ann/x?offset=0", "ann", f"content-length: {SIZE}\r\n")
            await stream.send_all(head.encode() + data[: SIZE // 2])
        await server.until(ended=1)

    asking(site, run, work)
    came = (home / "x").read_bytes()
    assert 0 < len(came) <= SIZE // 2
    assert data.startswith(came)


def test_over_tls_it_is_the_same(world: World, run, home: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    data = os.urandom(SIZE)
    site = Site(world, Tls(str(certificate), str(key)), str(tmp_path / "ca.pem"))

    def work(client: Any) -> None:
        from cli.files import remote

        remote.send_rest(client, "home/ann/x", 0, SIZE, [data])
        with remote.fetch_rest(client, "home/ann/x", 7) as pieces:
            assert b"".join(pieces) == data[7:]

    site.asking(run, work)
    assert (home / "x").read_bytes() == data


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "home/ann/missing", "", 404),
        ("GET", "home/ann", "", 409),
        ("GET", "home/ann/x", "range: bytes=0-5\r\n", 400),
        ("GET", "job/log", "", 409),
        ("PUT", "home/ann/y", "", 400),
        ("PUT", "home/ann/y?offset=-1", "", 400),
        ("PUT", "home/ann/no/y?offset=0", "", 404),
        ("PUT", "job/ctl?offset=0", "", 409),
        ("POST", "home/ann/x", "", 405),
    ],
)
def test_what_cannot_be_had_is_told(
    site: Site, run, home: Path, method: str, path: str, more: str, status: int
) -> None:
    (home / "x").write_bytes(b"12345")

    async def work(server: Served) -> bytes:
        return await ask(server, method, path, more=more)

    assert asking(site, run, work)[:12] == b"HTTP/1.1 %d" % status
    assert (home / "x").read_bytes() == b"12345"
    assert os.listdir(home) == ["x"]


@pytest.mark.parametrize("who", ["bob", "nobody"])
def test_strangers_get_nothing(site: Site, run, home: Path, who: str) -> None:
    (home / "x").write_bytes(b"12345")

    async def work(server: Served) -> list[bytes]:
        return [
            await ask(server, "GET", "home/ann/x", who=who),
            await ask(server, "PUT", "home/ann/x?offset=0", who=who, body=b"theirs"),
        ]

    for answer in asking(site, run, work):
        assert answer[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 401")
        assert b"12345" not in answer
    assert (home / "x").read_bytes() == b"12345"


def test_checksums_are_told_of_each_chunk(site: Site, run, ann: DiskDomain, home: Path) -> None:
    data = os.urandom(2500)
    (home / "x").write_bytes(data)

    def work(client: Any) -> list[str]:
        from cli.files import remote

        return remote.sums(client, "home/ann/x", 100, 2400, 1000)

    wanted = [hashlib.sha256(data[at : min(at + 1000, 2500)]).hexdigest() for at in (100, 1100, 2100)]
    assert site.asking(run, work) == wanted
