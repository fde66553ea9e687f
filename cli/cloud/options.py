"""What many commands of `paddle` take: a datacenter, a job, and how what they show, or have done, is written.

Every command has `--json` and `-q`: one that shows something is `shown`, one that does something `doing`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from cli import completion
from cli.cloud.manner import only_errors
from cli.output import table

Command = TypeVar("Command", bound=Callable[..., Any])

DONE_HELP = "Print what was done as JSON."
DC_HELP = "The datacenter; default: the current one of ~/.paddle/config."
dc_option = click.option("--dc", metavar="NAME", help=DC_HELP, shell_complete=completion.datacenters)
job_argument = click.argument("job", shell_complete=completion.paddle_jobs)
jobs_argument = click.argument("jobs", metavar="JOB…", nargs=-1, required=True, shell_complete=completion.paddle_jobs)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print names or numbers alone, one a line.")
silent_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing when all goes well.")
done_option = click.option("--json", "as_json", is_flag=True, help=DONE_HELP)


def shown(command: Command) -> Command:
    """Give a command the options of those that show something."""
    return json_option(quiet_option(dc_option(command)))


@dataclass(frozen=True, slots=True)
class Voice:
    """How a command tells what it has done: to people, to programs, or not at all."""

    as_json: bool
    quiet: bool

    @property
    def speaks(self) -> bool:
        """Whether people are told anything."""
        return not (self.as_json or self.quiet)

    def tell(self, facts: object, text: str = "") -> None:
        """Tell that something is done: programs get the facts, people the text, if there is one."""
        if self.as_json:
            click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        elif text and not self.quiet:
            click.echo(text)

    @contextmanager
    def telling(self, facts: object) -> Iterator[None]:
        """Tell programs at the end of the block, however it ends, what was done until then."""
        try:
            yield
        finally:
            self.tell(facts)


def doing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that does something `--json` and `-q`, and a `voice` that heeds them."""

    @done_option
    @silent_option
    @wraps(command)
    def done(*args: Any, as_json: bool, quiet: bool, **named: Any) -> Any:
        return command(*args, voice=Voice(as_json, quiet or only_errors()), **named)

    return done


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
