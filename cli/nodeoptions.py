"""The command line of `gradient-node`, and what else says how it shall run.

Options are written as gradient-node's users know them: `-name` and `--name`, `--name x` and `--name=x`. An option
counts more than its environment variable, that more than `~/.paperspace/config.json`.
"""

import argparse
import json
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pfs.errors import Kind, PfsError

PROGRAM = "gradient-node"
CONFIG_FILE = "~/.paperspace/config.json"
DOCKER_URL = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the daemon was asked to run.

    Attributes:
        api_host: URL of the server.
        docker_url: of the container engine.
        sandbox_paths: further paths that every sandboxed task may read.
        address: under which fellows on other machines reach this one; "" is that on the way to the server.
        cpus, memory_bytes: what jobs may use; None is all that there is.
    """

    api_key: str
    api_host: str
    name: str
    debug: bool
    data_root: Path
    state_dir: Path
    docker_url: str
    sandbox_paths: tuple[Path, ...]
    address: str
    cpus: float | None
    memory_bytes: int | None
    max_processes: int


def own_version() -> str:
    """Return the version of this program."""
    try:
        return version("pfs-jobs")
    except PackageNotFoundError:
        return "unreleased"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Take a command line apart; ends the program where it cannot be understood, or asks for help."""
    parser = argparse.ArgumentParser(
        PROGRAM, description="Runs jobs of a pfs server on this machine.", allow_abbrev=False
    )

    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(f"-{name}", f"--{name}", help=text, **more)

    add("apiKey", "key of the node [GRADIENT_NODE_API_KEY]", metavar="KEY")
    add("apiHost", "URL of the server; a key names its own [GRADIENT_NODE_API_HOST]", metavar="URL")
    add("name", "name of the node; by default the host name [GRADIENT_NODE_NAME]")
    add("debug", "say more [GRADIENT_NODE_DEBUG]", action="store_true")
    add("data-root", "where this machine has the server's data root", metavar="DIR")
    add("state-dir", "where the daemon keeps what it must know after a restart", metavar="DIR")
    add("docker-host", "container engine [DOCKER_HOST]", metavar="URL")
    add("sandbox-path", "what tasks in a sandbox may read besides; may be repeated", metavar="PATH", action="append")
    add(
        "address",
        "where other nodes reach this one; else its address on the way to the server",
        metavar="IP",
        default="",
    )
    add("cpus", "CPUs that jobs may use; else all", metavar="N", type=_cpus)
    add("memory", "memory that jobs may use, such as 64GiB; else all", metavar="SIZE", default="")
    add("max-processes", "how many processes of jobs may run at once; else 64", metavar="N", type=_count, default=64)
    add("version", "show the version", action="version", version=f"{PROGRAM} {own_version()}")
    return parser.parse_args(arguments)


def settings_of(given: argparse.Namespace, env: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raises:
        PfsError: UNAUTHENTICATED without a proper key, INVALID for what else is missing or wrong.
    """
    from pfs.keys import url_of_key

    key = given.apiKey or env.get("GRADIENT_NODE_API_KEY") or _configured_key()
    if not key:
        raise PfsError(Kind.UNAUTHENTICATED, f"no API key: give --apiKey, GRADIENT_NODE_API_KEY or {CONFIG_FILE}")
    if given.data_root is None:
        raise PfsError(Kind.INVALID, "no --data-root: where does this machine have the server's data root?")
    return Settings(
        api_key=key,
        api_host=given.apiHost or env.get("GRADIENT_NODE_API_HOST") or url_of_key(key),
        name=given.name or env.get("GRADIENT_NODE_NAME") or socket.gethostname(),
        debug=given.debug or _flag("GRADIENT_NODE_DEBUG", env),
        data_root=Path(given.data_root).absolute(),
        state_dir=Path(given.state_dir or _default_state_dir()).absolute(),
        docker_url=given.docker_host or env.get("DOCKER_HOST") or DOCKER_URL,
        sandbox_paths=tuple(_existing(path) for path in given.sandbox_path or ()),
        address=_address(given.address),
        cpus=given.cpus,
        memory_bytes=_size(given.memory),
        max_processes=given.max_processes,
    )


def _flag(name: str, env: Mapping[str, str]) -> bool:
    text = env.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise PfsError(Kind.INVALID, f"{name} is {env[name]!r}; it is true or false")
    return text == "true"


def _existing(text: str) -> Path:
    path = Path(text).absolute()
    if not path.exists():
        raise PfsError(Kind.INVALID, f"--sandbox-path {text}: there is no such path")
    return path


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
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _cpus(text: str) -> float:
    cpus = float(text)
    if not 0 < cpus < math.inf:
        raise ValueError
    return cpus


def _default_state_dir() -> Path:
    return Path("/var/lib/pfs-node") if os.geteuid() == 0 else Path.home() / ".local/state/pfs-node"


def _configured_key() -> str:
    path = Path(CONFIG_FILE).expanduser()
    try:
        return str(json.loads(path.read_text())["apiKey"])
    except (FileNotFoundError, KeyError):
        return ""
    except (OSError, ValueError, TypeError) as error:
        raise PfsError(Kind.INVALID, f"{path} cannot be read: {error}") from None
