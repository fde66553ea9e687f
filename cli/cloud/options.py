"""What many commands of `paddle` take: a datacenter, a job, and how what they show is written."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cli import completion
from cli.output import table

Command = TypeVar("Command", bound=Callable[..., Any])

DC_HELP = "The datacenter; default: the current one of ~/.paddle/config."
dc_option = click.option("--dc", metavar="NAME", help=DC_HELP, shell_complete=completion.datacenters)
job_argument = click.argument("job", shell_complete=completion.paddle_jobs)
jobs_argument = click.argument("jobs", metavar="JOB…", nargs=-1, required=True, shell_complete=completion.paddle_jobs)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print names or numbers alone, one a line.")


def shown(command: Command) -> Command:
    """Give a command the options of those that show something."""
    return json_option(quiet_option(dc_option(command)))


def show_rows(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    objects: object,
    names: Sequence[str],
    *,
    as_json: bool,
    quiet: bool,
    gap: int = 2,
) -> None:
    """Print a table, or what programs want of it.

    Args:
        objects: the same, for JSON.
        names: what each row is about.
        gap: blanks between columns.
    """
    if as_json:
        click.echo(json.dumps(objects, indent=2, ensure_ascii=False))
    elif quiet:
        click.echo("".join(f"{name}\n" for name in names), nl=False)
    else:
        click.echo(table(header, rows, gap))
