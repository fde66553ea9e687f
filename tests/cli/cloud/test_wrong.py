"""What every command of `paddle` says of what is typed wrong, and where no server can be asked."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
import trustme

from cli import config, paddle
from tests.cli.typed import typed

TREE = "/pfs/dc1/home/ann"
# what is typed of each command, but for the datacenter
ASKING = {
    "submit": "job.yaml",
    **dict.fromkeys(("jobs", "queue", "pods", "tokens", "logout"), ""),
    **dict.fromkeys(("why", "logs", "wait", "kill", "cancel", "restore", "get workers"), "17"),
    **dict.fromkeys(("get jobs", "get nodes", "get quota", "get registry"), ""),
    **dict.fromkeys(("share", "unshare"), "17 ml"),
    "exec": "17 true",
    "forward": "17 0:80",
    "registry": "-name corp -username ann -password x -server registry.example.org",
    "delete registry": "corp",
    **{f"{pfs}{name}": words for pfs in ("", "pfs ") for name, words in {"cp": f"job.yaml {TREE}/"}.items()},
    **dict.fromkeys(("ls", "rm", "mkdir", "pfs ls", "pfs rm", "pfs mkdir", "pfs rmdir"), f"{TREE}/a"),
    **dict.fromkeys(("file ls", "publish"), f"{TREE}/a"),
    **dict.fromkeys(("pfs mv", "file get", "pfs get"), f"{TREE}/a {TREE}/b"),
    **dict.fromkeys(("file put", "pfs put"), f"job.yaml {TREE}/a"),
    **dict.fromkeys(("sync", "pfs sync"), f"{TREE}/a ."),
}
# those that ask no server, or for a password first
OTHERS = {"mount", "umount", "use", "config", "completion", "register", "login", "passwd"}
CONNECTED = ("exec", "forward")  # over a connection that stays
BY_PATH = {name for name, words in ASKING.items() if TREE in words}


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, f"{path} {name}".strip())
    else:
        yield path


def test_every_command_is_tried() -> None:
    assert set(leaves(paddle.paddle)) == {*ASKING, *OTHERS}


# ---- what is typed


def found(path: str) -> click.Command:
    command: click.Command = paddle.paddle
    for name in path.split():
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


def refusal(command: str, *words: str) -> str:
    """Type a command that is refused for its words; return why."""
    status, out, err = typed(paddle.main, "paddle", *command.split(), *words)
    usage, _, why = err.partition("Error: ")
    assert (status, out) == (2, ""), err
    assert usage.startswith(f"Usage: paddle {command} ")
    return why


COMMANDS = sorted({*ASKING, *OTHERS})
NEEDING = {path: [param for param in found(path).params if param.required] for path in COMMANDS}
TYPED = [
    (path, param.opts[-1])
    for path in COMMANDS
    for param in found(path).params
    if isinstance(param, click.Option) and not param.is_flag and not isinstance(param.type, click.types.StringParamType)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_there_is_not_is_named(command: str) -> None:
    assert refusal(command, "-xyzzy").startswith("No such option '-xyzzy'.")


@pytest.mark.parametrize("command", [path for path, needed in NEEDING.items() if needed])
def test_what_is_missing_is_named(command: str) -> None:
    param = NEEDING[command][0]
    hint = param.get_error_hint(click.Context(found(command)))
    assert refusal(command).startswith(f"Missing {param.param_type_name} {hint}.")


@pytest.mark.parametrize(("command", "option"), TYPED)
def test_a_value_of_the_wrong_type_is_named_with_its_option(command: str, option: str) -> None:
    why = refusal(command, f"{option}=nonsense")
    assert why.startswith("Invalid value for ")
    assert f"'{option}'" in why
    assert "'nonsense'" in why


# ---- where it is asked


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a spec in it, in which commands run; the configuration is in it, once it is written."""
    for name in (config.CURRENT, *config.OVERRIDES.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("command: x\n")
    return tmp_path


def configure(folder: Path, endpoint: str, **more: str) -> None:
    fields = {"username": "ann", "token": "pfs1.a.worse", "endpoint": endpoint, **more}
    (folder / "config").write_text("dc1:\n" + "".join(f"  {name}: {value}\n" for name, value in fields.items()))


def said(command: str, dc: str | None = None) -> tuple[int, str]:
    """Type a command; return its status, and what it says where it only says one line on stderr."""
    words = [*command.split(), *(["-dc", dc] if dc else []), *ASKING[command].split()]
    status, out, err = typed(paddle.main, "paddle", *words)
    assert (out, err.count("\n")) == ("", 1), (out, err)
    return status, err.rstrip("\n")


@pytest.mark.parametrize("command", ASKING)
def test_without_a_configuration_it_is_told_where_one_comes_from(command: str, folder: Path) -> None:
    cure = "`jobd init` on the server prints one, and so does its administrator"
    assert said(command) == (2, f"paddle: there is no configuration {folder}/config; {cure}")


@pytest.mark.parametrize("command", ASKING)
def test_a_configuration_that_cannot_be_read_is_told_with_line_and_cure(command: str, folder: Path) -> None:
    (folder / "config").write_text("dc1:\n  username: [\n")
    status, text = said(command)
    assert status == 2
    assert text.startswith(f"paddle: {folder}/config, line 3, column 1: ")
    assert text.endswith("; see `paddle --help` for the form")


@pytest.mark.parametrize("command", ASKING)
def test_a_datacenter_that_nobody_knows_is_told_with_those_that_there_are(command: str, folder: Path) -> None:
    configure(folder, "https://dc1.example.org")
    if command in BY_PATH:
        (folder / "config").write_text((folder / "config").read_text().replace("dc1:", "lab:", 1))
        unknown, known = "dc1", "lab"
    else:
        unknown, known = "dc9", "dc1"
    status, text = said(command, None if command in BY_PATH else unknown)
    assert (status, text) == (2, f"paddle: {folder}/config knows no datacenter {unknown!r}: {known}")


def nobody(command: str) -> str:
    """Return what is said where nobody answers, or not who should: of a request, or of a connection that stays."""
    return "no connection to" if command in CONNECTED else "no answer from"


@pytest.mark.parametrize("command", ASKING)
def test_a_server_that_is_away_is_told(command: str, folder: Path) -> None:
    configure(folder, "http://127.0.0.1:9")
    text = f"paddle: {nobody(command)} the server at http://127.0.0.1:9: Connection refused"
    assert said(command) == (1, text)


GOOD_NO_MORE = "this token is good no more"


class Refusing(BaseHTTPRequestHandler):
    """Answers that a token is good no more, whatever is asked."""

    def refuse(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        error = {"kind": "unauthenticated", "message": GOOD_NO_MORE, "path": None}
        body = json.dumps({"error": error}).encode()
        self.send_response(401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = refuse

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def refusing(context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Give the address of a server that refuses everything."""
    http = HTTPServer(("127.0.0.1", 0), Refusing)
    if context is not None:
        http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    with refusing() as url:
        yield url


@pytest.mark.parametrize("command", sorted(set(ASKING) - {"logout"}))  # which has nothing to do then
def test_a_token_that_is_good_no_more_is_told(command: str, folder: Path, strict: str) -> None:
    configure(folder, strict)
    of_connection = f"the server at {strict} does not accept the token"
    assert said(command) == (2, f"paddle: {of_connection if command in CONNECTED else GOOD_NO_MORE}")


@pytest.fixture(scope="module")
def secure() -> Iterator[str]:
    """Give a server with TLS, of an authority of which nobody has heard."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with refusing(context) as url:
        yield url


@pytest.mark.parametrize("command", ASKING)
def test_a_server_for_which_nobody_vouches_is_told(command: str, folder: Path, secure: str) -> None:
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.pem"))
    configure(folder, secure, ca=str(folder / "ca.pem"))
    status, text = said(command)
    assert status == 1
    assert text.startswith(f"paddle: {nobody(command)} the server at {secure}: ")
    assert "certificate" in text
