"""How much memory a mount and a server need: the measurements, for tests and for `python -m integration.memory`.

That is the full size: a mount that has walked 200,000 and then 400,000 files, and a server with 20 clients that each
write and read large files at the same time. Two numbers after it make it smaller: see `main`.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import trio

from integration.box import Box, box, is_mounted, wait_until
from pfs.api import OpenFlags
from pfs.client.filesystem import open_filesystem

MIB = 1 << 20
PIECE_BYTES = 1 * MIB
MIB_MAX = 300  # what a mount and a server may hold
FILES_EACH = 1000
CLIENTS = 20
STATUS = "user.pfs.status"


@dataclass(frozen=True)
class Memory:
    """What a process holds of the machine's memory now, and what it has held at most; in MiB."""

    now: float
    most: float

    @staticmethod
    def of(pid: int) -> "Memory":
        """Ask the kernel."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        now, most = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return Memory(round(now, 1), round(most, 1))


def fill(made: Box, directory: str, directories: int, files_each: int) -> None:
    """Make empty files on the server's disk."""
    home = made.data / "home/demo"
    owner = os.stat(home)
    for number in range(directories):
        path = home / directory / f"d{number:04}"
        path.mkdir(parents=True)
        for name in range(files_each):
            file = os.open(path / f"file-{name:06}.txt", os.O_CREAT | os.O_WRONLY)
            os.fchown(file, owner.st_uid, owner.st_gid)
            os.close(file)
    for path in (home / directory, *(home / directory).iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)


def walk(top: Path) -> int:
    """Look at every file below; return how many there are."""
    count = 0
    for directory in sorted(os.listdir(top)):
        for name in os.listdir(top / directory):
            os.lstat(top / directory / name)
            count += 1
    return count


def inodes(point: Path) -> int:
    """Return how many inodes a mount knows."""
    return int(json.loads(os.getxattr(point, STATUS))["inodes"])


@contextmanager
def mounted(made: Box) -> Iterator[int]:
    """Mount while the block runs; gives the process."""
    made.mountpoint.mkdir(exist_ok=True)
    process = made.spawn("mount", "paddle", "mount", "-f", str(made.mountpoint))
    wait_until(lambda: is_mounted(made.mountpoint) or process.poll() is not None)
    assert process.poll() is None, made.log_of("mount")
    try:
        yield process.pid
    finally:
        made.end("mount")


async def _stream(made: Box, number: int, size_bytes: int) -> None:
    """Be one client: write one file and read another, both at the same time."""
    flags = OpenFlags.READ | OpenFlags.WRITE | OpenFlags.CREATE
    async with open_filesystem(made.url, made.token, shortcut=False) as fs:
        written = await fs.open(f"home/demo/written-{number}", flags, 0o644)
        read = await fs.open("home/demo/large", OpenFlags.READ, 0)

        async def write(offset: int) -> None:
            await written.write(offset, bytes(PIECE_BYTES))

        async def fetch(offset: int) -> None:
            assert len(await read.read(offset, PIECE_BYTES)) == PIECE_BYTES

        for start in range(0, size_bytes, 4 * PIECE_BYTES):
            async with trio.open_nursery() as nursery:  # as a mount does: several pieces are on their way
                for offset in range(start, min(start + 4 * PIECE_BYTES, size_bytes), PIECE_BYTES):
                    nursery.start_soon(write, offset)
                    nursery.start_soon(fetch, offset)
        await written.release()
        await read.release()


async def _streams(made: Box, numbers: range, size_bytes: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(_stream, made, number, size_bytes)


def _client_process(made: Box, numbers: range, size_bytes: int) -> None:
    trio.run(_streams, made, numbers, size_bytes)


def stream(made: Box, clients: int, size_bytes: int) -> None:
    """Let so many clients, in two processes, write and read files of that size."""
    home = made.data / "home/demo"
    (home / "large").write_bytes(bytes(size_bytes))
    owner = os.stat(home)
    os.chown(home / "large", owner.st_uid, owner.st_gid)
    server = made.processes.pop("server")  # it does not travel to another process
    try:
        context = get_context("fork")
        halves = (range(clients // 2), range(clients // 2, clients))
        processes = [context.Process(target=_client_process, args=(made, half, size_bytes)) for half in halves]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
    finally:
        made.processes["server"] = server
        for number in range(clients):
            with contextlib.suppress(FileNotFoundError):
                (home / f"written-{number}").unlink()


def held(who: str, pid: int) -> bool:
    """Print what a process holds; tell whether that was never too much."""
    memory = Memory.of(pid)
    is_little = memory.most < MIB_MAX
    print(f"{who}: {memory}{'' if is_little else f', and may hold {MIB_MAX}'}", flush=True)
    return is_little


def walks(directories: int) -> bool:
    """Walk as many files as a mount keeps, and then as many others; tell whether server and mount held little."""
    well = []
    with box() as made:
        made.start_server()
        server = made.processes["server"].pid
        for turn in range(2):
            fill(made, f"t{turn}", directories, FILES_EACH)
        with mounted(made) as pid:
            well.append(held("mount, new", pid))
            for turn in range(2):
                began_s = time.monotonic()
                count = walk(made.dc / f"home/demo/t{turn}")
                print(f"walked {count} more files in {time.monotonic() - began_s:.0f} s:", end=" ")
                well.append(held(f"mount, with {inodes(made.mountpoint)} inodes", pid))
                well.append(held("  server", server))
    return all(well)


def streams(size_bytes: int) -> bool:
    """Let clients stream; tell whether the server held little."""
    with box() as made:
        made.start_server()
        server = made.processes["server"].pid
        began_s = time.monotonic()
        stream(made, CLIENTS, size_bytes)
        print(f"{CLIENTS} clients streamed {size_bytes // MIB} MiB for {time.monotonic() - began_s:.0f} s:", end=" ")
        return held("server", server)


def main(directories: int = 200, size_mib: int = 256) -> None:
    """Measure, and print; fail where it is too much.

    Args:
        directories: so many, of 1,000 files each, in each of two walks.
        size_mib: of the file that each client writes, and of the one that they read.
    """
    if not all([walks(directories), streams(size_mib * MIB)]):
        sys.exit("too much memory; see above")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
