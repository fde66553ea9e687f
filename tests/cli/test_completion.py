"""What the tab key brings: by click's protocol for all shells, and in those that are installed here."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pexpect
import pytest

from cli import completion, paddle, pit
from cli.shells import whole
from pfs.client import web
from pfs.protocol.wire import FILES_PATH

BIN = Path(sys.executable).parent
FOLDERS = {"jobs": ["9", "17", "171", "ping.yaml"], "nodes": ["n0", "n1"], "home": ["ann"], "groups": ["ml"]}
MAINS = {"pit": pit.main, "paddle": paddle.main}
GOOD = "pfs1.a.good"


class Server:
    """Lists folders to who has the token."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                folder = self.path.removeprefix(f"{FILES_PATH}/")
                if self.headers["authorization"] == f"Bearer {GOOD}":
                    self.say(200, {"entries": [{"name": name} for name in FOLDERS[folder]]})
                else:
                    self.say(401, {"error": {"kind": "unauthenticated", "message": "log in again", "path": None}})

            def say(self, status: int, answer: object) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.thread.start()
    yield made
    made.http.shutdown()
    made.thread.join()
    made.http.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Path:
    """Make the home of somebody whom the server knows."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PIT_CONFIG_DIR", raising=False)
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    know(tmp_path, server.url, GOOD)
    return tmp_path


def know(home: Path, url: str, token: str) -> None:
    (home / ".pitconnect.txt").write_text(f"{url}\n")
    (home / ".pituser.txt").write_text(f"ann\n{token}\n")
    entry = f"{{username: ann, token: {token}, endpoint: '{url}'}}"
    (home / "config").write_text(f"dc1: {entry}\ndc2: {entry}\n")


Tab = Callable[..., list[str]]


@pytest.fixture
def tab(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tab:
    """Type some words, as bash hands them over, and the tab key: return what is answered, without a word on stderr."""

    def press(line: str, shell: str = "bash") -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
        program = words[0]
        monkeypatch.setenv(f"_{program.upper()}_COMPLETE", f"{shell}_complete")
        monkeypatch.setattr(sys, "argv", [program])
        with pytest.raises(SystemExit) as ended:
            MAINS[program]()
        said = capfd.readouterr()
        assert (ended.value.code, said.err) == (0, "")
        return said.out.split()

    return press


@pytest.mark.parametrize(
    ("typed", "answered"),
    [
        ("pit sho", ["plain,show"]),
        ("pit run --ar", ["plain,--archive"]),
        ("pit show no", ["plain,nodes", "plain,node:"]),
        ("pit show node : ", []),  # that is another word
        ("pit show node :", ["plain,n0", "plain,n1"]),
        ("pit show node : n", ["plain,n0", "plain,n1"]),
        ("pit show user : a", ["plain,ann"]),
        ("pit show 1", ["plain,17", "plain,171"]),
        ("pit ls j", ["plain,job:9", "plain,job:17", "plain,job:171"]),  # there is no other word that begins so
        ("pit ls node", []),  # these have no files
        ("pit mount gro", ["plain,group:ml"]),
        ("pit stop ", ["plain,9", "plain,17", "plain,171"]),
        ("pit run -c 17", ["plain,17", "plain,171"]),
        ("pit add-group job : 17 m", ["plain,ml"]),
        ("pit mount home ", ["dir,"]),
        ("pit push home x ", ["file,"]),
        ("pit completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
        ("pit nonsense ", []),
        ("paddle get n", ["plain,nodes"]),
        ("paddle kill 17", ["plain,17", "plain,171"]),
        ("paddle kill --dc dc2 9", ["plain,9"]),
        ("paddle kill --dc dc3 9", []),
        ("paddle kill --dc d", ["plain,dc1", "plain,dc2"]),
        ("paddle submit ", ["file,"]),
    ],
)
def test_what_can_stand_there(typed: str, answered: list[str], tab: Tab) -> None:
    assert tab(typed) == answered


def test_a_datacenter_in_which_nobody_is_logged_in_can_be_named(tab: Tab, home: Path, server: Server) -> None:
    (home / "config").write_text(
        f"dc1: {{username: ann, endpoint: '{server.url}'}}\ndc2: {{username: a, endpoint: x}}\n"
    )
    assert tab("paddle use ") == tab("paddle kill --dc ") == ["plain,dc1", "plain,dc2"]
    assert tab("paddle ls /pfs/") == ["plain,/pfs/dc1/", "plain,/pfs/dc2/"]
    assert tab("paddle kill ") == []


def test_other_shells_are_told_the_whole_word(tab: Tab) -> None:
    assert tab("pit show node:n", "zsh") == ["plain", "node:n0", "_", "plain", "node:n1", "_"]
    assert tab("pit show node:n", "fish") == ["plain,node:n0", "plain,node:n1"]


def test_it_is_one_request_and_none_where_nobody_has_to_be_asked(tab: Tab, server: Server) -> None:
    tab("pit show n")
    assert server.asked == []
    tab("pit show node :")
    assert server.asked == [f"{FILES_PATH}/nodes"]


def silent(tab: Tab) -> bool:
    return tab("pit stop ") == tab("paddle kill ") == [] and tab("pit show me") == ["plain,me"]


def test_who_would_have_to_be_asked_for_a_password_is_not(tab: Tab, home: Path, server: Server) -> None:
    know(home, server.url, "pfs1.a.old")
    assert silent(tab)
    assert server.asked == [f"{FILES_PATH}/jobs"] * 2
    for name in (".pituser.txt", "config"):
        (home / name).unlink()
    assert silent(tab)
    (home / ".pitconnect.txt").unlink()
    assert silent(tab)


def test_a_server_that_is_away_or_does_not_answer_is_not_waited_for(
    tab: Tab, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(home, "http://127.0.0.1:1", GOOD)
    assert silent(tab)
    monkeypatch.setattr(completion, "LIMIT_S", 0.05)
    monkeypatch.setattr(web, "TIMEOUT_S", 1e6)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        know(home, f"http://127.0.0.1:{mute.getsockname()[1]}", GOOD)
        assert silent(tab)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("cut", "put_together"),
    [
        (["job", ":", "17"], ["job:17"]),
        (["node", ":", "n0", ":", "1", "x"], ["node:n0:1", "x"]),
        (["since", "=", "2026", "user", "="], ["since=2026", "user="]),
        ([":", "x"], [":x"]),
        (["a", "", "b"], ["a", "", "b"]),
    ],
)
def test_words_that_bash_cuts_are_put_together(cut: list[str], put_together: list[str]) -> None:
    assert whole(cut) == put_together


# ---- in real shells


def script(program: str, shell: str, folder: Path) -> Path:
    made = subprocess.run([BIN / program, "completion", shell], capture_output=True, check=True)
    path = folder / f"{program}.{shell}"
    path.write_bytes(made.stdout)
    return path


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMP_", "_"))}
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb", "PS1": "$ "}


@pytest.mark.parametrize(
    ("shell", "words", "begin"),
    [
        ("bash", ["--norc", "--noprofile", "-i"], "source {}"),
        ("zsh", ["-f", "-i"], "autoload -U compinit && compinit -D -u && source {}"),
    ],
)
def test_a_shell_completes_what_is_typed(shell: str, words: list[str], begin: str, home: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    path = script("pit", shell, home)
    with pexpect.spawn(shell, words, env=environment(home), encoding="utf-8", timeout=60, echo=True) as typed:
        typed.sendline(f"{begin.format(path)} && echo re''ady")
        typed.expect_exact("ready")
        for begun, rest in (("pit sho", "w "), ("node:n", ""), ("\x15pit show job:9", " "), ("\x15pit stop 17", "")):
            typed.send(f"{begun}\t")
            typed.expect_exact(f"{begun.removeprefix(chr(21))}{rest}")
        typed.send("1\t")
        typed.expect_exact("1 ")
        typed.sendline("\x15exit")
        typed.expect(pexpect.EOF)


def test_fish_completes_what_is_typed(home: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    command = f"source {script('pit', 'fish', home)}; complete -C 'pit show node:'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", command], env=environment(home), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["node:n0", "node:n1"]
