"""What `jobd user`, `jobd registration`, `jobd invite` and `jobd init --invite-admin` do and tell."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from cli.config import parse
from cli.jobd import jobd
from cli.server.datacenter import Store
from jobd.identity import Cluster
from jobd.nodestate import Closed
from jobd.scheduling.quotas import JobLimits
from jobd.store.secrets import Secrets
from jobd.store.tables import NodeRow
from pfs.accounts import passwords
from pfs.accounts.keyring import key_name
from pfs.accounts.registration import Registration
from pfs.accounts.store import KeyKind
from pfs.certificates import read_certificate
from pfs.client.authority import trust
from pfs.errors import PfsError
from pfs.keys import Pair, key_of_certificate, url_of_key
from pfs.perm import Scope

Jobd = Callable[..., Result]
URL = "http://127.0.0.1:8470"


@pytest.fixture
def root(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(passwords, "MEMORY_KIB", 8)
    monkeypatch.setattr(passwords, "PASSES", 1)
    return root


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    """The accounts zoe, an administrator, and ann with a file."""
    opened = Store(str(root), None, exclusive=False)
    opened.jobs.set_now("endpoint", URL)
    opened.jobs.set_now("datacenter", "dc1")
    opened.add_user("zoe", admin=True)
    opened.add_user("ann", admin=False)
    (root / "home/ann/x").write_text("text")
    yield opened
    opened.close()


@pytest.fixture
def run_jobd(root: Path) -> Jobd:
    def call(command: str, *words: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(jobd, [*command.split(), "--data-root", str(root), *words], input=typed)

    return call


def refused(result: Result) -> str:
    assert result.exit_code != 0
    return str(result.exception) if isinstance(result.exception, PfsError) else result.output


def test_accounts_are_listed(run_jobd: Jobd, store: Store) -> None:
    store.join_group("lab", "ann")
    store.accounts.set_password_now("ann", "hash")
    assert run_jobd("user list").output == (
        "USER  ADMIN  PASSWORD  KEYS  GROUPS\nzoe   yes    no        1\nann   no     yes       0     lab\n"
    )


def test_with_whom_somebody_shares_new_jobs(run_jobd: Jobd, store: Store) -> None:
    for name in ("lab", "hr"):
        store.join_group(name, "ann")
    assert run_jobd("user autoshare", "ann").output == "ann: no group\n"
    assert run_jobd("user autoshare", "ann", "lab", "hr").output == "ann: hr lab\n"
    assert run_jobd("user autoshare", "ann", "--none").output == "ann: no group\n"
    assert "in no group 'art'" in str(run_jobd("user autoshare", "ann", "art").exception)
    assert run_jobd("user autoshare", "ann", "lab", "--none").exit_code == 2


def test_who_is_removed_leaves_their_files_aside(run_jobd: Jobd, store: Store, root: Path) -> None:
    told = run_jobd("user remove", "ann").output
    where = next(word for word in told.split() if word.startswith("home/"))
    assert (root / where / "x").read_text() == "text"
    assert (root / "home/.trash").stat().st_mode & 0o7777 == 0o700
    assert not (root / "home/ann").exists()
    assert [each.name for each in store.accounts.accounts_now()] == ["zoe"]
    assert "no user 'ann'" in refused(run_jobd("user remove", "ann"))
    assert "only administrator" in refused(run_jobd("user remove", "zoe"))
    store.add_user("ann", admin=False)
    assert list((root / "home/ann").iterdir()) == []
    run_jobd("user remove", "ann")
    assert len(list((root / "home/.trash").iterdir())) == 2


def test_nothing_that_is_kept_under_a_name_is_left_for_the_next_who_has_it(
    run_jobd: Jobd, store: Store, root: Path
) -> None:
    store.limit_jobs("ann", {"running": 1})
    (root / "server/trees/ann/blobs").mkdir(parents=True)

    async def furnish() -> None:
        await Secrets(store.database, store.private).keep("ann", "token", b"secret")
        for owner, number in (("ann", 1), ("", 2)):
            node = NodeRow(
                id=f"cm{number}",
                entry_id=f"cm{number}",
                name="n0",
                cluster_id=f"cl{number}",
                owner=owner,
                attrs={},
                runtimes=[],
                boot_id="b",
                registered_at_ns=1,
                seen_at_ns=1,
            )
            await store.jobs.save_nodes([node], Cluster(f"cl{number}", owner, "lab", is_default=True))
        await store.jobs.close_nodes(["cm1"], Closed("ann", "why", 1))

    trio.run(furnish)
    store.join_group("lab", "ann")
    store.jobs.reserve_now("cm1", "", frozenset({"lab"}))
    assert run_jobd("user remove", "ann").exit_code == 0
    store.add_user("ann", admin=False)  # the name is free: nothing tells of who had it
    assert [node.id for node in store.jobs.nodes_now()] == ["cm2"]
    assert [cluster.id for cluster in store.jobs.clusters_now()] == ["cl2"]
    assert trio.run(Secrets(store.database, store.private).names, "ann") == {}
    assert store.jobs.job_limits_now("ann") == JobLimits()
    assert not (root / "server/trees/ann").exists()


def test_somebody_without_a_home_can_be_removed(run_jobd: Jobd, store: Store, root: Path) -> None:
    shutil.rmtree(root / "home/ann")
    assert run_jobd("user remove", "ann").exit_code == 0


def test_administrators_are_made_and_there_is_always_one(run_jobd: Jobd, store: Store) -> None:
    assert "only administrator" in refused(run_jobd("user admin", "zoe", "--no"))
    assert run_jobd("user admin", "ann").exit_code == 0
    assert run_jobd("user admin", "zoe", "--no").exit_code == 0
    assert store.accounts.admins_now() == ["ann"]


def test_a_password_is_typed_twice_and_ends_all_tokens(run_jobd: Jobd, store: Store) -> None:
    assert "at least 15" in refused(run_jobd("user password", "ann", typed="short\nshort\n"))
    assert run_jobd("user password", "ann", typed="four good words\nfour bad words\n").exit_code != 0
    assert len(store.accounts.keys_now("ann")) == 1
    assert run_jobd("user password", "ann", typed="four good words\nfour good words\n").exit_code == 0
    assert store.accounts.keys_now("ann") == []
    hashed, _ = trio.run(store.accounts.password, "ann")
    assert passwords.verify_now("four good words", hashed)


def test_keys_are_shown_and_taken_back_by_name_or_all(run_jobd: Jobd, store: Store) -> None:
    node = store.accounts.make_key_now(KeyKind.NODE, "ann", URL)
    lines = run_jobd("user keys", "ann").output.splitlines()
    assert lines[0].split() == ["KEY", "KIND", "LABEL", "SCOPES", "MADE", "USED", "ENDS"]
    assert {(line.split()[0], line.split()[1]) for line in lines[1:]} >= {(key_name(node), "node")}
    assert node not in "\n".join(lines)
    assert run_jobd("user revoke", "ann", key_name(node)).output == "ann: 1 keys are taken back\n"
    assert "has no key" in refused(run_jobd("user revoke", "ann", key_name(node)))
    assert "which KEY" in refused(run_jobd("user revoke", "ann"))
    assert "which KEY" in refused(run_jobd("user revoke", "ann", "x", "--all"))
    assert run_jobd("user revoke", "ann", "--all").output == "ann: 1 keys are taken back\n"


def test_registration_is_closed_until_somebody_says_otherwise(run_jobd: Jobd, store: Store) -> None:
    assert run_jobd("registration").output == "closed\n"
    assert "registration is closed" in refused(run_jobd("invite"))
    assert run_jobd("registration", "invitation").output == "invitation\n"
    assert store.registration is Registration.INVITATION
    assert "Invalid value" in refused(run_jobd("registration", "all"))


def code_of(told: str) -> str:
    return next(word for word in told.split() if word.startswith("pfs1."))


def test_an_invitation_leads_to_its_server(run_jobd: Jobd, store: Store) -> None:
    run_jobd("registration", "invitation")
    told = run_jobd("invite", "--days", "2").output
    assert told.startswith("paddle register pfs1.")
    code = code_of(told)
    assert url_of_key(code) == URL
    trio.run(store.accounts.check_may_register, Registration.INVITATION, code)
    assert run_jobd("registration", "closed").output == "closed\n"
    admin = code_of(run_jobd("invite", "--admin").output)
    trio.run(store.accounts.check_may_register, Registration.CLOSED, admin)


def test_the_first_administrator_may_be_invited(tmp_path: Path) -> None:
    def init(*words: str) -> Result:
        return CliRunner().invoke(jobd, ["init", "--data-root", str(tmp_path / "made"), "--invite-admin", *words])

    assert "stands alone" in refused(init("--admin", "ann"))
    told = init().output
    opened = Store(str(tmp_path / "made"), None, exclusive=False)
    try:
        assert opened.accounts.accounts_now() == []
        trio.run(opened.accounts.check_may_register, opened.registration, code_of(told))
    finally:
        opened.close()


# ---- certificates


@pytest.fixture
def with_tls(store: Store) -> Store:
    store.move("https://dc1.example.org:8470", None)
    return store


def test_a_certificate_is_written_for_its_user_alone(run_jobd: Jobd, with_tls: Store, tmp_path: Path) -> None:
    told = run_jobd("user cert", "ann", "--out", str(tmp_path), "--label", "laptop", "--days", "7").output
    config = parse(told.partition("\n\n")[2].partition("\n\n")[2], "f").datacenter
    own = Pair(str(tmp_path / "ann.pem"), str(tmp_path / "ann-key.pem"))
    assert (config.username, config.endpoint, config.own) == ("ann", "https://dc1.example.org:8470", own)
    assert {stat.S_IMODE(os.stat(each).st_mode) for each in (own.certfile, own.keyfile)} == {0o600}
    text = Path(own.certfile).read_bytes()
    assert text.endswith(with_tls.authority.certificate())
    identity = trio.run(with_tls.accounts.identify, key_of_certificate(read_certificate(text).der))
    assert (identity.kind, identity.subject.user) == (KeyKind.USER, "ann")
    assert "certificate laptop" in run_jobd("user keys", "ann").output
    assert trust(config.endpoint, "", None, own) is not None


def test_a_certificate_may_do_less(run_jobd: Jobd, with_tls: Store, tmp_path: Path) -> None:
    run_jobd("user cert", "ann", "--out", str(tmp_path), "--scope", "submit")
    assert {key.scopes for key in with_tls.accounts.keys_now("ann") if key.label} == {
        frozenset((Scope.READ, Scope.SUBMIT))
    }


def test_a_certificate_of_a_server_with_another_authority_does_not_vouch_for_it(
    run_jobd: Jobd, with_tls: Store, tmp_path: Path
) -> None:
    with_tls.move("https://dc1.example.org:8470", "")
    run_jobd("user cert", "ann", "--out", str(tmp_path))
    assert (tmp_path / "ann.pem").read_text().count("BEGIN CERTIFICATE") == 1


def test_no_certificate_is_made_in_vain(run_jobd: Jobd, store: Store, tmp_path: Path) -> None:
    assert "over TLS, and keys say http://127.0.0.1:8470" in refused(
        run_jobd("user cert", "ann", "--out", str(tmp_path))
    )
    store.move("https://dc1.example.org:8470", None)
    assert "no user 'bob'" in refused(run_jobd("user cert", "bob", "--out", str(tmp_path)))
    assert "no folder" in refused(run_jobd("user cert", "ann", "--out", str(tmp_path / "none")))
    (tmp_path / "ann-key.pem").write_text("mine")
    assert "is there already" in refused(run_jobd("user cert", "ann", "--out", str(tmp_path)))
    assert (tmp_path / "ann-key.pem").read_text() == "mine"
    assert [key.label for key in store.accounts.keys_now("ann")] == [""]
    assert not (tmp_path / "ann.pem").exists()
