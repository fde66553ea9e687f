"""Files that a task has at the top of what it sees, to read only: what the server says of a trainer of PaddleCloud's.

    <state>/files/<task>/<name>     what the task sees as /<name>

Whoever runs a program need not be root, and the top of a sandbox cannot be written to: so the files are this daemon's
own, and mounted one by one, over those that an image may have there.
"""

import shutil
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path

from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.node.state import keep_only_of

_FILES = "files"


def with_files(launch: Launch, files: Mapping[str, bytes], state: Path) -> Launch:
    """Return what a runtime has to start so that the task has these files, which are there from now on.

    Args:
        state: the daemon's own directory.

    Raises:
        RuntimeFailure: they cannot be made, and why.
    """
    directory = state / _FILES / launch.task_id
    try:
        for name, content in files.items():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
            (directory / name).chmod(0o644)  # the task is somebody else's
    except OSError as error:
        raise RuntimeFailure(f"/{name} cannot be made: {error.strerror} ({error.filename})") from None
    own = (Volume(str(directory / name), f"/{name}", read_only=True) for name in files)
    return replace(launch, volumes=(*launch.volumes, *own))


def drop(state: Path, task_id: str) -> None:
    """The task is gone."""
    shutil.rmtree(state / _FILES / task_id, ignore_errors=True)


def keep_only(state: Path, tasks: Container[str]) -> None:
    """Forget the files of all other tasks."""
    keep_only_of(state / _FILES, tasks)
