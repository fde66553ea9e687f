"""Every command of `paddle`, as it is typed: what it prints where, what it does, and its exit status."""

import io
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli.files.copying  # noqa: F401 - it is to have the upload that is replaced below as it is
from cli import config, paddle, reaching
from cli.files.copied import Done, How, Progress
from cli.progress import Transfer
from pfs.errors import Kind, PfsError
from tests.cli.cloud.clouds import Cloud, status
from tests.cli.typed import typed
from tests.golden import Step, check

SCRIPTS = sorted((Path(__file__).parent / "cloud" / "scripts").glob("*.txt"))
NOW_S = 1767225661.0  # 2026-01-01T00:01:01Z
CONFIG = """\
dc1: {username: ann, token: pfs1.secret, endpoint: "https://dc1.example.org:8470"}
dc2: {username: ann, token: pfs1.secret, endpoint: "https://dc2.example.org:8470"}
"""


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A datacenter, its user's configuration in the file `config`, and a folder in which commands run."""
    made = Cloud()

    @contextmanager
    def connected(dc: str | None) -> Iterator[Cloud]:
        made.name = config.datacenter(dc).name
        yield made

    def upload(
        _: Cloud, folder: Path, path: str, how: How, *, names: list[str], progress: Progress, sleep: object
    ) -> Done:
        assert how == How(recorded=True, links=False)
        progress(3, 7)
        made.done.append(f"{path} <- {' '.join(names)} of {folder}")
        return Done(failed=made.failed, left_out=made.left_out)

    monkeypatch.setattr("cli.files.upload.upload", upload)
    monkeypatch.setattr(reaching, "connected", connected)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    for name in (config.CURRENT, *config.OVERRIDES.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").write_text(CONFIG)
    return made


def type_paddle(*words: str) -> tuple[int, str, str]:
    """Run paddle, and return its status, and what it writes to stdout and stderr."""
    return typed(paddle.main, "paddle", *words)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_commands_answer_as_the_scripts_say(script: Path, cloud: Cloud, request: pytest.FixtureRequest) -> None:
    def handler(step: Step) -> str:
        words = shlex.split(" ".join(step.words))
        if words == ["config", "is"]:
            Path("config").write_text(step.text)
            return ""
        if words == ["config", "is", "away"]:
            os.unlink("config")
            return ""
        if words == ["cat", "config"]:
            return Path("config").read_text()
        if words[:2] == ["there", "is"]:
            Path(words[2]).parent.mkdir(exist_ok=True)
            Path(words[2]).write_text(step.text)
            return ""
        cloud.done.clear()
        sys.stdin = io.TextIOWrapper(io.BytesIO(step.text.encode()))
        at = words.index("paddle")
        with pytest.MonkeyPatch.context() as patch:
            for word in words[:at]:
                patch.setenv(*word.split("=", 1))
            status, out, err = type_paddle(*words[at + 1 :])
        said = "".join(f"stderr: {line}\n" for line in err.splitlines())
        done = "".join(f"{line}\n" for line in cloud.done)
        answer = out + said + done + (f"status {status}\n" if status else "")
        return answer.replace(str(Path.cwd()), "<here>")

    check(script, handler, request.config.getoption("rewrite"))


# which of `--json` and `-q` a command has not, and why
WITHOUT = {
    "paddle exec": ("--json", "-q"),  # what it prints is the program's
    "paddle completion": ("--json", "-q"),  # what it prints is for a shell
    "paddle forward": ("--json",),  # it ends with Ctrl-C alone, and has done nothing then
}


def commands_of(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield what can be typed to have something shown or done: a group does nothing itself."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands_of(each, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*each, id=each[0]) for each in commands_of(paddle.paddle, "paddle")]
)
def test_every_command_has_json_and_quiet(path: str, command: click.Command) -> None:
    options = [option for param in command.params for option in param.opts]
    assert len(options) == len(set(options))
    missing = tuple(option for option in ("--json", "-q") if option not in options)
    assert missing == WITHOUT.get(path, ())
    assert ("-q" in options) == ("--quiet" in options)


def test_what_was_waited_for_is_told_with_how_it_ended_in_the_order_of_asking(cloud: Cloud) -> None:
    cloud.files["jobs/17/status"] = status(17, "word-emb", "SUCCEEDED")
    ended = [{"job": 16, "state": "FAILED", "exit_code": 3}, {"job": 17, "state": "SUCCEEDED", "exit_code": 0}]
    code, out, err = type_paddle("wait", "16", "word-emb", "--json")
    assert (code, json.loads(out), err) == (3, ended, "")


def test_what_was_done_until_the_way_was_cut_is_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(path: str, data: bytes) -> None:
        if path.startswith("jobs/18"):
            raise PfsError(Kind.UNREACHABLE, "the way is cut")

    monkeypatch.setattr(cloud, "write", cut)
    code, out, err = type_paddle("kill", "17", "18", "19", "--json")
    assert (code, json.loads(out), err) == (1, [{"job": 17, "killed": True}], "paddle: the way is cut\n")


def test_the_help_has_every_command_once() -> None:
    names = [name for section in paddle.paddle.sections.values() for name in section]
    assert sorted(names) == sorted(paddle.paddle.commands)
    assert len(set(names)) == len(names)


def paths_of(command: click.Command, path: str) -> Iterator[str]:
    yield path
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from paths_of(each, f"{path} {name}")


def test_the_help_of_every_command_is_in_the_script() -> None:
    [script] = [each.read_text() for each in SCRIPTS if each.stem == "help"]
    there = [line.removesuffix(" --help") for line in script.splitlines() if line.endswith(" --help")]
    assert sorted(there) == sorted(paths_of(paddle.paddle, "paddle"))


def test_who_has_no_job_is_told_so_where_the_newest_is_meant(cloud: Cloud) -> None:
    cloud.jobs = []
    assert type_paddle("logs") == (1, "", "paddle: you have no job; submit one with: paddle submit\n")
    assert type_paddle("jobs")[:2] == (0, "NAMESPACE   NAME   DESIRED   SUCCESSFUL   AGE\n")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("/pfs/dc2/home/ann/package",), "dc2"),
        (("/pfs/dc1/home/ann/package", "--dc", "dc2"), "dc2"),
        (("/pfs/called-otherwise-here/home/ann/package",), "dc1"),
    ],
)
def test_a_package_in_the_cloud_is_submitted_to_its_datacenter(cloud: Cloud, words: list[str], name: str) -> None:
    assert type_paddle("submit", "-entry", "x", *words)[0] == 0
    assert cloud.name == name


def test_a_job_whose_package_is_not_whole_is_not_started(cloud: Cloud) -> None:
    Path("package").mkdir()
    cloud.failed = [PfsError(Kind.EXISTS, "a folder stands there", "data"), PfsError(Kind.DENIED, "not yours", "b")]
    status, out, err = type_paddle("submit", "-jobname", "emb", "-entry", "x", "package")
    assert (status, out) == (1, "Collecting package ... Done\n")
    assert err == "paddle: the package is not whole in jobs/emb: data: a folder stands there; b: not yours\n"
    assert not any("posted" in line for line in cloud.done)


def test_how_far_a_package_is_brought_is_shown(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("package").mkdir()
    seen: list[tuple[int, int | None]] = []
    monkeypatch.setattr(Transfer, "reach", lambda _, done, size: seen.append((done, size)))
    assert type_paddle("submit", "-entry", "x", "package")[0] == 0
    assert seen == [(3, 7)]


def test_the_list_of_pods_has_the_addresses_of_their_nodes_or_else_their_names(cloud: Cloud) -> None:
    cloud.jobs = [each for each in cloud.jobs if each["id"] == 17]
    first = type_paddle("logs")[1].splitlines()[0]
    assert first == "running pod list:  [('Running', '10.1.9.3'), ('Succeeded', 'n1'), ('Running', 'n1')]"


def test_what_of_a_package_is_not_brought_is_told(cloud: Cloud) -> None:
    Path("package").mkdir()
    cloud.left_out = (("data", "a symbolic link, but not to a file; links are copied with --preserve-links"),)
    status, out, err = type_paddle("submit", "-jobname", "emb", "-entry", "x", "package", "-q")
    assert (status, out, err) == (0, "20\n", "data is left out: a symbolic link, but not to a file\n")


def test_a_password_for_a_registry_that_nobody_typed_is_asked_for(cloud: Cloud) -> None:
    words = ["registry", "-name=corp", "-username=ann", "-server=registry.example.org"]
    done = CliRunner().invoke(paddle.paddle, words, input="good words\n")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "Password of ann: \n")
    assert "'password': 'good words'" in cloud.done[0]


def options_of(command: click.Command, path: str) -> Iterator[tuple[str, click.Command, str]]:
    yield from ((path, command, option) for param in command.params for option in [*param.opts, *param.secondary_opts])
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from options_of(each, f"{path} {name}")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        pytest.param(command, option, id=f"{path} {option}")
        for path, command, option in options_of(paddle.paddle, "paddle")
        if option.startswith("--")
    ],
)
def test_every_long_option_may_begin_with_one_dash(command: click.Command, option: str) -> None:
    def read(words: list[str]) -> object:
        parser = command.make_parser(click.Context(command, resilient_parsing=True))
        return parser.parse_args(words)[:2]

    value = [] if any(option in param.opts and getattr(param, "is_flag", False) for param in command.params) else ["7"]
    value = [] if any(option in param.secondary_opts for param in command.params) else value
    assert read([option, *value]) == read([option[1:], *value])
