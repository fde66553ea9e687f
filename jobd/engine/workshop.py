"""Prepares a job on the server's disk, reads what it left, and takes away what it needs no more.

<data root>/jobs/<id>/data/{src,keep,out,tmp}    the job's own, as its owner
<data root>/jobs/<id>/logs                       the service's
<data root>/jobs/<id>/origin.json, patch         where a shipped tree came from
<data root>/server/trash/<id>                    jobs that their owners removed   (`jobd.engine.trash`)
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import trio

from jobd.engine.assign import Place, data_path, facts_of
from jobd.engine.packages import folders, locate
from jobd.engine.trainerfiles import LIST_BYTES_MAX, TRAIN_LIST
from jobd.engine.trash import PARTS, Trash
from jobd.environment import hostfile, result_name
from jobd.job import Job
from jobd.manifest import FILES_MAX, PATCH_BYTES_MAX, SIZE_BYTES_MAX, Manifest, Origin, tree_of
from jobd.spec.model import JobSpec
from jobd.store.trees import TreeStore
from pfs.disk.copytree import Copied, Limits, copy_tree, lay_out
from pfs.disk.domains import Disk
from pfs.disk.project import set_project
from pfs.disk.system import open_beneath, translate
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, Subject, Verb, allowed
from pfs.quota import GROUP, HOME

LIMITS = Limits(FILES_MAX, SIZE_BYTES_MAX)
AT_ONCE = 2
PREPARE_S_MAX = 3600.0
RESULT_BYTES_MAX = 64 * 1024
ORIGIN, PATCH = "origin.json", "patch"
_CURE = "put a list there that shall be divided over the trainers, or call it something else"


Witness = Callable[[Subject, Domain], Awaitable[None]]


async def nobody(subject: Subject, domain: Domain) -> None:
    """Witness nothing."""


class DiskWorkshop:
    """Prepares jobs under the data root.

    Args:
        trees: what clients shipped.
        find_job: looks up a job, whoever asks.
        prepare_s_max: so long may the preparation of one job take.
        reached: told of each domain that a job shall have something of, before it is made.

    Attributes:
        trash: what jobs had that their owners removed.
    """

    def __init__(
        self,
        disk: Disk,
        user: Callable[[str], Awaitable[Subject | None]],
        place: Place,
        *,
        trees: TreeStore,
        find_job: Callable[[int], Awaitable[Job | None]],
        prepare_s_max: float = PREPARE_S_MAX,
        reached: Witness = nobody,
    ) -> None:
        self._disk = disk
        self._user = user
        self._place = place
        self._trees = trees
        self._find_job = find_job
        self._prepare_s_max = prepare_s_max
        self._reached = reached
        self._turns = trio.CapacityLimiter(AT_ONCE)
        self.trash = Trash(disk)

    async def _owner(self, job: Job) -> Subject:
        owner = await self._user(job.user)
        if owner is None:
            raise PfsError(Kind.NOT_FOUND, f"the account {job.user!r} is gone")
        return owner

    # ---- before

    async def check(self, spec: JobSpec, subject: Subject) -> None:
        """Refuse a job whose files cannot be brought together for whoever submits it.

        Raises:
            PfsError: INVALID or NOT_FOUND: what is not there, or not theirs; QUOTA where jobs could add to what is
                above a limit already.
        """
        for domain in (HOME + subject.user, *(GROUP + group for group in sorted(subject.groups))):
            self._disk.counts.of(domain).check_is_within()
        if (tree := tree_of(spec.src)) is not None:
            await self._trees.whole(subject.user, tree)
        elif spec.src is not None:
            await self._reached(subject, locate(spec.src, subject, self._place.datacenter, "src").domain)
        if spec.continue_from is not None:
            await self._reached(subject, (await self._continued(spec.continue_from, subject)).domain)
        for folder in folders(spec, subject, self._place.datacenter):
            await self._reached(subject, folder.domain)
            await self._look(folder.path)

    async def _continued(self, job_id: int, subject: Subject) -> Job:
        """Return the job that another one goes on from."""
        job = await self._find_job(job_id)
        if job is None or not allowed(subject, Verb.READ, job.domain):
            raise PfsError(Kind.INVALID, f"continue: there is no job {job_id}")
        return job

    async def _look(self, path: str) -> None:
        def work() -> None:
            with self._disk.directory(path):
                return

        try:
            await self._disk.run(work)
        except PfsError as error:
            raise PfsError(Kind.INVALID, f"the folder {path} cannot be used: {error.message}") from None

    async def make(self, job: Job) -> None:
        """Make the job's directories; those that are there stay."""
        owner = await self._owner(job)
        hosts = hostfile(facts_of(job, self._place)).encode()

        def work() -> None:
            if self._make_new(job.id, owner.uid, hosts):
                return
            self._disk.make_directory_now(f"jobs/{job.id}", 0o711, None)
            self._disk.make_directory_now(data_path(job.id), 0o700, owner.uid)
            self._mark(job.id, owner.uid)
            for part in PARTS:
                self._disk.make_directory_now(data_path(job.id, part), 0o700, owner.uid)
            self._disk.write_file_now(data_path(job.id, "tmp"), "hostfile", hosts, owner.uid)

        await self._disk.run(work)
        self._disk.counts.doubt({HOME + job.user})

    def _make_new(self, job_id: int, uid: int | None, hosts: bytes) -> bool:
        """Make the directories of a job that has none; tells whether it was so.

        They are the server's own until all is done, so that nobody can put anything else in their place.
        """
        with self._disk.directory("jobs") as jobs, contextlib.suppress(FileExistsError):
            os.mkdir(str(job_id), 0o711, dir_fd=jobs)
        with self._disk.directory(f"jobs/{job_id}") as own:
            try:
                os.mkdir("data", 0o700, dir_fd=own)
            except FileExistsError:
                return False
            self._mark(job_id, uid)
            for part in PARTS:
                os.mkdir(f"data/{part}", 0o700, dir_fd=own)
            file = os.open("data/tmp/hostfile", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=own)
            with open(file, "wb") as stream:
                stream.write(hosts)
            if uid is not None:
                for path in ("data/tmp/hostfile", *(f"data/{part}" for part in PARTS), "data"):
                    os.chown(path, uid, uid, dir_fd=own, follow_symlinks=False)
        return True

    def _mark(self, job_id: int, uid: int | None) -> None:
        """Let the data of a job be of its owner's project, with all that will be made in it."""
        if uid is not None and self._disk.projects.are_kept:
            with self._disk.directory(data_path(job_id), os.O_RDONLY) as data:
                set_project(data, uid)

    async def fill(self, job: Job) -> str:
        """Bring the job's `src` and `keep` together, as `src` and `continue` say; return lines for its log.

        At most `AT_ONCE` jobs are prepared at a time; the others wait here. Cancelled, it ends soon.

        Raises:
            PfsError: what is in the way, for the owner to read.
        """
        owner = await self._owner(job)
        async with self._turns:
            with trio.move_on_after(self._prepare_s_max):
                lines = []
                if job.spec.src is not None:
                    lines.append(await self._fill_src(job, owner))
                if job.spec.continue_from is not None:
                    lines.append(await self._fill_keep(job, owner, job.spec.continue_from))
                return "\n".join(lines)
        limit_s = f"{self._prepare_s_max:.0f} s"
        raise PfsError(Kind.TIMED_OUT, f"the preparation took more than {limit_s}; read large data from your home")

    async def _fill_src(self, job: Job, owner: Subject) -> str:
        source = job.spec.src or ""
        target = data_path(job.id, "src")
        if (tree := tree_of(source)) is not None:
            manifest = await self._trees.whole(job.user, tree)
            await self._keep_origin(job, manifest)
            pieces = self._trees.pieces(job.user, manifest)
            return _told(await lay_out(self._disk, pieces, target, uid=owner.uid, limits=LIMITS), "as it was shipped")
        folder = locate(source, owner, self._place.datacenter, "src")
        copied = await copy_tree(self._disk, folder.root, folder.rest, target, uid=owner.uid, limits=LIMITS)
        return _told(copied, f"from {source}")

    async def _fill_keep(self, job: Job, owner: Subject, job_id: int) -> str:
        await self._continued(job_id, owner)
        target = data_path(job.id, "keep")
        try:
            copied = await copy_tree(
                self._disk,
                data_path(job_id),
                "keep",
                target,
                uid=owner.uid,
                limits=LIMITS,
                what=f"keep of job {job_id}",
            )
        except PfsError as error:
            if error.kind is Kind.NOT_FOUND:
                raise PfsError(Kind.NOT_FOUND, f"continue: keep of job {job_id} is gone, or was never made") from None
            raise
        return _told(copied, f"from keep of job {job_id}")

    # ---- where a shipped tree came from

    async def _keep_origin(self, job: Job, manifest: Manifest) -> None:
        """Write down beside the job where its tree came from; the tree itself does not stay for ever."""
        origin = manifest.origin
        if origin is None:
            return
        patch = await self._trees.content(job.user, origin.patch) if origin.patch else None

        def work() -> None:
            if patch is not None:
                self._disk.write_file_now(f"jobs/{job.id}", PATCH, patch, None)
            self._disk.write_file_now(f"jobs/{job.id}", ORIGIN, json.dumps(asdict(origin)).encode(), None)

        await self._disk.run(work)

    async def origin(self, job: Job) -> Origin | None:
        """Return where the job's tree came from; None where it was not shipped, or is not prepared yet."""
        if tree_of(job.spec.src) is None:
            return None
        text = await self._own_file(f"jobs/{job.id}", ORIGIN, PATCH_BYTES_MAX)
        return None if text is None else Origin(**json.loads(text))

    async def read_patch(self, job: Job) -> bytes:
        """Return the difference between the commit that the job's tree came from and the tree.

        Raises:
            PfsError: NOT_FOUND where there is none.
        """
        text = await self._own_file(f"jobs/{job.id}", PATCH, PATCH_BYTES_MAX)
        if text is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return text

    async def _own_file(self, directory: str, name: str, size_max: int) -> bytes | None:
        """Return the beginning of an ordinary file, and None where there is none."""

        def work() -> bytes | None:
            try:
                with self._disk.directory(directory) as parent:
                    fd = open_beneath(parent, name, os.O_RDONLY | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
            try:
                return os.read(fd, size_max) if stat.S_ISREG(os.fstat(fd).st_mode) else None
            finally:
                os.close(fd)

        return await self._disk.run(work)

    # ---- when a process starts

    async def train_list(self, job: Job) -> bytes | None:
        """Return the `train.list` of the folder that a job of PaddleCloud's fields runs in; None where there is none.

        Raises:
            PfsError: INVALID, or what the disk says, where not all of it can be read, and without a link.
        """
        owner, package = await self._owner(job), job.spec.paddle and job.spec.paddle.package
        folder = data_path(job.id, "src")
        if package:
            folder = locate(package, owner, self._place.datacenter, "job_package").path

        def work() -> bytes | None:
            with self._disk.directory(folder) as parent:
                return _read_list(parent)

        return await self._disk.run(work, long=True)

    # ---- after

    async def read_result(self, job: Job, group: int, process: int) -> str:
        """Return what a process wrote to its `$RESULT_FILE`, as far as it is shown; "" where that is nothing."""
        worker = sum(each.count for each in job.spec.groups[:group]) + process
        name = result_name(job.life.run(worker), group, process)
        try:
            text = await self._own_file(data_path(job.id, "tmp"), name, RESULT_BYTES_MAX)
        except PfsError as error:
            if error.kind in (Kind.LOOP, Kind.NOT_DIR, Kind.IS_DIR, Kind.UNSUPPORTED, Kind.DENIED):
                return ""  # it is no file: a result of nobody's
            raise
        return "" if text is None else text.decode(errors="replace")

    async def tidy(self, job: Job) -> None:
        """Remove the job's `tmp`, once it is over."""
        await self.remove_tmp(job.id)
        self._disk.counts.doubt({HOME + job.user})

    async def remove_tmp(self, job_id: int) -> None:
        """Remove the `tmp` of a job that is over."""
        await self.trash.remove(data_path(job_id, "tmp"), f"{job_id}.tmp")

    async def expire(self, job_id: int) -> None:
        """Remove what a job that is over has on disk: its data and logs. Where its tree came from stays on record."""
        await self.trash.remove(data_path(job_id), f"{job_id}.data", PARTS)
        await self.trash.remove(f"jobs/{job_id}/logs", f"{job_id}.logs")

        def work() -> None:
            with (
                contextlib.suppress(FileNotFoundError),
                self._disk.directory(f"jobs/{job_id}", os.O_RDONLY) as own,
                self._disk.directory("jobs") as jobs,
            ):
                if not os.listdir(own):
                    os.rmdir(str(job_id), dir_fd=jobs)

        await self._disk.run(work)
        self._disk.counts.doubt()

    async def on_disk(self, *parts: str) -> list[int]:
        """Return the numbers of the jobs that have one of these directories on disk, such as `data` or `logs`."""

        def work() -> list[int]:
            with self._disk.directory("jobs", os.O_RDONLY) as jobs:
                numbers = [name for name in os.listdir(jobs) if name.isdigit()]
                return [int(name) for name in numbers if any(_is_there(jobs, name, part) for part in parts)]

        return await self._disk.run(work, long=True)

    async def has_log(self, job: Job) -> bool:
        """Tell whether the log of a job is on disk."""

        def work() -> bool:
            with self._disk.directory("jobs", os.O_RDONLY) as jobs:
                return _is_there(jobs, str(job.id), "logs")

        return await self._disk.run(work)


def _told(copied: Copied, source: str) -> str:
    return f"Copied {copied.files} files, {copied.size_bytes} bytes, {source}"


def _read_list(parent: int) -> bytes | None:
    try:
        fd = open_beneath(parent, TRAIN_LIST, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = "it is a link, and none is followed" if error.errno == errno.ELOOP else error.strerror
        raise PfsError(translate(error).kind, f"{TRAIN_LIST} cannot be read: {what}; {_CURE}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PfsError(Kind.INVALID, f"{TRAIN_LIST} is no ordinary file; {_CURE}")
        with open(fd, "rb", closefd=False) as file:
            text = file.read(LIST_BYTES_MAX + 1)
    finally:
        os.close(fd)
    if len(text) > LIST_BYTES_MAX:
        most = f"{LIST_BYTES_MAX >> 20} MiB"
        raise PfsError(Kind.INVALID, f"{TRAIN_LIST} has more than {most}, which is too much to divide; {_CURE}")
    return text


def _is_there(jobs_fd: int, name: str, part: str) -> bool:
    try:
        os.stat(f"{name}/{part}", dir_fd=jobs_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
