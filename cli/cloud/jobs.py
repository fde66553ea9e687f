"""How jobs are asked for by name or number, ended, removed, and waited for."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from cli.cloud.tables import OVER
from cli.submit.following import exit_code
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pfs.client.web import WebClient

API = "/api/v1/"


def told(client: "WebClient", what: str, **asked: str) -> Any:
    """Return what a door of REST v1 tells."""
    query = f"?{urlencode(asked)}" if asked else ""
    return client.call("GET", f"{API}{what}{query}", b"")["msg"]


def status_of(client: "WebClient", job: str) -> "Mapping[str, str]":
    """Return the facts of a job, by its name or number.

    Raises:
        PfsError: NOT_FOUND for none.
    """
    from pfs.client.web import facts

    with _of(job):
        return facts(client.read(f"jobs/{job}/status").decode())


@contextmanager
def _of(job: str) -> "Iterator[None]":
    try:
        yield
    except PfsError as error:
        if error.kind not in (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.NAME_TOO_LONG):
            raise
        raise PfsError(Kind.NOT_FOUND, f"there is no job {job!r}; see: paddle get jobs -a") from None


def number_of(client: "WebClient", job: str) -> str:
    """Return the number of a job, by its name or number."""
    return status_of(client, job)["id"]


def process_of(client: "WebClient", number: str, worker: str) -> str:
    """Return the folder of a process of a job, by its name or that of the folder itself.

    Raises:
        PfsError: NOT_FOUND for none.
    """
    for each in told(client, "workers", jobname=number):
        if worker in (each["name"], each["process"]):
            return f"jobs/{number}/processes/{each['process']}"
    raise PfsError(Kind.NOT_FOUND, f"job {number} has no worker {worker}; see: paddle get workers {number}")


def newest(client: "WebClient") -> str:
    """Return the number of one's newest job.

    Raises:
        PfsError: NOT_FOUND for somebody without a job.
    """
    found = told(client, "jobs")
    if not found:
        raise PfsError(Kind.NOT_FOUND, "you have no job; submit one with: paddle submit")
    return str(found[0]["id"])


def command(client: "WebClient", job: str, words: str) -> None:
    """Tell a job something, as who writes to its ctl does."""
    with _of(job):
        client.write(f"jobs/{job}/ctl", f"{words}\n".encode())


def end(client: "WebClient", job: str, *, removes: bool) -> None:
    """End a job.

    Args:
        removes: throw it away when it is over; one that is over already is no mistake then.
    """
    if not removes:
        command(client, job, "kill")
        return
    status = status_of(client, job)
    number = status["id"]
    if status["state"] not in OVER:
        command(client, number, "kill")
        exit_code(client, f"jobs/{number}")
    client.remove(f"jobs/{number}")
