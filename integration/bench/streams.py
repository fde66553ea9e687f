"""Streams by the thousand: what it costs that `cat log` waits, and how soon each is let go.

    waiting       1,000 `cat log` of one quiet job on one mount, and as many on each of several mounts of one server:
                  CPU of mount and server while nothing happens, and the memory that one stream takes
    let go        each is ended by Ctrl-C, one after the other: from the signal until the process is gone
    a loud job    one job prints 10,000 lines a second: how long a `stat` that asks the server takes for somebody else,
                  beside as many when nothing is printed

Every `cat` is a process of its own. `streams` measures and prints; `script/bench tree` calls it.
"""

import json
import os
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.bench.jobs import row, timed
from integration.box import WAIT_S, Box, box, wait_until
from integration.logs import LINES_PER_S, cpu_s, printing, submit
from integration.memory import STATUS, Memory

READERS, MOUNTS = 1000, 4
IDLE_S = 20.0
LOUD_S = 20
STAT_EVERY_S = 0.005
SETTLED_S, BUSY_SHARE = 2.0, 0.1
_WAITS = "request_wait_answer"


@dataclass(frozen=True)
class Mounted:
    """One more mount of a box, and the process behind it."""

    point: Path
    pid: int

    @property
    def dc(self) -> Path:
        """Return the datacenter's directory."""
        return self.point / "dc1"


@contextmanager
def mount(made: Box, name: str, user: str | None = None) -> Iterator[Mounted]:
    """Mount a box's tree at another place as well.

    Args:
        user: somebody new, whose mount it is.
    """
    point, env = made.root / name, made.env
    point.mkdir()
    if user is not None:
        added = made.run("jobd", "adduser", "--data-root", str(made.data), user).stdout
        config = made.root / f"{user}-config"
        config.write_text(added[added.index("dc1:") :])
        env = {**env, "PADDLE_CONFIG": str(config)}
    made.run("paddle", "mount", str(point), env=env).check_returncode()
    try:
        yield Mounted(point, json.loads(os.getxattr(point, STATUS))["pid"])
    finally:
        made.run("paddle", "umount", str(point))


@contextmanager
def cats(logs: Sequence[Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Read each of these streams by a `cat` of its own, until all of them wait."""
    processes = [subprocess.Popen(["cat", str(log)], stdout=subprocess.DEVNULL) for log in logs]
    try:
        wait_until(lambda: all(waits(each.pid) for each in processes), timeout_s=2 * WAIT_S)
        yield processes
    finally:
        for each in processes:
            each.kill()
        for each in processes:
            each.wait(WAIT_S)


def waits(pid: int) -> bool:
    """Tell whether a process waits for the answer of a mount."""
    return Path(f"/proc/{pid}/wchan").read_text() == _WAITS


def let_go_s(process: subprocess.Popen[bytes]) -> float:
    """Press Ctrl-C; return how long it takes until the process is gone.

    The kernel tells that at once; `Popen.wait` with a time limit looks seldom, and the less often the longer it takes.
    """
    poll, gone = select.poll(), os.pidfd_open(process.pid)
    poll.register(gone, select.POLLIN)

    def end() -> None:
        process.send_signal(signal.SIGINT)
        assert poll.poll(WAIT_S * 1e3), "a reader does not heed Ctrl-C"

    took_s = timed(end)
    os.close(gone)
    process.wait(WAIT_S)
    return took_s


def told(name: str, times_s: Sequence[float], bar: str) -> None:
    """Print how times are spread, in milliseconds."""
    ordered = sorted(times_s)
    for title, value in (
        ("median", statistics.median(ordered)),
        ("p99", percentile(ordered, 0.99)),
        ("worst", ordered[-1]),
    ):
        row(f"{name}, {title}", value * 1e3, "ms", bar if title == "p99" else "")


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the value that so large a part of ordered values does not exceed."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def quiet(made: Box, name: str) -> str:
    """Submit a job that waits for ever; return its number."""
    (made.root / "quiet.yaml").write_text("command: 'true'\nhold: true\n")
    done = made.sh(f"cp {made.root}/quiet.yaml jobs/{name}.yaml && readlink jobs/{name}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until_settled(processes: Sequence[int]) -> None:
    """Return once the mounts and the server have nothing more to do: a `cat` that has begun asks for a while."""
    busy_s = 1.0
    while busy_s > BUSY_SHARE * SETTLED_S:
        before_s = sum(map(cpu_s, processes))
        time.sleep(SETTLED_S)
        busy_s = sum(map(cpu_s, processes)) - before_s


def idle(name: str, processes: dict[str, int], idle_s: float) -> None:
    """Measure what it costs that nothing happens."""
    before_s = {who: cpu_s(pid) for who, pid in processes.items()}
    time.sleep(idle_s)
    for who, pid in processes.items():
        row(f"{name}: {who}", 100 * (cpu_s(pid) - before_s[who]) / idle_s, "% of a core", "(bar 2)")


def waiting(readers: int, mounts: int, idle_s: float) -> None:
    """Measure streams that wait, on one mount and on several, and how they are let go."""
    with box() as made, ExitStack() as stack:
        made.start_server()
        made.mount()
        job = quiet(made, "quiet")
        server = made.processes["server"].pid
        first = Memory.of(server).now
        held: list[subprocess.Popen[bytes]] = []
        for count in range(1, mounts + 1):
            each = stack.enter_context(mount(made, f"pfs{count}"))
            pids = {"the mount": each.pid, "the server": server}
            before = Memory.of(each.pid).now
            held += stack.enter_context(cats([each.dc / "jobs" / job / "log"] * readers))
            if count not in (1, mounts):
                continue
            until_settled(list(pids.values()))
            name = f"{count * readers:,} streams that wait"
            _memory(f"{name}: memory of the mount, each", Memory.of(each.pid).now - before, readers)
            _memory(f"{name}: memory of the server, each", Memory.of(server).now - first, count * readers)
            idle(name, pids, idle_s)
            told(f"Ctrl-C, {name}", [let_go_s(held.pop()) for _ in range(readers // 5)], "(bar 200)")


def _memory(name: str, mib: float, streams: int) -> None:
    kib = max(mib * 1024 / streams, 0.1)
    row(name, kib, "KiB", f"({1024 / kib:.0f} in a MiB)")


def stats_s(path: Path, count: int) -> list[float]:
    """Return how long each `stat` of a path takes that the mount has to ask the server for."""
    times = []
    for _ in range(count):
        times.append(timed(lambda: os.stat(path)))
        time.sleep(STAT_EVERY_S)
    return times


def loud(seconds: int) -> None:
    """Measure `stat` for somebody else while one job prints, and while none does."""
    with box() as made, ExitStack() as stack:
        made.start_server()
        made.start_node()
        made.mount()
        other = stack.enter_context(mount(made, "other", "ann"))
        (other.dc / "jobs/own.yaml").write_text("command: 'true'\nhold: true\n")
        status = other.dc / "jobs/own/status"
        count = max(1, int(seconds / STAT_EVERY_S / 2))
        stats_s(status, count // 10)
        without = sorted(stats_s(status, count))
        submit(made, "loud", printing(LINES_PER_S * 10 * seconds))
        reader = subprocess.Popen(["cat", str(made.dc / "jobs/loud/log")], stdout=subprocess.DEVNULL)
        begun, size = time.monotonic(), _printed(made)
        beside = sorted(stats_s(status, count))
        rate = (_printed(made) - size) / (time.monotonic() - begun)
        made.sh("echo kill > jobs/loud/ctl")
        reader.wait(WAIT_S)
    told("stat for another, nothing is printed", without, "")
    told(f"stat for another, {rate / 1e3:.0f} kB/s are printed", beside, "")
    row("ratio of the p99", percentile(beside, 0.99) / percentile(without, 0.99), "x", "(bar 2)")


def _printed(made: Box) -> int:
    return os.stat(made.dc / "jobs/loud/log.txt").st_size


def streams(readers: int = READERS, mounts: int = MOUNTS, idle_s: float = IDLE_S, loud_s: int = LOUD_S) -> None:
    """Measure and print.

    Args:
        readers: on each mount.
        mounts: of one server.
        idle_s: for how long nothing happens.
        loud_s: for how long, in seconds, a job prints.
    """
    waiting(readers, mounts, idle_s)
    loud(loud_s)
