"""`pit`: for people who come from Snakepit.

It finds its server by `.pitconnect.txt` and its user by `.pituser.txt`, in the current directory, then in
`PIT_CONFIG_DIR`, then at home.
"""

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.errors import status_of
from cli.output import pit_since, printable, read_tables
from cli.pitshow import DONE, letters_of, show

if TYPE_CHECKING:
    from jobd.manifest import Origin
    from pfs.client.web import WebClient

TITLE_CHARACTERS = 40
REQUEST_FILE = ".pitrequest.txt"
DONE_SHOWN_MAX = 20
RUNNING = ("STA", "RUN", "STO")
WAITING = ("WAI", "PRE", "NEW")


class NoPit(click.ClickException):
    """There is nothing that says where the pit is, or who one is there."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pfs-jobs", prog_name="pit")
def pit() -> None:
    """Snakepit's client, for this datacenter."""


@pit.command()
def status() -> None:
    """Prints a job status report."""
    with connected() as client:
        jobs = jobs_of(client.read("status").decode())
    click.echo(status_report(jobs, time.time(), shutil.get_terminal_size((80, 24)).columns), nl=False)


@pit.command()
@click.option("-p", "--private", is_flag=True, help="prevents automatic sharing of this job")
@click.option(
    "-c", "--continue", "continued", metavar="<jobNumber>", type=int, help='copies that job\'s "keep" into the new job'
)
@click.option(
    *("-d", "--direct", "-e", "--execute", "direct"),
    metavar="<commands>",
    help="directly executes provided commands through bash instead of loading .compute file",
)
@click.option("-l", "--log", "follows", is_flag=True, help="waits for and prints job's log output")
@click.argument("title", metavar="<title>")
@click.argument("request", metavar="[clusterRequest]", required=False)
def run(
    *, private: bool, continued: int | None, direct: str | None, follows: bool, title: str, request: str | None
) -> int:
    """Enqueues current directory as new job.

    \b
      pit run "My task" 2:[8:gtx1070]
      pit run "My command" [] -d 'hostname; env'

    Tracked, changed and new files are shipped, but what .gitignore and .pitignore name; also without git.
    "clusterRequest" is by default what a ".pitrequest.txt" file in your project root says.
    """
    from cli.following import follow, submit
    from cli.packages import check_script, shipped
    from cli.spectext import name_of, written

    if len(title) > TITLE_CHARACTERS:
        raise click.ClickException(f"Job title too long ({TITLE_CHARACTERS} characters max)")
    resources = _request(request)
    with connected() as client:
        done = shipped(client, Path())
        if direct is None:
            check_script(done, Path(), "-d COMMANDS")
        fields = {"title": title, "src": done.src, "resources": resources, "private": True if private else None}
        command = None if direct is None else ["bash", "-c", direct]
        text = written({**fields, "command": command, "continue": continued, "end": "any"})
        job = submit(client, f"{name_of(title)}.yaml", text, str(uuid.uuid4()))
        number = job.removeprefix("jobs/")
        click.echo(run_report(number, done.origin, resources))
        if follows:
            click.echo()
            if not follow(client, job, f"pit log {number} shows it, pit stop {number} ends it"):
                return 130
    return 0


pit.add_command(run, "put")


def _request(request: str | None) -> str:
    """Return the cluster request: the argument, or what stands in the project's file."""
    if request is None:
        try:
            with open(REQUEST_FILE, encoding="utf-8") as file:
                request = file.read().strip()
        except FileNotFoundError:
            request = ""
    if not request:
        raise click.ClickException(
            "No resources requested from cluster. Please provide them either through command line or through "
            f'a "{REQUEST_FILE}" file in your project root.'
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


@pit.command()
@click.option("-f", "--follow", "_follow", is_flag=True, hidden=True)
@click.argument("job_number", metavar="<jobNumber>", type=int)
def log(job_number: int, _follow: bool) -> int:
    """Show job's log."""
    from cli.following import follow

    with connected() as client:
        seen = follow(client, f"jobs/{job_number}", f"pit stop {job_number} ends it")
    return 0 if seen else 130


@pit.command(name="show")
@click.argument("entity", metavar="<entity>")
def show_command(entity: str) -> None:
    """Shows info about an entity: me, nodes, node:n0, jobs, job:17, aliases, alias:gtx1070."""
    with connected() as client:
        click.echo(show(client, entity))


@pit.command()
@click.argument("job_number", metavar="<jobNumber>", type=int)
def stop(job_number: int) -> None:
    """Stops a running job."""
    with connected() as client:
        client.write(f"jobs/{job_number}/ctl", b"kill\n")


def jobs_of(text: str) -> list[Mapping[str, str]]:
    """Return the facts of the jobs that the tree's `status` names, everybody's."""
    rows = [row for rows in read_tables(text).values() for row in rows if "JOB" in row]
    return [
        {("id" if name == "JOB" else name.lower()): cell for name, cell in row.items()} | {"queue_place": str(place)}
        for place, row in enumerate(rows)
    ]


def status_report(jobs: list[Mapping[str, str]], now_s: float, columns: int) -> str:
    """Return the report of `pit status`: its columns, widths and captions are Snakepit's."""
    lines = [_row(("JOB", "S", "SINCE", "UC%", "UM%", "USER", "TITLE", "RESOURCE"), columns)]
    by_number = sorted(jobs, key=lambda job: int(job["id"]))
    groups = {
        "Running:": [job for job in by_number if letters_of(job["state"]) in RUNNING],
        "Waiting:": sorted((job for job in by_number if letters_of(job["state"]) in WAITING), key=_turn),
        "Done:": [job for job in reversed(by_number) if letters_of(job["state"]) == DONE][:DONE_SHOWN_MAX],
    }
    for caption, members in groups.items():
        if members:
            lines.append(caption)
            lines += [_job_row(job, now_s, columns) for job in members]
    return "".join(line.rstrip() + "\n" for line in lines)


def _turn(job: Mapping[str, str]) -> tuple[int, int]:
    """Return where a job stands that does not run yet: those in the queue by their places, then the others."""
    return WAITING.index(letters_of(job["state"])), int(job.get("queue_place") or 0)


def _job_row(job: Mapping[str, str], now_s: float, columns: int) -> str:
    changed = job.get("changed") or job["submitted"]
    since = pit_since(now_s - datetime.fromisoformat(changed).timestamp())
    resource = job.get("place") or job.get("request", "")
    return _row((job["id"], letters_of(job["state"]), since, "0", "0", job["user"], job["title"], resource), columns)


def _row(cells: Sequence[str], columns: int) -> str:
    """Return one line: fixed widths, cut hard; the last column takes the rest of the terminal."""
    job, letters, since, compute, memory, user, title, resource = (printable(cell) for cell in cells)
    start = f"{job[:6]:>6} {letters[:3]:>3} {since[:12]:<12} {compute[:3]:>3} {memory[:3]:>3} "
    start += f"{user[:10]:<10} {title[:20]:<20} "
    room = columns - len(start)
    return start + resource[: room if room >= 10 else 30]


@contextmanager
def connected() -> "Iterator[WebClient]":
    """Give a client of the pit that the files name."""
    from pfs.client.web import WebClient

    connect = _find(".pitconnect.txt")
    if connect is None:
        raise NoPit(
            "Unable to find connectivity info about your pit. "
            "Ask its administrator for a .pitconnect.txt, and put it into your home or project directory."
        )
    with open(connect, encoding="utf-8") as file:
        endpoint, *certificates = file.read().splitlines() or [""]
    user = _find(".pituser.txt")
    if user is None:
        raise NoPit("No user info found: there is no .pituser.txt. Ask the pit's administrator for one.")
    with open(user, encoding="utf-8") as file:
        lines = file.read().splitlines()
    if len(lines) < 2:
        raise NoPit(f"{user}: a user name and a token are needed, one line each.")
    ca = connect if any(certificates) else None
    with WebClient(endpoint.strip().rstrip("/"), lines[1].strip(), ca) as client:
        yield client


def _find(name: str) -> str | None:
    for directory in (".", os.environ.get("PIT_CONFIG_DIR"), os.path.expanduser("~")):
        if directory is not None and os.path.isfile(os.path.join(directory, name)):
            return os.path.join(directory, name)
    return None


def main() -> None:
    """Run `pit`, which knows only one status for everything that failed, as Snakepit's does."""
    status = status_of("pit", lambda: pit.main(prog_name="pit", standalone_mode=False))
    sys.exit(1 if status == 2 else status)
