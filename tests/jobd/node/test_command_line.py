"""The program gradient-node: every mistake is one clear line and a status. What options mean: scripts/node."""

from pathlib import Path

import pytest

from cli import gradient_node, jobd
from cli.gradient_node import run
from cli.node.options import OPTIONS, Settings, parse, settings_of
from jobd.node.ownkey import asked_key, keep_asked_key
from pfs.errors import Kind, PfsError
from pfs.keys import make_join_token, make_key

KEY = make_key("http://127.0.0.1:9", "secret")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


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


def test_what_it_does_not_understand_is_one_line_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["--api", "x"], "there is no option --api"),
        (["-name"], "--name: its value is missing"),
        (["--mounts"], "--mount: its value is missing"),
        (["word"], "everything is said by options; this is none: word"),
    ):
        assert main(monkeypatch, *words) == 2
        assert capsys.readouterr().err == f"gradient-node: {said}; see gradient-node --help\n"


def test_help_names_every_option_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "-help") == 0
    said = " ".join(capsys.readouterr().out.split())
    for option in OPTIONS:
        for name in (option.name, *option.names):
            assert f"-{name} " in said or f"-{name}," in said
            assert f"--{name}" in said
        assert option.variable in said


def test_jobd_node_is_the_same_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-nonsense"], ["--help"]):
        status = main(monkeypatch, *words)
        plain = capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["jobd", "node", *words])
        with pytest.raises(SystemExit) as end:
            jobd.main()
        assert (end.value.code, capsys.readouterr()) == (status, plain)


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
    assert run(["-apiKey", KEY, "-data-root", "/d"], {}) == 2


def test_a_machine_that_joined_needs_no_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-data-root", str(home), "-state-dir", str(home / "state")]
    with pytest.raises(PfsError, match="no API key"):
        settings_of(parse(words), {})
    (home / "state").mkdir()
    own = asked_key(home / "state", make_join_token("https://dc1:8470", "once"))
    keep_asked_key(home / "state")
    for given, expected in (([], own.key), (["-apiKey", KEY], KEY)):
        assert settings_of(parse([*words, *given]), {}).api_key == expected
    assert settings_of(parse(words), {}).api_host == "https://dc1:8470"
