"""The sandbox runtime: bubblewrap around the machine's own userland, for machines without a container engine.

Each task has a supervisor (`supervisor.sh`), which no daemon is the parent of for long, and a directory:

    lock      locked while the supervisor or any of the task lives  pid     the supervisor's id and start time
    script    variables and the program, for the sandbox's shell    etc/    passwd, group, hosts of the sandbox
    options   those of bubblewrap                                   pipe    what the task writes into
    output    what came out of the pipe
    started   not empty once the sandbox stood                      exit    the exit code, last of all

A free lock without `exit` is a supervisor that was killed; its sandbox dies with it. CPUs and memory are not limited.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import trio

from jobd.node import processes, userland
from jobd.node.processes import Process
from jobd.node.runtime import Exit, Launch, RuntimeFailure
from jobd.node.state import boot_id
from jobd.node.tail import CLOSING_S, Watch, follow

PROBE_TIMEOUT_S = 10.0
KILL_AGAIN_S = 0.5
THREADS_MAX = 8

# generations below the supervisor: bwrap itself, the first process of the sandbox, everything of the task
_BWRAP, _TASK = 1, 3
_OUTPUT_WRITERS = ("cat", "sh")
_LOCK_DESCRIPTOR = 9
_NO_STANDARD_STREAMS = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]
_SIGNALS_RESET = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]


class SandboxRuntime:
    """Runs tasks under bubblewrap.

    Args:
        directory: where the runtime keeps what it must know about its tasks.
        sandbox_paths: further paths of the machine that every task may read.
    """

    name = "sandbox"

    def __init__(self, directory: Path, sandbox_paths: Sequence[Path] = ()) -> None:
        self._tasks = directory / "tasks"
        self._sandbox_paths = sandbox_paths
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a new file each time: supervisors that run are still reading the old one
        self._supervisor = directory / "supervisor.sh"
        fresh = directory / "supervisor.sh.new"
        shutil.copyfile(Path(__file__).with_name("supervisor.sh"), fresh)
        fresh.rename(self._supervisor)

    async def start(self, launch: Launch) -> None:
        """Start the task; see `Runtime`."""
        userland.check(launch)
        uid, gid = _owner(launch)
        directory = self._tasks / launch.task_id
        directory.mkdir(mode=0o700, exist_ok=True)
        lock = _lock(directory)
        if lock is None:
            return
        try:
            if (directory / "pid").exists():
                return
            with Watch(directory) as watch:
                self._spawn(launch, directory, lock, uid, gid)
                os.close(lock)
                lock = None
                while not _has_started(directory) and not _is_over(directory):
                    await watch.changed()
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise RuntimeFailure(f"the sandbox cannot be started: {error.strerror}") from None
        finally:
            if lock is not None:
                os.close(lock)
        if not _has_started(directory):
            reason = _failure(directory)
            await self.remove(launch.task_id)
            raise RuntimeFailure(reason)

    def _spawn(self, launch: Launch, directory: Path, lock: int, uid: int, gid: int) -> None:
        etc = directory / "etc"
        etc.mkdir(exist_ok=True)
        for name, text in userland.etc_files(launch, uid, gid).items():
            (etc / name).write_text(text)
            (etc / name).chmod(0o444)
        (directory / "script").write_text(userland.script(launch), "utf-8", "surrogateescape")
        (directory / "boot_id").write_text(boot_id())
        (directory / "output").touch(0o600)
        pipe = directory / "pipe"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, 0o600)
        # /dev/stdout and /dev/stderr open for the owner only if the pipe is the owner's
        os.chown(pipe, uid, gid)
        options = userland.options(launch, etc, self._sandbox_paths)
        (directory / "options").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in options))
        os.posix_spawn(
            "/bin/sh",
            ["sh", str(self._supervisor), str(directory), *userland.command(launch, uid, gid)],
            {"PATH": userland.PATH},
            file_actions=[*_close_inherited(), *_NO_STANDARD_STREAMS, (os.POSIX_SPAWN_DUP2, lock, _LOCK_DESCRIPTOR)],
            setsid=True,
            setsigmask=[],
            setsigdef=_SIGNALS_RESET,
        )

    async def tasks(self) -> Sequence[str]:
        """Return the ids of all tasks; see `Runtime`."""
        found = []
        for directory in sorted(self._tasks.iterdir()):
            if (directory / "pid").exists() or not _is_over(directory):
                found.append(directory.name)
            else:
                # a daemon was killed before there was a supervisor: nothing ever ran
                shutil.rmtree(directory)
        return found

    async def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the task's output; see `Runtime`."""
        directory = self._tasks / task_id
        file = directory / "output"
        if not file.exists():
            return
        async with contextlib.aclosing(follow(file, offset, lambda: _is_over(directory))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def wait(self, task_id: str) -> Exit:
        """Return when the task is over; see `Runtime`."""
        directory = self._tasks / task_id
        while True:
            over = _is_over(directory)
            supervisor = _supervisor(directory)
            if over:
                _reap(supervisor)
                return _exit(directory)
            if supervisor is not None and not supervisor.is_dead:
                await _ended(supervisor)
                continue
            # a supervisor that has not yet said who it is, or one that was killed and whose task is dying
            with Watch(directory) as watch:
                if not _is_over(directory) and _supervisor(directory) == supervisor:
                    with trio.move_on_after(CLOSING_S):
                        await watch.changed()

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to all processes of the task; see `Runtime`."""
        supervisor = _supervisor(self._tasks / task_id)
        if supervisor is not None:
            await trio.to_thread.run_sync(_signal, supervisor, number, limiter=self._threads)

    async def remove(self, task_id: str) -> None:
        """End and forget the task; see `Runtime`."""
        directory = self._tasks / task_id
        while not _is_over(directory):
            await self.signal(task_id, signal.SIGKILL)
            # a supervisor that had not yet come to starting its sandbox is asked again
            with trio.move_on_after(KILL_AGAIN_S):
                await self.wait(task_id)
        supervisor = _supervisor(directory)
        if supervisor is not None:
            with trio.move_on_after(KILL_AGAIN_S):
                await _ended(supervisor)
        if directory.exists():
            await trio.to_thread.run_sync(shutil.rmtree, directory, limiter=self._threads)


async def probe() -> str:
    """Return why no sandbox can run on this machine; "" when one can."""
    missing = [name for name in ("bwrap", "setpriv") if shutil.which(name, path=userland.PATH) is None]
    if missing:
        return f"{missing[0]} is not installed"
    command = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", "/", "/", "--proc", "/proc"]
    if os.geteuid() != 0:
        command.append("--unshare-user")
    with trio.move_on_after(PROBE_TIMEOUT_S):
        done = await trio.run_process(
            [*command, "--dev", "/dev", "true"],
            stdout=subprocess.DEVNULL,
            capture_stderr=True,
            check=False,
            env={"PATH": userland.PATH},
        )
        return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip()
    return "bwrap does not come to an end"


def _close_inherited() -> list[tuple[int, int]]:
    """Return what keeps descriptors that the daemon's own parent left open away from tasks."""
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    return [(os.POSIX_SPAWN_CLOSE, fd) for fd in descriptors if fd > 2 and _is_inheritable(fd)]


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _owner(launch: Launch) -> tuple[int, int]:
    uid = os.geteuid() if launch.uid is None else launch.uid
    gid = os.getegid() if launch.gid is None else launch.gid
    if os.geteuid() != 0 and (uid, gid) != (os.geteuid(), os.getegid()):
        raise RuntimeFailure(f"this node does not run as root: it can start processes of user {os.geteuid()} only")
    return uid, gid


def _lock(directory: Path) -> int | None:
    """Take the lock that a supervisor will hold; None when one lives."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _is_over(directory: Path) -> bool:
    """Tell whether neither supervisor nor task lives, or only a supervisor that has nothing left to do."""
    if (directory / "exit").exists():
        return True
    try:
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _has_started(directory: Path) -> bool:
    try:
        return (directory / "started").stat().st_size > 0
    except FileNotFoundError:
        return False


def _failure(directory: Path) -> str:
    text = (directory / "output").read_text(errors="replace").strip()
    return f"the sandbox cannot be set up: {text or 'its supervisor was killed'}"


def _exit(directory: Path) -> Exit:
    try:
        code = int((directory / "exit").read_text())
    except FileNotFoundError:
        if not directory.exists():
            return Exit(125, "the node's record of the task was removed")
        if (directory / "boot_id").read_text() != boot_id():
            return Exit(125, "the machine was restarted")
        return Exit(125, "the sandbox's supervisor was killed")
    return Exit(code) if _has_started(directory) else Exit(125, _failure(directory))


def _supervisor(directory: Path) -> Process | None:
    """Return the task's supervisor if it lives, or has died and waits for its parent."""
    try:
        pid, start_ticks = (int(word) for word in (directory / "pid").read_text().split())
    except FileNotFoundError:
        return None
    process = processes.find(pid)
    return process if process is not None and process.start_ticks == start_ticks else None


def _signal(supervisor: Process, number: int) -> None:
    if number != signal.SIGKILL:
        processes.send_to_all_below(supervisor, number, _TASK)
        return
    # everything in a sandbox ends with its bwrap, in whatever state it is
    for process in processes.descendants(supervisor):
        if process.depth == _BWRAP and process.name not in _OUTPUT_WRITERS:
            processes.send(process, number)


async def _ended(process: Process) -> None:
    descriptor = processes.open_pidfd(process)
    if descriptor is None:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    _reap(process)


def _reap(process: Process | None) -> None:
    """Let go of a supervisor that is over, where it was this daemon that started it."""
    if process is not None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
