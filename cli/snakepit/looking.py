"""`pit status`, `show`, `log` and `stop`: what the cluster does, and what a job says."""

import json
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click

from cli.snakepit import gpuuse, jobquery, show, status
from cli.snakepit.entities import job_number
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit


def print_status(client: "Pit", *, as_json: bool) -> None:
    """Print the report of all jobs."""
    jobs = status.jobs_of(client.read("status").decode())
    uses = gpuuse.uses_of(client, jobs)
    if as_json:
        groups = status.grouped(jobs)
        print_json({name.lower(): [status.as_object(job, uses) for job in group] for name, group in groups.items()})
        return
    click.echo(status.status_report(jobs, time.time(), columns(), uses), nl=False)


def print_entity(client: "Pit", text: str, words: Sequence[str], *, as_json: bool) -> None:
    """Print an entity, or a list of them.

    Args:
        words: which jobs, where jobs are listed.
    """
    if words and text != "jobs":
        raise PfsError(Kind.INVALID, f"Unknown query parameter {words[0].partition('=')[0]}")
    if text == "jobs":
        print_jobs(client, words, as_json=as_json)
    elif text in show.LISTS:
        found = show.names(client, text)
        print_json(found) if as_json else click.echo("".join(f"{name}\n" for name in found), nl=False)
    else:
        entity, told = show.read(client, text)
        print_json(told) if as_json else click.echo(show.as_text(entity, told))


def print_jobs(client: "Pit", words: Sequence[str], *, as_json: bool) -> None:
    """Print the jobs that the words ask for."""
    jobs = client.call("GET", jobquery.parse(words).url(), b"")["msg"]
    uses = gpuuse.uses_of(client, jobs)
    if as_json:
        print_json([status.as_object(job, uses) for job in jobs])
    else:
        click.echo(status.job_list(jobs, columns(), uses), nl=False)


def print_log(client: "Pit", text: str) -> None:
    """Print the log of a job until it is over, or until Ctrl-C, of which the job knows nothing."""
    from cli.following import follow
    from cli.sdk import operations
    from cli.sdk.way import Blocking, asked

    number = job_number(text)
    try:
        asked(
            cast(Blocking, client), operations.job, number
        )  # a server that is away is told of at once; one that goes is waited for
        follow(client, f"jobs/{number}", f"pit stop {number} ends it")
    except PfsError as error:
        raise _of_job(error) from None


def stop(client: "Pit", text: str) -> None:
    """End a job."""
    from cli.sdk import operations
    from cli.sdk.way import Blocking, asked

    try:
        asked(cast(Blocking, client), operations.command, job_number(text), "kill")
    except PfsError as error:
        raise _of_job(error) from None


def _of_job(error: PfsError) -> PfsError:
    return show.missing("job") if error.kind is Kind.NOT_FOUND else error


def columns() -> int:
    """Return how wide the terminal is."""
    return shutil.get_terminal_size((0, 0)).columns


def print_json(value: object) -> None:
    """Print for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
