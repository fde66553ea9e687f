"""What users keep for their jobs: sealed, each their own."""

import sqlite3
import stat

import pytest

from jobd.store.secrets import KEY_BYTES, KEY_FILE, SECRETS_MAX, Secrets
from pfs.errors import Kind, PfsError


def test_a_secret_is_its_owners_until_it_is_forgotten(service, run):
    async def main():
        secrets = service.secrets
        assert await secrets.find("ann", "x") is None
        for text in (b"first\xff\n", b""):
            await secrets.keep("ann", "x", text)
            assert await secrets.find("ann", "x") == text
        await secrets.keep("bob", "x", b"his")
        assert await secrets.find("ann", "x") == b""
        assert list(await secrets.names("ann")) == ["x"]
        assert await secrets.forget("ann", "x") is True
        assert await secrets.forget("ann", "x") is False
        assert await secrets.find("ann", "x") is None
        assert await secrets.find("bob", "x") == b"his"

    run(main)


def test_nothing_of_it_is_on_the_disk_but_sealed_and_the_key_is_for_the_server_alone(service, run):
    async def main():
        await service.secrets.keep("ann", "x", b"canary canary")
        kept = b"".join(path.read_bytes() for path in service.root.rglob("*") if path.is_file())
        assert b"canary" not in kept
        key = service.root / "server" / KEY_FILE
        assert stat.S_IMODE(key.stat().st_mode) == 0o600

    run(main)


def test_the_same_text_is_sealed_differently_each_time(service, run):
    async def main():
        await service.secrets.keep("ann", "x", b"same")
        await service.secrets.keep("ann", "y", b"same")
        assert len(set(sealed_rows(service).values())) == 2

    run(main)


def sealed_rows(service) -> dict[str, bytes]:
    with sqlite3.connect(service.root / "server/pfs.sqlite") as connection:
        rows = dict(connection.execute("SELECT name, sealed FROM secret").fetchall())
    connection.close()
    return rows


def test_a_row_that_was_put_under_another_name_opens_nothing(service, run):
    async def main():
        await service.secrets.keep("ann", "x", b"hers")
        with sqlite3.connect(service.root / "server/pfs.sqlite") as connection:
            connection.execute("UPDATE secret SET user = 'bob'")
        connection.close()
        with pytest.raises(PfsError, match="cannot be opened") as raised:
            await service.secrets.find("bob", "x")
        assert raised.value.kind is Kind.INVALID

    run(main)


@pytest.mark.parametrize("harm", ["gone", "another", "cut"])
def test_without_its_key_a_secret_is_lost_and_that_is_said(service, run, harm):
    async def main():
        await service.secrets.keep("ann", "x", b"hers")
        key = service.root / "server" / KEY_FILE
        if harm == "gone":
            key.unlink()
        else:
            key.write_bytes(b"\1" * (KEY_BYTES if harm == "another" else 5))
        again = Secrets(service.database, str(service.root / "server"))
        with pytest.raises(PfsError, match=r"write it once more|is damaged") as raised:
            await again.find("ann", "x")
        assert raised.value.kind is Kind.INVALID
        if harm != "cut":
            await again.keep("ann", "x", b"anew")
            assert await again.find("ann", "x") == b"anew"

    run(main)


def test_nobody_keeps_any_number_of_them(service, run, monkeypatch):
    monkeypatch.setattr("jobd.store.secrets.SECRETS_MAX", 2)
    assert SECRETS_MAX > 2

    async def main():
        for name in ("a", "b", "a"):
            await service.secrets.keep("ann", name, b"x")
        with pytest.raises(PfsError) as raised:
            await service.secrets.keep("ann", "c", b"x")
        assert raised.value.kind is Kind.QUOTA
        await service.secrets.keep("bob", "c", b"x")

    run(main)
