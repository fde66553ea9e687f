"""`gradient-node`: takes work from a server and runs it on this machine.

What it says of its progress goes to standard error, in the form of Go's log.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.errors import only_error, status_of
from cli.nodeoptions import PROGRAM, Settings, own_version, parse, settings_of
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    import trio

    from jobd.node.docker import DockerRuntime
    from jobd.node.gpus import Gpu
    from jobd.node.runtime import Runtime
    from jobd.wire import Welcome

END_TIMEOUT_S = 2.0
ENGINE_PAUSE_S = 2.0
GPUS_TIMEOUT_S = 60.0


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
    from jobd.node import attrs
    from jobd.node.daemon import Daemon
    from jobd.node.dataroot import DataRoot
    from jobd.node.state import StateDir
    from jobd.node.watchdog import Watchdog
    from pfs.client.connection import connect_channel

    data_root = DataRoot(settings.data_root)
    with StateDir(settings.state_dir) as state:
        _say(f"Starting {PROGRAM} {own_version()}")
        offer = attrs.offer(settings.cpus, settings.memory_bytes, settings.max_processes)
        told = {**attrs.machine_attrs(own_version()), **offer}
        found = await _gpus()
        async with _runtimes(settings, state.path, state.instance, found) as (runtimes, docker, words):
            daemon = Daemon(
                lambda handler: connect_channel(settings.api_host, settings.api_key, handler),
                runtimes,
                state,
                data_root,
                name=settings.name,
                attrs=told,
                address=lambda: _own_address(settings),
                watchdog=Watchdog(state.path),
                gpus=[gpu.told for gpu in found],
                overlays=docker,
                tell=_say,
                welcomed=_Greeting(settings.name, told, words),
            )
            await daemon.run()


async def _own_address(settings: Settings) -> str:
    from jobd.node.attrs import own_address

    return settings.address or await own_address(settings.api_host)


async def _gpus() -> "list[Gpu]":
    """Return the GPUs of this machine; a driver that hangs keeps a node from its other work for a while only."""
    import trio

    from jobd.node import gpus

    with trio.move_on_after(GPUS_TIMEOUT_S):
        return await trio.to_thread.run_sync(gpus.find, abandon_on_cancel=True)
    _say(f"warning: NVIDIA's library has not told of its GPUs within {GPUS_TIMEOUT_S:.0f} s: going on without")
    return []


@asynccontextmanager
async def _runtimes(
    settings: Settings, state: Path, instance: str, gpus: Sequence["Gpu"]
) -> AsyncIterator[tuple[Mapping[str, "Runtime"], "DockerRuntime | None", str]]:
    """Give what can run tasks here, Docker among it once more, and a sentence about it.

    Raises:
        PfsError: UNSUPPORTED when there is nothing.
    """
    from jobd.node import sandbox
    from jobd.node.runtime import RuntimeAway

    runtimes: dict[str, Runtime] = {}
    engine = None
    words = []
    async with AsyncExitStack() as stack:
        try:
            engine = runtimes["docker"] = await _docker(settings.docker_url, state / "docker", instance, stack)
            words.append(f"docker ({settings.docker_url})")
        except RuntimeAway as error:
            words.append(f"no docker ({error})")
        why_not = await sandbox.probe()
        if why_not:
            words.append(f"no sandbox ({why_not})")
        else:
            minors = {gpu.told.uuid: gpu.minor for gpu in gpus}
            runtimes["sandbox"] = sandbox.SandboxRuntime(state / "sandbox", settings.sandbox_paths, minors)
            words.append("sandbox")
        if not runtimes:
            raise PfsError(Kind.UNSUPPORTED, f"nothing can run jobs on this machine: {', '.join(words)}")
        if gpus:
            words.append(", ".join(gpu.told.model for gpu in gpus))
            if engine is not None and not engine.gives([gpu.told.uuid for gpu in gpus]):
                _say("warning: the engine has neither NVIDIA's runtime nor CDI: containers will not see their GPUs")
        yield runtimes, engine, ", ".join(words)


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
