"""`pit`: for people who come from Snakepit.

It finds its server by `.pitconnect.txt` and its user by `.pituser.txt`, in the current directory, then in
`PIT_CONFIG_DIR`, then at home.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.errors import run_command
from cli.output import pit_since

if TYPE_CHECKING:
    from pfs.client.web import WebClient

LETTERS = {
    "PENDING": "NEW",
    "PREPARING": "PRE",
    "WAITING": "WAI",
    "STARTING": "STA",
    "RUNNING": "RUN",
    "STOPPING": "STO",
}
DONE = "FIN"
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
    from pfs.client.web import facts

    with connected() as client:
        jobs = [facts(entry["each"]) for entry in client.list("jobs", each="status") if entry.get("each")]
    click.echo(status_report(jobs, time.time(), shutil.get_terminal_size((80, 24)).columns), nl=False)


@pit.command()
@click.argument("job_number", metavar="<jobNumber>", type=int)
def log(job_number: int) -> None:
    """Show job's log."""
    with connected() as client, client.stream(f"jobs/{job_number}/log") as pieces:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@pit.command()
@click.argument("job_number", metavar="<jobNumber>", type=int)
def stop(job_number: int) -> None:
    """Stops a running job."""
    with connected() as client:
        client.write(f"jobs/{job_number}/ctl", b"kill\n")


def status_report(jobs: list[Mapping[str, str]], now_s: float, columns: int) -> str:
    """Return the report of `pit status`: its columns, widths and captions are Snakepit's."""
    lines = [_row(("JOB", "S", "SINCE", "UC%", "UM%", "USER", "TITLE", "RESOURCE"), columns)]
    by_number = sorted(jobs, key=lambda job: int(job["id"]))
    groups = {
        "Running:": [job for job in by_number if _letters(job) in RUNNING],
        "Waiting:": sorted((j for j in by_number if _letters(j) in WAITING), key=lambda j: WAITING.index(_letters(j))),
        "Done:": [job for job in reversed(by_number) if _letters(job) == DONE][:DONE_SHOWN_MAX],
    }
    for caption, members in groups.items():
        if members:
            lines.append(caption)
            lines += [_job_row(job, now_s, columns) for job in members]
    return "".join(line.rstrip() + "\n" for line in lines)


def _letters(job: Mapping[str, str]) -> str:
    return LETTERS.get(job["state"], DONE)


def _job_row(job: Mapping[str, str], now_s: float, columns: int) -> str:
    changed = job.get("ended") or job.get("started") or job["submitted"]
    since = pit_since(now_s - datetime.fromisoformat(changed).timestamp())
    resource = f"{job['node']}[]" if job.get("node") else "[]"
    return _row((job["id"], _letters(job), since, "0", "0", job["user"], job["title"], resource), columns)


def _row(cells: Sequence[str], columns: int) -> str:
    """Return one line: fixed widths, cut hard; the last column takes the rest of the terminal."""
    job, letters, since, compute, memory, user, title, resource = (_printable(cell) for cell in cells)
    start = f"{job[:6]:>6} {letters[:3]:>3} {since[:12]:<12} {compute[:3]:>3} {memory[:3]:>3} "
    start += f"{user[:10]:<10} {title[:20]:<20} "
    room = columns - len(start)
    return start + resource[: room if room >= 10 else 30]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


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
    """Run `pit`."""
    run_command(pit, "pit")
