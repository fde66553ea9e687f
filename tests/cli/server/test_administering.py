"""What administrators decide over HTTP about accounts and groups, and users about themselves."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from starlette.applications import Starlette

from cli.server.datacenter import Store
from jobd.scheduling.quotas import JobLimits
from jobd.store.tables import ClusterRow, JobGroup, JobRow, NodeRow
from pfs.accounts import passwords
from pfs.accounts.registration import Registration
from pfs.accounts.store import KeyKind, Terms
from pfs.audit.record import record_in
from pfs.names import FIRST_GID
from pfs.perm import Scope, Subject
from pfs.quota import Limits
from pfs.server.administering import Administering
from pfs.server.entrance import Entrance
from pfs.server.mounts import Mounts
from pfs.server.routes import Gate
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import top
from tests.pfs.served import NO_TLS, served

Run = Callable[[Callable[[], Awaitable[object]]], object]
URL = "http://127.0.0.1:8470"
OWN, NEW = "correct horse battery staple", "four words that nobody has"


class Site:
    """A server with zoe, an administrator, and ann; both have a password."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = store = Store(str(root), None, exclusive=False)
        store.jobs.set_now("endpoint", URL)
        for name in ("zoe", "ann"):
            store.add_user(name, admin=name == "zoe")
            store.accounts.set_password_now(name, passwords.hash_now(OWN))
        self.mode = Registration.OPEN
        self.changes = 0
        make = store.accounts.make_key_now
        self.keys = {name: make(KeyKind.USER, name, URL) for name in ("zoe", "ann")}
        self.keys["reader"] = make(KeyKind.USER, "ann", URL, Terms(scopes=frozenset({Scope.READ})))
        self.keys["agent"] = make(KeyKind.USER, "zoe", URL, Terms(scopes=frozenset({Scope.READ, Scope.SUBMIT})))
        tree = top(store.accounts, store.disk, b"", {}, 0)
        mounts = Mounts(lambda identity: TreeFileSystem(tree, store.disk, identity.subject), "")
        self.gate = Gate(store.accounts.identify, mounts.view, {KeyKind.USER: mounts.conversation})

    async def _changed(self) -> None:
        self.changes += 1
        await self.gate.visits.look_again()
        await trio.lowlevel.checkpoint()

    async def _mode(self) -> Registration:
        return self.mode

    async def _where(self) -> str:
        return URL

    async def _settle(self, user: Subject) -> None:
        pass

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Callable[..., Awaitable[httpx.Response]]]:
        entrance = Entrance(
            self.store.accounts,
            self.gate,
            datacenter="dc1",
            where=self._where,
            mode=self._mode,
            settle=self._settle,
            changed=self._changed,
        )
        administering = Administering(self.store, entrance, self.gate, self._changed)
        app = Starlette(routes=[*self.gate.routes(), *entrance.routes(), *administering.routes()])
        async with (
            served(app) as server,
            httpx.AsyncClient(base_url=server.url, timeout=20, verify=NO_TLS, trust_env=False) as client,
        ):

            async def ask(who: str, method: str, path: str, **said: object) -> httpx.Response:
                content = json.dumps(said).encode() if method in ("PUT", "POST") and "/members/" not in path else None
                headers = {"authorization": f"Bearer {self.keys[who]}"} if who else {}
                return await client.request(method, f"/api/v1/{path}", headers=headers, content=content)

            yield ask

    def names(self) -> list[str]:
        return [each.name for each in self.store.accounts.accounts_now()]

    def recorded(self) -> list[str]:
        found = [record_in(line) for line in self.store.accounts.audit.lines_now()]
        return [f"{each.who} {each.what} {each.on} {each.result}" for each in found]

    def is_password(self, name: str, password: str) -> bool:
        hashed = trio.run(self.store.accounts.password, name)[0]
        return passwords.verify_now(password, hashed)


@pytest.fixture
def site(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(passwords, "MEMORY_KIB", 8)
    monkeypatch.setattr(passwords, "PASSES", 1)
    made = Site(root)
    yield made
    made.store.close()


@pytest.fixture
def asking(run: Run, site: Site) -> Callable[..., object]:
    """Run an async test with a function that asks as somebody."""

    def within(main: Callable[..., Awaitable[object]]) -> object:
        async def outer() -> object:
            async with site.serving() as ask:
                return await main(ask)

        return run(outer)

    return within


def refused(response: httpx.Response, status: int, says: str) -> bool:
    return response.status_code == status and says in response.json()["error"]["message"]


# ---- accounts


def test_an_administrator_makes_an_account_with_its_home(asking, site: Site) -> None:
    async def main(ask) -> None:
        made = await ask("zoe", "PUT", "accounts/bob", password=NEW, fullname=" Bob ", email="bob@example.org")
        assert (made.status_code, made.json()) == (201, {"id": "bob"})
        told = (await ask("zoe", "GET", "accounts/bob")).json()
        assert told == {
            **{"id": "bob", "fullname": "Bob", "email": "bob@example.org", "groups": [], "autoshare": []},
            "admin": False,
        }

    asking(main)
    assert site.is_password("bob", NEW)
    assert (site.root / "home/bob").stat().st_mode & 0o777 == 0o700
    assert "zoe user.add users/bob done" in site.recorded()
    assert site.changes == 1


@pytest.mark.parametrize(
    ("name", "said", "status", "says"),
    [
        ("Bob", {"password": NEW}, 400, "cannot be a user name"),
        ("~", {"password": NEW}, 400, "means whoever says it"),
        ("ann", {"password": NEW}, 409, "there is a user 'ann' already"),
        ("bob", {}, 400, "the field 'password' is missing"),
        ("bob", {"password": "short"}, 400, "at least 15 characters"),
        ("bob", {"password": NEW, "email": "x"}, 400, "no e-mail address"),
        ("bob", {"password": NEW, "admin": "yes"}, 400, "'admin' is to be true or false"),
        ("bob", {"password": NEW, "fullname": 1}, 400, "'fullname' is missing or no text"),
        ("bob", {"password": NEW, "admin": True}, 403, "not your own password"),
        ("bob", {"password": NEW, "admin": True, "verification": NEW}, 403, "not your own password"),
    ],
)
def test_an_account_that_cannot_be_is_not_made(asking, site: Site, name, said, status, says) -> None:
    async def main(ask) -> None:
        response = await ask("zoe", "PUT", f"accounts/{name}", **said)
        assert refused(response, status, says), response.text

    asking(main)
    assert site.names() == ["zoe", "ann"]


def test_who_makes_an_administrator_shows_their_password(asking, site: Site) -> None:
    async def main(ask) -> None:
        assert refused(await ask("zoe", "POST", "accounts/ann", admin=True), 403, "not your own password")
        assert not site.store.accounts.account_now("ann").admin
        assert (await ask("zoe", "POST", "accounts/ann", admin=True, verification=OWN)).status_code == 204
        assert (await ask("zoe", "PUT", "accounts/bob", password=NEW, admin=True, verification=OWN)).status_code == 201
        assert (await ask("zoe", "POST", "accounts/ann", admin=False)).status_code == 204

    asking(main)
    assert site.store.accounts.admins_now() == ["zoe", "bob"]


def test_who_has_no_password_proves_themselves_by_a_token_that_is_as_good(asking, site: Site) -> None:
    site.store.add_user("root", admin=True)
    make = site.store.accounts.make_key_now
    site.keys |= {"root": make(KeyKind.USER, "root", URL), "brief": make(KeyKind.USER, "root", URL, Terms(days=1))}

    async def main(ask) -> None:
        assert refused(await ask("brief", "POST", "accounts/ann", admin=True), 403, "has no end")
        assert (await ask("root", "POST", "accounts/ann", admin=True)).status_code == 204

    asking(main)


def test_people_say_of_themselves_what_decides_nothing(asking, site: Site) -> None:
    site.store.join_group("ml", "ann")

    async def main(ask) -> None:
        said = {"fullname": "Ann", "email": "ann@example.org", "autoshare": ["ml"]}
        assert (await ask("ann", "POST", "accounts/~", **said)).status_code == 204
        assert (await ask("ann", "GET", "accounts/me")).json() == {
            "id": "ann",
            "groups": ["ml"],
            "admin": False,
            **said,
        }
        for wrong in ({"autoshare": ["hr"]}, {"autoshare": "ml"}, {"autoshare": [1]}, {"email": "x"}):
            assert (await ask("ann", "POST", "accounts/ann", **wrong)).status_code == 400, wrong
        assert (await ask("ann", "POST", "accounts/ann", autoshare=[])).status_code == 204
        assert refused(await ask("ann", "POST", "accounts/ann", admin=True, verification=OWN), 403, "administrators")
        assert refused(await ask("reader", "POST", "accounts/ann", fullname="x"), 403, "administrators")
        assert refused(await ask("agent", "POST", "accounts/ann", fullname="x"), 404, "no user 'ann'")

    asking(main)
    assert site.store.accounts.account_now("ann").person.fullname == "Ann"


def test_nobody_knows_of_others_but_administrators(asking, site: Site) -> None:
    async def main(ask) -> None:
        listed = {who: (await ask(who, "GET", "accounts")).json()["accounts"] for who in ("zoe", "ann", "agent")}
        assert {who: [each["id"] for each in found] for who, found in listed.items()} == {
            "zoe": ["zoe", "ann"],
            "ann": ["ann"],
            "agent": ["zoe"],
        }
        for method in ("GET", "POST", "DELETE"):
            there, none = [(await ask("ann", method, f"accounts/{name}")) for name in ("zoe", "eve")]
            assert (there.status_code, there.text) == (404, none.text.replace("eve", "zoe"))

    asking(main)


def test_a_password_is_changed_with_the_own_one(asking, site: Site) -> None:
    async def main(ask) -> None:
        wrong = await ask("ann", "POST", "accounts/ann", password=NEW, verification=NEW)
        assert refused(wrong, 403, "not your own password")
        weak = await ask("ann", "POST", "accounts/ann", password="short", verification=OWN)
        assert refused(weak, 400, "at least 15 characters")
        assert refused(await ask("reader", "POST", "accounts/ann", password=NEW, verification=OWN), 403, "administr")
        assert (await ask("ann", "POST", "accounts/ann", password=NEW, verification=OWN)).status_code == 204
        assert (await ask("reader", "GET", "tokens")).status_code == 401
        assert (await ask("ann", "GET", "tokens")).status_code == 200

    asking(main)
    assert site.is_password("ann", NEW)
    assert "ann password.set users/ann denied" in site.recorded()


def test_an_administrator_gives_somebody_another_password(asking, site: Site) -> None:
    async def main(ask) -> None:
        assert refused(await ask("zoe", "POST", "accounts/ann", password=NEW), 403, "not your own password")
        assert (await ask("zoe", "POST", "accounts/ann", password=NEW, verification=OWN)).status_code == 204
        assert (await ask("ann", "GET", "tokens")).status_code == 401
        assert (await ask("zoe", "GET", "tokens")).status_code == 200

    asking(main)
    assert site.is_password("ann", NEW)
    assert "zoe password.set users/ann done" in site.recorded()


def test_wrong_passwords_make_slower_here_too(asking, site: Site) -> None:
    async def main(ask) -> None:
        said = [(await ask("ann", "POST", "accounts/ann", password=NEW, verification="x")) for _ in range(6)]
        assert [each.status_code for each in said] == [403] * 5 + [429]

    asking(main)


def test_who_is_removed_is_gone_with_all_that_is_theirs(asking, site: Site) -> None:
    (site.root / "home/ann/x").write_text("text")

    async def main(ask) -> None:
        assert (await ask("zoe", "DELETE", "accounts/ann")).status_code == 204
        assert (await ask("ann", "GET", "tokens")).status_code == 401
        assert refused(await ask("zoe", "DELETE", "accounts/ann"), 404, "no user 'ann'")
        assert refused(await ask("zoe", "DELETE", "accounts/zoe"), 409, "only administrator")
        assert refused(await ask("zoe", "POST", "accounts/zoe", admin=False), 409, "only administrator")

    asking(main)
    assert [path.read_text() for path in site.root.glob("home/.trash/ann.*/x")] == ["text"]
    assert site.names() == ["zoe"]


@pytest.mark.parametrize("name", ["ann", "~"])
def test_people_remove_their_own_account_which_stays_on_the_disk(asking, site: Site, name: str) -> None:
    (site.root / "home/ann/x").write_text("text")
    site.keys["brief"] = site.store.accounts.make_key_now(
        KeyKind.USER, "ann", URL, Terms(scopes=frozenset({Scope.READ, Scope.SUBMIT}))
    )

    async def main(ask) -> None:
        assert refused(await ask("ann", "DELETE", "accounts/zoe"), 404, "no user 'zoe'")
        for who in ("reader", "brief"):
            assert refused(await ask(who, "DELETE", f"accounts/{name}"), 403, "administrators")
        assert (await ask("ann", "DELETE", f"accounts/{name}")).status_code == 204
        assert (await ask("ann", "GET", "tokens")).status_code == 401
        assert refused(await ask("zoe", "DELETE", "accounts/~"), 409, "only administrator")

    asking(main)
    assert [path.read_text() for path in site.root.glob("home/.trash/ann.*/x")] == ["text"]
    assert site.names() == ["zoe"]
    assert [line for line in site.recorded() if "user.remove users/ann" in line] == [
        *["ann user.remove users/ann denied"] * 2,
        "ann user.remove users/ann done",
    ]


def test_who_takes_their_own_right_away_is_told_that_it_is_done(asking, site: Site) -> None:
    """The change ends what goes on with their token, but for the answer."""
    site.store.accounts.set_admin_now("ann", admin=True)

    async def main(ask) -> None:
        assert (await ask("zoe", "POST", "accounts/zoe", admin=False)).status_code == 204
        assert (await ask("zoe", "DELETE", "accounts/ann")).status_code == 404

    asking(main)


# ---- groups


def test_a_group_is_made_named_and_joined(asking, site: Site) -> None:
    async def main(ask) -> None:
        assert (await ask("zoe", "PUT", "groups/ml", title="Machines")).json() == {"id": "ml"}
        assert (await ask("zoe", "POST", "groups/ml", title="Learning")).status_code == 204
        assert (await ask("zoe", "PUT", "groups/ml/members/ann")).status_code == 204
        told = (await ask("ann", "GET", "groups/ml")).json()
        assert told == {"id": "ml", "title": "Learning", "members": ["ann"]}
        assert (await ask("zoe", "DELETE", "groups/ml/members/ann")).status_code == 204

    asking(main)
    assert site.store.accounts.numbers_now() == [("ml", site.store.accounts.group_number(1))]
    assert (site.root / "groups/ml").is_dir()
    assert site.recorded()[-4:] == [
        f"zoe {what} done" for what in ("group.add groups/ml", "group.set groups/ml", "group.join groups/ml/ann")
    ] + ["zoe group.leave groups/ml/ann done"]


def test_everybody_knows_of_every_group_and_its_members_who_is_in_it(asking, site: Site) -> None:
    site.store.add_group("hr", "People")
    site.store.join_group("ml", "zoe")
    site.store.join_group("us", "ann")

    async def main(ask) -> None:
        for who in ("zoe", "ann", "reader", "agent"):
            assert (await ask(who, "GET", "groups")).json() == {"groups": ["hr", "ml", "us"]}
            assert (await ask(who, "GET", "groups/hr")).json()["title"] == "People"
            assert (await ask(who, "GET", "groups/old")).status_code == 404
        members = {who: (await ask(who, "GET", "groups/ml")).json().get("members") for who in ("zoe", "ann", "agent")}
        assert members == {"zoe": ["zoe"], "ann": None, "agent": ["zoe"]}
        assert (await ask("ann", "GET", "groups/us")).json()["members"] == ["ann"]
        assert (await ask("", "GET", "groups")).status_code == 401
        for method in ("POST", "DELETE"):
            assert refused(await ask("ann", method, "groups/hr"), 403, "administrators")

    asking(main)


@pytest.mark.parametrize(
    ("method", "path", "said", "status", "says"),
    [
        ("PUT", "groups/Ml", {}, 400, "cannot be a group"),
        ("PUT", "groups/hr", {}, 409, "there is a group 'hr' already"),
        ("PUT", "groups/ml", {"title": "two\nlines"}, 400, "cannot be shown"),
        ("POST", "groups/ml", {"title": "x"}, 404, "no group 'ml'"),
        ("DELETE", "groups/ml", {}, 404, "no group 'ml'"),
        ("PUT", "groups/hr/members/eve", {}, 404, "no user 'eve'"),
        ("PUT", "groups/hr/members/Eve", {}, 400, "cannot be a user name"),
        ("DELETE", "groups/hr/members/ann", {}, 404, "'ann' is not in the group 'hr'"),
    ],
)
def test_what_cannot_be_of_groups_is_refused(asking, site: Site, method, path, said, status, says) -> None:
    site.store.join_group("hr", "zoe")

    async def main(ask) -> None:
        response = await ask("zoe", method, path, **said)
        assert refused(response, status, says), response.text

    asking(main)
    assert site.store.accounts.groups_now() == ["hr"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("PUT", "groups/new"), ("POST", "groups/ml"), ("DELETE", "groups/ml"), ("PUT", "groups/ml/members/zoe")),
        *(("DELETE", "groups/ml/members/ann"), ("PUT", "accounts/bob"), ("POST", "nodes/tokens")),
    ],
)
def test_others_decide_nothing_and_that_they_tried_is_recorded(asking, site: Site, method: str, path: str) -> None:
    site.store.join_group("ml", "ann")
    before = len(site.recorded())

    async def main(ask) -> None:
        for who in ("ann", "reader"):
            assert refused(await ask(who, method, path, password=NEW), 403, "this is for administrators")

    asking(main)
    assert [line.split()[-1] for line in site.recorded()[before:]] == ["denied", "denied"]
    assert (site.changes, site.store.accounts.members_now("ml"), site.names()) == (0, ["ann"], ["zoe", "ann"])


def _node(number: int) -> NodeRow:
    return NodeRow(
        id=f"cm{number}",
        entry_id=f"cm{number}",
        name="n0",
        cluster_id="cl1",
        attrs={},
        runtimes=[],
        boot_id="b",
        registered_at_ns=1,
        seen_at_ns=1,
    )


def test_nothing_is_left_of_a_group_for_the_next_one_of_its_name(asking, site: Site) -> None:
    store = site.store
    store.join_group("ml", "ann")
    (site.root / "groups/ml/x").write_text("text")
    store.limit("groups/ml", {"files": 7})
    store.limit_jobs("groups/ml", {"gpus": 1})

    def furnish(session) -> None:
        session.add(ClusterRow(id="cl1", owner="", name="c", is_default=True))
        session.flush()
        session.add(_node(1))
        life = {"name": "x", "title": "", "state": "SUCCEEDED", "life": {}, "submitted_at_ns": 1, "changed_at_ns": 1}
        session.add(JobRow(id=1, user="ann", **life))
        session.flush()
        session.add(JobGroup(job_id=1, group="ml"))

    store.database.write_now(furnish)
    store.jobs.reserve_now("cm1", "", frozenset({"ml"}))

    async def main(ask) -> None:
        assert (await ask("zoe", "DELETE", "groups/ml")).status_code == 204
        assert (await ask("zoe", "PUT", "groups/ml")).status_code == 201

    asking(main)
    assert [path.read_text() for path in site.root.glob("groups/.trash/ml.*/x")] == ["text"]
    assert list((site.root / "groups/ml").iterdir()) == []
    assert store.limit("groups/ml", {}) == Limits()
    assert store.limit_jobs("groups/ml", {}) == JobLimits()
    assert store.jobs.policy_now().node_groups == {}
    assert store.database.read_now(lambda session: session.get(JobGroup, (1, "ml"))) is None
    assert store.accounts.group_number(1) in (None, FIRST_GID + 1)


# ---- nodes


def test_a_join_token_is_for_a_machine_of_one_name(asking, site: Site) -> None:
    async def main(ask) -> None:
        made = await ask("zoe", "POST", "nodes/tokens", node="n7")
        assert made.status_code == 201
        assert ".join-" in made.json()["token"]
        for name in ("", "a/b", ".."):
            assert (await ask("zoe", "POST", "nodes/tokens", node=name)).status_code == 400

    asking(main)
    assert site.store.accounts.keys_now("zoe")[0].label == "for the node n7"


def test_who_registers_says_who_they_are(asking, site: Site) -> None:
    async def main(ask) -> None:
        said = {"user": "bob", "password": NEW, "fullname": "Bob", "email": "bob@example.org"}
        assert (await ask("", "POST", "register", **(said | {"email": "x"}))).status_code == 400
        assert (await ask("", "POST", "register", **said)).status_code == 201
        assert (await ask("", "POST", "register", user="eve", password=NEW)).status_code == 201

    asking(main)
    assert site.store.accounts.account_now("bob").person.fullname == "Bob"
    assert site.store.accounts.account_now("bob").person.email == "bob@example.org"
