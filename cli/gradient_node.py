"""`gradient-node`: takes work from a server and runs it on this machine.

Options are written as gradient-node's users know them: `-name` and `--name`, `--name x` and `--name=x`. An option
counts more than its environment variable, that more than `~/.paperspace/config.json`. What it says of its progress
goes to standard error, in the form of Go's log.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.errors import only_error, status_of
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    import trio

    from jobd.node.runtime import Runtime
    from jobd.wire import Welcome

PROGRAM = "gradient-node"
CONFIG_FILE = "~/.paperspace/config.json"
DOCKER_URL = "unix:///var/run/docker.sock"
END_TIMEOUT_S = 2.0
ENGINE_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the daemon was asked to run.

    Attributes:
        api_host: URL of the server.
        docker_url: of the container engine.
        sandbox_paths: further paths that every sandboxed task may read.
    """

    api_key: str
    api_host: str
    name: str
    debug: bool
    data_root: Path
    state_dir: Path
    docker_url: str
    sandbox_paths: tuple[Path, ...]


def main() -> None:
    """Run the program."""
    given = parse(sys.argv[1:])
    sys.exit(status_of(PROGRAM, lambda: run(given, os.environ)))


def run(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Run the daemon until it is asked to end; return the exit status.

    Raises:
        PfsError: it cannot run as it was asked to.
    """
    import trio

    try:
        return trio.run(_run, settings_of(given, env))
    except PfsError as error:
        if error.kind not in (Kind.DENIED, Kind.FORBIDDEN):
            raise
        click.echo(f"{PROGRAM}: {error}", err=True)
        return 2


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


async def _run(settings: Settings) -> int:
    import trio

    _set_up_log(settings.debug)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_end_when_asked, nursery.cancel_scope)
        try:
            await _serve(settings)
        except* PfsError as group:
            failure = only_error(group)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return 0


async def _serve(settings: Settings) -> None:
    from jobd.node.attrs import machine_attrs
    from jobd.node.daemon import Daemon
    from jobd.node.dataroot import DataRoot
    from jobd.node.state import StateDir
    from pfs.client.connection import connect_channel

    data_root = DataRoot(settings.data_root)
    with StateDir(settings.state_dir) as state:
        _say(f"Starting {PROGRAM} {own_version()}")
        attrs = machine_attrs(own_version())
        async with _runtimes(settings, state.path, state.instance) as (runtimes, offer):
            daemon = Daemon(
                lambda handler: connect_channel(settings.api_host, settings.api_key, handler),
                runtimes,
                state,
                data_root,
                name=settings.name,
                attrs=attrs,
                tell=_say,
                welcomed=_Greeting(settings.name, attrs, offer),
            )
            await daemon.run()


@asynccontextmanager
async def _runtimes(
    settings: Settings, state: Path, instance: str
) -> AsyncIterator[tuple[Mapping[str, "Runtime"], str]]:
    """Give what can run tasks here, and a sentence about it.

    Raises:
        PfsError: UNSUPPORTED when there is nothing.
    """
    from jobd.node import sandbox
    from jobd.node.runtime import RuntimeAway

    runtimes: dict[str, Runtime] = {}
    words = []
    async with AsyncExitStack() as stack:
        try:
            runtimes["docker"] = await _docker(settings.docker_url, state / "docker", instance, stack)
            words.append(f"docker ({settings.docker_url})")
        except RuntimeAway as error:
            words.append(f"no docker ({error})")
        why_not = await sandbox.probe()
        if why_not:
            words.append(f"no sandbox ({why_not})")
        else:
            runtimes["sandbox"] = sandbox.SandboxRuntime(state / "sandbox", settings.sandbox_paths)
            words.append("sandbox")
        if not runtimes:
            raise PfsError(Kind.UNSUPPORTED, f"nothing can run jobs on this machine: {', '.join(words)}")
        yield runtimes, ", ".join(words)


async def _docker(url: str, directory: Path, instance: str, stack: AsyncExitStack) -> "Runtime":
    """Return the docker runtime; where it has tasks from before, the engine is waited for."""
    import trio

    from jobd.node.docker import open_docker
    from jobd.node.runtime import RuntimeAway

    waiting = False
    while True:
        try:
            return await stack.enter_async_context(open_docker(url, directory, instance))
        except RuntimeAway as error:
            if not _has_tasks(directory):
                raise
            if not waiting:
                waiting = True
                _say(f"{error}; waiting for it, since it has tasks of this node")
        await trio.sleep(ENGINE_PAUSE_S)


def _has_tasks(directory: Path) -> bool:
    return any(directory.glob("tasks/*"))


class _Greeting:
    """Says who the node is when the server has taken it, and later that it is connected again."""

    def __init__(self, name: str, attrs: Mapping[str, object], offer: str) -> None:
        self._name = name
        self._attrs = attrs
        self._offer = offer
        self._said = False

    def __call__(self, welcome: "Welcome") -> None:
        if self._said:
            _say("connected to the server again")
            return
        self._said = True
        for what, value in (
            ("name", self._name),
            ("id", welcome.node_id),
            ("cluster", welcome.cluster),
            ("clusterId", welcome.cluster_id),
            ("nodeAttrs", json.dumps(self._attrs, separators=(",", ":"))),
            ("runtimes", self._offer),
        ):
            _say(f"GradientNode {what}: {value}")


def _say(text: str) -> None:
    # a line each, whatever somebody may have put into a name
    click.echo(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {' '.join(text.split())}", err=True)


class _SaidByLog(logging.Handler):
    """Shows what the modules log as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        _say(f"{record.levelname.lower()}: {self.format(record)}")


def _set_up_log(debug: bool) -> None:
    log = logging.getLogger()
    log.addHandler(_SaidByLog())
    log.setLevel(logging.WARNING)
    for package in ("jobd", "pfs"):
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.WARNING)


async def _end_when_asked(everything: "trio.CancelScope", task_status: "trio.TaskStatus[None]") -> None:
    """On TERM or INT end the daemon, and only it."""
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            # a call to an engine that hangs cannot be cancelled; a kill in its middle does no harm
            last = threading.Timer(END_TIMEOUT_S, os._exit, (0,))
            last.daemon = True
            last.start()
            everything.cancel()
