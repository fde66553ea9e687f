"""Where the pit is and who one is there, with a server that knows one user, on loopback or none at all."""

import io
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from cli.snakepit import connection
from cli.snakepit.connection import connected
from pfs.errors import Kind, PfsError
from tests.cli.snakepit.doorkeeper import PASSWORD, Server, doorkeeper

README_DIALOGUE = """\
No user info found. Seems like a new user or first time login from this machine.
Please enter an existing or new username: Found no user of that name.
Do you want to register this usename (yes|no)? Full name: E-Mail address: New password: \
Reinput a same one to confirm it: """


@pytest.fixture
def server() -> Iterator[Server]:
    with doorkeeper() as made:
        yield made


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Callable[..., None]:
    """A project and a home; what somebody answers there."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PIT_CONFIG_DIR", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "home/.pitconnect.txt").write_text(f"{server.url}/\n")

    def type_in(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    type_in()
    return type_in


Answers = Callable[..., None]


def me() -> bytes:
    with connected() as client:
        return client.read("me")


def user_file() -> list[str]:
    path = Path(".pituser.txt")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(".") == [".pituser.txt"]
    return path.read_text().splitlines()


def test_who_is_new_registers_in_the_words_of_the_readme(
    answers: Answers, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    answers("tilman", "yes", "Tilman Kamp", "t@example.org", PASSWORD, PASSWORD)
    assert me() == b"name somebody\n"
    assert capsys.readouterr().err == README_DIALOGUE
    [(path, asked)] = server.asked
    assert path == "/api/v1/register"
    assert asked.pop("machine") == socket.gethostname()
    assert asked == {"user": "tilman", "fullname": "Tilman Kamp", "email": "t@example.org", "password": PASSWORD}
    assert user_file() == ["tilman", server.good]


def test_who_is_known_logs_in(answers: Answers, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    answers("ann", PASSWORD)
    me()
    assert capsys.readouterr().err.endswith("username: Please enter password: ")
    assert user_file() == ["ann", server.good]
    answers()
    me()  # without a question


def test_who_does_not_register_is_let_go(answers: Answers, server: Server) -> None:
    answers("tilman", "no")
    with pytest.raises(SystemExit) as ended:
        me()
    assert ended.value.code == 0
    assert (server.asked, os.listdir(".")) == ([], [])


def test_a_password_is_asked_for_until_it_is_good_and_said_twice(
    answers: Answers, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    answers("tilman", "y", "T", "no address", "t@example.org", "short", PASSWORD, "another", PASSWORD, PASSWORD)
    me()
    said = capsys.readouterr().err
    assert said.count("E-Mail address: ") == 2
    assert "a password has at least 15 characters" in said
    assert "These are not the same." in said
    assert server.users["tilman"] == PASSWORD


def test_where_nobody_registers_one_has_to_be_a_user(answers: Answers, server: Server) -> None:
    server.is_open = False
    answers("ann", PASSWORD)
    assert me() == b"name somebody\n"


def test_a_wrong_password_ends_in_one_line(
    answers: Answers, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    answers("ann", "wrong")
    with pytest.raises(SystemExit) as ended:
        me()
    assert ended.value.code == 1
    assert (
        'Unable to authenticate. If user "ann" is not valid anymore, remove ".pituser.txt"' in capsys.readouterr().err
    )


def test_a_token_that_ended_is_got_anew_and_the_command_goes_on(
    answers: Answers, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home/.pituser.txt"
    home.write_text("ann\npfs1.a.old\n")
    answers(PASSWORD)
    assert me() == b"name somebody\n"
    assert capsys.readouterr().err == "Please enter password: "
    assert home.read_text().splitlines() == ["ann", server.good]  # where it was
    assert stat.S_IMODE(home.stat().st_mode) == 0o600
    assert os.listdir(".") == []


def test_a_password_is_asked_for_once(answers: Answers, server: Server, tmp_path: Path) -> None:
    (tmp_path / "home/.pituser.txt").write_text("ann\npfs1.a.old\n")
    server.good = ""
    answers(PASSWORD, PASSWORD)
    with pytest.raises(PfsError) as refused:
        me()
    assert refused.value.kind is Kind.UNAUTHENTICATED
    assert len(server.asked) == 1


def test_the_files_of_the_current_directory_count_more_than_those_at_home(
    answers: Answers, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "home/.pituser.txt").write_text("ann\npfs1.a.old\n")
    Path(".pituser.txt").write_text(f"bob\n{server.good}\n")
    Path(".pitconnect.txt").write_text(server.url)
    (tmp_path / "home/.pitconnect.txt").write_text("http://127.0.0.1:1\n")
    assert me() == b"name somebody\n"


def test_nobody_is_asked_where_the_token_could_not_be_kept(
    answers: Answers, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    answers("ann", PASSWORD)
    with pytest.raises(PfsError, match="go to another one"):
        me()
    assert server.asked == []


def test_an_end_of_the_input_is_told(answers: Answers) -> None:
    with pytest.raises(PfsError, match="nobody answers 'Please enter an existing or new username:'"):
        me()


def test_what_is_no_file_of_a_user_or_a_pit_is_named(answers: Answers) -> None:
    Path(".pituser.txt").write_text("ann\n")
    with pytest.raises(PfsError, match="a user name and a token are needed"):
        me()
    Path(".pitconnect.txt").write_text("\n")
    with pytest.raises(PfsError, match="its first line is to be the URL"):
        me()


def test_without_a_pit_one_is_told_where_it_should_stand(
    answers: Answers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home/.pitconnect.txt").unlink()
    with pytest.raises(SystemExit) as ended:
        me()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("Unable to find connectivity info about your pit.\n")


def test_a_password_goes_to_no_server_without_tls_elsewhere(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_exists", lambda _where, _name: True)
    Path(".pitconnect.txt").write_text("http://pit.example.org\n")
    answers("ann", PASSWORD)
    with pytest.raises(PfsError, match="has no TLS"):
        me()


def test_only_the_certificates_beside_the_address_are_trusted(answers: Answers, server: Server) -> None:
    ours, others = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    Path(".pituser.txt").write_text(f"ann\n{server.good}\n")
    address = server.url.replace("http:", "https:")
    for ca in (ours, others):
        Path(".pitconnect.txt").write_text(f"{address}\n{ca.cert_pem.bytes().decode()}")
        if ca is ours:
            assert me() == b"name somebody\n"
        else:
            with pytest.raises(PfsError) as refused:
                me()
            assert refused.value.kind is Kind.UNREACHABLE
            assert "certificate" in refused.value.message


def test_who_may_not_register_is_told_why(answers: Answers, server: Server) -> None:
    server.takes_new = False
    answers("tilman", "yes", "Tilman Kamp", "t@example.org", PASSWORD, PASSWORD)
    with pytest.raises(PfsError, match=r"^Unable to register user\. refused$"):
        me()
    assert os.listdir(".") == []


def test_nobody_knows_of_a_pit_or_a_user_before_their_files_are_there(answers: Answers, tmp_path: Path) -> None:
    assert connection.acquainted() is None
    Path(".pituser.txt").write_text("ann\ntoken\n")
    known = connection.acquainted()
    assert known is not None
    assert (known[0].endpoint, known[1].name) == (connection.find_pit().endpoint, "ann")
    (tmp_path / "home/.pitconnect.txt").unlink()
    assert connection.acquainted() is None


# ---- the program, by a pipe


# what speaks to the server in ways of its own: it sends, attaches, or lets another program mount
EXEC = "exec 17 true"
WAYS = ["push home x x", EXEC, "forward 17 6006", "mount home"]


def type_pit(*lines: str, words: str = "log 17") -> tuple[int, str, str]:
    """Run `pit log`, or another command, with these lines on its input; return its status and what it says."""
    done = subprocess.run(
        [Path(sys.executable).parent / "pit", *words.split()],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,  # there is no terminal to ask at, also where the tests have one
    )
    return done.returncode, done.stdout, done.stderr


def test_the_dialogue_needs_no_terminal_and_the_command_goes_on(answers: Answers, server: Server) -> None:
    lines = ("tilman", "yes", "Tilman Kamp", "t@example.org", PASSWORD, PASSWORD)
    assert type_pit(*lines) == (0, "name somebody\n", README_DIALOGUE)
    assert user_file() == ["tilman", server.good]
    assert type_pit() == (0, "name somebody\n", "")


def test_a_token_that_ended_is_asked_for_once_and_the_command_goes_on(answers: Answers, server: Server) -> None:
    Path(".pituser.txt").write_text("ann\npfs1.a.old\n")
    assert type_pit(PASSWORD) == (0, "name somebody\n", "Please enter password: ")
    assert type_pit() == (0, "name somebody\n", "")
    server.good = "pfs1.a.other"
    status, out, said = type_pit()
    assert (status, out) == (1, "")
    assert said.splitlines()[1] == "Command failed: nobody answers 'Please enter password:': the input has ended"


@pytest.mark.parametrize("words", [way for way in WAYS if way != EXEC])
def test_a_token_that_ended_is_asked_for_by_every_way_to_the_server(
    words: str, answers: Answers, server: Server
) -> None:
    Path(".pituser.txt").write_text("ann\npfs1.a.old\n")
    Path("x").write_text("1\n")
    status, out, said = type_pit("wrong", words=words)
    assert (status, out) == (1, "")
    assert said.startswith('Please enter password: Unable to authenticate. If user "ann" is not valid anymore, ')
    assert len(said.splitlines()) == 1
    assert type_pit(PASSWORD, words=words)[2].startswith("Please enter password: ")
    assert Path(".pituser.txt").read_text() == f"ann\n{server.good}\n"


@pytest.mark.parametrize("token", ["old", "good"])
def test_the_own_password_is_asked_for_once_where_it_is_needed_twice(
    token: str, answers: Answers, server: Server
) -> None:
    Path(".pituser.txt").write_text(f"ann\npfs1.a.{token}\n")
    new = "four words that nobody has"
    status, out, said = type_pit(PASSWORD, new, new, words="passwd")
    assert (status, out) == (0, "")
    assert said == "Please enter password: New password: Reinput a same one to confirm it: "
    assert server.asked[-1] == ("/api/v1/accounts/~", {"password": new, "verification": PASSWORD})
    assert len(server.asked) == (2 if token == "old" else 1)


def test_what_is_sent_to_a_program_is_no_password(answers: Answers, server: Server) -> None:
    Path(".pituser.txt").write_text("ann\npfs1.a.old\n")
    status, out, said = type_pit(PASSWORD, words=EXEC)
    assert (status, out, len(said.splitlines()), server.asked) == (1, "", 1, [])
    assert said.startswith("Command failed: standard input is what is sent, and there is no terminal to ask")


@pytest.mark.parametrize("lines", [("ann", "wrong"), ("tilman", "no")])
def test_who_does_not_get_in_is_told_by_the_status(answers: Answers, lines: tuple[str, str]) -> None:
    status, out, said = type_pit(*lines)
    assert (status, out) == (0 if "no" in lines else 1, "")
    assert ("Unable to authenticate." in said) == (status == 1)


def test_a_server_that_is_down_is_one_line(answers: Answers) -> None:
    Path(".pitconnect.txt").write_text("http://127.0.0.1:1\n")
    Path(".pituser.txt").write_text("ann\npfs1.a.good\n")
    status, out, said = type_pit()
    assert (status, out, len(said.splitlines())) == (1, "", 1)
    assert said.startswith("Command failed: Unable to reach pit: no answer from the server at http://127.0.0.1:1")


@pytest.mark.parametrize("words", ["log 17", *WAYS])
def test_a_server_with_a_certificate_of_somebody_else_is_one_line(words: str, answers: Answers, server: Server) -> None:
    ours, others = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    Path(".pituser.txt").write_text(f"ann\n{server.good}\n")
    address = server.url.replace("http:", "https:")
    Path(".pitconnect.txt").write_text(f"{address}\n{others.cert_pem.bytes().decode()}")
    Path("x").write_text("1\n")
    status, out, said = type_pit(words=words)
    assert (status, out, len(said.splitlines())) == (1, "", 1)
    assert said.startswith("Command failed: Unable to reach pit: ")
    assert "certificate" in said


def test_without_a_pit_the_status_says_so(answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "home/.pitconnect.txt").unlink()
    status, out, said = type_pit()
    assert (status, out) == (1, "")
    assert said.startswith("Unable to find connectivity info about your pit.\n")
