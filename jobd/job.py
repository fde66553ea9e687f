"""A job as the service holds it: whose it is, what was asked for, and where it stands."""

from dataclasses import dataclass

from jobd.gpuuse import NO_USE, GpuUse
from jobd.life.life import Life
from jobd.spec.model import JobSpec
from pfs.perm import Domain, DomainKind


@dataclass(frozen=True, slots=True)
class Job:
    """One job, at one moment.

    Attributes:
        array_id, array_index: for a task of an array: the array's number, and which task of it this is.
        groups: with whom it is shared; a task as its array.
        gpu_use: what it did with its GPUs, as it was kept last: until its end, where it is over.
    """

    id: int
    user: str
    spec: JobSpec
    life: Life
    array_id: int | None = None
    array_index: int | None = None
    groups: frozenset[str] = frozenset()
    gpu_use: GpuUse = NO_USE

    @property
    def domain(self) -> Domain:
        """The domain of its data, whose rule says who may read the job."""
        return Domain(DomainKind.JOB, str(self.id), owner=self.user, groups=self.groups)
