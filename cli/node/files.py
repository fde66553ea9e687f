"""How the jobs of a node get to the server's tree: from the data root, where this machine has it, or by mounts."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from cli.node.options import Settings
from jobd.node.dataroot import DataRoot
from jobd.node.runtime import Files, Runtime, RuntimeAway
from jobd.node.staging import shares_mounts
from pfs.errors import Kind, PfsError

# in memory: what is there holds keys, and ends with the machine
MOUNTS_DIR = Path("/run/pfs-node-jobs")
_PADDLE = "from cli.paddle import main; main()"


def check_files(settings: Settings) -> DataRoot | None:
    """Return the data root; None where the tree is mounted for each job.

    Raises:
        PfsError: neither is possible here.
    """
    if settings.data_root is not None:
        return DataRoot(settings.data_root)
    if os.geteuid() != 0:
        cure = "use sudo, or give --data-root where this machine has it"
        raise PfsError(Kind.DENIED, f"mounting the server's tree for jobs needs root: {cure}")
    return None


def check_engine(settings: Settings) -> None:
    """Make sure that containers will see the mounts that are made for them.

    Raises:
        RuntimeAway: they would see empty directories.
    """
    if settings.data_root is None and not shares_mounts(settings.docker_url):
        why = f"the container engine at {settings.docker_url} does not see what is mounted here"
        raise RuntimeAway(f"{why}: give --data-root, or start it without mounts of its own")


@asynccontextmanager
async def open_files(
    settings: Settings, data_root: DataRoot | None, instance: str, runtimes: Mapping[str, Runtime]
) -> AsyncIterator[Files]:
    """Give the way to the tree while the block runs.

    Args:
        instance: tells this daemon from others on the machine.
    """
    from jobd.node.jobmount import Server
    from jobd.node.mounted import open_mounted
    from jobd.node.secretfiles import WithSecrets

    if data_root is not None:
        yield WithSecrets(data_root, instance, settings.state_dir)
        return

    async def find(task_id: str) -> int | None:
        for runtime in runtimes.values():
            try:
                if (pid := await runtime.inside(task_id)) is not None:
                    return pid
            except RuntimeAway:
                continue
        return None

    server = Server((sys.executable, "-c", _PADDLE), settings.api_host, settings.state_dir / "cache")
    async with open_mounted(MOUNTS_DIR / instance, server, find) as mounted:
        yield WithSecrets(mounted, instance, settings.state_dir)
