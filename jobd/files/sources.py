"""What the files of jobs and machines are made from, and the directories that hold nothing but such files."""

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from jobd.engine.engine import Engine
from jobd.engine.workshop import DiskWorkshop
from jobd.files.dated import Dates
from jobd.files.facts import gpu_number
from jobd.job import Job
from jobd.store.db import JobStore
from jobd.store.history import History
from jobd.store.secrets import Secrets
from pfs.api import Attr, Entry
from pfs.audit.log import AuditLog
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.texts import Text
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id

About = TypeVar("About")


@dataclass(slots=True)
class NodeUse:
    """What jobs have of one node: how many processes, and of each GPU, by UUID, whose it is."""

    processes: int = 0
    gpus: dict[str, Job] = field(default_factory=dict)

    def free(self, gpus: Iterable[Mapping[str, Any]]) -> int:
        """Return how many of these GPUs of the node are well, and nobody's."""
        return sum(gpu["uuid"] not in self.gpus and not gpu.get("ill") for gpu in gpus)


class Uses:
    """What jobs have of all nodes, at one moment."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._nodes: dict[str, NodeUse] = {}
        for job in jobs:
            for process in job.life.processes:
                if process.is_open:
                    continue
                use = self._nodes.setdefault(process.node, NodeUse())
                use.processes += not process.over
                use.gpus.update(dict.fromkeys(process.gpus, job))  # until the job lets go of all its places

    def of(self, node_id: str) -> NodeUse:
        """Return what jobs have of a node."""
        return self._nodes.get(node_id, NodeUse())


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that files of the tree are made from."""

    engine: Engine
    store: JobStore
    disk: Disk
    workshop: DiskWorkshop
    secrets: Secrets
    audit: AuditLog
    history: History
    dates: Dates = field(default_factory=lambda: Dates(time.time_ns))

    def uses(self) -> Uses:
        """Return what jobs have of all nodes now."""
        return Uses(active.job for active in self.engine.ledger.active())

    def gpu_numbers(self) -> dict[str, str]:
        """Return the number of each GPU on its node, by UUID."""
        rows = (standing.row for standing in self.engine.fleet.standings())
        return {gpu["uuid"]: gpu_number(gpu) for row in rows for gpu in row.gpus}

    def node_names(self) -> dict[str, str]:
        """Return the names of nodes, by id."""
        return {standing.row.id: standing.label for standing in self.engine.fleet.standings()}


def missing() -> PfsError:
    """Return what is said of a name that is not there."""
    return PfsError(Kind.NOT_FOUND, "no such file or directory")


class FactText(Text, Generic[About]):
    """A text that is made without waiting for anything.

    Args:
        words: name the directory that it is in, for ever.
        about: what it tells of.
    """

    def __init__(self, words: Sequence[object], about: About, mtime_ns: int) -> None:
        super().__init__((*words, self.called), self._made, mtime_ns)
        self._about = about

    @abstractmethod
    def text(self) -> str:
        """Return the text."""

    async def _made(self) -> bytes:
        return self.text().encode()


class FactsDirectory(Directory, Generic[About]):
    """A directory of texts about one thing, and of other directories.

    Args:
        words: name it for ever.
        about: what its texts tell of.
        texts: the kinds of its texts, by name.
        nodes: what else there is, by name.
    """

    def __init__(
        self,
        words: Sequence[object],
        about: About,
        texts: Mapping[str, type[FactText[About]]],
        nodes: Mapping[str, Node] | None = None,
        *,
        mtime_ns: int,
    ) -> None:
        self._words = words
        self._about = about
        self._texts = texts
        self._nodes = nodes or {}
        self._mtime_ns = mtime_ns

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id(*self._words), mtime_ns=self._mtime_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a file or directory."""
        if name in self._texts:
            return self._texts[name](self._words, self._about, self._mtime_ns)
        if name in self._nodes:
            return self._nodes[name]
        raise missing()

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all of it."""
        return await listing(self, subject, sorted((*self._texts, *self._nodes)))
