"""A key that names its server's authority: that one is trusted, nobody else, and nothing is shown to strangers."""

import ssl
from pathlib import Path

import pytest
import trio
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pfs.client import authority
from pfs.client.authority import StrangerError, authorization, is_known, trust
from pfs.client.connection import connect_channel
from pfs.client.dial import trusted
from pfs.client.web import WebClient
from pfs.errors import Kind, PfsError
from pfs.keys import Pair, hash_of, make_key, where_of
from pfs.protocol.wire import AUTHORITY_PATH
from pfs.server.guard import Tls
from tests.pfs.served import served


class World:
    """A server whose certificate an authority of its own made, and what it tells of that."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(folder / "cert"))
        issued.private_key_pem.write_to_path(str(folder / "key"))
        self.tls = Tls(str(folder / "cert"), str(folder / "key"))
        self.told = authority.cert_pem.bytes().decode()
        self.asked = 0
        self.app = Starlette(routes=[Route(AUTHORITY_PATH, self._tell)])

    async def _tell(self, request: Request) -> PlainTextResponse:
        self.asked += 1
        assert "authorization" not in request.headers
        return PlainTextResponse(self.told)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "_known", {})


@pytest.fixture
def made() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def world(tmp_path: Path, made: trustme.CA) -> World:
    return World(tmp_path, made)


def key_for(url: str, pem: str) -> str:
    return make_key(where_of(url, ssl.PEM_cert_to_DER_cert(pem)), "secret")


def digest(pem: str) -> str:
    try:
        return hash_of(ssl.PEM_cert_to_DER_cert(pem))
    except ValueError:
        return "nothing"


async def unheard(op: str, args: object, body: bytes) -> object:
    raise AssertionError(op)


async def refusals(url: str, token: str, ca: str | None) -> list[str]:
    """Return what mounts and commands say of a server."""
    said = []
    with pytest.raises(PfsError) as caught:
        async with connect_channel(url, token, unheard, ca):  # type: ignore[arg-type]
            pass
    said.append(caught.value.message)

    def ask() -> None:
        with WebClient(url, token, ca) as client:
            client.read("me")

    with pytest.raises(PfsError) as caught:
        await trio.to_thread.run_sync(ask)
    return [*said, caught.value.message]


async def greet(port: int, context: ssl.SSLContext) -> None:
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    try:
        await stream.do_handshake()
    finally:
        await trio.aclose_forcefully(stream)


def test_the_authority_that_a_key_names_is_asked_for_once_and_trusted(world: World) -> None:
    async def main() -> None:
        async with served(world.app, tls=world.tls) as server:
            key = key_for(server.url, world.told)
            assert not is_known(key)
            for _ in range(2):
                context = await trusted(server.url, key, None)
                assert context is not None
                await greet(server.port, context)
            assert is_known(key)
            assert world.asked == 1

    trio.run(main)


def test_the_certificate_of_a_server_itself_can_be_the_one_that_is_named(world: World) -> None:
    world.told = Path(world.tls.certfile).read_text()

    async def main() -> None:
        async with served(world.app, tls=world.tls) as server:
            context = await trusted(server.url, key_for(server.url, world.told), None)
            assert context is not None
            await greet(server.port, context)

    trio.run(main)


def test_a_server_of_another_authority_is_a_stranger(world: World) -> None:
    async def main() -> None:
        async with served(world.app, tls=world.tls) as server:
            own, genuine = trustme.CA().cert_pem.bytes().decode(), world.told
            for told in (genuine, "", "no certificate", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"):
                world.told = told
                with pytest.raises(PfsError, match="is not the one that the key is for") as caught:
                    await trusted(server.url, key_for(server.url, own), None)
                assert isinstance(caught.value, StrangerError)
                assert f"the key trusts sha256:{digest(own)}" in caught.value.message
                assert (f"sha256:{digest(told)} vouches for it" in caught.value.message) is (told == genuine)
            # who tells the right certificate, and has not its key, is trusted no more
            world.told = own
            context = await trusted(server.url, key_for(server.url, own), None)
            assert context is not None
            with pytest.raises(trio.BrokenResourceError) as broken:
                await greet(server.port, context)
            assert isinstance(broken.value.__cause__, ssl.SSLCertVerificationError)

    trio.run(main)


def test_a_key_that_names_an_authority_is_shown_to_nobody_without_tls(world: World) -> None:
    key = key_for("https://dc1", world.told)
    with pytest.raises(PfsError, match="the key is for a server with TLS, and http://dc1 has none") as caught:
        trust("http://dc1", key, None)
    assert caught.value.kind is Kind.INVALID
    assert trust("http://dc1", make_key("http://dc1", "x"), None) is None


def test_a_file_that_is_named_counts_more_than_the_key(world: World, made: trustme.CA, tmp_path: Path) -> None:
    made.cert_pem.write_to_path(str(tmp_path / "ca"))
    other = trustme.CA().cert_pem.bytes().decode()
    context = trust("https://127.0.0.1:1", key_for("https://dc1", other), str(tmp_path / "ca"))
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_a_server_that_is_not_there_is_unreachable(world: World) -> None:
    with pytest.raises(PfsError) as caught:
        trust("https://127.0.0.1:1", key_for("https://127.0.0.1:1", world.told), None)
    assert caught.value.kind is Kind.UNREACHABLE


def test_who_trusts_another_authority_is_told_both(world: World, tmp_path: Path) -> None:
    other = trustme.CA().cert_pem.bytes().decode()
    (tmp_path / "ca").write_text(f"https://dc1:8470\n{other}")

    async def main() -> None:
        async with served(world.app, tls=world.tls) as server:
            for said in await refusals(server.url, "token", str(tmp_path / "ca")):
                assert f"sha256:{digest(world.told)} vouches for it" in said
                assert f"{tmp_path}/ca trusts sha256:{digest(other)}" in said
                assert "\n" not in said
            assert world.asked == 2
            for said in await refusals(server.url, "token", None):
                assert f"trusts vouches for it, but sha256:{digest(world.told)} does; `ca` (--ca) names" in said
            world.told = ""
            for said in await refusals(server.url, "token", str(tmp_path / "ca")):
                assert "its certificate is not trusted" in said

    trio.run(main)


def test_who_dials_by_another_name_is_told_what_to_do(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(world.app, tls=world.tls) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            for said in await refusals(url, key_for(url, world.told), None):
                assert "not for the name localhost" in said
                assert "jobd url --name localhost" in said

    trio.run(main)


@pytest.fixture
def own(made: trustme.CA, tmp_path: Path) -> Pair:
    issued = made.issue_cert("ann@example.org")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "ann.pem")
    issued.private_key_pem.write_to_path(tmp_path / "ann-key.pem")
    return Pair(str(tmp_path / "ann.pem"), str(tmp_path / "ann-key.pem"))


def test_the_authority_behind_ones_own_certificate_vouches_for_the_server(
    world: World, made: trustme.CA, own: Pair, tmp_path: Path
) -> None:
    def trusts(token: str = "token", ca: str | None = None) -> int:
        context = trust("https://dc1", token, ca, own)
        assert context is not None
        return digest(world.told) in {hash_of(each) for each in context.get_ca_certs(binary_form=True)}

    assert not trusts()
    with open(own.certfile, "a") as file:
        file.write(world.told)
    assert trusts()
    other = tmp_path / "other"
    trustme.CA().cert_pem.write_to_path(other)
    assert not trusts(ca=str(other))


def test_a_certificate_is_shown_to_nobody_without_tls(own: Pair) -> None:
    with pytest.raises(PfsError, match="the certificate is for a server with TLS, and http://dc1 has none"):
        trust("http://dc1", "", None, own)


@pytest.mark.parametrize("what", ["missing", "another key", "no key"])
def test_a_certificate_that_cannot_be_used_is_told_with_its_files(own: Pair, tmp_path: Path, what: str) -> None:
    if what == "missing":
        Path(own.certfile).unlink()
    elif what == "another key":
        trustme.CA().issue_cert("x").private_key_pem.write_to_path(own.keyfile)
    else:
        Path(own.keyfile).write_text("nonsense")
    with pytest.raises(PfsError, match=r"ann\.pem") as caught:
        trust("https://dc1", "", None, own)
    assert caught.value.kind is Kind.INVALID


def test_without_a_token_a_certificate_says_enough(own: Pair) -> None:
    assert authorization("", own) == []
    assert authorization("t", own) == [("authorization", "Bearer t")]
    with pytest.raises(PfsError, match="this is no token"):
        authorization("", None)
