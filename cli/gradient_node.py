"""`gradient-node`: takes work from a server and runs it on this machine.

What it says of its progress goes to standard error, in the form of Go's log, or as objects of JSON.
"""

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.build import own_build, own_version
from cli.errors import only_error, status_of
from cli.loading import loading
from cli.loglines import JSON, GoFormatter, JsonFormatter, log_lines
from cli.node.options import PROGRAM, Settings, parse, settings_of
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    import trio

    from cli.node.rules import NodeRules
    from jobd.identity import Claim
    from jobd.node.docker import DockerRuntime
    from jobd.node.runtime import Runtime
    from jobd.node.state import StateDir
    from jobd.node.telemetry import GpuWatch
    from jobd.wire import Welcome

Farewell = Callable[[], Awaitable[None]]
END_TIMEOUT_S = 2.0
ENGINE_PAUSE_S = 2.0
JOIN_PAUSE_S, JOIN_PAUSE_MAX_S = 1.0, 60.0

_log = logging.getLogger(PROGRAM)


def main() -> None:
    """Run the program."""
    sys.exit(status_of(PROGRAM, lambda: run(sys.argv[1:], os.environ)))


def run(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the daemon until it is asked to end; return the exit status.

    Raises:
        PfsError: it cannot run as it was asked to.
    """
    given = parse(list(arguments))
    if (given.service or "false").lower() != "false":
        from cli.node.service import unit

        click.echo(unit(given, env), nl=False)
        return 0
    settings = settings_of(given, env)
    if settings.log_format == JSON:
        return status_of(PROGRAM, lambda: _status(settings, _log.error), _log.error)
    return _status(settings, lambda text: click.echo(f"{PROGRAM}: {text}", err=True))


def _status(settings: Settings, say: Callable[[str], None]) -> int:
    import trio

    try:
        return trio.run(_run, settings)
    except PfsError as error:
        if error.kind not in (Kind.DENIED, Kind.FORBIDDEN):
            raise
        say(str(error))
        return 2


async def _run(settings: Settings) -> int:
    import trio

    _set_up_log(settings)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        farewells: list[Farewell] = []
        await nursery.start(_end_when_asked, nursery.cancel_scope, farewells)
        try:
            await _serve(settings, farewells)
        except* PfsError as group:
            failure = only_error(group)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return 0


async def _serve(settings: Settings, farewells: list[Farewell]) -> None:
    with loading():
        from cli.node.files import check_files, open_files
        from cli.node.rules import read_rules
        from jobd.node import attrs
        from jobd.node.daemon import Daemon
        from jobd.node.state import StateDir
        from jobd.node.telemetry import GpuWatch
        from jobd.node.watchdog import Watchdog
        from pfs.client.connection import connect_channel

    data_root = check_files(settings)
    with StateDir(settings.state_dir) as state:
        _say(f"Starting {PROGRAM} {own_version()} {own_build()}")
        settings = replace(settings, api_key=await _joined(settings, state))
        offer = attrs.offer(settings.cpus, settings.memory_bytes, settings.max_processes)
        gpus = GpuWatch(_say)
        await gpus.look()
        told = {**attrs.machine_attrs(own_version()), **gpus.attrs()}
        rules = read_rules(settings, state.instance, data_root)
        async with (
            _runtimes(settings, state.path, state.instance, gpus, rules) as (runtimes, docker, words),
            open_files(settings, data_root, state.instance, runtimes) as files,
        ):
            hosts = settings.api_host, settings.log_host
            connect, connect_logs = (partial(connect_channel, host, settings.api_key) for host in hosts)
            daemon = Daemon(
                connect,
                runtimes,
                state,
                files,
                claim=_claim(settings, state.instance),
                attrs={**told, **offer, **rules.told(), **(docker.versions if docker else {})},
                address=lambda: _own_address(settings),
                watchdog=Watchdog(state.path),
                gpus=gpus,
                overlays=docker,
                connect_logs=None if hosts[0] == hosts[1] else connect_logs,
                tell=_say,
                welcomed=_Greeting(settings.name, told, words),
            )
            farewells.append(daemon.leave)
            await daemon.run()


async def _joined(settings: Settings, state: "StateDir") -> str:
    """Return the node's key; with a join token that is one of its own, for which the server is waited for."""
    import trio

    from cli.node.enrolling import joined_key
    from pfs.keys import is_join_token

    if not is_join_token(settings.api_key):
        return settings.api_key
    name, pause_s = settings.name or socket.gethostname(), JOIN_PAUSE_S
    while True:
        try:
            join = partial(joined_key, settings.api_key, settings.api_host, state.path)
            join = partial(join, machine=state.instance, name=name)
            return await trio.to_thread.run_sync(join, abandon_on_cancel=True)
        except PfsError as error:
            if error.kind not in (Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.TOO_MANY):
                raise
            _say(f"{error}; trying again")
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, JOIN_PAUSE_MAX_S)


def _claim(settings: Settings, token: str) -> "Claim":
    from jobd.identity import Claim

    return Claim(settings.name, settings.node_id, settings.cluster, settings.cluster_id, token)


async def _own_address(settings: Settings) -> str:
    from jobd.node.attrs import own_address

    return settings.address or await own_address(settings.api_host)


@asynccontextmanager
async def _runtimes(
    settings: Settings, state: Path, instance: str, gpus: "GpuWatch", rules: "NodeRules"
) -> AsyncIterator[tuple[Mapping[str, "Runtime"], "DockerRuntime | None", str]]:
    """Give what can run tasks here, Docker among it once more, and a sentence about it.

    Raises:
        PfsError: UNSUPPORTED when there is nothing.
    """
    from cli.node.files import check_engine
    from jobd.node import sandbox
    from jobd.node.runtime import RuntimeAway
    from jobd.node.versions import warnings

    runtimes: dict[str, Runtime] = {}
    engine = None
    words = []
    async with AsyncExitStack() as stack:
        try:
            found = await _docker(settings.docker_url, state / "docker", instance, stack)
            check_engine(settings)
            engine = runtimes["docker"] = found
            words.append(f"docker ({settings.docker_url})")
        except RuntimeAway as error:
            words.append(f"no docker ({error})")
        is_wanted = rules.rules.policy.sandbox or _has_tasks(state / "sandbox")
        why_not = await sandbox.probe() if is_wanted else "the policy of this node"
        if why_not:
            words.append(f"no sandbox ({why_not})")
        else:
            rules.check_sandbox()
            runtimes["sandbox"] = sandbox.SandboxRuntime(state / "sandbox", settings.sandbox_paths, gpus.files)
            words.append("sandbox")
        if not runtimes:
            cure = "" if os.geteuid() == 0 else "; use sudo"
            raise PfsError(Kind.UNSUPPORTED, f"nothing can run jobs on this machine: {', '.join(words)}{cure}")
        for warning in warnings(engine.versions if engine is not None else {}):
            _log.warning("%s", warning)
        if gpus.told.gpus:
            words.append(", ".join(gpu.model for gpu in gpus.told.gpus))
            if engine is not None and not engine.gives([gpu.uuid for gpu in gpus.told.gpus]):
                _log.warning("the engine has neither NVIDIA's runtime nor CDI: containers will not see their GPUs")
        yield rules.keep(runtimes, settings.docker_url, _log.warning), engine, ", ".join(words)


async def _docker(url: str, directory: Path, instance: str, stack: AsyncExitStack) -> "DockerRuntime":
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
            ("name", welcome.name),
            ("id", welcome.node_id),
            ("cluster", welcome.cluster),
            ("clusterId", welcome.cluster_id),
            ("nodeAttrs", json.dumps(self._attrs, separators=(",", ":"))),
            ("runtimes", self._offer),
        ):
            _say(f"GradientNode {what}: {value}")
        if self._name not in ("", welcome.name):
            why = "it was renamed, or has jobs under that name still"
            _log.warning("this node is called %s, not %s: %s", welcome.name, self._name, why)


def _say(text: str) -> None:
    _log.info(text)


def _set_up_log(settings: Settings) -> None:
    log_lines(logging.WARNING, formatter=JsonFormatter() if settings.log_format == JSON else GoFormatter())
    logging.captureWarnings(settings.log_format == JSON)
    _log.setLevel(logging.INFO)
    for package in ("jobd", "pfs"):
        logging.getLogger(package).setLevel(logging.DEBUG if settings.debug else logging.WARNING)


async def _end_when_asked(
    everything: "trio.CancelScope", farewells: list[Farewell], task_status: "trio.TaskStatus[None]"
) -> None:
    """On TERM or INT end the daemon, and only it."""
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            # a call to an engine that hangs cannot be cancelled; a kill in its middle does no harm
            last = threading.Timer(END_TIMEOUT_S, os._exit, (0,))
            last.daemon = True
            last.start()
            for farewell in farewells:
                await farewell()
            everything.cancel()
