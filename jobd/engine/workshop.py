"""Prepares a job on the server's disk: its directories, and a copy of the package that it names.

<data root>/jobs/<id>/data/{src,keep,out,tmp}    the job's own, as its owner
<data root>/jobs/<id>/logs                       the service's
"""

from collections.abc import Awaitable, Callable

from jobd.engine.assign import Place, data_path, facts_of
from jobd.environment import hostfile
from jobd.job import Job
from pfs.disk.copytree import Limits, copy_tree
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.path import from_absolute, split
from pfs.perm import Domain, DomainKind, Subject, Verb, allowed

PARTS = ("src", "keep", "out", "tmp")
PACKAGE_LIMITS = Limits(files=100_000, size_bytes=10 * 1024**3)


class DiskWorkshop:
    """Prepares jobs under the data root."""

    def __init__(self, disk: Disk, user: Callable[[str], Awaitable[Subject | None]], place: Place) -> None:
        self._disk = disk
        self._user = user
        self._place = place

    async def _owner(self, job: Job) -> Subject:
        owner = await self._user(job.user)
        if owner is None:
            raise PfsError(Kind.NOT_FOUND, f"the account {job.user!r} is gone")
        return owner

    async def make(self, job: Job) -> None:
        """Make the job's directories; those that are there stay."""
        owner = await self._owner(job)
        hosts = hostfile(facts_of(job, self._place)).encode()

        def work() -> None:
            self._disk.make_directory_now(f"jobs/{job.id}", 0o711, None)
            self._disk.make_directory_now(data_path(job.id), 0o700, owner.uid)
            for part in PARTS:
                self._disk.make_directory_now(data_path(job.id, part), 0o700, owner.uid)
            self._disk.write_file_now(data_path(job.id, "tmp"), "hostfile", hosts, owner.uid)

        await self._disk.run(work)

    async def fill(self, job: Job) -> str:
        """Copy the job's `src` into its own; return a line for its log.

        Raises:
            PfsError: what is in the way, for the owner to read.
        """
        owner = await self._owner(job)
        source = job.spec.src or ""
        root, rest = self._locate(source, owner)
        copied = await copy_tree(self._disk, root, rest, data_path(job.id, "src"), uid=owner.uid, limits=PACKAGE_LIMITS)
        return f"Copied {copied.files} files, {copied.size_bytes} bytes, from {source}"

    def _locate(self, source: str, owner: Subject) -> tuple[str, str]:
        """Return the domain's directory under the data root, and the path in it."""
        path = (
            from_absolute(source, self._place.datacenter) if source.startswith("/") else f"home/{owner.user}/{source}"
        )
        match split(path):
            case ["home", name, *rest]:
                domain, root = Domain(DomainKind.HOME, name), f"home/{name}"
            case ["groups", name, *rest]:
                domain, root = Domain(DomainKind.GROUP, name), f"groups/{name}"
            case ["shared" | "public", *rest]:
                domain, root = Domain(DomainKind.SHARED), "shared"
            case _:
                raise PfsError(Kind.INVALID, f"src: {source} is in no data domain; put it into your home")
        if not allowed(owner, Verb.READ, domain):
            raise PfsError(Kind.NOT_FOUND, f"src: there is no {source}")
        return root, "/".join(rest)
