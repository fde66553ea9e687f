"""Collects what a mount says of itself from the layers that know it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import trio

from fuseclient.behind.making import MakingFileSystem
from fuseclient.cache.blocks import BlockCache
from fuseclient.counters import Answers
from fuseclient.kernel.fuse import Operations
from fuseclient.kernel.ops import Ops
from fuseclient.status import Blocks, Rate, Server, Status

PACKAGE = "pfs-jobs"
REFUSED_MAX = 20


def own_version() -> str:
    """Return the version of this program."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unreleased"


@dataclass(frozen=True, slots=True)
class Reporter:
    """What is reported on.

    Attributes:
        servers: by the name of the datacenter.
        options: how it was mounted, as behind `-o`.
        began_s: when, in trio's time.
    """

    ops: Ops
    operations: Operations
    servers: Mapping[str, MakingFileSystem]
    blocks: BlockCache | None
    options: str
    began_s: float

    def status(self) -> Status:
        """Return how it stands now."""
        tree, traffic = self.ops.tree, self.operations.traffic
        return Status(
            version=own_version(),
            pid=os.getpid(),
            mounted_s=trio.current_time() - self.began_s,
            options=self.options,
            open_files=len(tree.handles),
            inodes=len(tree.inodes),
            read_bytes=traffic.read_bytes,
            written_bytes=traffic.written_bytes,
            servers={name: _server(each) for name, each in self.servers.items()},
            blocks=None if self.blocks is None else _blocks(self.blocks),
        )


def _server(filesystem: MakingFileSystem) -> Server:
    counters, standing = filesystem.counters, filesystem.inner.standing()
    waiting_bytes, waiting_operations = filesystem.waiting()
    behind = filesystem.behind_status()
    refused = [] if behind is None else [f"{path}: {why}" for path, why in behind.failed[:REFUSED_MAX]]
    return Server(
        url=standing.url,
        connected=standing.connected,
        since_s=standing.since_s,
        leases=filesystem.copies.leased() if filesystem.inner.trusted() else 0,
        attributes=_rate(counters.attributes),
        listings=_rate(counters.listings),
        contents=_rate(counters.contents),
        fetched_bytes=counters.fetched_bytes,
        sent_bytes=counters.sent_bytes,
        waiting_bytes=waiting_bytes,
        waiting_operations=waiting_operations,
        refused=refused,
        conflicts=0 if behind is None else behind.conflicts,
    )


def _rate(answers: Answers) -> Rate:
    return Rate(answers.hits, answers.asked)


def _blocks(cache: BlockCache) -> Blocks:
    found = cache.statistics()
    return Blocks(Rate(found.hits, found.hits + found.misses), found.held_bytes, found.limit_bytes)
