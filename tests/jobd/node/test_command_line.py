"""The command line of gradient-node: what counts, and that every mistake is one clear line and a status."""

import json
from pathlib import Path

import pytest

from cli import gradient_node
from cli.gradient_node import run
from cli.nodeoptions import Settings, parse, settings_of
from pfs.errors import Kind, PfsError
from pfs.keys import make_key

KEY = make_key("http://127.0.0.1:9", "secret")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def settings(*arguments: str, env: dict[str, str] | None = None) -> Settings:
    return settings_of(parse(["--apiKey", KEY, "--data-root", "/data", *arguments]), env or {})


@pytest.mark.parametrize("words", [["-name", "n7"], ["--name", "n7"], ["-name=n7"], ["--name=n7"]])
def test_options_are_written_in_gos_way(words: list[str]) -> None:
    assert settings(*words).name == "n7"


def test_a_key_names_its_server_unless_another_is_given() -> None:
    assert settings().api_host == "http://127.0.0.1:9"
    assert settings("-apiHost", "http://h:1", env={"GRADIENT_NODE_API_HOST": "http://h:2"}).api_host == "http://h:1"
    assert settings(env={"GRADIENT_NODE_API_HOST": "http://h:2"}).api_host == "http://h:2"


def test_an_option_counts_more_than_the_environment_and_that_more_than_the_file(home: Path) -> None:
    keys = [make_key("http://h", name) for name in ("option", "environment", "file")]
    (home / ".paperspace").mkdir()
    (home / ".paperspace/config.json").write_text(json.dumps({"apiKey": keys[2], "name": "my-key"}))
    env = {"GRADIENT_NODE_API_KEY": keys[1], "GRADIENT_NODE_NAME": "from-env"}
    assert settings_of(parse(["--data-root", "/d"]), {}).api_key == keys[2]
    assert settings_of(parse(["--data-root", "/d"]), env).api_key == keys[1]
    assert settings_of(parse(["--data-root", "/d", "-apiKey", keys[0]]), env).api_key == keys[0]
    assert settings_of(parse(["--data-root", "/d"]), env).name == "from-env"


@pytest.mark.parametrize(("text", "debug"), [("true", True), ("TRUE", True), ("false", False), ("", False)])
def test_debug_can_be_asked_for_in_the_environment(text: str, debug: bool) -> None:
    assert settings(env={"GRADIENT_NODE_DEBUG": text}).debug is debug
    assert settings("-debug", env={"GRADIENT_NODE_DEBUG": text}).debug is True


@pytest.mark.parametrize(
    ("arguments", "env", "kind", "words"),
    [
        ([], {}, Kind.UNAUTHENTICATED, "no API key"),
        (["--apiKey", "ps6a393", "--data-root", "/d"], {}, Kind.UNAUTHENTICATED, "this is no API key"),
        (["--apiKey", KEY], {}, Kind.INVALID, "no --data-root"),
        (["--apiKey", KEY, "--data-root", "/d"], {"GRADIENT_NODE_DEBUG": "yes"}, Kind.INVALID, "true or false"),
        (["--apiKey", KEY, "--data-root", "/d", "--sandbox-path", "/no"], {}, Kind.INVALID, "no such path"),
        (["--apiKey", KEY, "--data-root", "/d", "--address", "n0"], {}, Kind.INVALID, "this is no IP address"),
        (["--apiKey", KEY, "--data-root", "/d", "--memory", "64"], {}, Kind.INVALID, "--memory: the size 64 has no"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], env: dict[str, str], kind: Kind, words: str) -> None:
    with pytest.raises(PfsError, match=words) as caught:
        settings_of(parse(arguments), env)
    assert caught.value.kind is kind


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_a_spoiled_configuration_file_is_named(home: Path, text: str) -> None:
    (home / ".paperspace").mkdir()
    (home / ".paperspace/config.json").write_text(text)
    with pytest.raises(PfsError, match=r"config\.json cannot be read"):
        settings_of(parse([]), {})


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["gradient-node", *arguments])
    with pytest.raises(SystemExit) as end:
        gradient_node.main()
    return end.value.code


def test_what_cannot_work_ends_with_one_line_and_2(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "--apiKey", KEY, "--data-root", str(home)) == 2
    assert main(monkeypatch, "--apiKey", "nonsense", "--data-root", str(home)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["gradient-node"] * 2


def test_a_node_offers_what_it_has_or_what_it_is_told() -> None:
    plain, told = settings(), settings("--cpus", "1.5", "--memory=64GiB", "-max-processes", "8", "-address", "10.0.0.7")
    assert (plain.cpus, plain.memory_bytes, plain.max_processes, plain.address) == (None, None, 64, "")
    assert (told.cpus, told.memory_bytes, told.max_processes, told.address) == (1.5, 64 << 30, 8, "10.0.0.7")


@pytest.mark.parametrize("words", [["--cpus", "0"], ["--cpus", "nan"], ["--max-processes", "0"], ["--cpus", "many"]])
def test_a_number_that_is_none_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        settings(*words)
    assert f"argument -{words[0].strip('-')}" in capsys.readouterr().err


def test_an_unknown_option_and_a_half_one_end_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "--api", "x") == 2
    assert main(monkeypatch, "-name") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "-version") == 0
    assert capsys.readouterr().out.startswith("gradient-node ")


def test_a_second_daemon_ends_with_1(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobd.node.state import StateDir

    (home / ".pfs-id").write_text("mark")
    with StateDir(home / "state"):
        assert main(monkeypatch, "-apiKey", KEY, "-data-root", str(home), "-state-dir", str(home / "state")) == 1
    assert "another gradient-node runs with the state in" in capsys.readouterr().err


def test_no_right_to_the_state_ends_with_2(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def refuse(settings: Settings) -> None:
        raise PfsError(Kind.DENIED, "no right to keep the node's state")

    async def refused(settings: Settings) -> int:
        refuse(settings)
        return 0

    monkeypatch.setattr(gradient_node, "_run", refused)
    assert run(parse(["-apiKey", KEY, "-data-root", "/d"]), {}) == 2
