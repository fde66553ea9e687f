"""How the commands about jobs ask for them by name or number, and end and remove them: as all programs do."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cli.sdk import operations
from cli.sdk.way import asked
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from pfs.client.web import WebClient

POD_NAME = re.compile(r"(?P<job>.+)-[^-]+-\d+")


def status_of(client: "WebClient", job: str) -> Mapping[str, str]:
    """Return the facts of a job, by its name or number.

    Raises:
        PfsError: NOT_FOUND for none.
    """
    return asked(client, operations.job, job)


def number_of(client: "WebClient", job: str) -> str:
    """Return the number of a job, by its name or number."""
    return str(asked(client, operations.number_of, job))


def job_or_pod(client: "WebClient", named: str, worker: str | None) -> tuple[str, str | None]:
    """Return the number of a job, and of which of its processes there is talk; None for all of them.

    Args:
        named: a job, or one process, whose name is made of its job's.
        worker: one that was said beside a job.

    Raises:
        PfsError: NOT_FOUND for neither.
    """
    try:
        return number_of(client, named), worker
    except PfsError as error:
        if error.kind is not Kind.NOT_FOUND or worker is not None:
            raise
        refused = error
    of_its_job = POD_NAME.fullmatch(named)
    if of_its_job is None:
        raise refused
    running = [int(each["job"]) for each in asked(client, operations.workers) if each["name"] == named]
    try:  # of an older job that has lost its name to a newer one, too, while it is not over
        return (str(max(running)) if running else number_of(client, of_its_job["job"])), named
    except PfsError as error:
        raise (refused if error.kind is Kind.NOT_FOUND else error) from None


def end(client: "WebClient", job: str, *, removes: bool) -> None:
    """End a job.

    Args:
        removes: throw it away when it is over; one that is over already is no mistake then.
    """
    if removes:
        asked(client, operations.remove_job, job)
    else:
        asked(client, operations.command, job, "kill")


def end_and_tell(client: "WebClient", job: str, *, removes: bool) -> dict[str, object]:
    """End a job, and return what programs are told of that."""
    from jobd.life.model import State

    status = status_of(client, job)
    end(client, status["id"], removes=removes)
    killed = not State(status["state"]).over
    return {"job": int(status["id"]), "killed": killed, **({"removed": True} if removes else {})}
