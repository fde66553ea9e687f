"""The datacenter for programs without an event loop: each call returns when its work is done.

What the services do is in `cli.sdk.operations`; `AsyncClient` has the same ones, with the same arguments.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Unpack

from cli.sdk import files, operations, packages, reaching
from cli.sdk.operations import Facts, Spec
from cli.sdk.packages import PackageFields, Progress
from cli.sdk.rows import Credential, Entry, Job, Worker
from cli.sdk.way import Straight
from pfs.client.immediate import each, now
from pfs.client.web import WebClient


class Client:
    """A datacenter, as its user may see it.

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
        self._where = reaching.meant(datacenter, endpoint, token, ca)
        self._server: WebClient = reaching.opened(self._where)
        self._way = Straight(self._server)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    # ---- jobs

    def submit(
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
        return now(
            operations.submit(self._way, spec, name, key, {"command": command, "resources": resources, "image": image})
        )

    def submit_package(
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
        ready = now(packages.package(self._way, package, jobname, given, self._where.name))
        return now(packages.submit_package(self._way, ready, progress or packages.unheard))

    def wait(self, job: int | str, timeout_s: float | None = None) -> int:
        """Wait until a job is over; return its exit code.

        Args:
            timeout_s: how long to wait, in seconds; None for as long as it takes.

        Raises:
            PfsError: TIMED_OUT when it is not over by then.
        """
        return now(operations.wait(self._way, job, timeout_s))

    def log(self, job: int | str, worker: str | None = None, *, follow: bool = True) -> Iterator[bytes]:
        """Give the log of a job in pieces, as they come, over connections that may be cut.

        Args:
            worker: one process alone, by its name or number: digits-trainer-0, 0.0.
            follow: until the job is over; else what there is now.
        """
        return each(operations.log(self._way, job, worker, follow=follow))

    def tail(self, job: int | str, lines: int = 10, worker: str | None = None) -> str:
        """Return the last lines of each process of a job, or of one alone."""
        return now(operations.tail(self._way, job, lines, worker))

    def job(self, job: int | str) -> Facts:
        """Return the facts of a job, such as its `id`, `state` and `place`."""
        return now(operations.job(self._way, job))

    def jobs(self) -> list[Job]:
        """Return your jobs, the newest first, also those that are over."""
        return now(operations.jobs(self._way))

    def everybodys_jobs(self) -> list[Facts]:
        """Return the facts of all jobs that you may read, the oldest first, also of those that are over."""
        return now(operations.everybodys_jobs(self._way))

    def workers(self, job: int | str | None = None) -> list[Worker]:
        """Return the processes of a job, or of all your jobs that are not over."""
        return now(operations.workers(self._way, job))

    def why(self, job: int | str) -> str:
        """Return why a job waits, or failed, and what would help."""
        return now(operations.why(self._way, job))

    def queue(self) -> list[dict[str, str]]:
        """Return the jobs that wait, in the order of their turns: each with its reason and its earliest start."""
        return now(operations.queue(self._way))

    def nodes(self) -> list[Facts]:
        """Return the facts of the machines that run jobs."""
        return now(operations.nodes(self._way))

    def quota(self) -> list[dict[str, str]]:
        """Return what you and your groups have and may have: bytes and files, jobs, GPUs."""
        return now(operations.quota(self._way))

    def registries(self) -> list[Credential]:
        """Return your credentials for registries of images, and when each was written."""
        return now(operations.registries(self._way))

    # ---- what jobs are told

    def kill(self, job: int | str) -> None:
        """End a job: TERM to all processes, the grace of its spec, KILL."""
        now(operations.command(self._way, job, "kill"))

    def signal(self, job: int | str, number: int | str) -> None:
        """Send a signal to all processes of a job: `USR1`, `SIGUSR1` or 10."""
        now(operations.command(self._way, job, "signal", number))

    def hold(self, job: int | str) -> None:
        """Do not let a job start before it is released."""
        now(operations.command(self._way, job, "hold"))

    def release(self, job: int | str) -> None:
        """Let a job start that is held."""
        now(operations.command(self._way, job, "release"))

    def requeue(self, job: int | str) -> None:
        """End the processes of a job, and let it wait for another attempt."""
        now(operations.command(self._way, job, "requeue"))

    def priority(self, job: int | str, priority: int) -> None:
        """Give a job another priority: 0 to 100, above 50 for administrators."""
        now(operations.command(self._way, job, "priority", priority))

    def extend(self, job: int | str, time: str) -> None:
        """Give a job more time before its limit, such as `2h`."""
        now(operations.command(self._way, job, "extend", time))

    def share(self, job: int | str, *groups: str) -> None:
        """Let the members of groups of yours read a job."""
        now(operations.command(self._way, job, "share", *groups))

    def unshare(self, job: int | str, *groups: str) -> None:
        """Let the members of groups read a job no more; of all groups where none is named."""
        now(operations.command(self._way, job, "unshare", *groups))

    def remove_job(self, job: int | str) -> None:
        """End a job, unless it is over, and throw it away."""
        now(operations.remove_job(self._way, job))

    def restore_job(self, job: int | str) -> int:
        """Bring a job back that was removed, for 14 days, and return its number."""
        return now(operations.restore_job(self._way, job))

    # ---- files

    def read(self, path: str) -> bytes:
        """Return a whole file, such as `home/me/model`; of a stream, what there is."""
        return now(self._way.tree.read(path))

    def stream(self, path: str) -> Iterator[bytes]:
        """Give what is in a file as it comes; of a stream until its writer is done."""
        return each(operations.stream(self._way, path))

    def write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        """Write a whole file, from its bytes or from pieces."""
        now(self._way.tree.write(path, data))

    def upload(self, source: str | os.PathLike[str], path: str) -> None:
        """Let the tree have a file of this machine, or a folder, of which only what is not there travels."""
        now(files.upload(self._way, source, path))

    def download(self, path: str, target: str | os.PathLike[str]) -> None:
        """Let this machine have a file of the tree, or a folder, of which only what is not here travels."""
        now(files.download(self._way, path, target))

    def ls(self, path: str) -> list[Entry]:
        """Return what is in a directory."""
        return now(operations.ls(self._way, path))

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        now(self._way.tree.mkdir(path))

    def rm(self, path: str) -> None:
        """Remove a file, an empty directory, or a job that is over."""
        now(self._way.tree.remove(path))

    def mv(self, source: str, target: str) -> None:
        """Give a file or directory another name, which replaces what had it."""
        now(self._way.tree.rename(source, target))
