"""The services of a datacenter, each written once: `Client` and `AsyncClient` do the same by different ways.

A job is meant by its number, or by its name. All that goes wrong is a PfsError.
"""

import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

from cli.output import as_objects
from cli.resuming import asking_again, resuming, whole
from cli.sdk.rows import Credential, Entry, Job, Servers, Worker
from cli.sdk.way import Blocking, Way
from pfs.client.web import facts
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.submit.ship import Shipped

API = "/api/v1/"
LOG, SO_FAR = "log", "log.txt"
DEFAULT_STEM = "job"  # of a spec that is no file, and that nobody named
SOONEST_S = 0.01  # a timeout of nothing at all would refuse what is there
KEY_BYTES = 16
_NO_JOB = (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.NAME_TOO_LONG)

Facts = Mapping[str, str]
Spec = str | Mapping[str, Any] | os.PathLike[str]
Bring = Callable[[Blocking, Path], "Shipped"]  # sees to it that a server has a folder


# ---- to look at jobs


async def told(way: Way, what: str, **asked: str) -> Any:
    """Return what a door of REST v1 tells."""
    query = f"?{urlencode(asked)}" if asked else ""
    return (await way.tree.call("GET", f"{API}{what}{query}", b""))["msg"]


async def job(way: Way, job: int | str) -> Facts:
    """Return the facts of a job, such as `id`, `state` and `place`.

    Raises:
        PfsError: NOT_FOUND for none.
    """
    with _of(job):
        return facts((await way.tree.read(f"jobs/{job}/status")).decode())


@contextmanager
def _of(job: int | str) -> Iterator[None]:
    try:
        yield
    except PfsError as error:
        if error.kind not in _NO_JOB:
            raise
        raise PfsError(Kind.NOT_FOUND, f"there is no job {str(job)!r}; see: paddle get jobs -a") from None


async def number_of(way: Way, named: int | str) -> int:
    """Return the number of a job."""
    return int((await job(way, named))["id"])


async def newest(way: Way) -> int:
    """Return the number of one's newest job.

    Raises:
        PfsError: NOT_FOUND for somebody without a job.
    """
    found = await jobs(way)
    if not found:
        raise PfsError(Kind.NOT_FOUND, "you have no job; submit one with: paddle submit")
    return found[0]["id"]


async def jobs(way: Way) -> list[Job]:
    """Return one's jobs, the newest first, also those that are over."""
    return cast("list[Job]", await told(way, "jobs"))


async def servers(way: Way) -> list[Servers]:
    """Return how many parameter servers one's jobs have."""
    return cast("list[Servers]", await told(way, "pservers"))


async def everybodys_jobs(way: Way) -> list[Facts]:
    """Return the facts of all jobs that one may read, also those that are over."""
    return sorted(await _each_status(way, "jobs"), key=lambda job: int(job["id"]))


async def workers(way: Way, job: int | str | None = None) -> list[Worker]:
    """Return the processes of a job, or of all of one's jobs that are not over."""
    if job is not None:
        return await workers_of(way, await number_of(way, job))
    return cast("list[Worker]", await told(way, "workers"))


async def workers_of(way: Way, number: int | str) -> list[Worker]:
    """Return the processes of the job with a number."""
    return cast("list[Worker]", await told(way, "workers", jobname=str(number)))


async def why(way: Way, job: int | str) -> str:
    """Return why a job waits, or failed, and what would help."""
    with _of(job):
        return (await way.tree.read(f"jobs/{job}/why")).decode()


async def tail(way: Way, job: int | str, lines: int, worker: str | None = None) -> str:
    """Return the last lines of each process of a job, or of one alone."""
    return await tail_of(way, await number_of(way, job), lines, worker)


async def tail_of(way: Way, number: int | str, lines: int, worker: str | None = None) -> str:
    """Return what `tail` does of the job with a number."""
    more = {} if worker is None else {"w": worker}
    return str(await told(way, "logs", jobname=str(number), n=str(lines), **more))


async def place_of(way: Way, job: int | str, worker: str | None = None) -> str:
    """Return the folder of a job, or that of one of its processes."""
    number = await number_of(way, job)
    return f"jobs/{number}" if worker is None else await process_of(way, number, worker)


async def process_of(way: Way, number: int | str, worker: str) -> str:
    """Return the folder of a process of the job with a number, by its name or that of the folder itself.

    Raises:
        PfsError: NOT_FOUND for none.
    """
    for each in await workers_of(way, number):
        if worker in (each["name"], each["process"]):
            return f"jobs/{number}/processes/{each['process']}"
    raise PfsError(Kind.NOT_FOUND, f"job {number} has no worker {worker}; see: paddle get workers {number}")


async def log(
    way: Way, job: int | str, worker: str | None = None, *, follow: bool = True
) -> AsyncGenerator[bytes, None]:
    """Give the log of a job, or of one of its processes, as it comes.

    Args:
        follow: until the job is over; else what there is now.
    """
    place = await place_of(way, job, worker)
    async with aclosing(stream(way, f"{place}/{LOG if follow else SO_FAR}")) as pieces:
        async for piece in pieces:
            yield piece


async def wait(way: Way, named: int | str, timeout_s: float | None = None) -> int:
    """Return the exit code of a job, once it is over.

    Raises:
        PfsError: TIMED_OUT when it is not over in time.
    """
    status = await job(way, named)
    number = int(status["id"])
    if timeout_s is None:
        return await exit_code(way, number)
    if code := status.get("exit_code"):
        return int(code)
    until_s = way.clock_s() + timeout_s
    left_s = timeout_s

    async def pause(seconds: float) -> None:
        nonlocal left_s
        left_s = until_s - way.clock_s()
        if left_s <= 0:
            raise PfsError(Kind.TIMED_OUT, f"job {number} is not over after {timeout_s:g} s")
        await way.pause(min(seconds, left_s))
        left_s = until_s - way.clock_s()

    def opened(_: int) -> Any:
        return way.tree.stream(f"jobs/{number}/wait", silence_s=max(left_s, SOONEST_S))

    return int(await whole(resuming(opened, pause)))


async def exit_code(way: Way, number: int | str) -> int:
    """Return the exit code of the job with a number, once it is over."""
    return int(await whole(stream(way, f"jobs/{number}/wait")))


# ---- what else there is


async def nodes(way: Way) -> list[Facts]:
    """Return the facts of the machines that run jobs."""
    return await _each_status(way, "nodes")


async def _each_status(way: Way, folder: str) -> list[Facts]:
    return [facts(each["each"]) for each in await way.tree.list(folder, each="status") if each.get("each")]


async def queue(way: Way) -> list[dict[str, str]]:
    """Return the jobs that wait, in the order of their turns."""
    return as_objects((await way.tree.read("queue")).decode())


async def quota(way: Way) -> list[dict[str, str]]:
    """Return what one and one's groups have and may have."""
    return as_objects((await way.tree.read("quota")).decode())


async def registries(way: Way) -> list[Credential]:
    """Return one's credentials for registries of images."""
    return cast("list[Credential]", await told(way, "registry"))


# ---- to command jobs


async def submit(way: Way, spec: Spec, name: str | None, key: str | None, given: Mapping[str, str | None]) -> int:
    """Submit a job, and return its number.

    Args:
        spec: a text; the keys and values of one; or the path of a file, or of a folder, which is shipped.
        name: what the job is called, where the spec does not say it.
        key: the same key again gives the same job; None for one of its own.
        given: keys for a folder without a spec in it.
    """
    from cli.submit.ship import ship

    def bring(server: Blocking, folder: Path) -> "Shipped":
        return ship(server, folder, way.rest, progress=way.goes_on)

    stem, text = await packed(way, spec, name, given, bring)
    return int((await put(way, f"{stem}.yaml", text, key or os.urandom(KEY_BYTES).hex())).removeprefix("jobs/"))


async def packed(
    way: Way, spec: Spec, name: str | None, given: Mapping[str, str | None], bring: Bring
) -> tuple[str, bytes]:
    """Return the stem of the file in `jobs/` that a spec gets, and its text, with all that it names brought."""
    return await way.aside(lambda server: _packed(spec, name, given, lambda folder: bring(server, folder)))


def _packed(
    spec: Spec, name: str | None, given: Mapping[str, str | None], bring: "Callable[[Path], Shipped]"
) -> tuple[str, bytes]:
    from cli.submit.packages import completed, package

    if isinstance(spec, os.PathLike):
        return package(Path(spec), name, given, bring)
    if options := [key for key, value in given.items() if value is not None]:
        raise PfsError(Kind.INVALID, f"{options[0]} is of a folder without a spec in it; write it into the spec")
    text = spec if isinstance(spec, str) else _text(spec)
    return name or DEFAULT_STEM, completed(text.encode(), Path(), bring)


def _text(spec: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(spec), default=os.fspath)
    except (TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"the spec holds what no text can say: {error}") from None


async def check(way: Way, name: str, text: bytes) -> None:
    """Refuse a spec that the server would refuse for anything but its files.

    Args:
        name: what the job is called, where the spec does not say it.
    """
    await way.tree.call("POST", f"{API}specs/{quote(name, safe='')}", text)


async def put(way: Way, name: str, text: bytes, key: str) -> str:
    """Submit a spec and return the path of its job, such as `jobs/17`.

    Args:
        name: of the file in `jobs/`.
        key: the same key again gives the same job, so a cut connection does no harm.
    """
    return str(await asking_again(lambda: way.tree.put(f"jobs/{name}", text, key), way.pause))


async def command(way: Way, job: int | str, *words: object) -> None:
    """Tell a job something, as who writes to its ctl does: `kill`, `signal USR1`, `priority 10`."""
    with _of(job):
        await way.tree.write(f"jobs/{job}/ctl", f"{' '.join(map(str, words))}\n".encode())


async def remove_job(way: Way, named: int | str) -> None:
    """End a job, unless it is over, and throw it away."""
    from jobd.life.model import State

    status = await job(way, named)
    number = status["id"]
    if not State(status["state"]).over:
        await command(way, number, "kill")
        await exit_code(way, number)
    await way.tree.remove(f"jobs/{number}")


async def restore_job(way: Way, job: int | str) -> int:
    """Bring a job back that was removed, and return its number."""
    told = await way.tree.call("POST", f"{API}restore", json.dumps({"jobname": str(job)}).encode())
    return int(told["id"])


# ---- files


def stream(way: Way, path: str) -> AsyncGenerator[bytes, None]:
    """Give what is in a file as it comes; of a stream until its writer is done, over connections that may be cut."""
    return resuming(lambda _: way.tree.stream(path), way.pause)


async def ls(way: Way, path: str) -> list[Entry]:
    """Return what is in a directory."""
    return cast("list[Entry]", await way.tree.list(path))
