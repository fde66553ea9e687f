"""What README claims about names: commands, options, keys, files, packages."""

import os
import re
import tomllib
from pathlib import Path

import click
import pytest

from cli.jobd import DEFAULT_PORT, jobd
from cli.mountoptions import OPTIONS, Options, parse
from cli.paddle import paddle
from cli.pit import pit
from jobd.spec.spec import GROUP_SUPPORTED, SUPPORTED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROGRAMS = {"jobd": jobd, "paddle": paddle, "pit": pit}


def section(title: str) -> str:
    """Return the text under a heading."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def commands() -> list[str]:
    """Return every command line in a shell block, without what is said of it."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [line for line in commands() if line.split()[0] in PROGRAMS])
def test_every_command_and_option_exists(line: str):
    words = line.split()
    command: click.Command = PROGRAMS[words[0]]
    options: list[str] = []
    for word in words[1:]:
        if word.startswith("-"):
            options.append(word)
        elif isinstance(command, click.Group):
            assert word in command.commands, line
            command = command.commands[word]
    known = {name for parameter in command.params for name in parameter.opts}
    assert set(options) <= known, line


def test_the_wrappers_that_the_comment_names_exist():
    said = re.search(r"the same without a mount: (.*)", README)
    assert said is not None
    for words in said[1].split(", "):
        command: click.Command = paddle
        for word in words.split():
            if word.startswith("-"):
                assert word in {name for parameter in command.params for name in parameter.opts}
            elif isinstance(command, click.Group):
                command = command.commands[word]
    said = re.search(r"who come from Snakepit: (.*)", README)
    assert said is not None
    assert set(said[1].split(", ")) == set(pit.commands)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"script/[a-z-]+", README))))
def test_every_script_is_there_and_runs(name: str):
    assert os.access(ROOT / name, os.X_OK)


def test_the_table_of_keys_is_what_the_parser_reads():
    rows = re.findall(r"^\| (`.*?`) \| .* \| .* \|$", section("The tree"), re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert keys == set(SUPPORTED)
    assert {"resources", "command"} <= set(GROUP_SUPPORTED)


def test_the_table_of_options_is_what_the_mount_understands():
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section("Mounting"), re.MULTILINE)
    named = [(", ".join(f"`{word}`" for word in (str(each), each.opposite) if word), each.help) for each in OPTIONS]
    assert [(names.replace(r"\|", "|"), text) for names, text in rows] == named


def test_the_line_for_fstab_and_the_unit_are_understood_and_mean_the_same():
    [line] = re.findall(r"```fstab\n(.*)\n```", section("Mounting"))
    source, point, kind, options, *rest = line.split()
    assert (kind, rest) == ("fuse.pfs", ["0", "0"])
    assert parse([options]) == Options(config="/etc/pfs/config", allow_other=True)
    [unit] = re.findall(r"```ini\n(.*?)```", section("Mounting"), re.DOTALL)
    words = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert (words["What"], words["Where"], words["Type"]) == (source, point, kind)
    assert parse([words["Options"]]) == parse([options])
    assert f"`/etc/systemd/system/{point.strip('/').replace('/', '-')}.mount`" in section("Mounting")


def test_the_helpers_of_mount_are_programs_of_the_distribution():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    helpers = set(re.findall(r"`(u?mount\.[a-z.]+)`", README))
    assert helpers == {name for name in scripts if name.endswith(".fuse.pfs")}


def test_the_table_of_packages_is_the_top_level():
    rows = re.findall(r"^\| `(\w+)` \| ", section("The house"), re.MULTILINE)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(rows) == packages


@pytest.mark.parametrize("package", ["pfs", "fuseclient", "jobd"])
def test_the_picture_of_the_house_names_every_folder(package: str):
    picture = README.split("## The house")[1]
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert folders
    assert {name for name in folders if not re.search(rf"^   {name} | \| {name} ", picture, re.M)} == set()


def test_addresses_and_places_are_the_defaults():
    assert f"127.0.0.1:{DEFAULT_PORT}" in README
    for place in ("/var/lib/pfs", "/var/lib/pfs-node", "server/pfs.sqlite"):
        assert f"`{place}`" in README
