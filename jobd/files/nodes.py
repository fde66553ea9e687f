"""The directory `nodes/`: every machine that ever registered.

nodes/<name>/state attrs status       ONLINE SUSPECT UNKNOWN; its attributes; what it has, and what of it is in use
nodes/<name>/gpus/<i>/                model alias uuid memory, and the job that has it
"""

from collections.abc import Sequence
from typing import Any

from jobd.engine.fleet import NodeStanding
from jobd.files.facts import flat, one_line, request_text, time_text
from jobd.files.sources import FactsDirectory, Sources, entry, missing
from jobd.job import Job
from jobd.spec.units import format_size
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, virtual_id


class NodesDirectory(Directory):
    """`nodes/`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("nodes"), mtime_ns=self._sources.engine.ledger.changed_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a node by name."""
        standing = self._sources.engine.fleet.named(name)
        if standing is None:
            raise missing()
        return NodeDirectory(self._sources, standing)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all nodes."""
        nodes = [NodeDirectory(self._sources, standing) for standing in self._sources.engine.fleet.standings()]
        return [Entry(node.standing.row.name, await node.attr(subject)) for node in nodes]


class NodeDirectory(FactsDirectory):
    """One machine."""

    def __init__(self, sources: Sources, standing: NodeStanding) -> None:
        self.standing = standing
        self._sources = sources
        row = standing.row
        texts = {"state": self._state, "attrs": self._attrs, "status": self._status}
        nodes = {"gpus": GpusDirectory(sources, standing)} if row.gpus else {}
        super().__init__(("node", row.id), texts, nodes, mtime_ns=row.registered_at_ns)

    def _state(self) -> str:
        return f"{self.standing.state}\n"

    def _attrs(self) -> str:
        return flat(dict(sorted(self.standing.row.attrs.items())))

    def _status(self) -> str:
        row, use = self.standing.row, self._sources.uses().of(self.standing.row.id)
        groups = self._sources.engine.fleet.policy.node_groups.get(row.id)
        return flat(
            {
                "id": row.id,
                "name": row.name,
                "state": self.standing.state,
                "heard": None if self.standing.online else time_text(self.standing.since_ns),
                "runtimes": " ".join(row.runtimes) or "none",
                "cpus": row.attrs.get("cpuCount", ""),
                "memory": row.attrs.get("cpuMem", ""),
                "processes": use.processes,
                "gpus": len(row.gpus),
                "gpus_free": sum(gpu["uuid"] not in use.gpus for gpu in row.gpus),
                "groups": None if groups is None else " ".join(sorted(groups)),
            }
        )


class GpusDirectory(Directory):
    """`gpus/` of a machine: a directory for each, by its number there."""

    def __init__(self, sources: Sources, standing: NodeStanding) -> None:
        self._sources = sources
        self._row = standing.row
        self._gpus = {str(gpu["index"]): gpu for gpu in self._row.gpus}

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("node", self._row.id, "gpus"), mtime_ns=self._row.registered_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a GPU."""
        gpu = self._gpus.get(name)
        if gpu is None:
            raise missing()
        texts = {
            "model": lambda: f"{one_line(gpu['model'])}\n",
            "uuid": lambda: f"{gpu['uuid']}\n",
            "memory": lambda: f"{format_size(gpu['memory_bytes'])}\n",
            "alias": lambda: self._alias(gpu),
            "groups": lambda: self._groups(gpu),
            "job": lambda: self._job(gpu),
        }
        return FactsDirectory(
            ("node", self._row.id, "gpu", gpu["uuid"]), texts, mtime_ns=self._sources.engine.ledger.changed_at_ns
        )

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all GPUs."""
        return [await entry(self, subject, name) for name in sorted(self._gpus, key=int)]

    def _alias(self, gpu: dict[str, Any]) -> str:
        aliases = self._sources.engine.fleet.policy.aliases
        return "".join(f"{alias}\n" for alias, model in aliases.items() if model == gpu["model"])

    def _groups(self, gpu: dict[str, Any]) -> str:
        policy = self._sources.engine.fleet.policy
        groups = policy.gpu_groups.get(gpu["uuid"]) or policy.node_groups.get(self._row.id, frozenset())
        return "".join(f"{group}\n" for group in sorted(groups))

    def _job(self, gpu: dict[str, Any]) -> str:
        job = self._sources.uses().of(self._row.id).gpus.get(gpu["uuid"])
        return "" if job is None else public_facts(job)


def public_facts(job: Job) -> str:
    """Return what everybody sees of every job."""
    return flat(
        {
            "id": job.id,
            "user": job.user,
            "title": job.spec.title,
            "state": job.life.state,
            "request": request_text(job.spec),
        }
    )
