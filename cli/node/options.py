"""The command line of `gradient-node`, and what else says how it shall run.

Options are written as gradient-node's users know them: `-name` and `--name`, `--name x` and `--name=x`. An option
counts more than its environment variable, that more than `~/.paperspace/config.json`, which has the key alone.
"""

import argparse
import json
import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from cli.build import own_version
from cli.loglines import FORMATS, TEXT
from jobd.node.hostmounts import HostMount, parse_mounts
from jobd.node.ownkey import read_own_key
from pfs.errors import Kind, PfsError

PROGRAM = "gradient-node"
CONFIG_FILE = "~/.paperspace/config.json"
DOCKER_URL = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the daemon was asked to run.

    Attributes:
        api_host: URL of the server.
        log_host: URL to which the output of jobs goes.
        name: of the node; "" for the one that `node_id` has.
        node_id: of the node that this one is, "" for that of its name.
        cluster, cluster_id: by its name or its id, which counts more; "" for the account's default.
        mounts: what this machine shows to every task.
        policy: the policy file that was named; None for the one that is read where it is there.
        docker_url: of the container engine.
        sandbox_paths: further paths that every sandboxed task may read.
        address: under which fellows on other machines reach this one; "" is that on the way to the server.
        cpus, memory_bytes: what jobs may use; None is all that there is.
    """

    api_key: str
    api_host: str
    log_host: str
    name: str
    node_id: str
    cluster: str
    cluster_id: str
    debug: bool
    log_format: str
    mounts: tuple[HostMount, ...]
    policy: Path | None
    data_root: Path | None
    state_dir: Path
    docker_url: str
    sandbox_paths: tuple[Path, ...]
    address: str
    cpus: float | None
    memory_bytes: int | None
    max_processes: int


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        value: what its value is called; "" for one that is only there or not.
        variable: the environment variable that stands for it.
        names: what else it is called.
    """

    name: str
    value: str
    help: str
    variable: str = ""
    names: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def dest(self) -> str:
        """What argparse calls it."""
        return self.name.replace("-", "_")

    @property
    def flags(self) -> list[str]:
        """As what it is written."""
        return [f"{dashes}{name}" for name in (self.name, *self.names) for dashes in ("-", "--")]

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let a parser understand it."""
        flags = self.flags
        text = f"{self.help} [{self.variable}]" if self.variable else self.help
        if self.value:
            action = "append" if self.repeated else "store"
            parser.add_argument(*flags, dest=self.dest, help=text, metavar=self.value, action=action)
        else:
            parser.add_argument(*flags, dest=self.dest, help=text, metavar="true|false", nargs="?", const="true")


OPTIONS = (
    Option("apiKey", "KEY", "the node's key, or a join token: all that is needed", "GRADIENT_NODE_API_KEY"),
    Option("apiHost", "URL", "the server; by default the one that the key names", "GRADIENT_NODE_API_HOST"),
    Option("logHost", "URL", "where the output of jobs goes; by default to the server", "GRADIENT_NODE_LOG_HOST"),
    Option("name", "NAME", "the node's name; by default the host name", "GRADIENT_NODE_NAME"),
    Option("id", "ID", "the id of the node that this one is; with a name, it is renamed", "GRADIENT_NODE_ID"),
    Option("cluster", "NAME", "the cluster, which is made where there is none of that name", "GRADIENT_NODE_CLUSTER"),
    Option("clusterId", "ID", "the cluster's id, which counts more than its name", "GRADIENT_NODE_CLUSTERID"),
    Option("debug", "", "says more", "GRADIENT_NODE_DEBUG"),
    Option("log-format", "FORM", "`text`, or `json`: each record an object on a line, for programs that collect logs"),
    Option(
        "mount",
        "HOST:CONTAINER[:ro]",
        "folders of this machine that every task sees; several, or with commas between",
        "GRADIENT_NODE_MOUNTS",
        names=("mounts",),
        repeated=True,
    ),
    Option("policy", "FILE", "what jobs may do here; by default `/etc/pfs/node.yaml`, where that is"),
    Option("data-root", "DIR", "where this machine has the server's data root; else the tree is mounted for each job"),
    Option("state-dir", "DIR", "where the daemon keeps what it must know after a restart"),
    Option("docker-host", "URL", "the container engine", "DOCKER_HOST"),
    Option("sandbox-path", "PATH", "what tasks in a sandbox may read besides; several", repeated=True),
    Option("address", "IP", "where other nodes reach this one; by default its address on the way to the server"),
    Option("cpus", "N", "CPUs that jobs may use; by default all"),
    Option("memory", "SIZE", "memory that jobs may use, such as `64GiB`; by default all"),
    Option("max-processes", "N", "how many processes of jobs may run at once; by default 64"),
    Option("service", "", "prints a unit for systemd that starts the node with these options"),
)


HELP, VERSION = ("-h", "-help", "--help"), ("-version", "--version")
OTHERS = (*HELP, *VERSION)


class _Parser(argparse.ArgumentParser):
    """Says in one line what it does not understand; half an option is none, also with one dash."""

    def known_only(self, arguments: list[str]) -> list[str]:
        """Return the arguments.

        Raises:
            PfsError: INVALID where one looks like an option and is none.
        """
        known = {"-", "--", *(flag for option in OPTIONS for flag in option.flags), *OTHERS}
        for word in arguments:
            if word.startswith("-") and word.partition("=")[0] not in known and not word[1:2].isdigit():
                self.error(f"there is no option {word}")
        return arguments

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument [^/]*/([^/:]+).*: expected one argument$", r"\1: its value is missing", message)
        message = message.replace("unrecognized arguments:", "everything is said by options; this is none:")
        raise PfsError(Kind.INVALID, f"{message}; see {PROGRAM} --help")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Take a command line apart; ends the program where it asks for help or the version.

    Raises:
        PfsError: INVALID for what cannot be understood.
    """
    usage = f"{PROGRAM} --apiKey KEY [option…]"
    parser = _Parser(
        PROGRAM, usage, description="Runs jobs of a pfs server on this machine.", allow_abbrev=False, add_help=False
    )
    for option in OPTIONS:
        option.add_to(parser)
    parser.add_argument(*HELP, help="shows this", action="help")
    parser.add_argument(*VERSION, help="shows the version", action="version", version=f"{PROGRAM} {own_version()}")
    return parser.parse_args(parser.known_only(arguments))


def settings_of(given: argparse.Namespace, env: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raises:
        PfsError: UNAUTHENTICATED without a proper key, INVALID for what else is missing or wrong.
    """
    from pfs.keys import address_of, url_of_key

    said = {option.name: _said(option, given, env) for option in OPTIONS if not option.repeated}
    state_dir = Path(said["state-dir"] or _default_state_dir()).absolute()
    key = said["apiKey"] or _configured_key() or _own_key(state_dir)
    if not key:
        raise PfsError(Kind.UNAUTHENTICATED, f"no API key: give --apiKey, GRADIENT_NODE_API_KEY or {CONFIG_FILE}")
    api_host = said["apiHost"] or url_of_key(key)
    log_host = said["logHost"] or api_host
    for url in (api_host, log_host):
        address_of(url)
    node_id = _id(said, "id", "cm")
    return Settings(
        api_key=key,
        api_host=api_host,
        log_host=log_host,
        name=_name(said["name"] or ("" if node_id else socket.gethostname())),
        node_id=node_id,
        cluster=said["cluster"].strip(),
        cluster_id=_id(said, "clusterId", "c"),
        debug=_truth(said["debug"]),
        log_format=_format(said["log-format"] or TEXT),
        mounts=parse_mounts(given.mount or [env.get("GRADIENT_NODE_MOUNTS", "")]),
        policy=Path(said["policy"]).absolute() if said["policy"] else None,
        data_root=Path(said["data-root"]).absolute() if said["data-root"] else None,
        state_dir=state_dir,
        docker_url=_engine(said["docker-host"] or DOCKER_URL),
        sandbox_paths=tuple(_existing(path) for path in given.sandbox_path or ()),
        address=_address(said["address"]),
        cpus=_cpus(said["cpus"]),
        memory_bytes=_size(said["memory"]),
        max_processes=_count(said["max-processes"] or "64"),
    )


def _said(option: Option, given: argparse.Namespace, env: Mapping[str, str]) -> str:
    return getattr(given, option.name.replace("-", "_")) or env.get(option.variable, "")


def _name(text: str) -> str:
    from pfs.path import check_name

    try:
        return text and check_name(text)
    except PfsError as error:
        raise PfsError(Kind.INVALID, f"--name: {error}; a node is a directory in nodes/") from None


def _id(said: Mapping[str, str], name: str, prefix: str) -> str:
    text = said[name]
    if text and not re.fullmatch(rf"{prefix}[a-z0-9]{{1,30}}", text):
        raise PfsError(
            Kind.INVALID, f"--{name} {text!r} is no id; one looks like {_LIKE[name]}, as the first start says"
        )
    return text


_LIKE = {"id": "cmdc2sjlenkhwx", "clusterId": "clfu7y1y6"}


def _truth(text: str) -> bool:
    if text.lower() not in ("", "true", "false"):
        raise PfsError(Kind.INVALID, f"--debug (GRADIENT_NODE_DEBUG) is {text!r}; it is true or false")
    return text.lower() == "true"


def _format(text: str) -> str:
    if text not in FORMATS:
        raise PfsError(Kind.INVALID, f"--log-format {text}: it is {' or '.join(FORMATS)}")
    return text


def _existing(text: str) -> Path:
    path = Path(text).absolute()
    if not path.exists():
        raise PfsError(Kind.INVALID, f"--sandbox-path {text}: there is no such path")
    return path


def _engine(text: str) -> str:
    if not re.fullmatch(r"unix:///.+|(tcp|http|https)://([^/:]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}/?", text):
        like = f"one looks like {DOCKER_URL} or tcp://127.0.0.1:2375"
        raise PfsError(Kind.INVALID, f"--docker-host (DOCKER_HOST) {text}: this is no engine's address; {like}")
    return text


def _address(text: str) -> str:
    try:
        return text and str(ip_address(text))
    except ValueError:
        raise PfsError(Kind.INVALID, f"--address {text}: this is no IP address") from None


def _size(text: str) -> int | None:
    from jobd.spec.units import parse_size

    try:
        return parse_size(text) if text else None
    except ValueError as error:
        raise PfsError(Kind.INVALID, f"--memory: {error}") from None


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise PfsError(Kind.INVALID, f"--max-processes {text}: this is a whole number from 1 on")
    return int(text)


def _cpus(text: str) -> float | None:
    try:
        cpus = float(text) if text else None
    except ValueError:
        cpus = 0.0
    if cpus is not None and not 0 < cpus < math.inf:
        raise PfsError(Kind.INVALID, f"--cpus {text}: this is a number above 0, such as 16 or 1.5")
    return cpus


def _default_state_dir() -> Path:
    return Path("/var/lib/pfs-node") if os.geteuid() == 0 else Path.home() / ".local/state/pfs-node"


def _own_key(state_dir: Path) -> str:
    """Return the key that the machine got when it joined."""
    own = read_own_key(state_dir)
    return "" if own is None else own.key


def _configured_key() -> str:
    """Return the key in the configuration file; its `name` is the key's, and nothing of the node's."""
    path = Path(CONFIG_FILE).expanduser()
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"{path} cannot be read: {error}") from None
    key = found.get("apiKey", "") if isinstance(found, dict) else None
    if not isinstance(key, str):
        raise PfsError(Kind.INVALID, f'{path} cannot be read: it looks like {{"apiKey": "pfs1.…"}}')
    return key
