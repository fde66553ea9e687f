"""The mount of one attempt of a job: its directories, the tasks that see them, and what heals them.

A task is given `shown/<name>`, a mount of one directory of the tree, opened part by part without following a link. When
the process behind the tree was killed, another is started; then these are mounted anew, and copies of them in every
task, where it sees them (`jobd.node.graft`).
"""

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import trio

from jobd.node import graft, mountclient, mounting
from jobd.node.dataroot import open_directory
from jobd.node.runtime import RuntimeFailure
from jobd.node.state import replace_file
from jobd.wire import Assignment, TaskVolume
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

GRAFT_S = 60.0
PAUSE_FIRST_S, PAUSE_MOST_S = 0.2, 4.0

FindProcess = Callable[[str], Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class Server:
    """How mounts reach the server.

    Attributes:
        program: `paddle`, as a command.
        endpoint: its URL.
        cache: where blocks of files are kept.
    """

    program: Sequence[str]
    endpoint: str
    cache: Path


@dataclass
class Plan:
    """What is shown of a job's tree, as it is kept.

    Attributes:
        datacenter: the directory of the mount that holds its tree.
        volumes: source and whether it is read-only, by the name of its directory in `shown`.
        tasks: of each task that uses the mount, those names by what it sees them at.
    """

    datacenter: str
    uid: int
    gid: int
    volumes: dict[str, tuple[str, bool]] = field(default_factory=dict)
    tasks: dict[str, dict[str, str]] = field(default_factory=dict)


def read_plan(directory: Path) -> Plan | None:
    """Return the plan of a mount that a daemon before this one made; None where it did not get so far."""
    try:
        plan = Plan(**json.loads((directory / mountclient.PLAN).read_text()))
        plan.volumes = {name: (str(source), bool(read_only)) for name, (source, read_only) in plan.volumes.items()}
    except (OSError, ValueError, TypeError):
        return None
    return plan


def shown_as(volume: TaskVolume) -> str:
    """Return the name of a volume's directory in `shown`: the same for the same, whoever asks."""
    return hashlib.sha256(f"{volume.read_only} {volume.source}".encode()).hexdigest()[:16]


class JobMount:
    """The mount of one attempt of a job.

    Args:
        directory: where everything of it lies.
        find: a process of a task, which sees what the task sees.
        nursery: what keeps it alive runs there.
    """

    def __init__(self, server: Server, directory: Path, plan: Plan, find: FindProcess, nursery: trio.Nursery) -> None:
        self._server = server
        self._directory = directory
        self._plan = plan
        self._find = find
        self._nursery = nursery
        self._turn = trio.Lock()
        self._life: trio.CancelScope | None = None

    async def bring(self, assignment: Assignment) -> None:
        """Return when the task's directories are there.

        Raises:
            RuntimeFailure: they cannot be had, and why.
        """
        async with self._turn:
            try:
                await self._bring(assignment)
            except (OSError, PfsError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise RuntimeFailure(f"the job's files cannot be mounted: {why}") from None
            finally:
                with trio.CancelScope(shield=True):
                    await self._end_if_unused()

    async def _bring(self, assignment: Assignment) -> None:
        if self._life is None:
            mountclient.lay_out(self._directory, _config(self._plan.datacenter, self._server.endpoint, assignment))
            await self._start_client()
            self.keep_alive()
        wanted = {shown_as(volume): volume for volume in assignment.volumes}
        for name, volume in wanted.items():
            if name not in self._plan.volumes:
                await trio.to_thread.run_sync(self._show, name, volume.source, volume.read_only)
                self._plan.volumes[name] = (volume.source, volume.read_only)
        self._plan.tasks[assignment.task_id] = {volume.target: shown_as(volume) for volume in assignment.volumes}
        self._keep_plan()

    async def leave(self, task_id: str) -> None:
        """A task is gone, and the mount with the last one."""
        async with self._turn:
            if self._plan.tasks.pop(task_id, None) is not None:
                self._keep_plan()
            await self._end_if_unused()

    async def _end_if_unused(self) -> None:
        if self._plan.tasks:
            return
        if self._life is not None:
            self._life.cancel()
            self._life = None
        self._plan.volumes.clear()
        await trio.to_thread.run_sync(mountclient.clear, self._directory)

    async def _start_client(self) -> None:
        options = {"ids": "job", "uid": self._plan.uid, "gid": self._plan.gid, "cache_dir": self._server.cache}
        texts = {name: str(value) for name, value in options.items()}
        await mountclient.start(self._server.program, self._directory, texts)

    def _keep_plan(self) -> None:
        replace_file(self._directory / mountclient.PLAN, json.dumps(asdict(self._plan)))

    # ---- the health of it

    def keep_alive(self) -> None:
        """From now on see to it that the mount is served."""
        self._life = trio.CancelScope()
        self._nursery.start_soon(self._watch, self._life)

    async def _watch(self, life: trio.CancelScope) -> None:
        pause_s = PAUSE_FIRST_S
        with life:
            while True:
                await mountclient.gone(mountclient.find(self._directory))
                async with self._turn:
                    try:
                        await self._heal()
                        pause_s = PAUSE_FIRST_S
                        continue
                    except (OSError, PfsError) as error:
                        log.warning("the files of job %s cannot be mounted again: %s", self._directory.name, error)
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MOST_S)

    async def _heal(self) -> None:
        log.warning("the mount of job %s lost its process; it is made again", self._directory.name)
        await self._start_client()
        for name, (source, read_only) in self._plan.volumes.items():
            await trio.to_thread.run_sync(self._show, name, source, read_only)
        for task_id, seen in self._plan.tasks.items():
            pid = await self._find(task_id)
            if pid is not None:
                await trio.to_thread.run_sync(self._graft, task_id, pid, seen)

    # ---- what tasks see of it

    def _show(self, name: str, source: str, read_only: bool) -> None:
        """Mount one directory of the tree at `shown/<name>`."""
        target = self._directory / mountclient.SHOWN / name
        target.mkdir(mode=0o700, exist_ok=True)
        with _opened(self._directory / mountclient.TREE / self._plan.datacenter, source) as descriptor:
            clone = mounting.clone_of(descriptor)
        try:
            mounting.restrict(clone, read_only=read_only)
            mounting.detach(str(target))
            mounting.attach(clone, str(target))
        finally:
            os.close(clone)

    def _graft(self, task_id: str, pid: int, seen: Mapping[str, str]) -> None:
        """Mount everything again where a task sees it."""
        with contextlib.ExitStack() as stack:

            def opened(path: Path | str, flags: int) -> int:
                descriptor = os.open(path, flags | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                return descriptor

            try:
                namespace = opened(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
            except FileNotFoundError:
                return  # it ended meanwhile
            shown = self._directory / mountclient.SHOWN
            sources = {target: opened(shown / name, os.O_PATH | os.O_DIRECTORY) for target, name in seen.items()}
            done = subprocess.run(
                [sys.executable, "-m", graft.__name__, str(namespace), *(f"{t}={s}" for t, s in sources.items())],
                pass_fds=[namespace, *sources.values()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=GRAFT_S,
            )
        if done.returncode != 0:
            log.warning("what task %s sees of its files stays dead: %s", task_id, done.stderr.strip())


def _config(datacenter: str, endpoint: str, assignment: Assignment) -> str:
    """Return the configuration of the mount's process."""
    user = assignment.env.get("PFS_USER", "job")
    return json.dumps({datacenter: {"username": user, "token": assignment.key, "endpoint": endpoint}})


@contextlib.contextmanager
def _opened(tree: Path, source: str) -> Iterator[int]:
    try:
        descriptor = open_directory(tree, source)
    except (OSError, PfsError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PfsError(Kind.NOT_FOUND, f"the volume {source!r} cannot be had: {why}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
