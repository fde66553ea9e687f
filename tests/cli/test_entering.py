"""How `paddle` comes in: what it asks, what it sends and to whom, and what it keeps."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import entering
from cli.config import CURRENT, OVERRIDES
from cli.paddle import paddle
from pfs.certificates import issue_user, make_authority
from pfs.errors import Kind, PfsError
from pfs.keys import Pair, make_key

HERE = "http://127.0.0.1:8470"
TOKEN = make_key(HERE, "new")
WORDS = "four good words\n"

Paddle = Callable[..., Result]


class Server:
    """Notes what it is asked, and welcomes everybody."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.shown: list[tuple[str, str, str | None, bool]] = []
        self.own: Pair | None = None
        self.refusal: PfsError | None = None
        self.answer: Any = {"datacenter": "dc1", "user": "ann", "token": TOKEN}

    def __call__(
        self, endpoint: str, token: str, ca: str | None = None, *, shows: bool = True, own: Pair | None = None
    ) -> "Server":
        self.shown.append((endpoint, token, ca, shows))
        self.own = own
        return self

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, url: str, content: bytes) -> Any:
        self.asked.append((method, url, json.loads(content) if content else {}))
        if self.refusal is not None:
            raise self.refusal
        return self.answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(entering, "WebClient", made)
    monkeypatch.setattr(entering.socket, "gethostname", lambda: "laptop")
    return made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "paddle/config"
    monkeypatch.setenv("PADDLE_CONFIG", str(path))
    for name in (CURRENT, *OVERRIDES.values()):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def run_paddle(config: Path) -> Paddle:
    return lambda *words, typed="": CliRunner().invoke(paddle, list(words), input=typed)


def refused(result: Result) -> str:
    assert result.exit_code != 0
    return str(result.exception) if isinstance(result.exception, PfsError) else result.output


def test_an_invitation_is_all_that_is_needed(server: Server, config: Path, run_paddle: Paddle) -> None:
    invitation = make_key(HERE, "once")
    told = run_paddle("register", invitation, typed=f"ann\n{WORDS}{WORDS}").output
    assert "ann is known to the datacenter dc1" in told
    assert "four good words" not in told
    assert server.shown == [(HERE, invitation, None, False)]
    asked = {"user": "ann", "password": "four good words", "invitation": invitation, "machine": "laptop"}
    assert server.asked == [("POST", "/api/v1/register", asked)]
    assert config.read_text() == f"dc1:\n  username: ann\n  token: {TOKEN}\n  endpoint: {HERE}\n"
    assert (config.stat().st_mode & 0o777, config.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("command", ["register", "login"])
def test_nothing_is_asked_of_a_server_whose_answer_could_not_be_kept(
    server: Server, config: Path, run_paddle: Paddle, command: str
) -> None:
    words = (command, make_key(HERE, "once") if command == "register" else HERE, "--user", "ann")
    config.parent.mkdir()
    config.write_text("dc1: {username: ann\n")
    assert "line 2" in refused(run_paddle(*words, typed=WORDS * 2))
    assert config.read_text() == "dc1: {username: ann\n"
    config.unlink()
    config.parent.rmdir()
    config.parent.write_text("a file where the folder should be")
    assert f"{config.parent} is no folder that can be written to" in refused(run_paddle(*words, typed=WORDS * 2))
    assert server.asked == []


def test_where_everybody_may_register_an_address_is_enough(server: Server, run_paddle: Paddle) -> None:
    run_paddle("register", HERE, "--user", "ann", typed=WORDS * 2)
    assert server.asked[0][2]["invitation"] == ""


def test_passwords_go_to_servers_with_tls_or_on_this_machine_alone(server: Server, run_paddle: Paddle) -> None:
    for url in ("http://dc1.example.org:8470", "http://10.0.0.1"):
        for command in ("login", "register"):
            assert "has no TLS" in refused(run_paddle(command, url, "--user", "ann", typed=WORDS * 2))
    assert server.shown == []
    for url in ("https://dc1.example.org", "http://localhost:8470", "http://[::1]:8470", "dc1.example.org"):
        assert run_paddle("login", url, "--user", "ann", typed=WORDS).exit_code == 0


def test_a_login_keeps_what_else_is_in_the_configuration(server: Server, config: Path, run_paddle: Paddle) -> None:
    config.parent.mkdir()
    config.write_text(
        f"# mine\ndc0: {{username: a, token: t, endpoint: x}}\ndc1:\n  username: ann\n  endpoint: {HERE}  # e\n"
    )
    assert run_paddle("login", "--dc", "dc1", typed=WORDS).exit_code == 0
    assert server.asked[0][2] == {"user": "ann", "password": "four good words", "machine": "laptop"}
    assert config.read_text() == (
        "# mine\ndc0: {username: a, token: t, endpoint: x}\n"
        f"dc1:\n  username: ann\n  endpoint: {HERE}  # e\n  token: {TOKEN}\n"
    )


def test_the_form_of_paddlecloud_is_kept(server: Server, config: Path, run_paddle: Paddle) -> None:
    config.parent.mkdir()
    config.write_text(f"datacenters:\n- name: dc1\n  username: ann\n  endpoint: {HERE}\ncurrent-datacenter: dc1\n")
    run_paddle("login", typed=WORDS)
    assert f"  token: {TOKEN}\n" in config.read_text()
    run_paddle("logout")
    assert "token" not in config.read_text()
    assert config.read_text().startswith("datacenters:\n- name: dc1\n")


def test_an_authority_is_kept_by_its_whole_path(
    server: Server, config: Path, run_paddle: Paddle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_paddle("login", "https://dc1", "--ca", "ca.pem", "--user", "ann", typed=WORDS)
    assert server.shown[0] == ("https://dc1", "", "ca.pem", False)
    assert f"ca: {tmp_path}/ca.pem\n" in config.read_text()


def test_a_refusal_changes_nothing(server: Server, config: Path, run_paddle: Paddle) -> None:
    config.parent.mkdir()
    config.write_text(before := f"dc1: {{username: ann, token: {TOKEN}, endpoint: '{HERE}'}}\n")
    server.refusal = PfsError(Kind.UNAUTHENTICATED, "no")
    for words, typed in ((("login",), WORDS), (("passwd",), WORDS * 3), (("tokens",), "")):
        assert refused(run_paddle(*words, typed=typed)) == "no"
        assert config.read_text() == before
    server.refusal, server.answer = None, ["nonsense"]
    assert "not a pfs server" in refused(run_paddle("login", typed=WORDS))
    assert config.read_text() == before


def test_a_logout_forgets_also_a_token_that_is_good_no_more(server: Server, config: Path, run_paddle: Paddle) -> None:
    config.parent.mkdir()
    config.write_text(f"dc1:\n  username: ann\n  token: {TOKEN}\n  endpoint: {HERE}\n")
    server.refusal = PfsError(Kind.UNREACHABLE, "nobody there")
    assert "nobody there" in refused(run_paddle("logout"))
    assert TOKEN in config.read_text()
    server.refusal = PfsError(Kind.UNAUTHENTICATED, "unknown")
    assert run_paddle("logout").exit_code == 0
    assert TOKEN not in config.read_text()
    assert "paddle login" in refused(run_paddle("tokens"))


def test_a_certificate_is_shown_where_there_is_no_token_and_no_logout_takes_it_back(
    server: Server, config: Path, run_paddle: Paddle, tmp_path: Path
) -> None:
    authority = make_authority("dc1", time.time_ns())
    (tmp_path / "ann.pem").write_bytes(issue_user(authority, "ann", time.time_ns(), 7).certificate)
    config.parent.mkdir()
    config.write_text(
        f"dc1:\n  username: ann\n  endpoint: https://dc1\n  usercert: {tmp_path}/ann.pem\n  userkey: {tmp_path}/k\n"
    )
    server.answer = {"token": "pfs1.a.b"}
    assert run_paddle("tokens", "--new", "ci").output == "pfs1.a.b\n"
    own = Pair(f"{tmp_path}/ann.pem", f"{tmp_path}/k")
    assert (server.shown[-1], server.own) == (("https://dc1", "", None, True), own)
    run_paddle("logout")
    assert server.own is None


def test_a_password_is_changed_with_the_one_before(server: Server, config: Path, run_paddle: Paddle) -> None:
    run_paddle("login", HERE, "--user", "ann", typed=WORDS)
    server.answer = None
    assert run_paddle("passwd", typed="four good words\nsome other words\nsome other words\n").exit_code == 0
    assert server.asked[-1] == ("POST", "/api/v1/password", {"password": "four good words", "new": "some other words"})
    assert server.shown[-1] == (HERE, TOKEN, None, True)


def test_what_was_done_is_told_to_programs_without_a_secret_and_without_what_is_asked(
    server: Server, config: Path, run_paddle: Paddle
) -> None:
    known = {"datacenter": "dc1", "user": "ann"}
    login = ("login", HERE, "--user", "ann")
    register = ("register", HERE, "--user", "ann")
    for words, typed in (((*register, "--json"), WORDS * 2), ((*login, "--json"), WORDS)):
        done = run_paddle(*words, typed=typed)
        assert json.loads(done.stdout) == {**known, "config": str(config)}
        assert "assword" in done.stderr
    for words, typed in ((("passwd",), WORDS * 3), (("logout",), "")):
        assert json.loads(run_paddle(*words, "--json", typed=typed).stdout) == known
    for words, typed in ((login, WORDS), (("passwd",), WORDS * 3), (("logout",), ""), (register, WORDS * 2)):
        done = run_paddle(*words, "-q", typed=typed)
        assert (done.exit_code, done.stdout) == (0, "")


def test_a_new_token_is_told_to_programs_with_what_it_is_called(server: Server, run_paddle: Paddle) -> None:
    run_paddle("login", HERE, "--user", "ann", typed=WORDS)
    server.answer = {"token": "pfs1.a.b"}
    told = run_paddle("tokens", "--new", "ci", "--json").stdout
    assert json.loads(told) == {"label": "ci", "token": "pfs1.a.b"}
    assert run_paddle("tokens", "--new", "ci", "-q").stdout == "pfs1.a.b\n"


def test_tokens_are_shown_made_and_taken_back(server: Server, run_paddle: Paddle) -> None:
    run_paddle("login", HERE, "--user", "ann", typed=WORDS)
    server.answer = {"token": "pfs1.a.b"}
    assert run_paddle("tokens", "--new", "ci", "--scope", "read", "--days", "7").output == "pfs1.a.b\n"
    assert server.asked[-1][2] == {"label": "ci", "scopes": ["read"], "days": 7}
    run_paddle("tokens", "--new", "ci")
    assert server.asked[-1][2] == {"label": "ci", "scopes": ["read", "write", "submit", "admin"], "days": None}
    fact = {"name": "abc", "kind": "user", "label": "a\x1b[2J", "scopes": ["read"], "created": 0, "used": None}
    server.answer = {"tokens": [{**fact, "ends": None, "own": True}]}
    told = run_paddle("tokens", "--revoke", "abc").output
    assert server.asked[-2][:2] == ("DELETE", "/api/v1/tokens/abc")
    assert "\x1b" not in told
    assert told.splitlines()[1].split()[-1] == "*"
    assert "--new LABEL" in refused(run_paddle("tokens", "--scope", "read"))


def test_a_token_goes_into_an_ini_file_as_a_line(server: Server, config: Path, run_paddle: Paddle) -> None:
    config.parent.mkdir()
    config.write_text(f"[dc1] ; mine\nusername = ann\nendpoint = {HERE}\n")
    assert run_paddle("login", typed=WORDS).exit_code == 0
    lines = config.read_text().splitlines()
    assert lines[0] == "[dc1] ; mine"
    assert sorted(lines[1:]) == sorted([f"endpoint = {HERE}", f"token = {TOKEN}", "username = ann"])
    assert run_paddle("logout").exit_code == 0
    assert server.asked[-1][:2] == ("DELETE", "/api/v1/tokens/own")
    assert "token" not in config.read_text()


def test_a_token_that_was_got_with_a_kept_password_is_taken_back_and_forgotten(
    server: Server, config: Path, run_paddle: Paddle
) -> None:
    config.parent.mkdir()
    config.write_text(f"dc1: {{username: ann, password: four good words, endpoint: '{HERE}'}}\n")
    cache = config.parent / "token_cache"
    cache.write_text(json.dumps({f"ann {HERE}": TOKEN, "bob elsewhere": "other"}))
    assert run_paddle("logout").exit_code == 0
    assert server.asked == [("DELETE", "/api/v1/tokens/own", {})]
    assert server.shown[-1][1] == TOKEN
    assert json.loads(cache.read_text()) == {"bob elsewhere": "other"}
    server.asked.clear()
    assert run_paddle("logout").exit_code == 0
    assert server.asked == []


# ---- what the environment says

THERE = "https://dc2.example.org"
TWO = f"""\
dc1: {{username: ann, token: pfs1.one, endpoint: '{HERE}'}}
dc2: {{username: bob, token: pfs1.two, endpoint: {THERE}}}
"""


def test_the_datacenter_of_the_environment_is_the_one_that_is_entered_and_left(
    server: Server, config: Path, run_paddle: Paddle, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parent.mkdir()
    config.write_text(TWO)
    monkeypatch.setenv("PADDLE_DATACENTER", "dc2")
    assert run_paddle("logout").exit_code == 0
    assert server.shown == [(THERE, "pfs1.two", None, True)]
    assert config.read_text() == TWO.replace("token: pfs1.two, ", "")
    server.answer = {"datacenter": "dc2", "user": "bob", "token": TOKEN}
    assert run_paddle("login", typed=WORDS).exit_code == 0
    assert (server.shown[-1][0], server.asked[-1][2]["user"]) == (THERE, "bob")
    assert "pfs1.one" in config.read_text()
    assert TOKEN in config.read_text()
    run_paddle("logout", "--dc", "dc1")  # what is typed counts more
    assert server.shown[-1][:2] == (HERE, "pfs1.one")
    monkeypatch.setenv("PADDLE_DATACENTER", "dc9")
    assert "PADDLE_DATACENTER is 'dc9', but" in refused(run_paddle("login", typed=WORDS))


def test_an_endpoint_in_the_environment_is_all_that_a_login_needs(
    server: Server, config: Path, run_paddle: Paddle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_ENDPOINT", HERE)
    assert run_paddle("login", typed=f"ann\n{WORDS}").exit_code == 0
    assert server.asked[0][2] == {"user": "ann", "password": "four good words", "machine": "laptop"}
    assert config.read_text() == f"dc1:\n  username: ann\n  token: {TOKEN}\n  endpoint: {HERE}\n"
    config.unlink()
    monkeypatch.setenv("PADDLE_USERNAME", "bob")
    assert run_paddle("login", typed=WORDS).exit_code == 0
    assert server.asked[1][2]["user"] == "bob"


def test_a_token_in_the_environment_is_taken_back_and_the_configuration_keeps_its_own(
    server: Server, config: Path, run_paddle: Paddle, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parent.mkdir()
    config.write_text(TWO)
    monkeypatch.setenv("PADDLE_TOKEN", "pfs1.said")
    assert "The token that PADDLE_TOKEN says is taken back; unset that." in run_paddle("logout").output
    assert server.shown[-1][:2] == (HERE, "pfs1.said")
    assert config.read_text() == TWO
    config.unlink()
    monkeypatch.setenv("PADDLE_ENDPOINT", THERE)
    assert run_paddle("logout").exit_code == 0
    assert server.shown[-1][:2] == (THERE, "pfs1.said")
    assert not config.exists()
    monkeypatch.delenv("PADDLE_TOKEN")
    assert "default has no token; say it as PADDLE_TOKEN" in refused(run_paddle("logout"))


def test_what_the_environment_says_instead_of_a_login_is_told(
    server: Server, config: Path, run_paddle: Paddle, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, endpoint = (
        f"{name} is set, and counts more than this login; unset it\n" for name in ("PADDLE_TOKEN", "PADDLE_ENDPOINT")
    )
    config.parent.mkdir()
    config.write_text(TWO)
    monkeypatch.setenv("PADDLE_TOKEN", "pfs1.said")
    assert token in run_paddle("login", typed=WORDS).stderr
    assert run_paddle("login", "-q", typed=WORDS).stderr.endswith(token)
    server.answer = {"datacenter": "dc2", "user": "bob", "token": TOKEN}
    assert token not in run_paddle("login", "--dc", "dc2", typed=WORDS).stderr  # it counts for the current one
    monkeypatch.setenv("PADDLE_DATACENTER", "dc2")
    monkeypatch.setenv("PADDLE_ENDPOINT", "tunnel.example.org")
    told = run_paddle("login", THERE, "--user", "bob", typed=WORDS).stderr
    assert token + endpoint in told
    for name in ("PADDLE_TOKEN", "PADDLE_ENDPOINT"):
        monkeypatch.delenv(name)
    assert "counts more" not in run_paddle("login", typed=WORDS).stderr
    monkeypatch.setenv("PADDLE_TOKEN", TOKEN)
    monkeypatch.setenv("PADDLE_ENDPOINT", f"{THERE}/")
    assert "counts more" not in run_paddle("login", typed=WORDS).stderr


def test_a_token_that_another_server_does_not_know_is_kept(
    server: Server, config: Path, run_paddle: Paddle, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parent.mkdir()
    config.write_text(TWO)
    monkeypatch.setenv("PADDLE_ENDPOINT", "https://tunnel.example.org")
    server.refusal = PfsError(Kind.UNAUTHENTICATED, "unknown")
    assert refused(run_paddle("logout")) == "unknown"
    assert config.read_text() == TWO
    server.refusal = None
    assert run_paddle("logout").exit_code == 0
    assert config.read_text() == TWO.replace("token: pfs1.one, ", "")


@pytest.mark.parametrize(
    "text",
    [
        "007: {{username: 0123, {0}password: 1e3, endpoint: '{1}', ca: ~, active: yes}}\n",
        "datacenters:\n- name: 007\n  username: 0123\n  {0}password: null\n  endpoint: {1}\ncurrent-datacenter: 007\n",
    ],
)
def test_words_of_a_configuration_stay_as_they_are_written(
    server: Server, config: Path, run_paddle: Paddle, text: str
) -> None:
    flow = text.startswith("007")
    config.parent.mkdir()
    config.write_text(text.format("token: 4711, " if flow else "token: 4711\n  ", HERE))
    assert run_paddle("logout").exit_code == 0
    assert server.shown == [(HERE, "4711", None, True)]
    assert config.read_text() == text.format("", HERE)
    server.answer = {"datacenter": "007", "user": "0123", "token": "0815"}
    assert run_paddle("login", typed=WORDS).exit_code == 0
    assert server.asked[-1][2]["user"] == "0123"
    assert config.read_text().count("007") == text.count("007")
    assert run_paddle("use", "007").exit_code == 0
    assert run_paddle("logout").exit_code == 0
    assert server.shown[-1][1] == "0815"
