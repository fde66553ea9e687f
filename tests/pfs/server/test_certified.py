"""Who shows a certificate of the datacenter's authority comes in by every door; who shows another one, by none."""

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from pfs.accounts.enrolment import Enrolment
from pfs.accounts.store import Accounts, KeyKind, Terms
from pfs.api import OpenFlags
from pfs.certificates import Issued, issue_server, issue_user, make_authority, read_certificate
from pfs.client.connection import connect_channel
from pfs.client.filesystem import open_filesystem
from pfs.errors import Kind, PfsError
from pfs.keys import Pair, key_of_certificate
from pfs.perm import Scope
from pfs.protocol.wire import CHANNEL_PATH, OPEN_PATH, RANGE_BYTES_MAX
from pfs.server.doors import application
from pfs.server.guard import Tls
from pfs.server.mounts import Mounts
from pfs.server.routes import Gate
from pfs.sql import Database
from tests.pfs.served import Served, served
from tests.pfs.world import World

DAY_NS = 24 * 3600 * 10**9
NOW_NS = time.time_ns()
ME = "/api/v1/fs/home/ann/x"


async def unheard(op: str, args: object, body: bytes) -> object:
    raise AssertionError(op)


@dataclass
class Site:
    """A datacenter with an authority of its own; ann has a file, and a certificate."""

    folder: Path
    world: World
    accounts: Accounts
    enrolment: Enrolment
    authority: Issued

    def pair(self, issued: Issued, name: str) -> Pair:
        """Write a certificate, its authority behind it, and its key."""
        pair = Pair(str(self.folder / f"{name}.pem"), str(self.folder / f"{name}-key.pem"))
        Path(pair.certfile).write_bytes(issued.certificate + self.authority.certificate)
        Path(pair.keyfile).write_bytes(issued.key)
        return pair

    def certify(self, user: str = "ann", name: str = "ann", scopes: frozenset[Scope] = frozenset(Scope)) -> Pair:
        """Return a certificate that the keyring knows."""
        issued = issue_user(self.authority, user, NOW_NS, 7)
        self.enrolment.certify_now(user, read_certificate(issued.certificate).der, Terms(name, scopes, days=7))
        return self.pair(issued, name)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Served]:
        server = issue_server(self.authority, ["127.0.0.1"], NOW_NS)
        (self.folder / "server.pem").write_bytes(server.certificate + server.key)
        (self.folder / "ca.pem").write_bytes(self.authority.certificate)
        own = str(self.folder / "server.pem")
        mounts = Mounts(lambda identity: self.world.fs(identity.subject), "")
        gate = Gate(self.accounts.identify, mounts.view, {KeyKind.USER: mounts.conversation})
        takers = {CHANNEL_PATH: gate.channel, f"{OPEN_PATH}/": mounts.bulk.taker(gate.identity, gate.visits.during)}
        tls = Tls(own, own, str(self.folder / "ca.pem"))
        async with served(application(gate.routes()), tls=tls, takers=takers) as made, trio.open_nursery() as nursery:
            nursery.start_soon(mounts.hub.run)
            yield made
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def asking(self, server: Served, pair: Pair | None) -> AsyncIterator[httpx.AsyncClient]:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if pair is not None:
            context.load_cert_chain(pair.certfile, pair.keyfile)
        async with httpx.AsyncClient(base_url=server.url, verify=context, trust_env=False, timeout=20) as client:
            yield client


@pytest.fixture(scope="module")
def authority() -> Issued:
    return make_authority("pfs authority of dc1", NOW_NS)


@pytest.fixture
def site(tmp_path: Path, world: World, database: Database, authority: Issued) -> Site:
    accounts = Accounts(database, numbered=False)
    for name in ("ann", "bob"):
        accounts.add_user_now(name, admin=False)
    (world.path / "home/ann/x").write_bytes(b"text")
    return Site(tmp_path, world, accounts, Enrolment(database), authority)


def test_a_certificate_opens_what_its_user_may(run, site: Site) -> None:
    async def main() -> None:
        async with site.serving() as server:
            for pair, status in (
                (site.certify(), 200),
                (site.certify("bob", "bob"), 404),
                (site.certify(scopes=frozenset({Scope.READ}), name="reader"), 200),
                (None, 401),
            ):
                async with site.asking(server, pair) as client:
                    assert (await client.get(ME)).status_code == status
            async with site.asking(
                server, Pair(f"{site.folder}/reader.pem", f"{site.folder}/reader-key.pem")
            ) as client:
                assert (await client.put(ME, content=b"other")).status_code == 403

    run(main)


def test_a_mount_needs_a_certificate_and_nothing_else(run, site: Site) -> None:
    content = bytes(range(256)) * (RANGE_BYTES_MAX // 256 + 1)

    async def main() -> None:
        (site.world.path / "home/ann/large").write_bytes(content)
        async with site.serving() as server:
            async with open_filesystem(server.url, "", own=site.certify(), shortcut=False) as fs:
                assert (await fs.getattr("home/ann/large")).size == len(content)
                file = await fs.open("home/ann/large", OpenFlags.READ | OpenFlags.WRITE, 0)
                assert await file.read(0, len(content)) == content
                await file.write(0, content[::-1])
                await file.release()
            assert (site.world.path / "home/ann/large").read_bytes() == content[::-1]

    run(main)


@pytest.mark.parametrize("how", ["revoked", "removed"])
def test_a_certificate_that_is_good_no_more_opens_nothing(run, site: Site, how: str) -> None:
    pair = site.certify()
    if how == "revoked":
        site.accounts.revoke_now("ann", None)
    else:
        site.accounts.remove_user_now("ann")

    async def main() -> None:
        async with site.serving() as server:
            async with site.asking(server, pair) as client:
                answer = await client.get(ME)
                assert (answer.status_code, "this certificate" in answer.text) == (401, True)
            with pytest.raises(PfsError, match="does not accept the certificate") as caught:
                async with connect_channel(server.url, "", unheard, own=pair):  # type: ignore[arg-type]
                    pass
            assert caught.value.kind is Kind.UNAUTHENTICATED

    run(main)


@pytest.mark.parametrize("how", ["of another authority", "ended", "of nobody"])
def test_a_certificate_that_the_datacenter_did_not_make_is_refused(run, site: Site, how: str) -> None:
    known = how == "of nobody"
    authority = site.authority if how != "of another authority" else make_authority("pfs authority of dc1", NOW_NS)
    issued = issue_user(authority, "ann", NOW_NS - (8 * DAY_NS if how == "ended" else 0), 7)
    if not known:
        site.enrolment.certify_now("ann", read_certificate(issued.certificate).der, Terms(days=7))
    pair = site.pair(issued, "other")

    async def main() -> None:
        async with site.serving() as server:
            with pytest.raises(PfsError) as caught:
                async with connect_channel(server.url, "", unheard, own=pair):  # type: ignore[arg-type]
                    pass
            assert caught.value.kind is (Kind.UNAUTHENTICATED if known else Kind.UNREACHABLE)
            assert "does not accept the certificate" in caught.value.message

    run(main)


def test_who_knows_a_certificate_has_not_shown_it(run, site: Site) -> None:
    pair = site.certify()
    named = key_of_certificate(read_certificate(Path(pair.certfile).read_bytes()).der)

    async def main() -> None:
        async with site.serving() as server, site.asking(server, None) as client:
            for header in (f"Bearer {named}", f"token {named}", named, f"Bearer  {named}"):
                assert (await client.get(ME, headers={"authorization": header})).status_code == 401
            assert (await site.accounts.identify(named)).subject.user == "ann"

    run(main)


def test_a_token_that_is_shown_beside_a_certificate_counts(run, site: Site) -> None:
    pair, bob = site.certify(), site.accounts.make_key_now(KeyKind.USER, "bob", "https://dc1")

    async def main() -> None:
        async with site.serving() as server, site.asking(server, pair) as client:
            for token, status in ((bob, 404), ("pfs1.a.b", 401)):
                assert (await client.get(ME, headers={"authorization": f"Bearer {token}"})).status_code == status

    run(main)
