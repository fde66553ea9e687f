"""Copies of a large file and of a folder with many small ones, up and down: `paddle` beside scp and sftp, in one run.

All of them encrypt, over loopback, to the same disk. The times are those of whole commands, with their start. Rounds
alternate, and a ratio is the median of the rounds, each compared with itself. Then each of `paddle`'s copies is cut in
the middle, its client killed, and run again: what travels then is told by the command itself.
"""

import argparse
import filecmp
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from integration.bench.fstargets import Pfs, Sshd, sshd
from integration.box import BIN, wait_until

BIG_MIB, FILES, ROUNDS = 2048, 10_000, 3
FILES_OF_FOLDER, FILE_BYTES_MAX = 100, 8192
COMMAND_S = 1800.0
BARS = {"tree": 2.0, "big": 1.0}  # × the quicker one of scp and sftp
THERE = "/pfs/{}/home/demo"


class Server(Pfs):
    """A server that speaks TLS, and no mount."""

    def start(self) -> None:
        """Start it."""
        self.start_server_with_tls()
        self.env = self._box.env
        self.there = THERE.format(self._box.dc.name)
        self.on_disk = self._box.data / "home/demo"


@dataclass(frozen=True)
class Bench:
    """What is copied, and by whom.

    Attributes:
        root: of all that is made.
        sources: a folder with many files, and one with a large one, by their names in `BARS`.
    """

    root: Path
    sources: dict[str, Path]
    pfs: Server
    sshd: Sshd | None

    def paddle(self, source: str, target: str) -> list[str]:
        return [str(BIN / "paddle"), "sync", "--json", source, target]

    def run(self, command: Sequence[str], text: str | None = None) -> str:
        """Run a command; return what it prints."""
        done = subprocess.run(
            command, env=self.pfs.env, input=text, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def fresh(self, name: str) -> Path:
        """Return a folder that is not there."""
        folder = self.root / name
        self.clear(folder)
        return folder

    def clear(self, folder: Path) -> None:
        """Take away what an earlier copy has made.

        Small files are put aside until the end: for minutes after thousands were removed, ext4 searches long for each
        new one, and a copy would be measured by how many others were made before it.
        """
        if folder.exists():
            aside = Path(tempfile.mkdtemp(prefix="aside-", dir=self.root))
            folder.rename(aside / folder.name)
            for large in aside.rglob("file"):
                large.unlink()

    # ---- who copies

    def by_paddle(self, what: str) -> tuple[float, float]:
        """Copy up, and down again; return how long each took."""
        there, back = f"{self.pfs.there}/{what}", self.fresh("back")
        self.clear(self.pfs.on_disk / what)
        up = timed(lambda: self.run(self.paddle(str(self.sources[what]), there)))
        down = timed(lambda: self.run(self.paddle(there, str(back))))
        check_same(self.sources[what], back)
        return up, down

    def by_scp(self, what: str) -> tuple[float, float]:
        assert self.sshd is not None
        there, back = self.fresh("scp"), self.fresh("back")
        scp = ["scp", "-q", "-r", "-p", "-F", str(self.sshd.config)]
        up = timed(lambda: self.run([*scp, str(self.sources[what]), f"bench:{there}"]))
        down = timed(lambda: self.run([*scp, f"bench:{there}", str(back)]))
        check_same(self.sources[what], back)
        return up, down

    def by_sftp(self, what: str) -> tuple[float, float]:
        assert self.sshd is not None
        there, back = self.fresh("sftp"), self.fresh("back")
        there.mkdir()
        back.mkdir()
        name = self.sources[what].name
        sftp = ["sftp", "-q", "-p", "-F", str(self.sshd.config), "-b", "-", "bench"]
        up = timed(lambda: self.run(sftp, f"put -r {self.sources[what]} {there}\n"))
        down = timed(lambda: self.run(sftp, f"get -r {there}/{name} {back}\n"))
        check_same(self.sources[what], back / name)
        return up, down

    # ---- what is cut

    def cut(self, what: str, source: str, target: str, arrived: Callable[[], int]) -> tuple[int, int]:
        """Kill a copy when half of it has arrived, and run it again; return bytes that had come, and that came then."""
        size = bytes_in(self.sources[what])
        process = subprocess.Popen(self.paddle(source, target), env=self.pfs.env, stdout=subprocess.DEVNULL)
        wait_until(lambda: arrived() * 2 > size or process.poll() is not None)
        process.kill()
        process.wait()
        had = arrived()
        return had, int(json.loads(self.run(self.paddle(source, target)))["bytes"])


def timed(work: Callable[[], object]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def bytes_in(folder: Path) -> int:
    """Return how many bytes have come to a folder, also those of files that are not whole."""
    found = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(base, name)).st_size
            except FileNotFoundError:  # it got its name meanwhile
                continue
    return found


def check_same(one: Path, other: Path) -> None:
    """End the run where two folders differ."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    found = sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    _, wrong, missing = filecmp.cmpfiles(one, other, names, shallow=False)
    if wrong or missing or names != found:
        raise SystemExit(f"{other} is not as {one}: {(wrong + missing)[:5]}")


def fill(root: Path, big_mib: int, files: int) -> dict[str, Path]:
    """Make what is copied: the same bytes each time."""
    chance = random.Random(1)
    tree, big = root / "tree", root / "big"
    big.mkdir()
    for number in range(files):
        folder = tree / f"d{number // FILES_OF_FOLDER}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(chance.randbytes(chance.randrange(FILE_BYTES_MAX)))
    with open(big / "file", "wb") as file:
        for _ in range(big_mib):
            file.write(chance.randbytes(1024 * 1024))
    return {"tree": tree, "big": big}


@contextmanager
def bench(root: Path, big_mib: int, files: int) -> Iterator[Bench]:
    """Give what is measured; nothing of it outlives the block."""
    with ExitStack() as stack:
        for name in ("pfs", "ssh"):
            (root / name).mkdir()
        pfs = stack.enter_context(closing(Server(root / "pfs")))
        pfs.start()
        other = None
        if sshd() is None or shutil.which("scp") is None:
            print("scp and sftp are left out: openssh-server or openssh-client is not installed", file=sys.stderr)
        else:
            other = stack.enter_context(closing(Sshd(root / "ssh")))
            other.start()
        yield Bench(root, fill(root, big_mib, files), pfs, other)


def measure(made: Bench, rounds: int) -> bool:
    """Copy and print; tells whether all bars are reached."""
    ways = {"paddle": made.by_paddle}
    if made.sshd is not None:
        ways |= {"scp": made.by_scp, "sftp": made.by_sftp}
    took: dict[tuple[str, str], list[tuple[float, float]]] = {(what, who): [] for what in BARS for who in ways}
    for number in range(rounds):
        for what in BARS:
            for who in [*list(ways)[number % len(ways) :], *list(ways)[: number % len(ways)]]:
                print(f"round {number + 1} of {rounds}: {what} by {who}", file=sys.stderr)
                took[what, who].append(ways[who](what))
    print("| copy      | " + " | ".join(f"{who + ', s':>9}" for who in ways) + " | × the quicker | bar        |")
    print("| --------- | " + " | ".join("--------:" for _ in ways) + " | ------------: | ---------- |")
    good = True
    for what, bar in BARS.items():
        for place, way in enumerate(("up", "down")):
            figures = [statistics.median(each[place] for each in took[what, who]) for who in ways]
            ratio, told = _ratio([[each[place] for each in took[what, who]] for who in ways], bar)
            good = good and (ratio is None or ratio >= bar)
            cells = " | ".join(f"{figure:9.2f}" for figure in figures)
            print(f"| {what + ' ' + way:<9} | {cells} | {'' if ratio is None else f'{ratio:.2f}':>13} | {told:<10} |")
    return good


def _ratio(found: Sequence[Sequence[float]], bar: float) -> tuple[float | None, str]:
    own, *others = found
    if not others:
        return None, ""
    ratio = statistics.median(min(theirs) / ours for ours, *theirs in zip(own, *others, strict=True))
    return ratio, f"{bar:g}: {'ok' if ratio >= bar else 'MISSED'}"


def measure_cuts(made: Bench) -> None:
    """Cut and go on; print what travelled."""
    print("\n| cut in the middle | bytes | had arrived | travelled then |")
    print("| ----------------- | ----: | ----------: | -------------: |")
    for what, source in made.sources.items():
        there, on_disk, back = f"{made.pfs.there}/cut-{what}", made.pfs.on_disk / f"cut-{what}", made.fresh("cut")
        size = bytes_in(source)
        for way, ends, arriving in (("up", (str(source), there), on_disk), ("down", (there, str(back)), back)):
            had, came = made.cut(what, *ends, partial(bytes_in, arriving))
            print(f"| {what + ' ' + way:<17} | {size:,} | {had:,} | {came:,} |")
        check_same(source, back)


def main() -> None:
    """Measure and print; end with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="script/bench pfs", description=__doc__)
    parser.add_argument("--big", type=int, default=BIG_MIB, metavar="MIB", help="of the large file")
    parser.add_argument("--files", type=int, default=FILES, help="how many small ones")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dir", type=Path, help="where all of it is made; a directory of the disk that is meant")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pfs-bench-", dir=asked.dir) as folder,
        bench(Path(folder), asked.big, asked.files) as made,
    ):
        good = measure(made, asked.rounds)
        measure_cuts(made)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
