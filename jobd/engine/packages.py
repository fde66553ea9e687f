"""From the paths that a spec names to data domains: which folder is meant, and whether the owner may have it.

Pure: nothing is looked up on the disk. Rights are asked for when a job is submitted, and again whenever one starts.
"""

from dataclasses import dataclass

from jobd.spec.model import JobSpec
from jobd.wire import TaskVolume
from pfs.errors import Kind, PfsError
from pfs.path import from_absolute, join, split, to_absolute
from pfs.perm import Domain, DomainKind, Subject, Verb, allowed


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a data domain.

    Attributes:
        root: the domain's directory, under the data root and in the tree.
        rest: the path in it; "" for all of it.
    """

    domain: Domain
    root: str
    rest: str

    @property
    def path(self) -> str:
        """Return the path under the data root, which is that in the tree."""
        return join(self.root, self.rest) if self.rest else self.root


def locate(source: str, owner: Subject, datacenter: str, key: str) -> Folder:
    """Return the folder that a spec names: `/pfs/<dc>/…`, or relative to the owner's home.

    Args:
        key: the key of the spec, for messages.

    Raises:
        PfsError: INVALID where it is in no data domain, NOT_FOUND where the owner may not read it.
    """
    path = from_absolute(source, datacenter) if source.startswith("/") else f"home/{owner.user}/{source.rstrip('/')}"
    match split(path):
        case ["home", name, *rest]:
            domain, root = Domain(DomainKind.HOME, name), f"home/{name}"
        case ["groups", name, *rest]:
            domain, root = Domain(DomainKind.GROUP, name), f"groups/{name}"
        case ["shared" | "public", *rest]:
            domain, root = Domain(DomainKind.SHARED), "shared"
        case _:
            raise PfsError(Kind.INVALID, f"{key}: {source} is in no data domain; put it into your home")
    if not allowed(owner, Verb.READ, domain):
        raise PfsError(Kind.NOT_FOUND, f"{key}: there is no {source}")
    return Folder(domain, root, "/".join(rest))


def folders(spec: JobSpec, owner: Subject, datacenter: str) -> tuple[Folder, ...]:
    """Return the folders that the job's processes use in place: its mounts, and PaddleCloud's package.

    Raises:
        PfsError: what `locate` says of one of them.
    """
    named = [locate(mount.source, owner, datacenter, "mounts") for mount in spec.mounts]
    if spec.paddle is not None and spec.paddle.package is not None:
        named.append(locate(spec.paddle.package, owner, datacenter, "job_package"))
    return tuple(named)


def volumes(spec: JobSpec, owner: Subject, datacenter: str, *, there_only: bool = False) -> tuple[TaskVolume, ...]:
    """Return what the processes see beside the owner's home, what is shared and the job's own data.

    A folder can be written to where the spec says so and its owner may. PaddleCloud's package is used in place,
    under its own path; in the owner's home it is seen already.

    Args:
        there_only: what cannot be had any more is left out.

    Raises:
        PfsError: INVALID or NOT_FOUND where something is named that cannot be had, or not any more.
    """
    named: list[tuple[str, str, str | None, bool]] = []
    named += [(mount.source, "mounts", mount.target, mount.read_only) for mount in spec.mounts]
    if spec.paddle is not None and spec.paddle.package is not None:
        named.append((spec.paddle.package, "job_package", None, False))
    found = []
    for source, key, target, is_read_only in named:
        try:
            folder = locate(source, owner, datacenter, key)
        except PfsError:
            if there_only:
                continue
            raise
        if target is None and folder.domain in (Domain(DomainKind.HOME, owner.user), Domain(DomainKind.SHARED)):
            continue
        read_only = is_read_only or not allowed(owner, Verb.WRITE, folder.domain)
        found.append(TaskVolume(folder.path, target or to_absolute(folder.path, datacenter), read_only=read_only))
    return tuple(found)
