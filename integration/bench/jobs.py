"""Jobs by the hundred: how many are taken in and come through in a second, against what the bare engine reaches.

    submissions        by HTTP on one connection and on four, and by `cp` into the mount, while nothing runs
    no-op jobs         from the first submission to the last exit code: `true` in the sandbox, `true` with Docker
    docker run         the same number of `docker run --rm IMAGE true`, as many at once as our node starts
    first byte         from a spec to the first byte of its log, against `docker run` (`integration.bench.start`)
    a million over     `ls jobs/`, `status` and a submission beside as many finished jobs, and beside none

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
from contextlib import closing, contextmanager

from integration.bench.start import bare_s, ours_s
from integration.box import Box, box, wait_until
from integration.engine import busybox_image, docker_client, engine, python_image

NOOP = "command: 'true'\n"
AT_ONCE = 4
DONE_S = 600.0
FIRST_BYTE_ROUNDS = 7
LOOKS = 15


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
    with closing(sqlite3.connect(f"file:{made.data}/server/pfs.sqlite?mode=ro", uri=True, timeout=60)) as database:
        found = database.execute("select count(*) from job where ended_at_ns is null").fetchone()
    return int(found[0])


def through(made: Box, prefix: str, count: int, text: str) -> float:
    """Return how many jobs come through in a second, from the first submission to the last end."""

    def work() -> None:
        submit_at_once(made, names(prefix, count), text)
        wait_until(lambda: active(made) == 0, DONE_S)

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
    with engine() as url, docker_client(url) as client, box() as made:
        image = busybox_image(client)
        text = f"image: {image}\ncommand: ['true']\n"
        made.start_server()
        made.start_node(docker=url)
        through(made, "warm", AT_ONCE, text)
        bare_through(url, image, AT_ONCE, AT_ONCE)
        pairs = []
        for number in range(rounds):
            ours = through(made, f"d{number}x", count, text)
            # what the bare engine reaches is its best: few at once or many
            bare = max(bare_through(url, image, count, at_once) for at_once in (AT_ONCE, 2 * AT_ONCE))
            pairs.append((ours, bare))
    row("no-op jobs, Docker", statistics.median(ours for ours, _ in pairs), "jobs/s")
    row("docker run, the better of 4 and 8 at once", statistics.median(bare for _, bare in pairs), "jobs/s")
    row("ratio", statistics.median(ours / bare for ours, bare in pairs), "x", "(bar 0.85)")


def first_byte(rounds: int) -> None:
    """Measure from a spec to the first byte of its log, against `docker run`."""
    with engine() as url, docker_client(url) as client, box() as made:
        image = python_image(client)
        made.start_server()
        made.start_node(docker=url)
        made.mount()
        bare_s(url, image), ours_s(made, image, 0)
        pairs = [(ours_s(made, image, number), bare_s(url, image)) for number in range(1, rounds + 1)]
    row("spec to the first byte of its log", statistics.median(ours for ours, _ in pairs), "s")
    row("docker run, to the first byte", statistics.median(bare for _, bare in pairs), "s")
    row("ratio", statistics.median(ours / bare for ours, bare in pairs), "x", "(bar 1.3)")


def looks(made: Box) -> dict[str, float]:
    """Return how long `ls jobs/`, `status` and a submission take, in milliseconds."""
    stamp = f"look{os.getpid()}x{time.monotonic_ns()}x"
    found = {}
    with closing(Api(made)) as api:
        for title, work in (
            ("ls jobs/", lambda _: api.get("jobs/")),
            ("cat status", lambda _: api.get("status")),
            ("a submission", lambda n: api.put(f"jobs/{stamp}{n}.yaml", NOOP)),
        ):
            work(0)
            times = []
            for number in range(1, LOOKS + 1):
                times.append(timed(lambda work=work, number=number: work(number)))  # type: ignore[misc]
            found[title] = statistics.median(times) * 1e3
    return found


def a_million(finished: int) -> None:
    """Measure looking and submitting beside many finished jobs, and beside none."""
    from integration.bench.finished import fill

    with box() as empty, box() as full:
        fill(full.data, finished)
        empty.start_server()
        full.start_server()
        without, beside = looks(empty), looks(full)
    for title, ms in without.items():
        row(f"{title}, beside none", ms, "ms")
        row(f"{title}, beside {finished:,}", beside[title], "ms", f"{beside[title] / ms:.2f} x")


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


if __name__ == "__main__":
    main()
