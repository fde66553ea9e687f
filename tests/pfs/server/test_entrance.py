"""How people come in, over HTTP on loopback: passwords, tokens, invitations, and how all of that ends."""

import logging
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import trio
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts import keyring, passwords, throttle
from pfs.accounts.keyring import DAY_NS, key_name
from pfs.accounts.registration import Registration
from pfs.accounts.store import Accounts, Identity, KeyKind, Terms
from pfs.accounts.throttle import ADDRESS_FREE, PAIR_FREE
from pfs.audit.record import record_in
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.errors import Kind
from pfs.keys import url_of_key
from pfs.perm import Scope, Subject
from pfs.protocol.wire import CHANNEL_PATH, FILES_PATH
from pfs.server import entrance, routes
from pfs.server.doors import NOTHING, Door
from pfs.server.entrance import LOGIN_PATH, PASSWORD_PATH, REGISTER_PATH, TOKENS_PATH, USERS_PATH, Entrance
from pfs.server.guard import Taken
from pfs.server.mounts import Mounts
from pfs.server.rest import REST, done, tells
from pfs.server.routes import Gate
from pfs.sql import Database
from tests.pfs.served import NO_TLS, served
from tests.pfs.world import World, kind_of, make_tables

Run = Callable[[Callable[[], Awaitable[object]]], object]
WHERE = "http://127.0.0.1:8470"
WHOSE = "/api/v1/whose"  # a door of REST v1
PASSWORD, OTHER = "correct horse battery staple", "four words that nobody has"
NOBODY_FREE = "too many people log in at this moment; try again in some seconds"
HASHES = "$argon2id$v=19$m=65536,t=3,p=1$"  # 64 MiB, three passes: RFC 9106 asks for that, OWASP for 19 MiB and two


def test_a_password_is_kept_as_argon2id_with_64_mib_and_three_passes() -> None:
    assert passwords.parameters() == HASHES
    assert passwords.hash_now(PASSWORD).startswith(HASHES)


def test_a_hash_is_of_one_password_and_nobody_has_none() -> None:
    first, second = passwords.hash_now(PASSWORD), passwords.hash_now(PASSWORD)
    assert first != second
    for hashed in (first, second):
        assert passwords.verify_now(PASSWORD, hashed)
        assert not passwords.verify_now(OTHER, hashed)
    assert not passwords.verify_now(PASSWORD, None)
    assert not passwords.verify_now("", None)
    assert not passwords.verify_now(PASSWORD, "no hash")


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take no time, but where they are what is tested."""
    if "argon2id" not in request.node.name:
        monkeypatch.setattr(passwords, "MEMORY_KIB", 8)
        monkeypatch.setattr(passwords, "PASSES", 1)


class Site:
    """A server with accounts, and somebody who asks it."""

    def __init__(self, world: World, accounts: Accounts) -> None:
        self.world = world
        self.accounts = accounts
        self.mode = Registration.CLOSED
        self.settled: list[str] = []
        self.now_s = 0.0
        self.url = ""
        mounts = Mounts(lambda identity: world.fs(identity.subject), "")
        self.gate = Gate(accounts.identify, mounts.view, {KeyKind.USER: mounts.conversation})
        self.entrance = Entrance(
            accounts,
            self.gate,
            datacenter="dc1",
            where=self._where,
            mode=self._mode,
            settle=self._settle,
            changed=self.gate.visits.look_again,
            clock=lambda: self.now_s,
        )

    async def _mode(self) -> Registration:
        return self.mode

    async def _where(self) -> str:
        return WHERE

    async def _settle(self, user: Subject) -> None:
        self.settled.append(user.user)

    def _whose(self) -> Door:
        async def tell(_: Request, identity: Identity) -> Response:
            return done(identity.subject.user)

        return self.gate.door("GET", WHOSE, tell, about="who one is", body=NOTHING, tells=tells(), face=REST)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[httpx.AsyncClient]:
        app = Starlette(routes=[*self.gate.routes(), *self.entrance.routes(), self._whose()])
        async with (
            served(app, takers={CHANNEL_PATH: self.gate.channel}) as server,
            httpx.AsyncClient(base_url=server.url, timeout=20, verify=NO_TLS, trust_env=False) as client,
        ):
            self.url, self.client = server.url, client
            yield client

    async def ask(self, method: str, path: str, token: str = "", **body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.client.request(method, path, headers=headers, **({"json": body} if body else {}))

    async def login(self, user: str = "ann", password: str = PASSWORD, **more: str) -> httpx.Response:
        return await self.ask("POST", LOGIN_PATH, user=user, password=password, **more)

    async def token(self, user: str = "ann", **more: str) -> str:
        return str((await self.login(user, **more)).json()["token"])

    async def opens(self, token: str) -> int:
        return (await self.ask("GET", f"{FILES_PATH}/README.txt", token)).status_code


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    database = Database(f"sqlite:///{tmp_path}/accounts.sqlite")
    make_tables(database)
    yield Accounts(database, numbered=False)
    database.close()


@pytest.fixture
def site(world: World, accounts: Accounts) -> Site:
    """ann and bob have passwords, zoe the administrator has none."""
    for name in ("ann", "bob"):
        accounts.add_user_now(name, admin=False)
        accounts.set_password_now(name, passwords.hash_now(PASSWORD))
    accounts.add_user_now("zoe", admin=True)
    return Site(world, accounts)


def told(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["kind"], error["message"]


# ---- passwords


async def rest(site: Site, user: str = "ann", password: str = PASSWORD, path: str = WHOSE) -> httpx.Response:
    """Ask a door as some clients of PaddleCloud do: with name and password."""
    return await site.client.get(path, auth=(user, password))


def test_name_and_password_with_each_request_open_rest_v1_and_nothing_else(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            for _ in range(3):
                answer = await rest(site)
                assert (answer.status_code, answer.json()) == (200, {"code": 200, "msg": "ann"})
            [key] = await site.accounts.keys("ann")
            assert key.label == "HTTP Basic"
            assert (await rest(site, "bob")).json()["msg"] == "bob"
            assert (await rest(site, path=f"{FILES_PATH}/README.txt")).status_code == 401
            assert (await rest(site, path=TOKENS_PATH)).status_code == 401

    run(main)


def test_wrong_passwords_with_requests_are_slowed_down_as_at_the_login(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            assert (await rest(site)).status_code == 200
            wrong = (await site.login("ann", OTHER)).json()["error"]["message"]
            for _ in range(PAIR_FREE - 1):
                answer = await rest(site, password=OTHER)
                assert answer.json() == {"code": 401, "msg": wrong, "kind": Kind.UNAUTHENTICATED}
            assert (await rest(site, password=OTHER)).status_code == 429
            assert (await rest(site)).status_code == 200, "who was known before goes on"
            for said in ("Basic", "Basic ?", "Basic YW5u"):
                answer = await site.client.get(WHOSE, headers={"authorization": said})
                assert (answer.status_code, answer.json()["code"]) == (401, 401)

    run(main)


def test_another_password_ends_what_came_with_the_one_before(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            assert (await rest(site)).status_code == 200
            token = await site.token()
            done = await site.ask("POST", PASSWORD_PATH, token, password=PASSWORD, new=OTHER)
            assert done.status_code == 204
            assert (await rest(site)).status_code == 401
            assert (await rest(site, password=OTHER)).status_code == 200

    run(main)


def test_a_password_gives_a_token_for_one_machine(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            response = await site.login(machine="laptop")
            told_of = response.json()
            assert (response.status_code, told_of["datacenter"], told_of["user"]) == (200, "dc1", "ann")
            token = told_of["token"]
            assert url_of_key(token) == WHERE
            assert await site.opens(token) == 200
            [key] = await site.accounts.keys("ann")
            assert (key.label, key.kind) == ("laptop", KeyKind.USER)
            assert site.settled == ["ann"]

    run(main)


def test_whatever_is_wrong_is_told_in_the_same_words(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            answers = set()
            for user, password in (
                ("ann", OTHER),
                ("eve", PASSWORD),
                ("zoe", PASSWORD),
                ("zoe", ""),
                ("", ""),
                ("me", ""),
            ):
                response = await site.login(user, password)
                answers.add((response.status_code, response.text))
            assert len(answers) == 1
            assert (await site.login("ann", OTHER)).status_code == 401
            assert await site.accounts.keys("ann") == []

    run(main)


@pytest.mark.parametrize("form", ["json", "data"])
@pytest.mark.parametrize("path", ["/api-token-auth/", "/api-token-auth"])
def test_clients_of_paddlecloud_log_in_in_their_own_way(run: Run, site: Site, form: str, path: str) -> None:
    async def main() -> None:
        async with site.serving() as client:
            answer = await client.post(path, **{form: {"username": "ann", "password": PASSWORD}})
            assert (answer.status_code, list(answer.json())) == (200, ["token"])
            headers = {"authorization": f"Token {answer.json()['token']}"}
            assert (await client.get(f"{FILES_PATH}/README.txt", headers=headers)).status_code == 200
            assert site.settled == ["ann"]

    run(main)


def test_both_ways_to_log_in_are_one_for_whoever_guesses_and_for_the_record(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving() as client:

            async def ask(password: str) -> dict[str, object]:
                answer = await client.post("/api-token-auth/", data={"username": "ann", "password": password})
                assert answer.status_code == answer.json().get("code", 200)
                return dict(answer.json())

            wrong = (await site.login("ann", OTHER)).json()["error"]["message"]
            for _ in range(PAIR_FREE - 1):
                assert await ask(OTHER) == {"code": 401, "msg": wrong, "kind": Kind.UNAUTHENTICATED}
            assert (await ask(PASSWORD))["code"] == 429
            assert told(await site.login())[:2] == (429, Kind.TOO_MANY)
            site.now_s += 1.0
            assert "token" in await ask(PASSWORD)

    run(main)
    assert {"- login users/ann unauthenticated", "- login users/ann done"} <= set(recorded(site))


@pytest.mark.parametrize(
    "how",
    [
        {"data": {"username": "ann"}},
        {"data": {"user": "ann", "password": PASSWORD}},
        {"json": {"username": 1, "password": PASSWORD}},
        {"content": b"username=ann&password=" + PASSWORD.encode()},
        {"content": b"\xff", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"data": {f"a{n}": "1" for n in range(17)}},
    ],
)
def test_what_names_nobody_is_refused_as_clients_of_paddlecloud_know_it(run: Run, site: Site, how: dict) -> None:
    async def main() -> None:
        async with site.serving() as client:
            answer = await client.post("/api-token-auth/", **how)
            assert (answer.status_code, answer.json()["code"]) == (400, 400)

    run(main)


def test_guessing_gets_slow_and_waiting_helps(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            codes = [(await site.login("ann", OTHER)).status_code for _ in range(PAIR_FREE + 2)]
            assert codes == [401] * PAIR_FREE + [429] * 2
            assert told(await site.login())[0:2] == (429, Kind.TOO_MANY)
            assert (await site.login("bob")).status_code == 200
            site.now_s += 1.0
            assert (await site.login()).status_code == 200

    run(main)


def test_a_hash_of_before_is_made_anew_when_its_password_is_shown(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "PASSES", 2)

    async def main() -> None:
        async with site.serving():
            await site.login(password=OTHER)
            assert not str((await site.accounts.password("ann"))[0]).startswith(passwords.parameters())
            await site.login()
            assert str((await site.accounts.password("ann"))[0]).startswith(passwords.parameters())
            assert (await site.login()).status_code == 200

    run(main)


def test_only_so_many_wait_for_their_hashes(run: Run, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAITING_MAX", 1)
    site.entrance._passwords._threads.total_tokens = 1

    async def main() -> None:
        async with site.serving():
            limiter = site.entrance._passwords._threads
            async with limiter, trio.open_nursery() as nursery:
                nursery.start_soon(site.login)
                await until(lambda: limiter.statistics().tasks_waiting == 1)
                assert told(await site.login("bob"))[:2] == (429, Kind.TOO_MANY)
                limiter.total_tokens = 2

    run(main)


def test_a_hundred_who_log_in_at_once_take_two_threads_and_leave_the_rest_served(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, statuses = threading.Event(), Counter[int]()

    def slow(password: str, hashed: str | None) -> bool:
        assert go.wait(60)
        return True

    async def log_in() -> None:
        statuses[(await site.login()).status_code] += 1

    async def main() -> None:
        token = site.accounts.make_key_now(KeyKind.USER, "ann", WHERE)
        hashing = site.entrance._passwords._threads
        async with site.serving(), trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(log_in)
            await until(lambda: statuses[429] == 100 - passwords.AT_ONCE_MAX - passwords.WAITING_MAX)
            assert (hashing.borrowed_tokens, statuses.total()) == (passwords.AT_ONCE_MAX, statuses[429])
            for _ in range(5):
                assert (await site.ask("GET", TOKENS_PATH, token)).status_code == 200
            assert statuses.total() == statuses[429]
            go.set()
        assert statuses[200] == passwords.AT_ONCE_MAX + passwords.WAITING_MAX

    monkeypatch.setattr(passwords, "verify_now", slow)
    monkeypatch.setattr(throttle, "PAIR_FREE", 100)
    monkeypatch.setattr(throttle, "ADDRESS_FREE", 100)
    monkeypatch.setattr(throttle, "ACCOUNT_FREE", 100)
    run(main)


@pytest.mark.parametrize("path", [LOGIN_PATH, REGISTER_PATH])
def test_where_nobody_is_free_to_look_at_a_password_it_does_not_count_as_wrong(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(passwords, "WAITING_MAX", 0)
    site.mode = Registration.OPEN

    async def main() -> None:
        async with site.serving():
            for _ in range(ADDRESS_FREE + 1):
                response = await site.ask("POST", path, user="ann", password=PASSWORD)
                assert told(response) == (429, Kind.TOO_MANY, NOBODY_FREE)

    run(main)
    assert site.entrance._throttle._counts == {}


def test_an_attempt_with_no_account_costs_the_same_work_as_with_a_wrong_password(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str] = []
    others = ("zoe", "gone", "eve", "Eve!")
    verify, read, write = passwords.Argon2id.verify_phc_encoded, Database.read_now, Database._write_together

    def verified(password: bytes, hashed: str) -> None:
        work.append(f"hash {len(password)} {hashed.rpartition('$')[0].rpartition('$')[0]} {len(hashed)}")
        verify(password, hashed)

    def reads(database: Database, piece: Callable[..., object]) -> object:
        work.append("read")
        return read(database, piece)

    def writes(database: Database, pieces: list[Any]) -> None:
        work.append(f"write {len(pieces)}")
        write(database, pieces)

    def asks(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        work.append(statement)

    async def costs(user: str) -> tuple[int, list[str]]:
        work.clear()
        status = (await site.login(user, OTHER)).status_code
        return status, list(work)

    async def main() -> None:
        async with site.serving():
            for _ in range(PAIR_FREE):
                wanted = await costs("ann")
                assert wanted[0] == 401
                assert [step.split()[0] for step in wanted[1]].count("hash") == 1
                assert [await costs(user) for user in others] == [wanted] * len(others)
            assert (await site.login("eve", OTHER)).status_code == 429  # the one that is recorded in this minute
            wanted = await costs("ann")
            assert wanted[0] == 429
            assert [await costs(user) for user in others] == [wanted] * len(others)

    site.accounts.add_user_now("gone", admin=False)
    site.accounts.remove_user_now("gone")
    site.accounts.join_now("ml", "ann")
    monkeypatch.setattr(passwords, "Argon2id", Mock(wraps=passwords.Argon2id, verify_phc_encoded=verified))
    monkeypatch.setattr(Database, "read_now", reads)
    monkeypatch.setattr(Database, "_write_together", writes)
    monkeypatch.setattr(throttle, "ADDRESS_FREE", 100)
    event.listen(site.accounts._database._engine, "before_cursor_execute", asks)
    run(main)


def test_another_password_ends_every_other_token(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            own, other = await site.token(), await site.token()
            async with open_filesystem(site.url, other) as mount:
                assert await kind_of(mount.getattr("README.txt")) is None
                assert told(await site.ask("POST", PASSWORD_PATH, own, password=OTHER, new=OTHER))[0] == 401
                assert told(await site.ask("POST", PASSWORD_PATH, own, new=OTHER))[0] == 400
                assert "at least 15" in told(await site.ask("POST", PASSWORD_PATH, own, password=PASSWORD, new="x"))[2]
                assert [await site.opens(token) for token in (own, other)] == [200, 200]
                response = await site.ask("POST", PASSWORD_PATH, own, password=PASSWORD, new=OTHER)
                assert (response.status_code, response.content) == (204, b"")
                assert [await site.opens(token) for token in (own, other)] == [200, 401]
                await until_refused(mount)
            assert [(await site.login(password=word)).status_code for word in (PASSWORD, OTHER)] == [401, 200]

    run(main)


def test_who_has_no_password_yet_sets_one_with_their_token(run: Run, site: Site) -> None:
    token = site.accounts.make_key_now(KeyKind.USER, "zoe", WHERE)

    async def main() -> None:
        async with site.serving():
            assert (await site.ask("POST", PASSWORD_PATH, token, new=PASSWORD)).status_code == 204
            assert (await site.login("zoe")).status_code == 200
            assert told(await site.ask("POST", PASSWORD_PATH, token, new=OTHER))[0] == 400

    run(main)


@pytest.mark.parametrize(
    "terms",
    [Terms("ci", frozenset({Scope.READ, Scope.WRITE, Scope.SUBMIT})), Terms("a day", days=1)],
    ids=["for some things", "for a time"],
)
def test_a_token_for_less_sets_no_first_password(run: Run, site: Site, terms: Terms) -> None:
    token = site.accounts.make_key_now(KeyKind.USER, "zoe", WHERE, terms)

    async def main() -> None:
        async with site.serving():
            assert told(await site.ask("POST", PASSWORD_PATH, token, new=PASSWORD))[0] == 403
            assert (await site.login("zoe")).status_code == 401

    run(main)
    words = [record_in(line) for line in site.accounts.audit.lines_now()]
    assert ("password.set", "denied") in [(record.what, record.result) for record in words]


def test_a_token_makes_none_that_lasts_longer_than_itself(run: Run, site: Site) -> None:
    short, shorter = (site.accounts.make_key_now(KeyKind.USER, "ann", WHERE, Terms("ci", days=days)) for days in (9, 1))

    async def main() -> None:
        async with site.serving():
            for days in ({}, {"days": 3650}, {"days": 3}):
                assert (await site.ask("POST", TOKENS_PATH, short, label="made", **days)).status_code == 201
            assert told(await site.ask("POST", TOKENS_PATH, shorter, label="made"))[0] == 403

    run(main)
    made = [key for key in trio.run(site.accounts.keys, "ann") if key.label == "made"]
    days = [((key.expires_at_ns or 0) - key.created_at_ns) // DAY_NS for key in made]
    assert sorted(days) == [3, 8, 8]


# ---- registration


def test_nobody_registers_unless_the_administrator_says_so(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            for name in ("eve", "ann"):  # whether there is such an account is not told
                assert told(await site.ask("POST", REGISTER_PATH, user=name, password=PASSWORD))[:2] == (
                    403,
                    Kind.DENIED,
                )
            assert await site.accounts.user("eve") is None

    run(main)


def test_whether_a_name_is_taken_is_told_where_everybody_may_register(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            for site.mode, *told in ((Registration.CLOSED, 403, 403), (Registration.OPEN, 204, 404)):
                found = [(await site.ask("GET", f"{USERS_PATH}/{name}")).status_code for name in ("ann", "nobody")]
                assert found == told

    run(main)


def test_whoever_is_invited_registers_once(run: Run, site: Site) -> None:
    site.mode = Registration.INVITATION
    code = site.accounts.invite_now(WHERE, admin=False, days=1)

    async def main() -> None:
        async with site.serving():
            asked = {"user": "eve", "password": PASSWORD, "machine": "desk", "invitation": code}
            for wrong, said in (
                ({"invitation": "pfsi-x"}, "not good"),
                ({"password": "short"}, "at least 15"),
                ({"user": "Eve"}, "cannot be a user name"),
                ({"user": "ann"}, "there is a user 'ann' already"),
            ):
                assert said in told(await site.ask("POST", REGISTER_PATH, **{**asked, **wrong}))[2]
            site.now_s += 1.0
            response = await site.ask("POST", REGISTER_PATH, **asked)
            assert response.status_code == 201
            assert await site.opens(response.json()["token"]) == 200
            assert site.settled == ["eve"]
            site.now_s += 100.0
            again = await site.ask("POST", REGISTER_PATH, **{**asked, "user": "eva"})
            assert told(again)[:2] == (403, Kind.DENIED)
            assert (await site.login("eve")).status_code == 200

    run(main)


def test_the_first_administrator_registers_where_nobody_else_may(run: Run, site: Site) -> None:
    code = site.accounts.invite_now(WHERE, admin=True, days=1)

    async def main() -> None:
        async with site.serving():
            response = await site.ask("POST", REGISTER_PATH, user="root", password=PASSWORD, invitation=code)
            assert response.status_code == 201
            assert (await site.accounts.identify(response.json()["token"])).subject.admin

    run(main)


def test_registering_in_large_numbers_gets_slow(run: Run, site: Site) -> None:
    site.mode = Registration.OPEN

    async def main() -> None:
        async with site.serving():
            codes = [
                (await site.ask("POST", REGISTER_PATH, user=f"user{number}", password=PASSWORD)).status_code
                for number in range(PAIR_FREE + 1)
            ]
            assert codes == [201] * PAIR_FREE + [429]

    run(main)


# ---- tokens


def test_tokens_are_listed_and_taken_back(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            own, other, bobs = await site.token(machine="a"), await site.token(machine="b"), await site.token("bob")
            listed = (await site.ask("GET", TOKENS_PATH, own)).json()["tokens"]
            assert {(each["label"], each["own"], each["kind"]) for each in listed} == {
                ("a", True, "user"),
                ("b", False, "user"),
            }
            assert not any(token in repr(listed) or token.rpartition(".")[2] in repr(listed) for token in (own, other))
            name = next(each["name"] for each in listed if each["label"] == "b")
            assert told(await site.ask("DELETE", f"{TOKENS_PATH}/{name}", bobs))[0] == 404
            assert (await site.ask("DELETE", f"{TOKENS_PATH}/{name}", own)).status_code == 204
            assert [await site.opens(token) for token in (own, other, bobs)] == [200, 401, 200]
            assert (await site.ask("DELETE", f"{TOKENS_PATH}/own", own)).status_code == 204
            assert await site.opens(own) == 401

    run(main)


def test_a_token_for_a_script_does_what_it_is_for_and_nothing_with_the_account(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            own = await site.token()
            made = await site.ask("POST", TOKENS_PATH, own, label="ci", scopes=["read"], days=7)
            assert made.status_code == 201
            script = made.json()["token"]
            assert await site.opens(script) == 200
            assert (await site.ask("PUT", f"{FILES_PATH}/home/ann/x", script, a=1)).status_code == 403
            for asked in (
                site.ask("POST", TOKENS_PATH, script, label="more", scopes=["read", "write", "submit", "admin"]),
                site.ask("POST", PASSWORD_PATH, script, password=PASSWORD, new=OTHER),
                site.ask("DELETE", f"{TOKENS_PATH}/{(await site.accounts.keys('ann'))[-1].name}", script),
            ):
                assert told(await asked)[:2] == (403, Kind.DENIED)
            assert (await site.ask("DELETE", f"{TOKENS_PATH}/own", script)).status_code == 204
            for wrong in ({"scopes": ["root"]}, {"scopes": []}, {"scopes": "read"}, {"days": 0}, {"days": "7"}):
                assert told(await site.ask("POST", TOKENS_PATH, own, label="ci", **wrong))[:2] == (400, Kind.INVALID)

    run(main)


def test_a_node_s_key_does_not_reach_the_account(run: Run, site: Site) -> None:
    key = site.accounts.make_key_now(KeyKind.NODE, "ann", WHERE)

    async def main() -> None:
        async with site.serving():
            for method, path in (("GET", TOKENS_PATH), ("POST", PASSWORD_PATH), ("DELETE", f"{TOKENS_PATH}/own")):
                assert told(await site.ask(method, path, key))[:2] == (401, Kind.UNAUTHENTICATED)

    run(main)


# ---- the end of what goes on


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.005)


async def until_refused(mount: RemoteFileSystem) -> None:
    """Return when a mount hears that the server does not let it in any more."""
    while await kind_of(mount.getattr("README.txt")) is not Kind.UNAUTHENTICATED:
        await trio.lowlevel.checkpoint()


def test_a_mount_and_a_log_that_is_followed_end_when_their_token_is_taken_back(run: Run, site: Site) -> None:
    site.world.log.change(b"one\n")

    async def main() -> None:
        async with site.serving() as client:
            own, other = await site.token(), await site.token()
            headers = {"authorization": f"Bearer {other}"}
            async with (
                open_filesystem(site.url, other) as mount,
                open_filesystem(site.url, own) as stays,
                client.stream("GET", f"{FILES_PATH}/job/log", headers=headers) as followed,
            ):
                pieces = followed.aiter_raw()
                assert await anext(pieces) == b"one\n"
                assert (await site.ask("DELETE", f"{TOKENS_PATH}/{key_name(other)}", own)).status_code == 204
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(pieces)
                await until_refused(mount)
                assert await kind_of(stays.getattr("README.txt")) is None

    run(main)


def test_a_mount_whose_token_goes_while_it_is_let_in_does_not_stay(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in, waits, goes_on = routes.accept_websocket, trio.Event(), trio.Event()

    async def slowly(taken: Taken) -> None:
        waits.set()
        await goes_on.wait()
        await let_in(taken)

    async def main() -> None:
        async with site.serving():
            token = await site.token()
            monkeypatch.setattr(routes, "accept_websocket", slowly)
            async with trio.open_nursery() as nursery:

                async def mount() -> None:
                    assert await kind_of(entered(token)) is not None

                nursery.start_soon(mount)
                await waits.wait()
                await site.accounts.revoke("ann", key_name(token))
                await site.gate.visits.look_again()
                goes_on.set()

    async def entered(token: str) -> None:
        async with open_filesystem(site.url, token) as filesystem:
            await filesystem.listdir("home/ann")

    run(main)


def test_a_mount_whose_token_goes_to_make_room_is_cut_off_and_that_is_recorded(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "TOKENS_MAX", 2)

    async def main() -> None:
        async with site.serving():
            first = await site.token()
            async with open_filesystem(site.url, first) as mount:
                assert await kind_of(mount.getattr("README.txt")) is None
                for _ in range(2):
                    await site.token()
                assert await site.opens(first) == 401
                await until_refused(mount)
            gone = f"users/ann/keys/{key_name(first)}"
            records = map(record_in, site.accounts.audit.lines_now())
            assert ("token.revoke", gone) in [(record.what, record.on) for record in records]

    run(main)


def test_a_mount_of_somebody_with_other_rights_comes_back_with_those(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            token = await site.token("bob")
            async with open_filesystem(site.url, token) as mount:
                assert await kind_of(mount.getattr("job/keep")) is Kind.NOT_FOUND
                for change, found in ((site.accounts.join_now, None), (site.accounts.leave_now, Kind.NOT_FOUND)):
                    change("ml", "bob")
                    await site.gate.visits.look_again()
                    while await kind_of(mount.getattr("job/keep")) is not found:
                        await trio.lowlevel.checkpoint()

    run(main)


# ---- what is no question


def test_what_is_no_question_is_refused(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving() as client:
            for path in (LOGIN_PATH, REGISTER_PATH):
                for body in (b"", b"x", b"[]", b"1", b'{"user": 1, "password": "x"}', b'{"user": "ann"}', b"\xff" * 10):
                    response = await client.post(path, content=body)
                    assert told(response)[:2] == (400, Kind.INVALID)
                large = await client.post(path, content=b" " * (entrance.BODY_BYTES_MAX + 1))
                assert told(large)[:2] == (413, Kind.TOO_LARGE)
                lone = await client.post(path, content=b'{"user": "\\ud800", "password": "\\ud800", "invitation": ""}')
                assert told(lone)[:2] == (400, Kind.INVALID)
                assert (await client.get(path)).status_code == 405

    run(main)


@pytest.mark.parametrize("scopes", [[], {}, "read", [{}], [["read"]], ["all"], [None]])
def test_what_is_no_scope_is_refused(run: Run, site: Site, scopes: object) -> None:
    async def main() -> None:
        async with site.serving():
            token = site.accounts.make_key_now(KeyKind.USER, "ann", WHERE)
            response = await site.ask("POST", TOKENS_PATH, token, label="x", scopes=scopes)
            assert told(response)[:2] == (400, Kind.INVALID)

    run(main)


def test_a_defect_is_logged_and_told_without_its_reason(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(name: str) -> None:
        raise RuntimeError("the reason")

    monkeypatch.setattr(site.accounts, "password", broken)

    async def main() -> None:
        async with site.serving():
            response = await site.login()
            assert (response.status_code, "the reason" in response.text) == (500, False)

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "the reason" in caplog.text
    assert PASSWORD not in caplog.text


def test_no_secret_is_in_the_database(run: Run, site: Site, tmp_path: Path) -> None:
    code = site.accounts.invite_now(WHERE, admin=True, days=1)

    async def main() -> str:
        async with site.serving():
            return await site.token()

    token = run(main)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.sqlite*"))
    assert b"ann" in kept
    for secret in (PASSWORD, code, token, token.rpartition(".")[2]):
        assert secret.encode() not in kept


# ---- what the audit log tells


def recorded(site: Site) -> list[str]:
    """Return who did what, on what, and what came of it; the address is this machine's, the key named by its place."""
    found = []
    for line in site.accounts.audit.lines_now():
        record = record_in(line)
        if record.source != "local":
            source, _, key = record.source.partition("#")
            assert (source, key) == ("127.0.0.1", "") or (source == "127.0.0.1" and re.fullmatch("[0-9a-f]{12}", key))
            on = re.sub("keys/[0-9a-f]{12}", "keys/KEY", record.on)
            found.append(f"{record.who or '-'} {record.what} {on} {record.result}")
    return found


def test_who_comes_in_and_who_does_not_is_recorded(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            await site.login("ann", OTHER)
            await site.login("my password is in the wrong field", "ann")
            token = await site.token()
            await site.ask("POST", TOKENS_PATH, token, label="ci", scopes=["read"])
            await site.ask("POST", PASSWORD_PATH, token, password=OTHER, new=OTHER)
            await site.ask("POST", PASSWORD_PATH, token, password=PASSWORD, new=OTHER)
            await site.ask("DELETE", f"{TOKENS_PATH}/own", token)
            await site.ask("POST", REGISTER_PATH, user="eve", password=PASSWORD)
            site.mode = Registration.OPEN
            await site.ask("POST", REGISTER_PATH, user="eve", password=OTHER)

    run(main)
    assert recorded(site) == [
        "- login users/ann unauthenticated",
        "- login users/? unauthenticated",
        "- login users/ann done",
        "- token.make users/ann/keys/KEY done",
        "ann token.make users/ann/keys/KEY done",
        "ann password.set users/ann unauthenticated",
        "ann password.set users/ann done",
        "ann token.revoke users/ann/keys/KEY done",
        "- register users/? denied",
        "- user.add users/eve done",
        "- token.make users/eve/keys/KEY done",
    ]
    log = "".join(site.accounts.audit.lines_now())
    for secret in (PASSWORD, OTHER, "wrong field", "wrong%20field"):
        assert secret not in log


def test_a_key_that_is_not_there_is_recorded_by_its_name_and_never_by_its_text(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            token = await site.token()
            limited = site.accounts.make_key_now(KeyKind.USER, "ann", WHERE, Terms("", frozenset({Scope.READ})))
            answers = [
                await site.ask("DELETE", f"{TOKENS_PATH}/{'0' * 12}", token),
                await site.ask("DELETE", f"{TOKENS_PATH}/{limited}", token),
                await site.ask("DELETE", f"{TOKENS_PATH}/{key_name(token)}", limited),
            ]
            assert [answer.status_code for answer in answers] == [404, 404, 403]
            assert limited not in "".join(site.accounts.audit.lines_now())

    run(main)
    assert recorded(site)[-3:] == [
        "ann token.revoke users/ann/keys/KEY not-found",
        "ann token.revoke users/ann/keys/? not-found",
        "ann token.revoke users/ann/keys/KEY denied",
    ]


def test_guessing_does_not_fill_the_log(run: Run, site: Site) -> None:
    async def main() -> None:
        async with site.serving():
            for _ in range(PAIR_FREE + 10):
                await site.login("ann", OTHER)

    run(main)
    assert recorded(site) == ["- login users/ann unauthenticated"] * PAIR_FREE + ["- login users/ann too-many"]
