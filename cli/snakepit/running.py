"""`pit run`: the current directory, as it is, becomes a job."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.output import printable
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit
    from jobd.manifest import Origin

TITLE_CHARACTERS = 40
REQUEST_FILE = ".pitrequest.txt"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be run.

    Attributes:
        request: the cluster request; None is what the project's file says.
        direct: the commands; None runs `.compute`.
        continued: the job whose `keep` is copied.
        archive: the directory is shipped as if there were no git.
    """

    title: str
    request: str | None
    direct: str | None
    continued: int | None
    private: bool
    archive: bool


def check(wish: Wish) -> str:
    """Return the cluster request of what may be run.

    Raises:
        PfsError: INVALID.
    """
    if len(wish.title) > TITLE_CHARACTERS:
        raise PfsError(Kind.INVALID, f"Job title too long ({TITLE_CHARACTERS} characters max)")
    return _request(wish.request)


def run(client: "Pit", wish: Wish, resources: str) -> str:
    """Submit the current directory as a job, print what it is, and return its number."""
    from cli.following import submit
    from cli.submit.packages import check_script
    from cli.submit.shipping import shipped
    from cli.submit.spectext import name_of, written

    done = shipped(client, Path(), asks_git=not wish.archive)
    if wish.direct is None:
        check_script(done, Path(), "-d COMMANDS")
    fields = {"title": wish.title, "src": done.src, "resources": resources, "private": True if wish.private else None}
    command = None if wish.direct is None else ["bash", "-c", wish.direct]
    text = written({**fields, "command": command, "continue": wish.continued, "end": "any"})
    job = submit(client, f"{name_of(wish.title)}.yaml", text, secrets.token_hex(16))
    number = job.removeprefix("jobs/")
    click.echo(run_report(number, done.origin, resources))
    return number


def _request(request: str | None) -> str:
    """Return the cluster request: the argument, or what stands in the project's file."""
    if request is None:
        try:
            with open(REQUEST_FILE, encoding="utf-8") as file:
                request = file.read().strip()
        except FileNotFoundError:
            request = ""
    if not request:
        raise PfsError(
            Kind.INVALID,
            "No resources requested from cluster. Please provide them either through command line or through a "
            f'"{REQUEST_FILE}" file in your project root.',
        )
    return request


def run_report(number: str, origin: "Origin | None", resources: str) -> str:
    """Return what `pit run` says of a job that was accepted, in Snakepit's columns; without git there is less."""
    lines = [f"Job number: {number}"]
    if origin is not None and origin.remote:
        lines.append(f"Remote:     {printable(origin.remote)} <{printable(origin.url)}>")
    if origin is not None and origin.hash:
        lines += [f"Hash:       {origin.hash}", f"Diff LoC:   {origin.diff_lines}"]
    return "\n".join([*lines, f'Resources:  "{resources}"'])
