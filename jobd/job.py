"""A job as the service holds it: whose it is, what was asked for, and where it stands."""

from dataclasses import dataclass

from jobd.life.lifecycle import Life
from jobd.spec.spec import JobSpec
from pfs.perm import Domain, DomainKind


@dataclass(frozen=True, slots=True)
class Job:
    """One job, at one moment."""

    id: int
    user: str
    spec: JobSpec
    life: Life

    @property
    def domain(self) -> Domain:
        """The domain of its data, whose rule says who may read the job."""
        return Domain(DomainKind.JOB, str(self.id), owner=self.user)
