"""What `jobd audit` prints, and what every command of an administrator leaves in the log."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.jobd import jobd
from cli.server import audits
from cli.server.datacenter import Store
from pfs.audit.record import record_in
from pfs.errors import PfsError

Jobd = Callable[..., Result]


@pytest.fixture
def root(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(audits, "person", lambda: "zoe")
    monkeypatch.setenv("SUDO_USER", "")
    return root


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = Store(str(root), None, exclusive=False)
    opened.jobs.set_now("endpoint", "http://127.0.0.1:8470")
    opened.jobs.set_now("datacenter", "dc1")
    opened.add_user("root", admin=True)
    yield opened
    opened.close()


@pytest.fixture
def run_jobd(root: Path, store: Store) -> Jobd:
    def call(command: str, *words: str) -> Result:
        return CliRunner().invoke(jobd, [*command.split(), "--data-root", str(root), *words])

    return call


def told(store: Store, since: int = 0) -> list[str]:
    found = []
    for line in list(store.accounts.audit.lines_now())[since:]:
        record = record_in(line)
        more = [f"{key}={value}" for key, value in record.more.items()]
        found.append(" ".join([record.who, record.source, record.what, record.on, *more]))
    return found


def test_whoever_sits_at_the_terminal_is_recorded_with_what_they_did(
    store: Store, run_jobd: Jobd, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(told(store))
    key = store.accounts.keys_now("root")[0].name
    for command in (
        "adduser ann",
        "user admin ann",
        "user admin ann --no",
        "registration invitation",
        "group add ml ann",
        "group remove ml ann",
        "alias gtx GTX",
        f"user revoke root {key}",
        "user remove ann",
    ):
        assert run_jobd(command).exit_code == 0, command
    monkeypatch.setenv("SUDO_USER", "tom")
    assert run_jobd("invite").exit_code == 0
    lines = told(store, before)
    keys = [line for line in lines if " token.make " in line]
    invited = lines.pop()
    assert [line for line in lines if line not in keys] == [
        "zoe local user.add users/ann admin=no",
        "zoe local user.admin users/ann admin=yes",
        "zoe local user.admin users/ann admin=no",
        "zoe local setting.set settings/registration value=invitation",
        "zoe local group.join groups/ml/ann",
        "zoe local group.leave groups/ml/ann",
        "zoe local alias.set aliases/gtx model=GTX",
        f"zoe local token.revoke users/root/keys/{key}",
        "zoe local user.remove users/ann",
    ]
    assert len(keys) == 1
    assert invited.startswith("zoe local#tom invitation.make invitations/")
    assert run_jobd("audit verify").output.startswith(f"{before + 11} records, all whole")


def test_the_log_is_printed_whole_or_in_part(store: Store, run_jobd: Jobd) -> None:
    run_jobd("adduser ann")
    whole = run_jobd("audit").output.splitlines()
    assert whole == list(store.accounts.audit.lines_now())
    assert [line.split()[4] for line in run_jobd("audit --what user").output.splitlines()] == ["user.add"] * 2
    assert {line.split()[5] for line in run_jobd("audit --on users/ann").output.splitlines()} == {
        "users/ann",
        f"users/ann/keys/{store.accounts.keys_now('ann')[0].name}",
    }
    assert run_jobd("audit --on users/an").output == ""
    assert {line.split()[2] for line in run_jobd("audit --who zoe").output.splitlines()} == {"zoe"}
    assert run_jobd("audit --refused").output == ""
    assert run_jobd("audit --since 2100-01-01").output == ""
    assert run_jobd("audit --since 2001-01-01").output.splitlines() == whole


def refused(result: Result) -> str:
    assert isinstance(result.exception, PfsError), result.output
    return result.exception.message


def test_nobody_changes_the_log_unnoticed(store: Store, root: Path, run_jobd: Jobd, tmp_path: Path) -> None:
    run_jobd("adduser ann")
    lines = list(store.accounts.audit.lines_now())
    known = lines[-1].split()[-1]
    copy = tmp_path / "copy"
    copy.write_text("".join(f"{line}\n" for line in lines))
    assert run_jobd("audit verify", "--file", str(copy), "--known", known).exit_code == 0

    with sqlite3.connect(root / "server/pfs.sqlite") as database:
        for statement in ("UPDATE audit SET line = ''", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                database.execute(statement)
        # whoever owns the disk can do away with that
        database.execute("DROP TRIGGER audit_no_update")
        database.execute("DROP TRIGGER audit_no_delete")
        database.execute("UPDATE audit SET line = replace(line, 'users/ann', 'users/eve') WHERE number = 5")
    database.close()
    assert refused(run_jobd("audit verify")).startswith("record 5 is broken")

    with sqlite3.connect(root / "server/pfs.sqlite") as database:
        database.execute("DELETE FROM audit WHERE number >= 5")
    database.close()
    assert run_jobd("audit verify").exit_code == 0
    assert "records are missing" in refused(run_jobd("audit verify", "--known", known))
