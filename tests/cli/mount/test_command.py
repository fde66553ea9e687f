"""What `paddle mount` makes of its words and its configuration, up to where something is mounted."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli import config
from cli.mount import command as mount
from cli.mount import status
from cli.mount.options import OPTIONS, Options, parse
from cli.mount.serving import Mount
from cli.paddle import paddle
from cli.sdk import reaching
from fuseclient import mount as fuse_mount
from fuseclient.status import Status
from pfs.errors import Kind, PfsError
from tests.scripts.mount.verbs import STATUS

CONFIG = """\
dc1: {username: ann, token: pfs1.a, endpoint: "https://dc1.example.org:8470/"}
dc2: {username: ann, token: pfs1.b, endpoint: "dc2.example.org:8470"}
both: {username: bob, token: pfs1.c, endpoint: "https://dc1.example.org:8470"}
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be mounted."""
    (tmp_path / "config").write_text(CONFIG)
    (tmp_path / "pfs").mkdir()
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    asked: list[Any] = []
    monkeypatch.setattr(fuse_mount, "check_machine", lambda: None)

    def in_background(what: Mount, log_file: Path) -> list[str]:
        asked.append(what)
        return list(what.datacenters)

    monkeypatch.setattr(mount, "_in_background", in_background)
    return asked


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], Options()),
        (["-o", "ro,_netdev", "-o", "allow_other"], parse(["ro,allow_other"])),
        (["--allow-other", "--write-behind"], parse(["allow_other,write_behind"])),
        (["--cache-size", "5Gi", "-o", "cache_size=6Gi"], parse(["cache_size=5Gi"])),
        (["--cache-size", "0", "--log-level", "debug"], parse(["cache_size=0,log_level=debug"])),
        (["--no-shortcut"], Options(shortcut=False)),
        (["-o", "noshortcut"], Options(shortcut=False)),
    ],
)
def test_words_become_options(asked: list[Any], words: list[str], options: Options) -> None:
    done = CliRunner().invoke(paddle, ["mount", "pfs", *words])
    assert (done.exit_code, [what.options for what in asked]) == (0, [options]), done.output


def test_a_name_with_a_comma_is_one_name(asked: list[Any], tmp_path: Path) -> None:
    CliRunner().invoke(paddle, ["mount", "pfs", "--cache-dir", r"a,b\c"])
    assert asked[0].options.cache_dir == str(tmp_path / r"a,b\c")


def test_names_of_files_mean_the_same_when_the_process_has_left_its_directory(asked: list[Any], tmp_path: Path) -> None:
    mount.mount_command("pfs", Options(cache_dir="cache", log_file="~/log"), quiet=True)
    assert asked[0].options.cache_dir == str(tmp_path / "cache")
    assert asked[0].options.log_file == str(Path.home() / "log")
    assert asked[0].point == str(tmp_path / "pfs")


@pytest.mark.parametrize(
    ("source", "names", "listed_as"),
    [
        (None, ["dc1", "dc2", "both"], "pfs"),
        ("dc2", ["dc2"], "dc2"),
        ("https://dc1.example.org:8470", ["dc1", "both"], "https://dc1.example.org:8470"),
        ("dc2.example.org:8470/", ["dc2"], "dc2.example.org:8470/"),
    ],
)
def test_a_source_is_a_server_or_a_datacenter(
    asked: list[Any], source: str | None, names: list[str], listed_as: str
) -> None:
    mount.mount_command("pfs", Options(), source=source, quiet=True)
    assert (list(asked[0].datacenters), asked[0].source) == (names, listed_as)


def test_a_source_that_the_configuration_does_not_know_is_told(asked: list[Any], tmp_path: Path) -> None:
    with pytest.raises(click.ClickException) as caught:
        mount.mount_command("pfs", Options(), source="https://dc3:8470")
    assert str(caught.value).startswith(f"{tmp_path}/config knows no datacenter https://dc3:8470; there are dc1 at")
    assert asked == []


def test_an_option_names_the_configuration(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "other").write_text('dc9: {username: ann, token: x, endpoint: "https://dc9"}\n')
    mount.mount_command("pfs", Options(config="other"), quiet=True)
    assert list(asked[0].datacenters) == ["dc9"]
    with pytest.raises(config.ConfigError, match="there is no configuration missing"):
        mount.mount_command("pfs", Options(config="missing"))


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["mount"], 2, "at which directory? As in: paddle mount ~/pfs"),
        (["mount", "missing"], 1, "mkdir -p "),
        (["mount", "config"], 1, "is not a directory"),
        (["mount", "."], 1, "is not empty"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(asked: list[Any], words: list[str], status: int, says: str) -> None:
    done = CliRunner().invoke(paddle, words)
    assert (done.exit_code, asked) == (status, [])
    assert says in done.output


def test_a_wrong_option_is_told_before_anything_is_looked_at(asked: list[Any]) -> None:
    done = CliRunner().invoke(paddle, ["mount", "missing", "-o", "foo"])
    assert isinstance(done.exception, PfsError)
    assert "there is no option 'foo'; there are ro, " in str(done.exception)


def test_the_options_are_shown_to_who_asks(asked: list[Any]) -> None:
    done = CliRunner().invoke(paddle, ["mount", "-o", "help"])
    assert done.exit_code == 0
    assert [line.split()[0].strip(",") for line in done.output.splitlines()] == [str(option) for option in OPTIONS]
    assert "`" not in done.output


def test_a_mount_is_told_to_people_to_programs_or_to_nobody(asked: list[Any], tmp_path: Path) -> None:
    done = CliRunner().invoke(paddle, ["mount", "pfs", "--json"])
    told = json.loads(done.stdout)
    assert (told["mountpoint"], told["datacenters"]) == (str(tmp_path / "pfs"), ["dc1", "dc2", "both"])
    assert told["log_file"].startswith(str(tmp_path / "state"))
    done = CliRunner().invoke(paddle, ["mount", "pfs", "-q"])
    assert (done.exit_code, done.output) == (0, "")
    assert len(asked) == 2


def test_the_status_of_mounts_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def status_of(point: str) -> Status:
        if point == "/gone":
            raise PfsError(Kind.TIMED_OUT, "/gone: the mount has not answered")
        return STATUS

    monkeypatch.setattr(status.mountpoints, "mounted", lambda: ["/gone", "/pfs"])
    monkeypatch.setattr(status, "status_of", status_of)
    done = CliRunner().invoke(paddle, ["mount", "--status", "--json"], standalone_mode=False)
    assert json.loads(done.stdout) == [{"mountpoint": "/pfs", **asdict(STATUS)}]
    assert (done.return_value, done.stderr) == (1, "/gone: the mount has not answered\n")
    done = CliRunner().invoke(paddle, ["mount", "--status", "-q"], standalone_mode=False)
    assert (done.return_value, done.stdout) == (1, "/pfs\n")
    monkeypatch.setattr(status.mountpoints, "mounted", list)
    assert CliRunner().invoke(paddle, ["mount", "--status", "--json"]).stdout == "[]\n"
    assert CliRunner().invoke(paddle, ["mount", "--status", "-q"]).stdout == ""


def test_the_status_of_nothing(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status.mountpoints, "mounted", list)
    done = CliRunner().invoke(paddle, ["mount", "--status"])
    assert (done.exit_code, done.output) == (0, "no pfs is mounted on this machine\n")
    done = CliRunner().invoke(paddle, ["mount", "--status", "pfs"])
    assert done.exit_code == 1
    assert "no pfs is mounted here" in done.output


def test_a_datacenter_with_a_password_is_mounted_with_the_token_that_it_got(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text('dc1: {username: ann, password: words, endpoint: "https://dc1.example.org"}\n')
    (tmp_path / "token_cache").write_text('{"ann https://dc1.example.org": "pfs1.kept"}')
    monkeypatch.setattr(reaching, "_is_good", lambda where: where.token == "pfs1.kept")
    done = CliRunner().invoke(paddle, ["mount", "pfs"])
    assert (done.exit_code, [what.datacenters["dc1"].token for what in asked]) == (0, ["pfs1.kept"]), done.output


AWAY = "http://127.0.0.1:9"
MIXED = f"""\
dc1: {{username: ann, endpoint: dc1.example.org}}
dc2: {{username: ann, token: pfs1.b, endpoint: dc2.example.org}}
dc3: {{username: ann, password: words, endpoint: "{AWAY}"}}
"""


def test_datacenters_that_cannot_let_us_in_are_left_out_and_told(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "config").write_text(MIXED)
    done = CliRunner().invoke(paddle, ["mount", "pfs"])
    assert (done.exit_code, [list(what.datacenters) for what in asked]) == (0, [["dc2"]]), done.output
    dc1, dc3 = [line for line in done.stderr.splitlines() if "left out" in line]
    assert dc1 == f"dc1 is left out: {tmp_path}/config: dc1 has no token; get one with: paddle login"
    assert dc3.startswith(f"dc3 is left out: no answer from the server at {AWAY}: ")
    assert "mounted dc2; " in done.stdout


def test_a_token_that_was_got_with_a_password_is_kept_for_a_server_that_is_away(
    asked: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(MIXED)
    (tmp_path / "token_cache").write_text(f'{{"ann {AWAY}": "pfs1.kept"}}')
    mount.mount_command("pfs", Options(), quiet=True)
    assert {name: each.token for name, each in asked[0].datacenters.items()} == {"dc2": "pfs1.b", "dc3": "pfs1.kept"}


@pytest.mark.parametrize(
    ("source", "subdir", "says"),
    [
        ("dc1", None, "dc1 has no token; get one with: paddle login"),
        (None, "dc1/home", "dc1 has no token; get one with: paddle login"),
        ("dc3", None, "no answer from the server"),
        (AWAY, None, "no answer from the server"),
    ],
)
def test_where_none_is_left_it_is_told_why(
    asked: list[Any], tmp_path: Path, source: str | None, subdir: str | None, says: str
) -> None:
    (tmp_path / "config").write_text(MIXED)
    with pytest.raises((PfsError, click.ClickException), match=says):
        mount.mount_command("pfs", Options(subdir=subdir), source=source)
    assert asked == []


def test_where_none_of_several_is_left_a_line_tells_of_each(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "config").write_text(MIXED.replace("token: pfs1.b, ", ""))
    done = CliRunner().invoke(paddle, ["mount", "pfs"])
    lines = [line.split(": ")[0] for line in done.stderr.splitlines() if not line.startswith("previous token")]
    assert lines == ["dc1", "dc2", "dc3", "Error"], done.stderr
    assert "none of these datacenters can be mounted" in done.stderr
    assert (done.exit_code, asked) == (1, [])
