"""The commands of `paddle` about jobs: to end them, wait for them, and see what they say, and why they wait."""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cli import completion, reaching
from cli.cloud.options import (
    Voice,
    dc_option,
    doing,
    job_argument,
    jobs_argument,
    json_option,
    show_rows,
    shown,
)
from cli.dashes import DashCommand
from cli.errors import going_on
from cli.output import age, printable

if TYPE_CHECKING:
    from pfs.client.web import WebClient

LINES = 10  # of each process


@click.command(cls=DashCommand)
@click.option("-rm", "--rm", "removes", is_flag=True, help="Remove it from the history, too, once it is over.")
@jobs_argument
@doing
@dc_option
def kill(jobs: tuple[str, ...], *, removes: bool, voice: Voice, dc: str | None) -> int:
    """End JOBs, names or numbers, as `echo kill > <dc>/jobs/JOB/ctl` does."""
    from cli.cloud.jobs import end, end_and_tell

    done: list[dict[str, object]] = []

    def act(job: str) -> None:
        if voice.as_json:
            done.append(end_and_tell(client, job, removes=removes))
        else:
            end(client, job, removes=removes)

    with reaching.connected(dc) as client, voice.telling(done):
        return going_on(jobs, act)


@click.command(cls=DashCommand)
@job_argument
@click.argument("groups", nargs=-1, required=True)
@doing
@dc_option
def share(job: str, groups: tuple[str, ...], voice: Voice, dc: str | None) -> None:
    """Let the members of GROUPS read JOB: its log, its files, how it stands. They do not command it."""
    _command(dc, job, ("share", *groups), voice, {"shared": groups})


@click.command(cls=DashCommand)
@job_argument
@click.argument("groups", nargs=-1)
@doing
@dc_option
def unshare(job: str, groups: tuple[str, ...], voice: Voice, dc: str | None) -> None:
    """Let the members of GROUPS read JOB no more; of all groups where none is named."""
    _command(dc, job, ("unshare", *groups), voice, {"unshared": groups or "all"})


def _command(dc: str | None, job: str, words: tuple[str, ...], voice: Voice, facts: dict[str, object]) -> None:
    from cli.cloud.jobs import number_of
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        if voice.as_json:
            job = number_of(client, job)
            facts = {"job": int(job), **facts}
        asked(client, operations.command, job, *words)
    voice.tell(facts)


@click.command(cls=DashCommand)
@jobs_argument
@doing
@dc_option
def wait(jobs: tuple[str, ...], voice: Voice, dc: str | None) -> int:
    """Wait until JOBs are over, and end with the exit code of the first that failed; 0 where none did."""
    from cli.cloud.jobs import number_of, status_of
    from cli.following import exit_code

    numbers: list[str] = []
    codes: list[int] = []
    over: list[dict[str, object]] = []
    with reaching.connected(dc) as client, voice.telling(over):
        unknown = going_on(jobs, lambda job: numbers.append(number_of(client, job)))
        for number in numbers:
            codes.append(exit_code(client, f"jobs/{number}"))
            if voice.as_json:
                state = status_of(client, number)["state"]
                over.append({"job": int(number), "state": state, "exit_code": codes[-1]})
    return unknown or next((code for code in codes if code), 0)


@click.command(cls=DashCommand)
@job_argument
@shown
def why(job: str, *, as_json: bool, quiet: bool, dc: str | None) -> None:
    """Tell why JOB waits, or failed, and what would help."""
    from cli.cloud.jobs import status_of
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        status = status_of(client, job)
        text = asked(client, operations.why, status["id"])
    if as_json:
        click.echo(json.dumps({"id": int(status["id"]), "state": status["state"], "why": text.strip()}, indent=2))
    elif quiet:
        click.echo(status["id"])
    else:
        click.echo("".join(f"{printable(line)}\n" for line in text.splitlines()), nl=False)


@click.command(cls=DashCommand)
@shown
def queue(*, as_json: bool, quiet: bool, dc: str | None) -> None:
    """Show the jobs that wait, in the order of their turns: each with its reason, and the earliest start known."""
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        if as_json or quiet:
            rows = asked(client, operations.queue)
            show_rows((), (), rows, [row["job"] for row in rows], as_json=as_json, quiet=quiet)
        else:  # the table of the server, as it is
            text = client.read("queue").decode()
            click.echo("".join(f"{printable(line)}\n" for line in text.splitlines()), nl=False)


@click.command(cls=DashCommand)
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that are over.")
@click.option("-v", "--verbose", is_flag=True, help="Also their numbers, states and times.")
@shown
def jobs(*, everything: bool, verbose: bool, as_json: bool, quiet: bool, dc: str | None) -> None:
    """List your jobs, as the design of PaddleCloud has them; `get jobs` tells more."""
    from cli.cloud import tables
    from cli.sdk import operations
    from cli.sdk.way import asked
    from pfs.client.web import facts

    with reaching.connected(dc) as client:
        found = [job for job in asked(client, operations.jobs) if everything or job["state"] not in tables.OVER]
        user = facts(client.read("me").decode())["name"]
    rows = [tables.listed_cells(job, user, age_of(job["status"]["submitTime"])) for job in found]
    header: Sequence[str] = tables.LISTED
    if verbose:
        header = tables.LISTED + tables.LISTED_MORE
        rows = [[*row, *tables.more_cells_of_job(job)] for row, job in zip(rows, found, strict=True)]
    numbers = [str(job["id"]) for job in found]
    show_rows(header, rows, found, numbers, as_json=as_json, quiet=quiet, gap=tables.GAP)


def age_of(stamp: str) -> str:
    """Return how long ago a time was."""
    return age(time.time() - datetime.fromisoformat(stamp).timestamp())


@click.command(cls=DashCommand)
@click.argument("job", required=False, shell_complete=completion.paddle_jobs)
@click.option("-v", "--verbose", is_flag=True, help="Also their addresses, exit codes and why they ended.")
@shown
def pods(job: str | None, *, verbose: bool, as_json: bool, quiet: bool, dc: str | None) -> None:
    """List the processes of JOB, or of all your jobs that are not over, with their nodes."""
    from cli.cloud import tables
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        found = asked(client, operations.workers, job)
    rows, names = [tables.pod_cells(each) for each in found], [each["name"] for each in found]
    header: Sequence[str] = tables.PODS
    if verbose:
        header = tables.PODS + tables.PODS_MORE
        rows = [[*row, *tables.more_cells_of_pod(each)] for row, each in zip(rows, found, strict=True)]
    show_rows(header, rows, found, names, as_json=as_json, quiet=quiet, gap=tables.GAP)


@click.command(cls=DashCommand)
@click.option(
    "-n", "--lines", type=click.IntRange(0, 100_000), default=LINES, show_default=True, help="Of each process."
)
@click.option(
    "-w", "--worker", metavar="WORKER", help="One process alone, by its name or number: digits-trainer-0, 0.0."
)
@click.option(
    "-a", "--all", "everything", is_flag=True, help="All that there is, as `cat <dc>/jobs/JOB/log.txt` has it."
)
@click.option("-f", "--follow", is_flag=True, help="All, and go on until the job is over, as `cat <dc>/jobs/JOB/log`.")
@click.argument("job", metavar="[JOB|POD]", required=False, shell_complete=completion.paddle_jobs)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print what they wrote alone, without headings.")
@dc_option
def logs(
    *,
    job: str | None,
    lines: int,
    worker: str | None,
    everything: bool,
    follow: bool,
    as_json: bool,
    quiet: bool,
    dc: str | None,
) -> None:
    """Print the last lines of each process of JOB, a name or a number, over or not; without JOB, of your newest.

    POD is a process alone, as `pods` names it.
    """
    from cli.cloud import jobs as asking
    from cli.cloud.tables import pod_list
    from cli.following import copy_stream
    from cli.sdk import operations
    from cli.sdk.way import asked

    if as_json and (follow or everything):
        raise click.UsageError("--json goes with -n, and not with -a or -f")
    with reaching.connected(dc) as client:
        if job is None:
            number = str(asked(client, operations.newest))
        else:
            number, worker = asking.job_or_pod(client, job, worker)
        if job is None and not (as_json or quiet):
            click.echo(pod_list(asked(client, operations.workers_of, number)))
        if (as_json or quiet) and not (follow or everything):
            found = _last_lines(client, number, worker, lines)
            texts = [each["log"] for each in found if each["log"]]
            click.echo(json.dumps(found, indent=2) if as_json else "\n".join(texts), nl=as_json or bool(texts))
            return
        if follow or everything:
            place = f"jobs/{number}" if worker is None else asked(client, operations.process_of, number, worker)
            copy_stream(client, f"{place}/{'log' if follow else 'log.txt'}")
            return
        text = asked(client, operations.tail_of, number, lines, worker)
    click.echo(text, nl=bool(text))


def _last_lines(client: "WebClient", number: str, worker: str | None, lines: int) -> list[dict[str, Any]]:
    """Return the processes of a job, or one of them, each with the last lines of its log."""
    from cli.sdk import operations
    from cli.sdk.way import asked

    found = asked(client, operations.workers_of, number)
    if worker is not None:
        folder = asked(client, operations.process_of, number, worker).rpartition("/")[2]
        found = [each for each in found if each["process"] == folder]
    return [{**each, "log": asked(client, operations.tail_of, number, lines, each["name"])} for each in found]
