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
# what runs where nothing says what does: as with Snakepit such a job is prepared, and ends with 0
NOTHING = "true"
# how the server begins to say that no node, nor all together, could ever run a job (`jobd.scheduling.feasible`)
IMPOSSIBLE = ("needs ", "no node allows ", "the node that could run it ", "all ")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be run.

    Attributes:
        request: the cluster request; None is what the project's file says.
        direct: the commands; None runs `.compute`, and nothing where there is none.
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
    from jobd.spec.values import CONTROL

    if not wish.title.strip():
        raise PfsError(Kind.INVALID, 'Job title missing: pit run "My task" 2:[gtx1070]')
    if len(wish.title) > TITLE_CHARACTERS:
        raise PfsError(Kind.INVALID, f"Job title too long ({TITLE_CHARACTERS} characters max)")
    if CONTROL.search(wish.title) or wish.title.encode(errors="ignore").decode() != wish.title:
        raise PfsError(Kind.INVALID, "Job title not usable: it has to be one line of text")
    resources = _request(wish.request)
    _check_request(resources, REQUEST_FILE if wish.request is None else "clusterRequest")
    return resources


def run(client: "Pit", wish: Wish, resources: str) -> str:
    """Submit the current directory as a job, print what it is, and return its number."""
    from cli.following import submit
    from cli.submit.packages import check_script, has_script
    from cli.submit.shipping import shipped
    from cli.submit.spectext import name_of, written

    done = shipped(client, Path(), asks_git=not wish.archive)
    direct = wish.direct
    if direct is None and not has_script(done, Path()):
        direct = NOTHING
    if direct is None:
        check_script(done, Path(), "-d COMMANDS")
    fields = {"title": wish.title, "src": done.src, "resources": resources, "private": True if wish.private else None}
    command = None if direct is None else ["bash", "-c", direct]
    text = written({**fields, "command": command, "continue": wish.continued, "end": "any"})
    try:
        job = submit(client, f"{name_of(wish.title)}.yaml", text, secrets.token_hex(16))
    except PfsError as error:
        raise _in_own_words(client, wish, error) from None
    number = job.removeprefix("jobs/")
    click.echo(run_report(number, done.origin, resources))
    return number


def _check_request(text: str, where: str) -> None:
    """Refuse what the server would not understand, before anything is shipped."""
    from jobd.spec.request import RequestError, parse_request

    try:
        parse_request(text)
    except RequestError as error:
        reason = f'Problem parsing allocation "{printable(text)}" in {where}, column {error.column}: {error.problem}'
        raise PfsError(Kind.INVALID, reason) from None


def _in_own_words(client: "Pit", wish: Wish, error: PfsError) -> PfsError:
    """Return a refusal of the server with Snakepit's words before its own, where it has words for that."""
    if error.kind is not Kind.INVALID:
        return error
    if error.message.startswith(IMPOSSIBLE):
        return error.saying(f"Cluster cannot fulfill resource request: {error.message}")
    if error.message.startswith("continue: there is no job "):
        return error.saying(f"{_why_not_continued(client, str(wish.continued))}: {error.message}")
    return error


def _why_not_continued(client: "Pit", number: str) -> str:
    """Tell whether a job is not there, or is somebody's who does not share it."""
    from cli.snakepit.jobquery import url_of_job

    is_there = bool(client.call("GET", url_of_job(number), b"")["msg"])
    return "Continuing provided job not allowed for current user" if is_there else "The job to continue is not existing"


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
