"""The sandbox runtime: bubblewrap around the machine's own userland, for machines without a container engine.

Each task has a supervisor (`supervisor.sh`), which no daemon is the parent of for long, and a directory with two files:
`output`, what the task wrote, and `record`, how it goes with it. All else that a start takes (the program, its
variables, the sandbox's options and files) is handed over in memory: making a file costs a fifth of a millisecond,
and a no-op task should cost ten. CPUs and memory are not limited. What a task writes without an end takes no more of
the machine's disk than the server would keep of it: the rest goes nowhere, and the task goes on.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import trio

from jobd.attach import Program
from jobd.node import etc, processes, record, seccomp, userland
from jobd.node.dialing import dial
from jobd.node.ends import exit_of
from jobd.node.entering import entered
from jobd.node.etc import SharedEtc
from jobd.node.gpus import device_files
from jobd.node.inmemory import in_memory
from jobd.node.keeper import PROCESS_IS_OVER
from jobd.node.processes import Process
from jobd.node.runtime import Attached, Connection, Consent, Exit, Launch, RuntimeFailure, Tell, granted, untold
from jobd.node.spool import OUTPUT_BYTES_MAX
from jobd.node.state import boot_id
from jobd.node.supervisor import first_inside, send, supervisor_of
from jobd.node.tail import CLOSING_S, follow
from jobd.node.watch import Watch
from pfs.errors import Kind, PfsError

PROBE_TIMEOUT_S = 10.0
KILL_AGAIN_S = 0.5
THREADS_MAX = 8
_BLOCK_BYTES = 512  # of a shell's `ulimit -f`

# as the supervisor knows them
_PIPE_READ, _PIPE_WRITE, _SCRIPT, _OPTIONS, _RECORD = 5, 6, 7, 8, 9
_SYSTEM_CALLS, _FILES_FIRST = 19, 20
# above all that a supervisor is given: none is put in another's place before that one was
_ASIDE = 64
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
        gpu_files: finds the files below /dev of each GPU, by UUID.
        output_bytes_max: so much of a task's output is kept, in units of 512 bytes.
    """

    name = "sandbox"
    trouble = ""

    def __init__(
        self,
        directory: Path,
        sandbox_paths: Sequence[Path] = (),
        gpu_files: Callable[[], Mapping[str, Sequence[str]]] = dict,
        *,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
    ) -> None:
        self._tasks = directory / "tasks"
        self._sandbox_paths = sandbox_paths
        self._gpu_files = gpu_files
        self._output_blocks_max = output_bytes_max // _BLOCK_BYTES
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._etc = SharedEtc(directory / "etc", sandbox_paths=sandbox_paths)
        in_use = {found.etc for task in self._tasks.iterdir() if (found := record.read(task)) is not None}
        self._etc.forget_unless(in_use.__contains__)
        self._etc.path()
        self._boot = boot_id()
        self._machine = userland.machine()
        self._system_calls = seccomp.program(os.uname().machine)
        # a new file each time: supervisors that run are still reading the old one
        self._supervisor = directory / "supervisor.sh"
        fresh = directory / "supervisor.sh.new"
        shutil.copyfile(Path(__file__).with_name("supervisor.sh"), fresh)
        fresh.rename(self._supervisor)

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        """Start the task; see `Runtime`."""
        userland.check(launch)
        await consent("")
        uid, gid = _owner(launch)
        directory = self._tasks / launch.task_id
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = record.take(directory)
        if descriptor is None:
            return
        try:
            found = record.read(directory)
            if found is not None and found.supervisor is not None:
                return
            with Watch(directory) as watch:
                self._spawn(launch, directory, descriptor, uid, gid)
                os.close(descriptor)
                descriptor = None
                while not _has_started(directory) and not record.is_over(directory):
                    await watch.changed()
        except OSError as error:
            _remove(directory)
            raise RuntimeFailure(f"the sandbox cannot be started: {error.strerror}") from None
        finally:
            if descriptor is not None:
                os.close(descriptor)
        if not _has_started(directory):
            reason = _failure(directory)
            await self.remove(launch.task_id)
            raise RuntimeFailure(reason)

    def _spawn(self, launch: Launch, directory: Path, descriptor: int, uid: int, gid: int) -> None:
        shared_etc = self._etc.path()
        record.begin(descriptor, self._boot, shared_etc.name)
        os.close(os.open(directory / "output", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with _Given() as given:
            given.add(_RECORD, os.dup(descriptor))
            read_end, write_end = os.pipe()
            given.add(_PIPE_READ, read_end)
            given.add(_PIPE_WRITE, write_end)
            # /dev/stdout and /dev/stderr open for the owner only if the pipe is the owner's
            os.fchown(given.own[_PIPE_WRITE], uid, gid)
            files = {}
            for number, (name, text) in enumerate(etc.own_files(launch, uid, gid).items(), _FILES_FIRST):
                files[f"{etc.OWN}/{name}"] = number
                given.add(number, in_memory(text.encode()))
            devices = device_files(self._gpu_files(), launch.gpus)
            sandbox = userland.Sandbox(self._machine, str(shared_etc), files, self._sandbox_paths, devices)
            if self._system_calls is not None:
                given.add(_SYSTEM_CALLS, in_memory(self._system_calls))
                sandbox = replace(sandbox, system_calls=_SYSTEM_CALLS)
            options = userland.options(launch, sandbox)
            given.add(_OPTIONS, in_memory(os.fsencode("\0".join([*options, ""]))))
            given.add(_SCRIPT, in_memory(userland.script(launch).encode("utf-8", "surrogateescape")))
            command = userland.command(uid, gid, launch.gids, _OPTIONS)
            os.posix_spawn(
                "/bin/sh",
                ["sh", str(self._supervisor), str(directory), str(self._output_blocks_max), *command, *launch.argv],
                {"PATH": userland.PATH},
                file_actions=[*_close_inherited(), *_NO_STANDARD_STREAMS, *given.actions()],
                setsid=True,
                setsigmask=[],
                setsigdef=_SIGNALS_RESET,
            )

    async def tasks(self) -> Sequence[str]:
        """Return the ids of all tasks; see `Runtime`."""
        found = []
        for directory in sorted(self._tasks.iterdir()):
            noted = record.read(directory)
            if (noted is not None and noted.supervisor is not None) or not record.is_over(directory):
                found.append(directory.name)
            else:
                # a daemon was killed before there was a supervisor: nothing ever ran
                _remove(directory)
        return found

    async def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the task's output; see `Runtime`."""
        directory = self._tasks / task_id
        file = directory / "output"
        if not file.exists():
            return
        async with contextlib.aclosing(follow(file, offset, lambda: record.is_over(directory))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def wait(self, task_id: str) -> Exit:
        """Return when the task is over; see `Runtime`."""
        directory = self._tasks / task_id
        while True:
            over = record.is_over(directory)
            supervisor = supervisor_of(directory)
            if over:
                _reap(supervisor)
                return _exit(directory, self._boot)
            if supervisor is not None and not supervisor.is_dead:
                await _ended(supervisor)
                continue
            # a supervisor that has not yet said who it is, or one that was killed and whose task is dying
            with Watch(directory) as watch:
                if not record.is_over(directory) and supervisor_of(directory) == supervisor:
                    with trio.move_on_after(CLOSING_S):
                        await watch.changed()

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to all processes of the task; see `Runtime`."""
        supervisor = supervisor_of(self._tasks / task_id)
        if supervisor is not None:
            await trio.to_thread.run_sync(send, supervisor, number, limiter=self._threads)

    def image(self, task_id: str) -> str:
        """Return the image of a task: it has none."""
        return ""

    async def inside(self, task_id: str) -> int | None:
        """Return a process of the task; see `Runtime`."""
        supervisor = supervisor_of(self._tasks / task_id)
        if supervisor is None:
            return None
        return await trio.to_thread.run_sync(first_inside, supervisor, limiter=self._threads)

    @asynccontextmanager
    async def attach(self, task_id: str, program: Program) -> AsyncIterator[Attached]:
        """Run a program beside the task; see `Runtime`."""
        async with entered(await self._process(task_id), program) as inside:
            yield inside

    async def dial(self, task_id: str, port: int) -> Connection:
        """Return a connection to a port of the task; see `Runtime`."""
        process = await self._process(task_id)
        try:
            return await dial(process.pid, port, own=True)
        except PermissionError:
            raise PfsError(Kind.DENIED, "this node may not look into its sandboxes") from None

    async def _process(self, task_id: str) -> Process:
        """Return a process of the task that is in its sandbox."""
        pid = await self.inside(task_id)
        process = None if pid is None else processes.find(pid)
        # it is the one that was found there, and none that has come to its number since
        if process is None or process.is_dead or pid != await self.inside(task_id):
            raise PfsError(Kind.BUSY, PROCESS_IS_OVER)
        return process

    def reach(self, task_id: str) -> Mapping[str, str]:
        """Return what the task is reached by without this daemon; see `Runtime`."""
        return {"directory": str(self._tasks / task_id)}

    async def remove(self, task_id: str) -> None:
        """End and forget the task; see `Runtime`."""
        directory = self._tasks / task_id
        while not record.is_over(directory):
            await self.signal(task_id, signal.SIGKILL)
            # a supervisor that had not yet come to starting its sandbox is asked again
            with trio.move_on_after(KILL_AGAIN_S):
                await self.wait(task_id)
        supervisor = supervisor_of(directory)
        if supervisor is not None:
            with trio.move_on_after(KILL_AGAIN_S):
                await _ended(supervisor)
        # a disk that is busy, or much output, would hold the whole daemon up
        await trio.to_thread.run_sync(_remove, directory, limiter=self._threads)


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


class _Given:
    """Descriptors for a supervisor; closed here after the block.

    Attributes:
        own: this process's descriptor for each number that the supervisor knows.
    """

    def __init__(self) -> None:
        self.own: dict[int, int] = {}

    def __enter__(self) -> "_Given":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self.own.values():
            os.close(descriptor)

    def add(self, number: int, descriptor: int) -> None:
        """Give `descriptor` as `number`."""
        self.own[number] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
        os.close(descriptor)

    def actions(self) -> list[tuple[int, int, int]]:
        """Return what makes them the supervisor's."""
        return [(os.POSIX_SPAWN_DUP2, own, number) for number, own in self.own.items()]


def _remove(directory: Path) -> None:
    """Remove a task's directory; gone already is well. A reader that has its output open keeps that."""
    try:
        for name in ("output", record.NAME):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory / name)
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError:
        shutil.rmtree(directory)  # somebody has put more into it


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


def _has_started(directory: Path) -> bool:
    found = record.read(directory)
    return found is not None and found.has_started


def _failure(directory: Path) -> str:
    text = (directory / "output").read_text(errors="replace").strip()
    return f"the sandbox cannot be set up: {text or 'its supervisor was killed'}"


def _exit(directory: Path, boot: str) -> Exit:
    found = record.read(directory)
    if found is None:
        return Exit(125, "the node's record of the task was removed")
    if found.code is None:
        restarted = found.boot != boot
        return Exit(125, "the machine was restarted" if restarted else "the sandbox's supervisor was killed")
    return exit_of(found.code) if found.has_started else Exit(125, _failure(directory))


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
