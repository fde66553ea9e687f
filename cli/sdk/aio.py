"""The datacenter for programs with an event loop: asyncio's or trio's, many services at the same time.

What the services do is in `cli.sdk.operations`; `Client` has the same ones, with the same arguments. What blocks, such
as reading a folder that is shipped, is done in a thread. Who is cancelled waits for it, and it ends at its next piece.
"""

import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from typing import TypeVar, Unpack
from weakref import WeakSet

import anyio
from anyio import from_thread, to_thread

from cli.config import Datacenter, lasting
from cli.sdk import files, operations, packages, reaching
from cli.sdk.operations import Facts, Spec
from cli.sdk.packages import PackageFields, Progress
from cli.sdk.rows import Credential, Entry, Job, Worker
from cli.sdk.way import Blocking
from pfs.client.asking import Asking
from pfs.client.asyncweb import open_web

T = TypeVar("T")


class AsyncClient:
    """A datacenter, as its user may see it: `async with AsyncClient() as client`.

    Args:
        datacenter: the name of one in `~/.paddle/config`; the current one where none is said. The environment counts as
            for `paddle`.
        endpoint: of a server, where no configuration counts.
        token: to be shown to that server.
        ca: file with the authority to trust there, instead of the system's.

    Raises:
        PfsError: as all that is in here does. INVALID for a configuration that cannot be used, UNAUTHENTICATED for a
            token or a password that is not taken.
    """

    def __init__(
        self, datacenter: str | None = None, *, endpoint: str | None = None, token: str = "", ca: str | None = None
    ) -> None:
        self._meant = datacenter, endpoint, token, ca
        self._held = AsyncExitStack()
        self._entered: _Loop | None = None
        self._heard: WeakSet[AsyncGenerator[bytes, None]] = WeakSet()

    async def __aenter__(self) -> "AsyncClient":
        where = await to_thread.run_sync(reaching.meant, *self._meant)
        own = await to_thread.run_sync(lasting, where.own)
        tree = await self._held.enter_async_context(open_web(where.endpoint, where.token, where.ca, own=own))
        self._entered = _Loop(tree, where)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        self._entered = None
        for pieces in list(self._heard):
            with suppress(RuntimeError):  # who waits for the next one hears that the connection is closed
                await pieces.aclose()
        await self._held.aclose()

    @property
    def _way(self) -> "_Loop":
        if self._entered is None:
            raise RuntimeError("it is not open; write: async with AsyncClient() as client")
        return self._entered

    def _hear(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._heard.add(pieces)
        return pieces

    # ---- jobs

    async def submit(
        self,
        spec: Spec,
        *,
        name: str | None = None,
        command: str | None = None,
        resources: str | None = None,
        image: str | None = None,
        key: str | None = None,
    ) -> int:
        """Submit a job; return its number.

        Args:
            spec: a text; the keys and values of one, as a dictionary; or the `Path` of a file, or of a folder, which is
                shipped. Where `src` of a spec is a folder of this machine, that is shipped.
            name: what the job is called, where the spec does not say it. Default: as the file or the folder.
            command: with a folder without a spec in it: what runs in it. Default: bash .compute
            resources: with such a folder: a cluster request, such as `2:[8:gtx1070]`.
            image: with such a folder: the container image.
            key: a text of yours that makes a repetition harmless: the same key again gives the same job.
        """
        return await operations.submit(
            self._way, spec, name, key, {"command": command, "resources": resources, "image": image}
        )

    async def submit_package(
        self,
        package: str | os.PathLike[str],
        *,
        jobname: str | None = None,
        progress: Callable[[Progress], object] | None = None,
        **fields: Unpack[PackageFields],
    ) -> int:
        """Submit PaddleCloud's package, as `paddle submit` does; return the number of its job.

        Of a folder of this machine only what changed since the last time travels, to `home/<you>/jobs/<jobname>`, where
        the job runs; what the last package had and this one has not is removed there, unless it was changed there. Who
        is stopped while it travels has submitted nothing, and the same call again goes on.

        Args:
            package: the folder; or one of the datacenter, `/pfs/<dc>/…`, in which the job runs as it is.
            jobname: what the job, and its folder, is called. Default: paddle-cluster-job
            progress: is told how far it is; what it raises ends it.
            fields: what the job is, as PaddleCloud calls it: `entry` or `topology`, and where the default is not meant
                `parallelism cpu gpu memory pservers pscpu psmemory passes faulttolerant min_instance max_instance`,
                `image` and `registry`.

        Raises:
            PfsError: BUSY while a job runs in the folder. What the server would refuse for anything but its files, such
                as more GPUs than your quota has, it refuses before anything travels.
        """
        given = packages.given_of(fields)
        ready = await packages.package(self._way, package, jobname, given, self._way.where.name)
        return await packages.submit_package(self._way, ready, progress or packages.unheard)

    async def wait(self, job: int | str, timeout_s: float | None = None) -> int:
        """Wait until a job is over; return its exit code.

        Args:
            timeout_s: how long to wait, in seconds; None for as long as it takes.

        Raises:
            PfsError: TIMED_OUT when it is not over by then.
        """
        return await operations.wait(self._way, job, timeout_s)

    def log(self, job: int | str, worker: str | None = None, *, follow: bool = True) -> AsyncGenerator[bytes, None]:
        """Give the log of a job in pieces, as they come, over connections that may be cut.

        Args:
            worker: one process alone, by its name or number: digits-trainer-0, 0.0.
            follow: until the job is over; else what there is now.
        """
        return self._hear(operations.log(self._way, job, worker, follow=follow))

    async def tail(self, job: int | str, lines: int = 10, worker: str | None = None) -> str:
        """Return the last lines of each process of a job, or of one alone."""
        return await operations.tail(self._way, job, lines, worker)

    async def job(self, job: int | str) -> Facts:
        """Return the facts of a job, such as its `id`, `state` and `place`."""
        return await operations.job(self._way, job)

    async def jobs(self) -> list[Job]:
        """Return your jobs, the newest first, also those that are over."""
        return await operations.jobs(self._way)

    async def everybodys_jobs(self) -> list[Facts]:
        """Return the facts of all jobs that you may read, the oldest first, also of those that are over."""
        return await operations.everybodys_jobs(self._way)

    async def workers(self, job: int | str | None = None) -> list[Worker]:
        """Return the processes of a job, or of all your jobs that are not over."""
        return await operations.workers(self._way, job)

    async def why(self, job: int | str) -> str:
        """Return why a job waits, or failed, and what would help."""
        return await operations.why(self._way, job)

    async def queue(self) -> list[dict[str, str]]:
        """Return the jobs that wait, in the order of their turns: each with its reason and its earliest start."""
        return await operations.queue(self._way)

    async def nodes(self) -> list[Facts]:
        """Return the facts of the machines that run jobs."""
        return await operations.nodes(self._way)

    async def quota(self) -> list[dict[str, str]]:
        """Return what you and your groups have and may have: bytes and files, jobs, GPUs."""
        return await operations.quota(self._way)

    async def registries(self) -> list[Credential]:
        """Return your credentials for registries of images, and when each was written."""
        return await operations.registries(self._way)

    # ---- what jobs are told

    async def kill(self, job: int | str) -> None:
        """End a job: TERM to all processes, the grace of its spec, KILL."""
        await operations.command(self._way, job, "kill")

    async def signal(self, job: int | str, number: int | str) -> None:
        """Send a signal to all processes of a job: `USR1`, `SIGUSR1` or 10."""
        await operations.command(self._way, job, "signal", number)

    async def hold(self, job: int | str) -> None:
        """Do not let a job start before it is released."""
        await operations.command(self._way, job, "hold")

    async def release(self, job: int | str) -> None:
        """Let a job start that is held."""
        await operations.command(self._way, job, "release")

    async def requeue(self, job: int | str) -> None:
        """End the processes of a job, and let it wait for another attempt."""
        await operations.command(self._way, job, "requeue")

    async def priority(self, job: int | str, priority: int) -> None:
        """Give a job another priority: 0 to 100, above 50 for administrators."""
        await operations.command(self._way, job, "priority", priority)

    async def extend(self, job: int | str, time: str) -> None:
        """Give a job more time before its limit, such as `2h`."""
        await operations.command(self._way, job, "extend", time)

    async def share(self, job: int | str, *groups: str) -> None:
        """Let the members of groups of yours read a job."""
        await operations.command(self._way, job, "share", *groups)

    async def unshare(self, job: int | str, *groups: str) -> None:
        """Let the members of groups read a job no more; of all groups where none is named."""
        await operations.command(self._way, job, "unshare", *groups)

    async def remove_job(self, job: int | str) -> None:
        """End a job, unless it is over, and throw it away."""
        await operations.remove_job(self._way, job)

    async def restore_job(self, job: int | str) -> int:
        """Bring a job back that was removed, for 14 days, and return its number."""
        return await operations.restore_job(self._way, job)

    # ---- files

    async def read(self, path: str) -> bytes:
        """Return a whole file, such as `home/me/model`; of a stream, what there is."""
        return await self._way.tree.read(path)

    def stream(self, path: str) -> AsyncGenerator[bytes, None]:
        """Give what is in a file as it comes; of a stream until its writer is done."""
        return self._hear(operations.stream(self._way, path))

    async def write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        """Write a whole file, from its bytes or from pieces."""
        await self._way.tree.write(path, data)

    async def upload(self, source: str | os.PathLike[str], path: str) -> None:
        """Let the tree have a file of this machine, or a folder, of which only what is not there travels."""
        await files.upload(self._way, source, path)

    async def download(self, path: str, target: str | os.PathLike[str]) -> None:
        """Let this machine have a file of the tree, or a folder, of which only what is not here travels."""
        await files.download(self._way, path, target)

    async def ls(self, path: str) -> list[Entry]:
        """Return what is in a directory."""
        return await operations.ls(self._way, path)

    async def mkdir(self, path: str) -> None:
        """Make a directory."""
        await self._way.tree.mkdir(path)

    async def rm(self, path: str) -> None:
        """Remove a file, an empty directory, or a job that is over."""
        await self._way.tree.remove(path)

    async def mv(self, source: str, target: str) -> None:
        """Give a file or directory another name, which replaces what had it."""
        await self._way.tree.rename(source, target)


class _Loop:
    """The way of a program with an event loop."""

    def __init__(self, tree: Asking, where: Datacenter) -> None:
        self.tree = tree
        self.where = where

    async def pause(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def clock_s(self) -> float:
        return time.monotonic()

    async def aside(self, work: Callable[[Blocking], T]) -> T:
        def in_thread() -> T:
            with reaching.opened(self.where) as server:
                return work(server)

        done: list[T] = []
        failed: list[Exception] = []

        async def run() -> None:
            try:
                done.append(await to_thread.run_sync(in_thread))
            except Exception as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:  # a task of asyncio that is cancelled itself waits for nothing
            tasks.start_soon(run)
        for error in failed:
            raise error
        return done[0]

    def rest(self, seconds: float) -> None:
        from_thread.run(anyio.sleep, seconds)

    def goes_on(self, *_: object) -> None:
        from_thread.check_cancelled()

    def tell(self, heard: Callable[[T], object], what: T) -> None:
        from_thread.check_cancelled()
        from_thread.run_sync(heard, what)
