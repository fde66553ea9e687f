"""Every command of `paddle`, as it is typed: what it prints where, what it does, and its exit status."""

import io
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

from cli import config, paddle, reaching
from tests.cli.cloud.clouds import Cloud
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
        config.datacenter(dc)
        yield made

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


def test_the_help_has_every_command_once() -> None:
    names = [name for section in paddle.paddle.sections.values() for name in section]
    assert sorted(names) == sorted(paddle.paddle.commands)
    assert len(set(names)) == len(names)


def test_who_has_no_job_is_told_so_where_the_newest_is_meant(cloud: Cloud) -> None:
    cloud.jobs = []
    assert type_paddle("logs") == (1, "", "paddle: you have no job; submit one with: paddle submit\n")
    assert type_paddle("jobs")[:2] == (0, "NAMESPACE   NAME   DESIRED   SUCCESSFUL   AGE\n")


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
