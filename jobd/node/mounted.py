"""The server's tree on a machine that has no way to the data root: a mount for each job, made with the job's own key.

    <directory>/<job>.<attempt>/config      how the mount's process reaches the server, and the key
                                plan        what is shown of it, and where tasks see it
                                client      which process serves the mount
                                tree/       the mount: <datacenter>/home/ann, …
                                shown/<n>/  one directory of it: what tasks are given
                                state/ log  the process's own

The process that serves a mount outlives the daemon, and the daemon outlives it. The directory is on a file system in
memory: keys of jobs are on no disk, and a restart of the machine takes all away.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from jobd.node import mountclient
from jobd.node.dataroot import launch_of
from jobd.node.jobmount import FindProcess, JobMount, Plan, Server, read_plan, shown_as
from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.wire import Assignment, parse_task_id

# whose tasks are where the server serves one person, whom this machine does not know
NOBODY = 65534


@asynccontextmanager
async def open_mounted(directory: Path, server: Server, find: FindProcess) -> AsyncIterator["MountedFiles"]:
    """Give the tree by mounts while the block runs; they stay, and the next daemon takes them up.

    Args:
        directory: where mounts are made.
        find: a process of a task, which sees what the task sees.
    """
    await trio.to_thread.run_sync(lambda: directory.mkdir(mode=0o700, parents=True, exist_ok=True))
    async with trio.open_nursery() as nursery:
        yield MountedFiles(directory, server, find, nursery)
        nursery.cancel_scope.cancel()


class MountedFiles:
    """Mounts the tree for jobs; made by `open_mounted`."""

    mark: str | None = None

    def __init__(self, directory: Path, server: Server, find: FindProcess, nursery: trio.Nursery) -> None:
        self._directory = directory
        self._server = server
        self._find = find
        self._nursery = nursery
        self._mounts: dict[str, JobMount] = {}
        self._users: dict[str, set[str]] = {}

    def launch(self, assignment: Assignment) -> Launch:
        """Return what a runtime has to start once `bring` has returned.

        Raises:
            RuntimeFailure: the server gave no key.
        """
        if assignment.key is None:
            raise RuntimeFailure("the server gave no key for the job's files; it is older than this node")
        shown = self._directory / _job_of(assignment.task_id) / mountclient.SHOWN
        # what may not be written to is mounted so already; an engine that does it again forgets `nosuid` and `nodev`
        volumes = tuple(Volume(str(shown / shown_as(v)), v.target, read_only=False) for v in assignment.volumes)
        return launch_of(assignment, *_person(assignment), volumes)

    async def bring(self, assignment: Assignment) -> None:
        """Return when the task's directories are there.

        Raises:
            RuntimeFailure: they cannot be had, and why.
        """
        job = _job_of(assignment.task_id)
        self._users.setdefault(job, set()).add(assignment.task_id)
        if job not in self._mounts:
            self._mounts[job] = self._mount(job, Plan(assignment.env["PFS_DATACENTER"], *_person(assignment)))
        try:
            await self._mounts[job].bring(assignment)
        except BaseException:
            self._forget(job, assignment.task_id)
            raise

    async def leave(self, task_id: str) -> None:
        """A task is gone; with the last one of a job goes its mount."""
        job = _job_of(task_id)
        if job in self._mounts:
            await self._mounts[job].leave(task_id)
            self._forget(job, task_id)

    def _forget(self, job: str, task_id: str) -> None:
        self._users[job].discard(task_id)
        if not self._users[job]:
            del self._users[job], self._mounts[job]

    async def take_up(self, tasks: Sequence[str]) -> None:
        """Go on with the mounts of these tasks, which a daemon before this one started; end all others."""
        for directory in sorted(self._directory.iterdir()):
            plan = read_plan(directory)
            if plan is not None:
                plan.tasks = {task: seen for task, seen in plan.tasks.items() if task in tasks}
            if plan is None or not plan.tasks:
                await trio.to_thread.run_sync(mountclient.clear, directory)
                continue
            self._users[directory.name] = set(plan.tasks)
            self._mounts[directory.name] = self._mount(directory.name, plan)
            self._mounts[directory.name].keep_alive()

    def _mount(self, job: str, plan: Plan) -> JobMount:
        return JobMount(self._server, self._directory / job, plan, self._find, self._nursery)


def _job_of(task_id: str) -> str:
    job_id, attempt, _, _ = parse_task_id(task_id)
    return f"{job_id}.{attempt}"


def _person(assignment: Assignment) -> tuple[int, int]:
    """Return whose the task's processes are."""
    return NOBODY if assignment.uid is None else assignment.uid, NOBODY if assignment.gid is None else assignment.gid
