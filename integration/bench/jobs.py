"""Jobs by the hundred: how many are taken in and come through in a second, against what the bare engine reaches.

    submissions        by HTTP on one connection and on four, and by `cp` into the mount, while nothing runs
    no-op jobs         from the first submission to the last exit code: `true` in the sandbox, `true` with Docker
    docker run         the same number of `docker run --rm IMAGE true`, on an engine as it comes: once where the node
                       can put a wall around its containers, and once where it cannot, being elsewhere
    first byte         from a spec to the first byte of its log, against `docker run` (`integration.bench.start`)
    a million over     looks at `jobs/`, `status`, `queue` and an old job, and a submission, beside as many finished
                       jobs and beside none; and a mount of a `jobs/` that lists all that it ever does

Times are those of the whole machine; what is compared alternates or follows directly, since its speed drifts.
"""

import argparse
import http.client
import os
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from integration.bench.finished import fill
from integration.bench.start import bare_s, beside_an_engine, ours_s
from integration.box import Box, box
from integration.engine import busybox_image, python_image
from jobd.store.jobs import JOBS_LISTED_MAX

NOOP = "command: 'true'\n"
AT_ONCE = 4
DONE_S, LOOK_EVERY_S = 600.0, 0.05
FIRST_BYTE_ROUNDS = 7
LOOKS = 15
ROUNDS = 3


class Api:
    """One connection to a server, as a program without the mount has it."""

    def __init__(self, made: Box) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", made.port)
        self._headers = {"Authorization": f"Bearer {made.token}"}

    def put(self, name: str, text: str) -> None:
        """Submit a spec."""
        self._ask("PUT", name, text.encode())

    def get(self, name: str) -> bytes:
        """Read a file or list a directory."""
        return self._ask("GET", name, None)

    def _ask(self, method: str, name: str, body: bytes | None) -> bytes:
        self._connection.request(method, f"/api/v1/fs/{name}", body, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return text

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def submit_all(made: Box, names: Sequence[str], text: str) -> None:
    """Submit one job for each name, on one connection."""
    with closing(Api(made)) as api:
        for name in names:
            api.put(f"jobs/{name}.yaml", text)


def submit_at_once(made: Box, names: Sequence[str], text: str) -> None:
    """Submit one job for each name, on four connections."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda part: submit_all(made, part, text), [names[n::AT_ONCE] for n in range(AT_ONCE)]))


def copy_all(made: Box, names: Sequence[str], text: str) -> None:
    """Submit one job for each name by `cp`, all of one call: a `cp` of its own for each measures the shell."""
    source = made.root / "specs"
    source.mkdir(exist_ok=True)
    for name in names:
        (source / f"{name}.yaml").write_text(text)
    subprocess.run(["cp", *[str(source / f"{name}.yaml") for name in names], str(made.dc / "jobs")], check=True)
    shutil.rmtree(source)


def names(prefix: str, count: int) -> list[str]:
    """Return names of jobs."""
    return [f"{prefix}{number}" for number in range(count)]


def timed(work: Callable[[], object]) -> float:
    """Return how long it takes, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def active(made: Box) -> int:
    """Count the jobs that are not over, past the server."""
    with _database(made) as database:
        return _active(database)


def until_over(made: Box) -> None:
    """Return once all jobs are over, seldom looking: what looks takes the processor from what is measured."""
    give_up_at = time.monotonic() + DONE_S
    with _database(made) as database:
        while _active(database):
            assert time.monotonic() < give_up_at, "they did not end in time"
            time.sleep(LOOK_EVERY_S)


def _database(made: Box) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"file:{made.data}/server/pfs.sqlite?mode=ro", uri=True, timeout=60))


def _active(database: sqlite3.Connection) -> int:
    return int(database.execute("select count(*) from job where ended_at_ns is null").fetchone()[0])


def through(made: Box, prefix: str, count: int, text: str) -> float:
    """Return how many jobs come through in a second, from the first submission to the last end."""

    def work() -> None:
        submit_at_once(made, names(prefix, count), text)
        until_over(made)

    return count / timed(work)


def bare_through(url: str, image: str, count: int, at_once: int) -> float:
    """Return how many `docker run` come through in a second."""
    command = ["docker", "--host", url, "run", "--rm", image, "true"]

    def work() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: subprocess.run(command, check=True), range(count)))

    return count / timed(work)


@contextmanager
def table(title: str) -> Iterator[None]:
    """Print a title and an empty line around a part."""
    print(f"\n{title}\n", flush=True)
    yield


def row(name: str, value: float, unit: str, note: str = "") -> None:
    """Print one figure."""
    print(f"{name:<52} {value:10.3f}  {unit:<10} {note}".rstrip(), flush=True)


def submissions(count: int) -> None:
    """Measure taking jobs in, with no node that could run them."""
    with box() as made:
        made.start_server()
        made.mount()
        row("by HTTP, one connection", count / timed(lambda: submit_all(made, names("a", count), NOOP)), "jobs/s")
        row("by HTTP, four connections", count / timed(lambda: submit_at_once(made, names("b", count), NOOP)), "jobs/s")
        row("by cp into the mount", count / timed(lambda: copy_all(made, names("c", count), NOOP)), "jobs/s")
        assert active(made) == 3 * count


def sandboxed(count: int, rounds: int) -> None:
    """Measure no-op jobs from end to end in the sandbox."""
    with box() as made:
        made.start_server()
        made.start_node()
        through(made, "warm", AT_ONCE, NOOP)
        rates = [through(made, f"r{number}x", count, NOOP) for number in range(rounds)]
    row(
        "no-op jobs, sandbox",
        statistics.median(rates),
        "jobs/s",
        f"(bar 30, goal 100; {min(rates):.1f}-{max(rates):.1f})",
    )


def with_docker(count: int, rounds: int) -> None:
    """Measure no-op jobs from end to end with Docker, and bare `docker run`, in turns."""
    for title, near in (("", True), (", without a wall", False)):
        with beside_an_engine(busybox_image, near=near) as (made, url, image):
            pairs = in_turns(made, url, image, count, rounds)
        row(f"no-op jobs, Docker{title}", statistics.median(ours for ours, _ in pairs), "jobs/s")
        row("docker run, the better of 4 and 8 at once", statistics.median(bare for _, bare in pairs), "jobs/s")
        row("ratio", statistics.median(ours / bare for ours, bare in pairs), "x", "(bar 0.85)")


def in_turns(made: Box, url: str, image: str, count: int, rounds: int) -> list[tuple[float, float]]:
    """Return how many no-op jobs come through in a second, and how many bare `docker run`, of each round."""
    text = f"image: {image}\ncommand: ['true']\n"
    through(made, "warm", AT_ONCE, text)
    bare_through(url, image, AT_ONCE, AT_ONCE)
    pairs = []
    for number in range(rounds):
        ours = through(made, f"d{number}x", count, text)
        # what the bare engine reaches is its best: few at once or many
        bare = max(bare_through(url, image, count, at_once) for at_once in (AT_ONCE, 2 * AT_ONCE))
        pairs.append((ours, bare))
    return pairs


def first_byte(rounds: int) -> None:
    """Measure from a spec to the first byte of its log, against `docker run`."""
    with beside_an_engine(python_image) as (made, url, image):
        made.mount()
        bare_s(url, image), ours_s(made, image, 0)
        pairs = [(ours_s(made, image, number), bare_s(url, image)) for number in range(1, rounds + 1)]
    row("spec to the first byte of its log", statistics.median(ours for ours, _ in pairs), "s")
    row("docker run, to the first byte", statistics.median(bare for _, bare in pairs), "s")
    row("ratio", statistics.median(ours / bare for ours, bare in pairs), "x", "(bar 1.3)")


def looks(made: Sequence[Box], over: Sequence[int]) -> dict[str, list[float]]:
    """Return how long each kind of look at each datacenter takes, in milliseconds; they take turns.

    Args:
        over: of each datacenter the number of a job that is over.
    """
    stamp = f"look{os.getpid()}x{time.monotonic_ns()}x"
    works: dict[str, Callable[[Api, int, int], object]] = {
        "ls jobs/": lambda api, _old, _n: api.get("jobs/"),
        "cat status": lambda api, _old, _n: api.get("status"),
        "cat queue": lambda api, _old, _n: api.get("queue"),
        "a submission": lambda api, _old, n: api.put(f"jobs/{stamp}{n}.yaml", NOOP),
        "cat jobs/<id>/state": lambda api, old, _n: api.get(f"jobs/{old}/state"),
        "ls jobs/<id>/": lambda api, old, _n: api.get(f"jobs/{old}/"),
    }
    with ExitStack() as stack:
        pairs = [(stack.enter_context(closing(Api(each))), old) for each, old in zip(made, over, strict=True)]
        found = {}
        for title, work in works.items():
            times: list[list[float]] = [[] for _ in pairs]
            for number in range(LOOKS + 1):
                for (api, old), mine in zip(pairs, times, strict=True):
                    mine.append(timed(partial(work, api, old, number)))
            found[title] = [statistics.median(mine[1:]) * 1e3 for mine in times]
    return found


def a_million(finished: int) -> None:
    """Measure looking and submitting beside many finished jobs, and beside none."""
    with box() as empty, box() as full:
        row("filling a database", timed(lambda: fill(full.data, finished)), "s")
        for each in (empty, full):
            each.start_server()
        with closing(Api(empty)) as api:
            api.put("jobs/over.yaml", NOOP)
            api.put("jobs/1/ctl", "kill\n")
        for title, (without, beside) in looks([empty, full], [1, finished // 2]).items():
            row(f"{title}, beside none", without, "ms")
            row(f"{title}, beside {finished:,}", beside, "ms", f"{beside / without:.2f} x")


def many_listed() -> None:
    """Measure a mount of as many jobs as `jobs/` lists at most, and one of none."""
    with box() as empty, box() as full:
        fill(full.data, 2 * JOBS_LISTED_MAX, recent=JOBS_LISTED_MAX)
        for made, count in ((empty, 0), (full, JOBS_LISTED_MAX)):
            made.start_server()
            made.mount()
            for command in ("ls", "ls -l"):
                times = [timed(lambda command=command, made=made: _list(made, command)) for _ in range(ROUNDS)]  # type: ignore[misc]
                row(f"{command} jobs/ in a mount, {count:,} listed", statistics.median(times), "s")
            made.umount()


def _list(made: Box, command: str) -> None:
    subprocess.run([*command.split(), str(made.dc / "jobs")], stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="script/bench jobs", description="Measure jobs by the hundred.")
    parser.add_argument("--count", type=int, default=300, help="no-op jobs in a round (300)")
    parser.add_argument("--docker-count", type=int, default=24, help="jobs in a round with Docker (24)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (3)")
    parser.add_argument("--finished", type=int, default=1_000_000, help="finished jobs in the last table (1,000,000)")
    told = parser.parse_args()
    with table("Submissions"):
        submissions(told.count)
    with table("From end to end"):
        sandboxed(told.count, told.rounds)
        with_docker(told.docker_count, told.rounds)
    with table("To the first byte"):
        first_byte(FIRST_BYTE_ROUNDS)
    with table("Beside finished jobs"):
        a_million(told.finished)
        many_listed()


if __name__ == "__main__":
    main()
