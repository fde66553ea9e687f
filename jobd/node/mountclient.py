"""The process that serves the mount of a job: started, found again, waited for, ended.

It outlives the daemon. Everything that belongs to it lies in one directory, of which nothing is ever removed but by
its name: below `tree` and `shown` are users' files.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from jobd.node import mounting, processes
from jobd.node.processes import Process
from jobd.node.state import replace_file
from pfs.errors import Kind, PfsError

START_S = 60.0
END_S = 10.0
LOOK_EVERY_S = 0.02

TREE, SHOWN, STATE = "tree", "shown", "state"
CONFIG, PLAN, CLIENT, LOG, SAID = "config", "plan", "client", "log", "said"


def lay_out(directory: Path, config: str) -> None:
    """Make the directory of a mount, with the configuration of its process."""
    for name in (".", TREE, SHOWN, STATE):
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory / CONFIG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        file.write(config)


async def start(program: Sequence[str], directory: Path, options: Mapping[str, str]) -> None:
    """Start the process, and return when the mount is in use.

    Args:
        program: `paddle`, as a command.
        options: of the mount, besides those that follow from the directory.

    Raises:
        PfsError: it ended instead, with its words.
    """
    await trio.to_thread.run_sync(_detach_all, directory)
    client = await trio.to_thread.run_sync(_spawn, program, directory, options)
    try:
        with trio.move_on_after(START_S):
            while client.poll() is None:
                if mounting.mounted_at(directory / TREE):
                    return
                await trio.sleep(LOOK_EVERY_S)
            said = _last_line(directory / SAID) or f"the mount ended with {client.returncode}"
            raise PfsError(Kind.IO, said)
        raise PfsError(Kind.TIMED_OUT, f"the mount is not in use after {START_S:.0f} s")
    except BaseException:
        client.kill()
        raise


def _spawn(program: Sequence[str], directory: Path, options: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    options = {"config": str(directory / CONFIG), "log_file": str(directory / LOG), **options}
    words = ["allow_other", *(f"{name}={_escaped(value)}" for name, value in options.items())]
    with open(directory / SAID, "wb") as said:
        client = subprocess.Popen(
            [*program, "mount", str(directory / TREE), "--foreground", "-o", ",".join(words)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, "XDG_STATE_HOME": str(directory / STATE)},
            cwd="/",
            start_new_session=True,
        )
    found = processes.find(client.pid)
    assert found is not None  # it is our child, and not waited for
    replace_file(directory / CLIENT, json.dumps([found.pid, found.start_ticks]))
    return client


def find(directory: Path) -> Process | None:
    """Return the process that serves a mount, if it lives."""
    try:
        pid, start_ticks = json.loads((directory / CLIENT).read_text())
    except (OSError, ValueError, TypeError):
        return None
    found = processes.find(int(pid))
    return found if found is not None and found.start_ticks == start_ticks and not found.is_dead else None


async def gone(client: Process | None) -> None:
    """Return when a process is gone."""
    descriptor = None if client is None else processes.open_pidfd(client)
    if descriptor is None:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        trio.lowlevel.notify_closing(descriptor)
        os.close(descriptor)


def clear(directory: Path) -> None:
    """End a mount and its process, and remove its directory."""
    for point in mounting.mounts_below(directory / SHOWN):
        mounting.detach(point)
    client = find(directory)
    if client is not None:
        _end(client)
    _detach_all(directory)
    for shown in _entries(directory / SHOWN):
        shown.rmdir()
    for file in (
        *_entries(directory / STATE / "pfs"),
        *(directory / name for name in (CONFIG, CLIENT, LOG, SAID, PLAN)),
    ):
        file.unlink(missing_ok=True)
    for name in (SHOWN, TREE, f"{STATE}/pfs", STATE, "."):
        with contextlib.suppress(FileNotFoundError):
            (directory / name).rmdir()


def _end(client: Process) -> None:
    descriptor = processes.open_pidfd(client)
    if descriptor is None:
        return
    try:
        processes.send(client, signal.SIGTERM)
        if not select.select([descriptor], [], [], END_S)[0]:
            processes.send(client, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _detach_all(directory: Path) -> None:
    for point in mounting.mounts_below(directory):
        mounting.detach(point)


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _last_line(file: Path) -> str:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""


def _escaped(value: str) -> str:
    """Return a value as it is written in a list of options of a mount."""
    return value.replace("\\", "\\\\").replace(",", "\\,")
