"""How machines become nodes and certificates become known: once, for a while, and only for whom they are."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from sqlmodel import Session, select

from pfs.accounts.enrolment import MINUTE_NS, Enrolment
from pfs.accounts.keyring import DAY_NS, KeyKind, Terms, key_name
from pfs.accounts.store import Accounts
from pfs.accounts.tables import Key
from pfs.audit.record import record_in
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, is_join_token, key_beside, key_of_certificate, url_of_key
from pfs.perm import SERVICE, Scope, Verb, allowed
from pfs.sql import Database
from tests.pfs.accounts.test_keyring import Clock
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]
URL = "https://dc1:8470"
DER = b"a certificate"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(database: Database, clock: Clock) -> Accounts:
    made = Accounts(database, numbered=True, clock=clock)
    for name in ("root", "ann"):
        made.add_user_now(name, admin=name == "root")
    return made


@pytest.fixture
def enrolment(database: Database, accounts: Accounts, clock: Clock) -> Enrolment:
    return Enrolment(database, clock)


async def join(enrolment: Enrolment, user: str, token: str, secret: str = "own", machine: str = "m1") -> str:
    key = key_beside(token, secret)
    await enrolment.join(user, token, fingerprint(key), machine=machine, name="n1\n")
    return key


def test_a_join_token_is_good_for_an_hour_and_opens_nothing_else(
    run: Run, accounts: Accounts, enrolment: Enrolment, clock: Clock
) -> None:
    token = enrolment.join_token_now("ann", URL, 60)
    assert is_join_token(token)
    assert url_of_key(token) == URL

    async def main() -> None:
        clock.now_ns += 60 * MINUTE_NS - 1
        identity = await accounts.identify(token)
        assert (identity.kind, identity.subject.user, identity.subject.scopes) == (KeyKind.JOIN, "ann", frozenset())
        clock.now_ns += 1
        assert await kind_of(accounts.identify(token)) is Kind.UNAUTHENTICATED

    run(main)


@pytest.mark.parametrize("user", ["root", "ann"])
def test_a_machine_gets_a_key_that_the_server_has_never_seen(
    run: Run, database: Database, accounts: Accounts, enrolment: Enrolment, user: str
) -> None:
    async def main() -> None:
        token = enrolment.join_token_now(user, URL, 60)
        key = await join(enrolment, user, token)
        identity = await accounts.identify(key)
        assert (identity.kind, identity.machine, identity.subject.user) == (KeyKind.NODE, "m1", user)
        assert allowed(identity.subject, Verb.RULE, SERVICE) is (user == "root")
        rows = await database.read(lambda session: [row.model_dump() for row in session.exec(select(Key)).all()])
        assert all(secret not in str(rows) for secret in (token, key, "own"))
        assert [row["label"] for row in rows] == ["n1"]

    run(main)


def test_a_join_token_is_good_once_also_for_two_at_the_same_moment(
    run: Run, accounts: Accounts, enrolment: Enrolment
) -> None:
    came: list[str] = []

    async def main() -> None:
        token = enrolment.join_token_now("root", URL, 60)

        async def come(number: int) -> None:
            with suppress(PfsError):
                came.append(await join(enrolment, "root", token, f"own{number}", f"m{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(come, number)
        assert len(came) == 1
        assert await kind_of(accounts.identify(token)) is Kind.UNAUTHENTICATED

    run(main)


def test_who_knows_a_machine_cannot_take_its_place(run: Run, accounts: Accounts, enrolment: Enrolment) -> None:
    async def main() -> None:
        first = await join(enrolment, "root", enrolment.join_token_now("root", URL, 60))
        token = enrolment.join_token_now("ann", URL, 60)
        with pytest.raises(PfsError, match="has a key of its own") as caught:
            await join(enrolment, "ann", token, "other")
        assert caught.value.kind is Kind.EXISTS
        assert (await accounts.identify(token)).kind is KeyKind.JOIN  # it is good still
        assert await enrolment.is_bound("m1")
        record = [record_in(line) for line in accounts.audit.lines_now()][-1]
        assert (record.what, record.result, record.more["by"]) == ("token.make", Kind.EXISTS, key_name(token))
        assert record.on == f"users/ann/keys/{key_name(key_beside(token, 'other'))}"
        await accounts.revoke("root", key_name(first))
        assert not await enrolment.is_bound("m1")
        await join(enrolment, "ann", token, "other")

    run(main)


def test_a_machine_is_free_again_when_its_key_has_ended(run: Run, enrolment: Enrolment, clock: Clock) -> None:
    async def main() -> None:
        await join(enrolment, "root", enrolment.join_token_now("root", URL, 60))
        clock.now_ns += 90 * DAY_NS
        assert not await enrolment.is_bound("m1")

    run(main)


def test_a_certificate_proves_its_user_until_its_day(
    run: Run, accounts: Accounts, enrolment: Enrolment, clock: Clock
) -> None:
    key = key_of_certificate(DER)
    terms = Terms("certificate laptop", frozenset({Scope.READ}), days=7)
    assert enrolment.certify_now("ann", DER, terms) == key_name(key)

    async def main() -> None:
        identity = await accounts.identify(key)
        assert (identity.kind, identity.subject.user, identity.subject.scopes) == (KeyKind.USER, "ann", {Scope.READ})
        assert [known.label for known in accounts.keys_now("ann")] == ["certificate laptop"]
        clock.now_ns += 7 * DAY_NS
        with pytest.raises(PfsError, match="this certificate has ended"):
            await accounts.identify(key)
        with pytest.raises(PfsError, match="does not know this certificate"):
            await accounts.identify(key_of_certificate(b"another"))

    run(main)


@pytest.mark.parametrize("how", ["revoked", "removed", "password", "removed and back"])
def test_a_certificate_is_dead_at_once(run: Run, accounts: Accounts, enrolment: Enrolment, how: str) -> None:
    name = enrolment.certify_now("ann", DER, Terms(days=7))
    if how == "revoked":
        accounts.revoke_now("ann", name)
    elif how == "password":
        accounts.set_password_now("ann", "hash")
    else:
        accounts.remove_user_now("ann")
        if how == "removed and back":
            accounts.add_user_now("ann", admin=False)

    async def main() -> None:
        assert await kind_of(accounts.identify(key_of_certificate(DER))) is Kind.UNAUTHENTICATED

    run(main)


def test_nobody_who_is_not_there_gets_anything(database: Database, enrolment: Enrolment) -> None:
    with pytest.raises(PfsError, match="no user 'bob'"):
        enrolment.join_token_now("bob", URL, 60)
    with pytest.raises(PfsError, match="no user 'bob'"):
        enrolment.certify_now("bob", DER, Terms(days=7))
    assert database.read_now(_keys) == 0


def _keys(session: Session) -> int:
    return len(session.exec(select(Key)).all())


@pytest.mark.parametrize(("user", "of_datacenter"), [("ann", False), ("root", True)])
def test_a_node_is_its_owners_for_good_whatever_becomes_of_them(
    run: Run, accounts: Accounts, enrolment: Enrolment, user: str, of_datacenter: bool
) -> None:
    async def main() -> None:
        made = accounts.make_key_now(KeyKind.NODE, user, URL)
        joined = await join(enrolment, user, enrolment.join_token_now(user, URL, 60))
        late = enrolment.join_token_now(user, URL, 60)
        accounts.set_admin_now("ann", admin=True)
        keys = [made, joined, await join(enrolment, user, late, "late", "m2")]
        for key in keys:
            assert allowed((await accounts.identify(key)).subject, Verb.RULE, SERVICE) is of_datacenter
        accounts.set_admin_now(user, admin=False)
        for key in keys:
            assert not allowed((await accounts.identify(key)).subject, Verb.RULE, SERVICE)

    run(main)


def test_a_join_token_for_one_node_is_good_for_a_machine_of_that_name_alone(
    run: Run, accounts: Accounts, enrolment: Enrolment
) -> None:
    token = enrolment.join_token_now("root", URL, 60, "n2")
    assert [key.label for key in accounts.keys_now("root")] == ["for the node n2"]
    right = enrolment.join_token_now("root", URL, 60, "n1")

    async def main() -> None:
        with pytest.raises(PfsError, match="for the node n2: start the machine with that --name") as caught:
            await join(enrolment, "root", token)
        assert caught.value.kind is Kind.DENIED
        await accounts.identify(token)  # it is not used up
        await accounts.identify(await join(enrolment, "root", right))

    run(main)
