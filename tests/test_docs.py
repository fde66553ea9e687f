"""What README claims about names: commands, options, keys, files, packages."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
from hypercorn.config import Config

from cli.cloud.options import DONE_HELP
from cli.jobd import DEFAULT_PORT, jobd
from cli.mount.options import OPTIONS, Options, parse
from cli.node.options import OPTIONS as NODE_OPTIONS
from cli.node.policyfile import DEFAULT_FILE
from cli.node.policyfile import KEYS as POLICY_KEYS
from cli.node.service import ENVIRONMENT_FILE
from cli.paddle import paddle
from cli.pit import pit
from cli.server.restroutes import rest_routes
from cli.submit.paddlecloud import FIELDS
from jobd.ctl import HELP
from jobd.engine import attaching
from jobd.engine.blackholes import FAILURES, FAST_S, OF_ONE_USER_MAX
from jobd.environment import Facts, GroupHosts, environment
from jobd.files.cluster import tree as tree_of
from jobd.files.gpus import TEXTS as GPU_FILES
from jobd.files.job import NAMES
from jobd.identity import FIRST_CLUSTER
from jobd.life.life import RULES
from jobd.node.attrs import machine_attrs
from jobd.node.gpus import Gpu, gpu_attrs
from jobd.node.hostmounts import KEPT_BELOW, KEPT_TARGETS
from jobd.node.telemetry import LOOK_EVERY_S
from jobd.node.versions import ATTRIBUTES
from jobd.nodectl import HELP as NODE_HELP
from jobd.nodestate import NodeState
from jobd.spec.groups import GROUP_KEYS, RESOURCE_KEYS
from jobd.spec.model import Paddle
from jobd.spec.spec import PADDLE_FIELDS, SUPPORTED, parse_spec
from jobd.wire import ARTIFACTS, HOME, STORAGE, NodeGpu
from pfs.protocol import sockets
from pfs.server import bodies, crowd, entrance, guard, line, routes
from pfs.server.publishing import Publishing
from pfs.server.routes import Gate
from tests.lifetable import table

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
    words = line.split(" -- ", maxsplit=1)[0].split()  # behind that stands a command of a job
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


def test_the_table_of_commands_is_what_ctl_says():
    rows = re.findall(r"^\| (`.*?`) \| .* \|$", section("The tree"), re.MULTILINE)
    commands = [name for row in rows for name in re.findall(r"`([a-z]+(?: [A-Z]+)?)`", row)]
    assert commands == [line.split("  ")[1] for line in HELP.splitlines()[1:]]


def test_the_commands_files_and_numbers_of_nodes_are_those_of_the_code():
    [said] = re.findall(r"`ctl` takes (`drain.*)", README)
    assert re.findall(r"`([^`]+)`", said) == [line.split("  ")[1] for line in NODE_HELP.splitlines()[1:]]
    text = section("Nodes and GPUs")
    rows = re.findall(r"^\| (`.*?`) \| .* \|$", text, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`([a-z_]+)`", row)) == sorted(GPU_FILES)
    assert set(re.findall(r"`([A-Z]{4,})`", text)) == set(NodeState)
    assert f"when {FAILURES} different jobs\nin a row fail there within {FAST_S:.0f} s" in text
    assert f"at most {OF_ONE_USER_MAX} of them" in text
    assert f"at most every {LOOK_EVERY_S:.0f} s" in text


def test_the_picture_of_the_tree_names_what_is_at_its_top_and_in_a_job():
    picture = section("The tree").split("```")[1]
    tops = {line.split("/")[0].split()[0] for line in picture.strip().splitlines()}
    assert tops == {
        "README.txt",
        "audit",
        "groups",
        "home",
        "shared",
        *tree_of(cast("Any", SimpleNamespace(engine=SimpleNamespace(ledger=None), store=None))),
    }
    for name in NAMES:
        assert re.search(rf"\b{re.escape(name)}\b", section("The tree")), name


def test_the_table_of_keys_is_what_the_parser_reads():
    rows = re.findall(r"^\| (`.*?`) \| (.*) \| .* \|$", section("A spec"), re.MULTILINE)
    keys = {key for row, _ in rows for key in re.findall(r"`(\w+)`", row)}
    assert keys == set(SUPPORTED)
    [of_groups] = [text for row, text in rows if row == "`groups`"]
    assert set(re.findall(r"\w+", " ".join(re.findall(r"`(.*?)`", of_groups)))) == {*GROUP_KEYS, *RESOURCE_KEYS}


def test_the_fields_of_paddlecloud_are_those_that_the_parser_reads():
    [said] = re.findall(r"^PaddleCloud's fields are accepted as they are: (.*?)\.$", README, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`(\w+)`", said)
    assert set(named) == {field for field in PADDLE_FIELDS if field == field.lower()}


def test_what_commands_tell_programs_that_they_have_done_is_shown_for_each() -> None:
    rows = re.findall(r"^\| (`.*?`) \| (.*?`[\[{].*) \|$", section("The commands of PaddleCloud"), re.MULTILINE)
    named = {name.strip() for row, _ in rows for name in re.findall("`([a-z ]+)", row)}
    assert named - {"submit", "sync", "publish", "tokens"} == {
        name.removeprefix("pfs ") if paddle.commands.get(name.removeprefix("pfs ")) is command else name
        for name, command in leaves(paddle)
        if any(param.help == DONE_HELP for param in command.params if isinstance(param, click.Option))
    }
    for _, text in rows:
        for shown in re.findall(r"`([\[{].*?)`", text):
            json.loads(shown)


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_the_options_of_submit_that_paddlecloud_had_are_told() -> None:
    table = section("The commands of PaddleCloud").partition("| option |")[2]
    rows = re.findall(r"^\| (`-.*?) \|", table, re.MULTILINE)
    named = {name.removeprefix("-") for row in rows for name in re.findall("`(.*?)`", row)}
    options = {option.lstrip("-") for param in paddle.commands["submit"].params for option in param.opts}
    assert {"jobname", "image", "registry", *FIELDS} <= named <= options


def specs() -> list[str]:
    """Return every YAML block that is a spec: one with a key of specs at its top."""
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    return [block for block in blocks if set(re.findall(r"^(\w+):", block, re.M)) & {*SUPPORTED, *PADDLE_FIELDS}]


def test_every_spec_is_one():
    gang, array, package = (parse_spec(block.encode(), "x") for block in specs())
    assert [(group.count, group.service) for group in gang.groups] == [(4, False), (1, True)]
    assert array.array is not None
    assert (len(array.array.indices), array.array.at_once, len(array.depends_on)) == (100, 10, 2)
    assert [(group.name, group.count, group.service) for group in package.groups] == [
        ("trainer", 3, False),
        ("pserver", 3, True),
    ]


def test_the_table_of_variables_is_what_a_process_is_told():
    rows = re.findall(r"^\| [A-Za-z ]+ \| (`.*) \|$", section("A spec").split("| who knows them |")[1], re.MULTILINE)
    named = {word for row in rows for words in re.findall(r"`(.*?)`", row) for word in words.split()}
    facts = Facts(
        "dc1", "ann", 2, "x", 1, (GroupHosts("a", ("h",)),), 0, 0, ("g",), {}, (), 3, array_id=1, array_index=0
    )
    told = {re.sub(r"(GROUP|PROCESS)\d", r"\1<>", name) for name in environment(facts)}
    told = {"<GROUP>_GROUP_DIR" if name == "G_GROUP_DIR" else name for name in told if not name.startswith("PET_")}
    named = {re.sub(r"<[ij]>", "<>", name) for name in named if "*" not in name and not name.islower()}
    assert told - {"HOME", "USER", "LOGNAME"} == named


def test_what_a_job_in_paddleclouds_fields_is_told_besides_is_named_and_what_is_not_set_is_not():
    facts = Facts("dc1", "ann", 2, "x", 1, (GroupHosts("trainer", ("h",)), GroupHosts("pserver", ("p",), True)), 0, 0)
    fields = {"cpu": "1", "gpu": "0", "passes": "1", "entry": "x", "topology": ""}
    told = environment(replace(facts, paddle=Paddle(None, fields)))
    besides = {name for name in told.keys() - environment(facts).keys() if not name.startswith("PADDLE_")}
    [text] = [each for each in section("A spec").split("\n\n") if each.startswith("A job in PaddleCloud's fields has")]
    said, unset = (
        {word for words in re.findall(r"`(.*?)`", part, re.DOTALL) for word in words.split()}
        for part in text.split("Not set are")
    )
    assert besides == {name for name in said if not name.startswith("PADDLE_")}
    assert {name for name in said if name.startswith("PADDLE_") and not name.endswith("*")} <= told.keys()
    assert not unset & told.keys() - {"PADDLE_INIT_TRAINER_ID", "TRAINERS"}


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


def test_the_table_of_options_is_what_gradient_node_understands():
    rows = re.findall(r"^\| (`--.*?) \| (.*?) ?\| (.*) \|$", section("Nodes").split("**Who")[0], re.MULTILINE)
    named = []
    for option in NODE_OPTIONS:
        first = f"`--{option.name} {option.value}`".replace(" `", "`")
        names = ", ".join([first, *(f"`--{name}`" for name in option.names)])
        named.append((names, option.variable and f"`{option.variable}`", option.help))
    assert rows == named


def test_the_attributes_of_nodes_are_those_that_a_machine_tells():
    gpu = Gpu(NodeGpu("GPU-0", 0, "GTX", 1), ("nvidia0",))
    told = {*machine_attrs("1"), *gpu_attrs([gpu], "driver"), *ATTRIBUTES.values()}
    groups = re.findall(r"`((?:[a-z]+[A-Z]\w*\s?)+)`", section("Nodes").split("| option")[0])
    assert {name for group in groups for name in group.split()} - {"nodeAttrs"} == told
    assert FIRST_CLUSTER in section("Nodes")


def test_the_table_of_the_policy_file_is_what_its_reader_knows():
    rows = re.findall(r"^\| `(\w+)` \| ", section("The rules of a node"), re.MULTILINE)
    assert rows == list(POLICY_KEYS)
    assert f"`{DEFAULT_FILE}`" in section("The rules of a node")


def test_the_places_in_a_container_and_those_that_no_mount_can_have_are_told():
    text = section("The rules of a node")
    assert re.findall(r"^\| `(/\w+)` \| ", text, re.MULTILINE) == [HOME, ARTIFACTS, STORAGE]
    refused, below = re.findall(r"one of the places (.*?), or\s+one at or below (.*?);", text, re.DOTALL)[0]
    assert set(re.findall(r"`(.*?)`", refused)) == set(KEPT_TARGETS)
    assert set(re.findall(r"`(.*?)`", below)) == set(KEPT_BELOW)


def test_the_unit_and_its_file_are_told():
    assert f"`{ENVIRONMENT_FILE}`" in section("The rules of a node")


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


def test_the_life_of_a_job_is_drawn_from_its_rules(request: pytest.FixtureRequest):
    [drawn] = re.findall(r"^\| state .*(?:\n\|.*)*", section("The life of a job"), re.MULTILINE)
    now = table(RULES)
    if request.config.getoption("--rewrite"):
        (ROOT / "README.md").write_text(README.replace(drawn, now))
    else:
        assert drawn == now


def test_addresses_and_places_are_the_defaults():
    assert f"127.0.0.1:{DEFAULT_PORT}" in README
    for place in ("/var/lib/pfs", "/var/lib/pfs-node", "server/pfs.sqlite"):
        assert f"`{place}`" in README


def test_the_limits_over_http_are_those_of_the_server() -> None:
    mib, kib = 1 << 20, 1 << 10
    for words in (
        f"| a TLS handshake | {guard.HANDSHAKE_TIMEOUT_S:.0f} s |",
        f"| the head of a request | {Config().h11_max_incomplete_size // kib} KiB, and {guard.HEAD_TIMEOUT_S:.0f} s |",
        f"{entrance.BODY_BYTES_MAX // kib} KiB of what concerns accounts, {bodies.WHOLE_BYTES_MAX // mib} MiB of a",
        f"{routes.FILE_BYTES_MAX >> 40} TiB of a file; {bodies.BODY_SILENCE_S:.0f} s of silence, or "
        f"{bodies.BODY_RATE_MIN // kib} KiB a second",
        f"| {sockets.WRITE_PIECE_BYTES // kib} KiB in {sockets.WRITE_TIMEOUT_S:.0f} s |",
        f"| {guard.KEEP_ALIVE_S:.0f} s |",
        f"| {crowd.MOST} in all, and {crowd.MOST_OF_ADDRESS} of one address",
        f"| {routes.ASKED_AT_ONCE_MAX} of one account |",
        f"| {routes.CHANNELS_MAX} of one account |",
    ):
        assert words in section("Over HTTP"), words
    assert (line.BODY_SILENCE_S, line.BODY_RATE_MIN) == (bodies.BODY_SILENCE_S, bodies.BODY_RATE_MIN)
    assert line.KEEP_ALIVE_S == guard.KEEP_ALIVE_S


def test_the_doors_for_clients_of_paddlecloud_are_told_with_their_methods() -> None:
    there: dict[str, set[str]] = {}
    gate, desk = Gate(cast(Any, None), cast(Any, None), {}), SimpleNamespace(datacenter="dc1")
    named: dict[str, Any] = dict.fromkeys(("datacenter", "user", "endpoint", "about"))
    for door in (*rest_routes(gate, cast(Any, desk)), *Publishing(gate, cast(Any, None), **named).routes()):
        there.setdefault(door.path, set()).add(door.method)
    there[entrance.TOKEN_AUTH_PATH] = {"POST"}
    told = {}
    for paths, methods in re.findall(r"^\| (`/[^|]*) \| ([A-Z,; ]+) \|", section("REST v1"), re.MULTILINE):
        names, groups = re.findall(r"`([^`]+)`", paths), methods.split(";")
        told |= {name: set(re.findall("[A-Z]+", groups[min(n, len(groups) - 1)])) for n, name in enumerate(names)}
    assert told == there


def test_how_much_goes_into_a_job_at_once_is_what_the_server_lets_in() -> None:
    said = f"| {attaching.SESSIONS_OF_USER_MAX} programs and connections of one account, "
    assert f"{said}{attaching.SESSIONS_ON_NODE_MAX} on one node |" in section("Into a job")
