"""A server and its mounts, for random work in directories of its own."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.box import Box, box, is_mounted

HOME = "dc1/home/demo"


@dataclass
class World:
    """Where random work is done.

    Attributes:
        homes: the same directory, in each mount.
        disk: that directory on the server.
        local: an empty directory of this machine's own file system.
    """

    box: Box
    homes: list[Path]
    disk: Path
    local: Path
    _made: int = field(default=0)

    def directories(self) -> tuple[Path, list[Path], Path]:
        """Make a new directory, and return it as local, as the mounts have it, and as the server has it."""
        self._made += 1
        name = f"work{os.getpid()}-{self._made}"
        (self.local / name).mkdir()
        (self.homes[0] / name).mkdir()
        return self.local / name, [home / name for home in self.homes], self.disk / name

    def restart(self, number: signal.Signals) -> None:
        """End the server and start it again."""
        self.box.end("server", number)
        self.box.start_server()


@contextmanager
def world(*mounts: tuple[str, ...]) -> Iterator[World]:
    """Start a server, and mount it once for each set of options of `paddle mount`."""
    with box() as made, contextlib.ExitStack() as stack:
        made.start_server()
        points = [made.root / f"mount{number}" for number in range(len(mounts))]
        for point, options in zip(points, mounts, strict=True):
            point.mkdir()
            stack.callback(_unmount, made, point)
            mounted = made.run("paddle", "mount", *options, str(point))
            assert mounted.returncode == 0, mounted.stderr
        local = made.root / "local"
        local.mkdir()
        yield World(made, [point / HOME for point in points], made.data / "home/demo", local)


def _unmount(made: Box, point: Path) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        made.run("paddle", "umount", str(point))
    if is_mounted(point):
        subprocess.run(["umount", "-l", str(point)], check=False)
