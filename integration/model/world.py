"""A server and its mounts, for random work in directories of its own."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.box import Box, box, is_mounted, wait_until

HOME = "dc1/home/demo"


@dataclass
class World:
    """Where random work is done.

    Attributes:
        homes: the same directory, in each mount.
        disk: that directory on the server.
        local: an empty directory of this machine's own file system.
        options: how each was mounted.
    """

    box: Box
    homes: list[Path]
    disk: Path
    local: Path
    options: Sequence[Sequence[str]] = ()
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

    def kill_mount(self, number: int) -> None:
        """Kill the process of a mount, and mount again."""
        self.box.end(f"mount{number}", signal.SIGKILL)
        _mount(self.box, number, self.options[number])


@contextmanager
def world(*mounts: tuple[str, ...]) -> Iterator[World]:
    """Start a server, and mount it once for each set of options of `paddle mount`."""
    with box() as made, contextlib.ExitStack() as stack:
        made.start_server()
        points = [made.root / f"mount{number}" for number in range(len(mounts))]
        for number, point in enumerate(points):
            point.mkdir()
            stack.callback(_unmount, made, point)
            _mount(made, number, mounts[number])
        local = made.root / "local"
        local.mkdir()
        yield World(made, [point / HOME for point in points], made.data / "home/demo", local, mounts)


def _mount(made: Box, number: int, options: Sequence[str]) -> None:
    name = f"mount{number}"
    (made.root / f"{name}.log").unlink(missing_ok=True)
    process = made.spawn(name, "paddle", "mount", "-f", *options, str(made.root / name))
    wait_until(lambda: f"{name}: mounted" in made.log_of(name) or process.poll() is not None)
    assert process.poll() is None, made.log_of(name)


def _unmount(made: Box, point: Path) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        made.run("paddle", "umount", str(point))
    if is_mounted(point):
        subprocess.run(["umount", "-l", str(point)], check=False)
