"""A password in the configuration: what is got with it, where that is kept, and when another one is got."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import config, reaching
from cli.sdk import reaching as stored
from pfs.errors import Kind, PfsError
from tests.cli.snakepit.doorkeeper import PASSWORD, Server, doorkeeper


@pytest.fixture
def server() -> Iterator[Server]:
    with doorkeeper() as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    for name in ("DATACENTER", "ENDPOINT", "TOKEN", "USERNAME"):
        monkeypatch.delenv(f"PADDLE_{name}", raising=False)
    return tmp_path


def configure(home: Path, url: str, password: str = PASSWORD, user: str = "ann", more: str = "") -> None:
    entry = f"{{name: dc1, username: {user}, password: {password}, endpoint: '{url}'{more}}}"
    (home / "config").write_text(f"datacenters: [{entry}]\ncurrent-datacenter: dc1\n")


def logins(server: Server) -> int:
    return len([path for path, _ in server.asked if path == "/api/v1/login"])


def test_a_password_gets_a_token_once_which_only_its_owner_can_read(
    home: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(home, server.url)
    assert reaching.datacenter(None).token == server.good
    assert capsys.readouterr().err == "previous token not found, fetching a new one...\n"
    with reaching.connected("dc1") as client:
        assert client.read("me") == b"name somebody\n"
    assert (logins(server), capsys.readouterr().err) == (1, "")
    assert (home / "token_cache").stat().st_mode & 0o777 == 0o600
    assert json.loads((home / "token_cache").read_text()) == {f"ann {server.url}": server.good}


def test_a_token_that_is_good_no_more_is_renewed(home: Path, server: Server) -> None:
    configure(home, server.url)
    reaching.datacenter(None)
    server.good = "pfs1.a.better"
    assert reaching.datacenter(None).token == "pfs1.a.better"
    assert reaching.datacenter(None).token == "pfs1.a.better"
    assert logins(server) == 2


def test_another_user_and_another_server_have_tokens_of_their_own(home: Path, server: Server) -> None:
    server.users["bob"] = "bob's"
    configure(home, server.url)
    reaching.datacenter(None)
    configure(home, server.url, "bob's", "bob")
    assert stored.as_known(config.datacenter(None)) is None
    reaching.datacenter(None)
    with doorkeeper() as other:
        other.good = "pfs1.a.other"
        configure(home, other.url)
        assert reaching.datacenter(None).token == "pfs1.a.other"
    kept = json.loads((home / "token_cache").read_text())
    assert sorted(kept.values()) == ["pfs1.a.good", "pfs1.a.good", "pfs1.a.other"]


def test_what_paddleclouds_client_kept_is_replaced(home: Path, server: Server) -> None:
    (home / "token_cache").write_text("9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b")
    configure(home, server.url)
    assert reaching.datacenter(None).token == server.good
    assert server.good in (home / "token_cache").read_text()


def test_paddleclouds_certificate_beside_the_password_does_no_harm(home: Path, server: Server) -> None:
    configure(home, server.url, more=", usercert: /gone.pem, userkey: /gone-key.pem")
    with reaching.connected(None) as client:
        assert client.read("me")


def test_a_password_that_is_not_taken_is_told_with_its_file(home: Path, server: Server) -> None:
    configure(home, server.url, "wrong")
    with pytest.raises(PfsError) as caught:
        reaching.datacenter(None)
    assert str(caught.value).startswith(f"the password of ann for dc1 in {home}/config is not taken")
    assert caught.value.kind is Kind.UNAUTHENTICATED
    assert not (home / "token_cache").exists()


def test_a_server_that_is_away_keeps_the_token(home: Path, server: Server) -> None:
    configure(home, "http://127.0.0.1:9")
    (home / "token_cache").write_text(json.dumps({"ann http://127.0.0.1:9": "pfs1.a.b"}))
    with pytest.raises(PfsError, match="no answer from the server"):
        reaching.datacenter(None)
    assert "pfs1.a.b" in (home / "token_cache").read_text()


def test_a_password_goes_nowhere_without_tls(home: Path) -> None:
    configure(home, "http://dc1.example.org")
    with pytest.raises(PfsError, match="has no TLS"):
        reaching.datacenter(None)


def test_a_token_that_is_given_back_is_forgotten(home: Path, server: Server) -> None:
    configure(home, server.url)
    where = reaching.datacenter(None)
    stored.forget(where)
    assert stored.as_known(config.datacenter(None)) is None
    stored.forget(where)
