"""A datacenter at rest: a copy that was made while it was in use is one again, as README says."""

import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from cli.server.datacenter import Store, make_datacenter
from pfs.audit.record import follow_all
from pfs.errors import PfsError

README = (Path(__file__).parents[3] / "README.md").read_text()


def test_a_backup_is_a_datacenter_again(tmp_path: Path) -> None:
    root, copy, again = tmp_path / "pfs", tmp_path / "backup", tmp_path / "again"
    make_datacenter(str(root), None, datacenter="dc1", endpoint="http://127.0.0.1:8470", admin="zoe")
    store = Store(str(root), None, exclusive=True)
    store.add_user("ann", admin=False)
    (root / "home/ann/x").write_text("text")

    [block] = re.findall(r"\*\*Backup\.\*\*.*?```sh\n(.*?)```", README, re.DOTALL)
    script = block.replace("/var/lib/pfs", str(root)).replace("/backup", str(copy))
    if shutil.which("sqlite3") is None:  # what it does is the library's own
        database = f"{copy}/server/pfs.sqlite"
        script = re.sub(r"^sqlite3 .*$", "", script, flags=re.MULTILINE)
        subprocess.run(["sh", "-ec", script], check=True, timeout=30)
        with sqlite3.connect(root / "server/pfs.sqlite") as source, sqlite3.connect(database) as target:
            source.backup(target)
        source.close()
        target.close()
    else:
        subprocess.run(["sh", "-ec", script], check=True, timeout=30)
    known = follow_all(store.accounts.audit.lines_now()).last
    store.add_user("bob", admin=False)  # after the backup
    store.close()

    shutil.copytree(copy, again, symlinks=True)
    restored = Store(str(again), None, exclusive=True)
    try:
        assert [account.name for account in restored.accounts.accounts_now()] == ["zoe", "ann"]
        assert (again / "home/ann/x").read_text() == "text"
        assert follow_all(restored.accounts.audit.lines_now(), known).last == known
        with pytest.raises(PfsError, match="no user"):
            restored.accounts.limits_now("bob")
        assert restored.is_vouched == store.is_vouched
    finally:
        restored.close()
