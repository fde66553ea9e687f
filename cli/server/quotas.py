"""`jobd quota`: what users and groups may hold, and what their jobs may have at once."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from cli.server.administration import data_root_option, database_option, opened

if TYPE_CHECKING:
    from jobd.scheduling.quotas import JobLimits
    from pfs.quota import Amount, Limits

JOB_LIMITS = ("jobs_running", "jobs_waiting", "gpus")


@click.command()
@data_root_option
@database_option
@click.option("--bytes", "size", metavar="SIZE", help="All files together, such as 10GiB; or none.")
@click.option("--files", metavar="NUMBER", help="Files, directories and links; or none.")
@click.option("--jobs-running", metavar="NUMBER", help="Jobs that run at once; or none.")
@click.option("--jobs-waiting", metavar="NUMBER", help="Jobs that were submitted and do not run yet; or none.")
@click.option("--gpus", metavar="NUMBER", help="GPUs that jobs have at once; or none.")
@click.argument("name", required=False)
def quota(data_root: str | None, database: str | None, name: str | None, **given: str | None) -> None:
    """Limit what a user may have, or the members of groups/NAME together; print the limits, and what is held.

    Without NAME, print this of all that have limits.

    A server that runs keeps to it at once. What runs or is there stays, also above a new limit.
    """
    of_files = _changes(given, {"size": ("size_bytes", _size), "files": ("files", _number)})
    of_jobs = _changes(given, {word: (word.removeprefix("jobs_"), _number) for word in JOB_LIMITS})
    if name is None and (of_files or of_jobs):
        raise click.UsageError("whose limits? a user, or groups/NAME")
    with opened(data_root, database) as store:
        limited = sorted({*store.accounts.limited_now(), *store.jobs.policy_now().quotas})
        for each in limited if name is None else [name]:
            click.echo(_told(each, store.limit(each, of_files), store.limit_jobs(each, of_jobs), store.used(each)))


COMMANDS = (quota,)


def _changes(
    given: Mapping[str, str | None], limits: Mapping[str, tuple[str, Callable[[str], int]]]
) -> dict[str, int | None]:
    """Return the limits that are to be others, by what they are called in `limits`."""
    found = {name: (given[word], parse) for word, (name, parse) in limits.items()}
    return {name: _limit(text, parse) for name, (text, parse) in found.items() if text is not None}


def _limit(text: str, parse: Callable[[str], int]) -> int | None:
    try:
        return None if text == "none" else parse(text)
    except ValueError as error:
        raise click.UsageError(f"{error}; or none") from None


def _size(text: str) -> int:
    from jobd.spec.units import parse_size

    return parse_size(text)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is no number; write up to nine digits")
    return int(text)


def _told(holder: str, limits: "Limits", most: "JobLimits", used: "Amount") -> str:
    from cli.server.datacenter import domain_of
    from jobd.spec.units import format_size

    of_bytes = "without a limit" if limits.size_bytes is None else f"of {format_size(limits.size_bytes)}"
    of_files = "without a limit" if limits.files is None else f"of {limits.files:,}"
    held = f"{format_size(used.size_bytes)} {of_bytes}, {used.files:,} files {of_files}"
    jobs = {"running jobs": most.running, "waiting jobs": most.waiting, "GPUs": most.gpus}
    told = [f"{what}: {limit:,} at most" for what, limit in jobs.items() if limit is not None]
    return "; ".join([f"{domain_of(holder)}: {held}", *told])
