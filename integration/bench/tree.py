"""The tree as people and programs look at it: how soon they see, how many may look, and how much there may be.

    latency            from a task's write to the byte that a reader in `cat log` gets, in a sandbox and in a container;
                       against `docker logs -f`, `tail -f` of a file of this machine, and `tail -f` over sshfs
    waking             from `kill` in the `ctl` of a job on hold to who reads `wait`, and to who polls `state`
    streams            thousands of `cat log` at once (`integration.bench.streams`)
    active             `ls -l jobs/` with many jobs that are not over, by a mount that has just begun and by one that
                       knows them; against as many directories of the disk; and of the links in `jobs/by-state/`
    by number          the first look at the `state` of a job among a million finished ones, and among a hundred

What is compared alternates, since the machine's speed drifts.
"""

import argparse
import json
import os
import random
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from integration.bench.finished import fill
from integration.bench.fstargets import sshfs
from integration.bench.jobs import Api, row, table, timed
from integration.bench.start import beside_an_engine
from integration.bench.streams import percentile, streams
from integration.box import Box, box, wait_until
from integration.engine import python_image
from integration.logs import cpu_s
from integration.memory import STATUS
from tests.starting import let_interrupt

HELD = "command: 'true'\nhold: true\n"
STAMP = re.compile(rb"(?:^|\] )(\d{18,})\n", re.MULTILINE)
PAUSE_S = 0.02
FEW = 100  # finished jobs in the store that a large one is compared with
SEED = 8

Source = Callable[[], list[float]]


def clock(lines: int) -> str:
    """Return a program that prints the time, so many times."""
    said = f"import time\nfor _ in range({lines}):\n    time.sleep({PAUSE_S})\n    print(time.time_ns(), flush=True)\n"
    return said


def delays_ms(read: Callable[[], bytes], lines: int) -> list[float]:
    """Return how old each of so many stamps is when it is read."""
    found: list[float] = []
    rest = b""
    while len(found) < lines:
        text = read()
        now_ns = time.time_ns()
        assert text, "it ended before all was read"
        whole, newline, rest = (rest + text).rpartition(b"\n")
        found += [(now_ns - int(stamp)) / 1e6 for stamp in STAMP.findall(whole + newline)]
    return found


def spread(name: str, values: Sequence[float], unit: str, median_bar: str = "", p99_bar: str = "") -> float:
    """Print median and p99; return the median."""
    middle = median(values)
    row(f"{name}, median", middle, unit, median_bar)
    row(f"{name}, p99", percentile(sorted(values), 0.99), unit, p99_bar)
    return middle


# ---- how soon a line is read


def job_log(made: Box, lines: int, image: str | None) -> Source:
    """Return what measures a job's log."""

    def measure() -> list[float]:
        (made.dc / "home/demo/clock.py").write_text(clock(lines))
        first = "" if image is None else f"image: {image}\n"
        (made.dc / "jobs/clock.yaml").write_text(f"{first}command: python3 $USER_DIR/clock.py\n")
        with open(made.dc / "jobs/clock/log", "rb", buffering=0) as log:
            return delays_ms(lambda: log.read(1 << 16), lines)

    return measure


def docker_logs(url: str, image: str, lines: int) -> Source:
    """Return what measures `docker logs -f`."""
    docker = ["docker", "--host", url]

    def measure() -> list[float]:
        command = [*docker, "run", "--detach", image, "python3", "-c", clock(lines)]
        number = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        try:
            return followed([*docker, "logs", "--follow", number], lines)
        finally:
            subprocess.run([*docker, "rm", "--force", number], check=True, capture_output=True)

    return measure


def tail(written: Path, read: Path, lines: int) -> Source:
    """Return what measures `tail -f` of a file that is written at one place and read at another."""

    def measure() -> list[float]:
        with open(written, "wb") as file, subprocess.Popen([sys.executable, "-c", clock(lines)], stdout=file):
            return followed(["tail", "--lines=+1", "--follow", str(read)], lines)

    return measure


def followed(command: Sequence[str], lines: int) -> list[float]:
    """Measure what a program prints that is ended when that is enough."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        found = delays_ms(lambda: process.stdout.read(1 << 16), lines)  # type: ignore[union-attr]
        process.kill()
    return found


@contextmanager
def behind_sshfs() -> Iterator[tuple[Path, Path] | None]:
    """Give a file where it is written, and where it is read by sshfs, if that is installed."""
    if shutil.which("sshfs") is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pfs-bench-") as directory, sshfs(Path(directory)) as target:
        yield Path(directory, "served/file"), target.directory / "file"


def latency(made: Box, engine: tuple[str, str] | None, lines: int, rounds: int) -> None:
    """Measure from a write to the byte that somebody reads, by each way in turn."""
    ours = "a sandbox's write to `cat log`"
    with tempfile.TemporaryDirectory(prefix="pfs-bench-") as here, behind_sshfs() as away:
        plain = Path(here, "file")
        sources = {ours: job_log(made, lines, None), "`tail -f` of a file of this machine": tail(plain, plain, lines)}
        if engine is not None:
            ours = "a container's write to `cat log`"
            sources |= {ours: job_log(made, lines, engine[1]), "`docker logs -f`": docker_logs(*engine, lines)}
        if away is not None:
            sources["`tail -f` over sshfs"] = tail(*away, lines)
        found: dict[str, list[list[float]]] = {name: [] for name in sources}
        for _ in range(rounds):
            for name, measure in sources.items():
                found[name].append(measure())
    for name, values in found.items():
        bars = ("(goal 10)", "(goal 50)") if name.endswith("`cat log`") else ("", "")
        spread(name, [delay for delays in values for delay in delays], "ms", *bars)
    for name, values in found.items():
        if not name.endswith("`cat log`"):
            ratios = [median(mine) / median(theirs) for mine, theirs in zip(found[ours], values, strict=True)]
            row(f"`cat log` / {name}", median(ratios), "x")


# ---- how soon one is woken


@dataclass(frozen=True, slots=True)
class Way:
    """A way to wait for the end of a job.

    Attributes:
        file: of the job's directory.
        wait: returns once the job is over; takes the file, open and read once if it can be.
        sleeps_in: where the kernel says that a thread is which does so.
    """

    file: str
    wait: Callable[[int], object]
    sleeps_in: str


def poll_state(state: int) -> None:
    """Return when the job's state is another one."""
    poll = select.poll()
    poll.register(state, select.POLLPRI)
    poll.poll()
    os.pread(state, 64, 0)


READ_WAIT = Way("wait", lambda wait: os.read(wait, 64), "request_wait")
POLL_STATE = Way("state", poll_state, "poll")


def woken_ms(job: Path, way: Way) -> tuple[float, float]:
    """Return how long after a command somebody who waits goes on, and the writer of the command."""
    woken: list[float] = []
    file = os.open(job / way.file, os.O_RDONLY)

    def sleep() -> None:
        way.wait(file)
        woken.append(time.perf_counter())

    if way is POLL_STATE:
        os.pread(file, 64, 0)
    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    where = Path(f"/proc/self/task/{sleeper.native_id}/wchan")
    wait_until(lambda: way.sleeps_in in where.read_text())
    ctl = os.open(job / "ctl", os.O_WRONLY)
    begun = time.perf_counter()
    os.write(ctl, b"kill\n")
    obeyed = time.perf_counter()
    sleeper.join()
    os.close(ctl)
    os.close(file)
    return (woken[0] - begun) * 1e3, (obeyed - begun) * 1e3


def waking(made: Box, rounds: int) -> None:
    """Measure how soon who waits for a job goes on, by each way in turn."""
    ways = {"`wait`, by a read that waits": READ_WAIT, "`state`, by poll(2)": POLL_STATE}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            (made.dc / f"jobs/held{number}.yaml").write_text(HELD)
            found[name].append(woken_ms(made.dc / "jobs" / os.readlink(made.dc / f"jobs/held{number}"), way))
    for name, pairs in found.items():
        spread(name, [woken for woken, _ in pairs], "ms", "(goal 10)")
        ratio = median(woken / obeyed for woken, obeyed in pairs)
        row(f"{name.partition(',')[0]} / the return of the command", ratio, "x")


# ---- how much there may be


def hold_many(made: Box, count: int) -> None:
    """Make so many jobs on hold, by SQL from one that was submitted; nobody serves the database then."""
    made.start_server()
    with closing(Api(made)) as api:
        api.put("jobs/first.yaml", HELD)
    made.end("server")
    with closing(sqlite3.connect(made.data / "server/pfs.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        last = database.execute("SELECT MAX(id) FROM job").fetchone()[0]
        numbers = "WITH RECURSIVE n (i) AS (SELECT :last + 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last + :more)"
        for name, key in (("job", "id"), ("jobspec", "job_id"), ("jobevent", "job_id")):
            columns = [column[1] for column in database.execute(f"PRAGMA table_info({name})")]
            kept = [column for column in columns if column not in (key, "id")]
            database.execute(
                f"INSERT INTO {name} ({key}, {', '.join(kept)}) {numbers}"
                f" SELECT n.i, {', '.join(f't.{column}' for column in kept)} FROM n, {name} t WHERE t.{key} = :last"
                f" ORDER BY n.i, t.rowid",
                {"last": last, "more": count - 1},
            )
        database.execute("COMMIT")


def listed_s(directory: Path, count: int, kind: str = "d") -> float:
    """Return how long `ls -l` takes; it has to show so many directories, or links, of jobs."""
    lines: list[str] = []

    def work() -> None:
        done = subprocess.run(["ls", "-l", str(directory)], check=True, capture_output=True, text=True)
        lines.extend(done.stdout.splitlines())

    took_s = timed(work)
    assert sum(line.startswith(kind) and line.rpartition("/")[2].split()[-1].isdigit() for line in lines) == count
    return took_s


def active(count: int, rounds: int) -> None:
    """Measure `ls -l jobs/` with many jobs that are not over."""
    cold, warm, plain, links = [], [], [], []
    with box() as made, tempfile.TemporaryDirectory(prefix="pfs-bench-") as directory:
        for number in range(count):
            Path(directory, str(number)).mkdir()
        hold_many(made, count)
        made.start_server()
        for _ in range(rounds):
            made.mount()
            cold.append(listed_s(made.dc / "jobs", count))
            warm.append(listed_s(made.dc / "jobs", count))
            plain.append(listed_s(Path(directory), count))
            links.append(listed_s(made.dc / "jobs/by-state/WAITING", count, "l"))
            made.umount()
    row(f"ls -l jobs/, {count:,} active, cold", median(cold), "s", "(bar 1)")
    row(f"ls -l jobs/, {count:,} active, warm", median(warm), "s")
    row(f"ls -l of {count:,} directories of the disk", median(plain), "s")
    row(f"ls -l jobs/by-state/WAITING/, {count:,} links, cold", median(links), "s")
    ratio = median(ours / theirs for ours, theirs in zip(warm, plain, strict=True))
    row("ls -l jobs/, warm / directories of the disk", ratio, "x")


def computed_s(made: Box) -> float:
    """Return how long server and mount have had a processor."""
    mount = json.loads(os.getxattr(made.mountpoint, STATUS))["pid"]
    return cpu_s(made.processes["server"].pid) + cpu_s(mount)


def by_number(finished: int, looks: int) -> None:
    """Measure the first look at a job, among many and among few."""
    dice = random.Random(SEED)
    with ExitStack() as stack:
        sizes = (FEW, finished)
        worlds = [stack.enter_context(box()) for _ in sizes]
        for made, size in zip(worlds, sizes, strict=True):
            took_s = timed(lambda made=made, size=size: fill(made.data, size))  # type: ignore[misc]
            made.start_server()
            made.mount()
            os.listdir(made.dc / "jobs")
        row(f"filling a database with {finished:,}", took_s, "s")
        numbers = [dice.sample(range(1, size), min(looks, size - 1)) for size in sizes]
        found: list[list[float]] = [[] for _ in sizes]
        before_s = computed_s(worlds[1])
        for pair in zip(*numbers, strict=False):
            for made, number, mine in zip(worlds, pair, found, strict=True):
                path = made.dc / f"jobs/{number}/state"
                mine.append(timed(path.read_bytes) * 1e3)
        few = spread(f"cat jobs/<id>/state among {FEW}", found[0], "ms")
        many = spread(f"cat jobs/<id>/state among {finished:,}", found[1], "ms", "(bar 5)")
        row("among many / among few", many / few, "x")
        row(
            "computed for one among many, by both sides", (computed_s(worlds[1]) - before_s) / len(found[1]) * 1e3, "ms"
        )
        for made in worlds:
            made.umount()  # none of these jobs has to be ended


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="script/bench tree", description="Measure the tree of jobs.")
    parser.add_argument("--no-docker", action="store_true", help="leave out what needs an engine")
    parser.add_argument("--lines", type=int, default=200, help="lines of a log in a round (200)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of logs and of listings (3)")
    parser.add_argument("--waits", type=int, default=50, help="jobs that are waited for in each way (50)")
    parser.add_argument("--readers", type=int, default=1000, help="`cat log` at once on one mount (1,000); 0 for none")
    parser.add_argument("--active", type=int, default=10_000, help="jobs that are not over (10,000)")
    parser.add_argument("--finished", type=int, default=1_000_000, help="finished jobs (1,000,000)")
    parser.add_argument("--looks", type=int, default=99, help="jobs that are looked at by number (99)")
    told = parser.parse_args()
    let_interrupt()
    with ExitStack() as stack:
        engine = None
        if told.no_docker:
            made = stack.enter_context(box())
            made.start_server()
            made.start_node()
        else:
            made, *engine_words = stack.enter_context(beside_an_engine(python_image))
            engine = (engine_words[0], engine_words[1])
        made.mount()
        with table("From a write to a reader"):
            latency(made, engine, told.lines, told.rounds)
        with table("From a command to who waits"):
            waking(made, told.waits)
    if told.readers:
        with table("Streams"):
            streams(told.readers)
    with table("Many jobs"):
        active(told.active, told.rounds)
        by_number(told.finished, told.looks)


if __name__ == "__main__":
    main()
