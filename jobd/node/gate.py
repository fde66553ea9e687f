"""The gate before a program that begins together with others (`Assignment.held`), though its task runs already.

    <state>/gates/<task>/begin      a FIFO, which the task has at /run/pfs/begin

The program stands behind a shell that opens the FIFO to read it. The kernel lets that wait until somebody opens it to
write: nothing polls, and a signal ends the shell as it would end the program. The daemon holds it open from the
server's word to the end of the task, so that a shell that comes late goes through as well; a daemon that was started
anew is told again. Where names of fellows on other machines have to become known first, that is awaited before
(`jobd.node.fellows`).
"""

import contextlib
import os
import shutil
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.node.state import keep_only_of

PLACE = "/run/pfs"
NAME = "begin"
_GATES = "gates"
_HELD = ("sh", "-c", ': <"$0" && exec "$@"', f"{PLACE}/{NAME}")


class Gate:
    """The gate of one task.

    Args:
        state: the daemon's own directory.
    """

    def __init__(self, state: Path, task_id: str) -> None:
        self._directory = state / _GATES / task_id
        self._open: int | None = None

    def before(self, launch: Launch) -> Launch:
        """Return what a runtime has to start so that the program waits.

        Raises:
            RuntimeFailure: there can be no gate, and why.
        """
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # a daemon was killed before the start
                os.mkfifo(self._directory / NAME)
            (self._directory / NAME).chmod(0o644)
        except OSError as error:
            raise RuntimeFailure(f"nothing can hold the program back: {error.strerror} ({error.filename})") from None
        volume = Volume(str(self._directory), PLACE, read_only=True)
        return replace(launch, argv=(*_HELD, *launch.argv), volumes=(*launch.volumes, volume))

    def open(self) -> None:
        """Let the program begin; it may have begun already, or never have waited."""
        if self._open is None:
            with contextlib.suppress(FileNotFoundError):
                self._open = os.open(self._directory / NAME, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Open it no longer, for a program that has not come to it yet."""
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def drop(self) -> None:
        """The task is gone."""
        self.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def keep_only(state: Path, tasks: Container[str]) -> None:
    """Forget the gates of all other tasks."""
    keep_only_of(state / _GATES, tasks)
