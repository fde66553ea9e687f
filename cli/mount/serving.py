"""What serves a mount: it looks for the servers, mounts, and stays until the end."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.mount.options import Options, shown
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.config import Datacenter
    from fuseclient.behind.journal import Journal
    from fuseclient.cache.blocks import BlockCache
    from fuseclient.kernel.inodes import Base
    from pfs.api import FileSystem, Owner

CLOSE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mount:
    """What is to be mounted.

    Attributes:
        datacenters: by their names.
        point: the canonical path.
        source: what the kernel lists as mounted there.
    """

    datacenters: "dict[str, Datacenter]"
    point: str
    source: str
    options: Options


def serve(what: Mount, ready: Callable[[Sequence[str]], None], tell: Callable[[str], None]) -> None:
    """Connect, mount, and serve until the end.

    Args:
        ready: called once when the mount is in use, with the names of its datacenters.
        tell: takes lines for people, about servers that are not there.

    Raises:
        PfsError: no server is there, or it cannot be mounted.
    """
    import trio

    from cli.mount.connecting import connected
    from fuseclient import mount

    options = what.options

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with contextlib.AsyncExitStack() as stack:
                filesystems = await connected(what.datacenters, options, stack, tell)
                names = [name for name in what.datacenters if name in filesystems]
                blocks = await trio.to_thread.run_sync(_open_cache, options)
                if blocks is not None:
                    stack.callback(blocks.close)
                journals = await trio.to_thread.run_sync(_open_journals, what, names, stack)
                base = None if options.subdir is None else await _base(options.subdir, filesystems)
                await mount.run(
                    filesystems,
                    what.point,
                    allow_other=options.allow_other,
                    ready=lambda: ready(names),
                    identity=options.ids,
                    owner=_owner(options),
                    blocks=blocks,
                    journals=journals,
                    flags=options.flags,
                    source=what.source,
                    options=shown(options),
                    base=base,
                )
                scope.deadline = trio.current_time() + CLOSE_S

    failures: list[PfsError] = []
    try:
        trio.run(main)
    except* PfsError as group:
        failures += _leaves(group)
    if failures:
        raise failures[0]


async def _base(subdir: str, filesystems: "Mapping[str, FileSystem]") -> "Base":
    """Find the folder that is to be mounted.

    Raises:
        PfsError: it is not there, or not for us.
    """
    from fuseclient.kernel.inodes import Base
    from pfs.api import NodeType

    datacenter, _, path = subdir.partition("/")
    if not path:
        return Base(datacenter, "", None)
    try:
        attr = await filesystems[datacenter].getattr(path)
        if attr.type is not NodeType.DIRECTORY:
            raise PfsError(Kind.NOT_DIR, "this is no directory")
    except PfsError as error:
        raise PfsError(error.kind, f"subdir={subdir} cannot be mounted: {error.message}") from None
    return Base(datacenter, path, attr.node_id)


def _owner(options: Options) -> "Owner":
    from pfs.api import Owner

    uid = os.getuid() if options.uid is None else options.uid
    return Owner(uid, os.getgid() if options.gid is None else options.gid)


def _open_cache(options: Options) -> "BlockCache | None":
    """Open the folder of the cache; without one that can be used a mount is slower, and as good."""
    from fuseclient.cache.blocks import BlockCache

    if options.cache_bytes == 0:
        return None
    try:
        return BlockCache(_cache_folder(options), options.cache_bytes)
    except PfsError as error:
        if options.cache_dir is not None:
            raise
        log.warning("nothing is kept on the local disk: %s", error)
        return None


def _open_journals(what: Mount, names: Sequence[str], stack: contextlib.AsyncExitStack) -> "dict[str, Journal] | None":
    """Open what --write-behind needs: without it nothing could be promised, so there is no mount without it."""
    from fuseclient.behind.journal import open_journal

    if not what.options.write_behind:
        return None
    journals = {}
    for name in names:
        each = what.datacenters[name]
        journals[name] = open_journal(_cache_folder(what.options), each.endpoint, each.username)
        stack.callback(journals[name].close)
    return journals


def _cache_folder(options: Options) -> str:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return options.cache_dir or str(base / "pfs")


def _leaves(group: BaseExceptionGroup[PfsError]) -> Iterator[PfsError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
