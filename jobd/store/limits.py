"""What users' and groups' jobs may have at once, in SQL; the scheduler sees to it (`jobd.scheduling.quotas`)."""

from sqlmodel import Session, col, delete, select

from jobd.scheduling.quotas import JobLimits
from jobd.store.tables import JobQuotaRow
from pfs.audit.log import audited
from pfs.sql import Database


class JobQuotas:
    """The limits of jobs, by holder: a user (`ann`) or a group (`groups/vision`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_job_limits_now(self, holder: str, limits: JobLimits) -> None:
        """Say what a holder's jobs may have; whether there is such a holder is the caller's to know."""

        def work(session: Session) -> None:
            if limits == JobLimits():
                drop_job_limits(session, holder)
                return
            row = JobQuotaRow(holder=holder, running=limits.running, waiting=limits.waiting, gpus=limits.gpus)
            session.merge(row)

        named = {"jobs_running": limits.running, "jobs_waiting": limits.waiting, "gpus": limits.gpus}
        more = {name: "none" if limit is None else limit for name, limit in named.items()}
        self._database.write_now(audited("quota.set", f"quotas/{holder}", work, **more))

    def job_limits_now(self, holder: str) -> JobLimits:
        """Return what a holder's jobs may have."""
        return self._database.read_now(job_limits).get(holder, JobLimits())


def job_limits(session: Session) -> dict[str, JobLimits]:
    """Return what jobs may have at once, by holder."""
    return {row.holder: JobLimits(row.running, row.waiting, row.gpus) for row in session.exec(select(JobQuotaRow))}


def drop_job_limits(session: Session, holder: str) -> None:
    """Let a holder's jobs have no limits."""
    session.exec(delete(JobQuotaRow).where(col(JobQuotaRow.holder) == holder))
