"""Which datacenter a program means, and what it is shown there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli.sdk
from cli.config import CURRENT, OVERRIDES, ConfigError
from cli.sdk import Client, Kind, PfsError
from cli.sdk.reaching import meant
from tests.cli.snakepit.doorkeeper import PASSWORD, Server, doorkeeper

ROOT = Path(__file__).parent.parent.parent.parent
CONFIG = """\
dc1: {username: ann, token: pfs1.a, endpoint: "https://dc1.example.org:8470"}
dc2: {username: ann, token: pfs1.b, endpoint: dc2.example.org}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    for name in (CURRENT, *OVERRIDES.values()):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with doorkeeper() as made:
        yield made


def test_it_is_the_current_one_or_the_one_with_the_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert meant(None).token == "pfs1.a"
    assert meant("dc2").endpoint == "https://dc2.example.org"
    monkeypatch.setenv(CURRENT, "dc2")
    monkeypatch.setenv(OVERRIDES["token"], "pfs1.c")
    assert (meant(None).name, meant(None).token) == ("dc2", "pfs1.c")


def test_an_endpoint_needs_no_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.unlink(home / "config")
    found = meant(None, "dc9:8470", "pfs1.c", "ca.pem")
    assert (found.endpoint, found.token, found.ca) == ("https://dc9:8470", "pfs1.c", "ca.pem")
    with pytest.raises(ConfigError, match="there is no configuration") as caught:
        Client()
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"token": "pfs1.c"}, "a token and an authority go with an endpoint"),
        ({"ca": "ca.pem"}, "a token and an authority go with an endpoint"),
        ({"datacenter": "dc1", "endpoint": "https://dc1"}, "leave one of them out"),
        ({"datacenter": "dc3"}, "knows no datacenter 'dc3'"),
        ({"endpoint": "ftp://dc1", "token": "pfs1.c"}, "ftp://dc1"),
        ({"endpoint": "https://dc1"}, "token"),
    ],
)
def test_what_cannot_be_meant_is_refused(home: Path, said: dict[str, str], why: str) -> None:
    with pytest.raises(PfsError, match=why) as caught:
        Client(**said)  # type: ignore[arg-type]
    assert caught.value.kind in (Kind.INVALID, Kind.UNAUTHENTICATED)


def test_a_password_gets_a_token_and_nothing_is_printed(
    home: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "config").write_text(f"dc1: {{username: ann, password: {PASSWORD}, endpoint: '{server.url}'}}\n")
    with Client() as client:
        assert client.read("me") == b"name somebody\n"
    assert capfd.readouterr() == ("", "")
    assert server.good in (home / "token_cache").read_text()


def test_the_face_without_an_event_loop_loads_none_and_nothing_of_commands() -> None:
    program = "import sys; from cli.sdk import Client; print(*({'anyio', 'click', 'httpx', 'trio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_there_is_nothing_else_in_it() -> None:
    assert {getattr(cli.sdk, name).__name__ for name in cli.sdk.__all__} == set(cli.sdk.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Clint'"):
        _ = cli.sdk.Clint  # type: ignore[attr-defined]
