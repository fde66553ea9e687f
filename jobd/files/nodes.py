"""The directory `nodes/`: every machine that ever registered.

nodes/<name>/state attrs status       a word (`jobd.nodestate`); its attributes; what it has, and what of it is in use
nodes/<name>/ctl                      commands of administrators (`jobd.nodectl`)
nodes/<name>/gpus/<i>/                each of its GPUs (`jobd.files.gpus`)
nodes/<name>/instances/<k>/           the same of further machines that were started under its name, from 2 on
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobd.engine.fleet import NodeStanding
from jobd.files.facts import flat, time_text
from jobd.files.gpus import GpusDirectory
from jobd.files.nodecontrol import node_control
from jobd.files.sources import FactsDirectory, FactText, Sources, missing
from jobd.identity import number_of
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id


@dataclass(frozen=True, slots=True)
class _Known:
    """What the texts of a machine are made from."""

    sources: Sources
    standing: NodeStanding


class StateFile(FactText[_Known]):
    """Whether it is heard of and takes work, one word."""

    called = "state"

    def text(self) -> str:
        """Return the text."""
        return f"{self._about.standing.state}\n"


class AttrsFile(FactText[_Known]):
    """What its machine told of itself."""

    called = "attrs"

    def text(self) -> str:
        """Return the text."""
        return flat(dict(sorted(self._about.standing.row.attrs.items())))


class StatusFile(FactText[_Known]):
    """What it has and what is in use, and why it takes no work, since when."""

    called = "status"

    def text(self) -> str:
        """Return the text."""
        standing, sources = self._about.standing, self._about.sources
        row, use, closed = standing.row, sources.uses().of(standing.row.id), standing.closed
        fleet = sources.engine.fleet
        groups = fleet.policy.node_groups.get(row.entry_id)
        cluster = next((each.name for each in fleet.clusters if each.id == row.cluster_id), "")
        return flat(
            {
                "id": row.id,
                "name": row.name,
                "cluster": cluster,
                "cluster_id": row.cluster_id,
                "owner": row.owner or None,
                "state": standing.state,
                "closed": None if closed is None else closed.text,
                "trouble": "; ".join(standing.troubles.values()) or None,
                "closed_since": None if closed is None else time_text(closed.since_ns),
                "heard": None if standing.online else time_text(standing.since_ns),
                "runtimes": " ".join(row.runtimes) or "none",
                "cpus": row.attrs.get("cpuCount", ""),
                "memory": row.attrs.get("cpuMem", ""),
                "processes": use.processes,
                "gpus": len(row.gpus),
                "gpus_free": use.free(row.gpus),
                "groups": None if groups is None else " ".join(sorted(groups)),
            }
        )


TEXTS = {kind.called: kind for kind in (StateFile, AttrsFile, StatusFile)}


class NodesDirectory(Directory):
    """All nodes that are registered."""

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
        firsts = [each for each in self._sources.engine.fleet.standings() if number_of(each.row.id) == 1]
        return [Entry(each.label, await NodeDirectory(self._sources, each).attr(subject)) for each in firsts]

    async def rmdir(self, subject: Subject, name: str) -> None:
        """Forget a node that is away, with all its instances, and the keys that they have of their own."""
        standing = self._sources.engine.fleet.named(name)
        if standing is None or number_of(standing.row.id) != 1:
            raise missing()
        async with self._sources.audit.refusing("node.remove", f"nodes/{standing.row.entry_id}"):
            await self._sources.engine.roster.remove_node(subject, standing.row.entry_id)


class InstancesDirectory(Directory):
    """Further machines that were started under its name."""

    def __init__(self, sources: Sources, entry_id: str) -> None:
        self._sources = sources
        self._entry_id = entry_id

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        changed_at_ns = self._sources.engine.ledger.changed_at_ns
        return directory_attr(virtual_id("node", self._entry_id, "instances"), mtime_ns=changed_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a machine."""
        found = next((each for each in self._further() if str(number_of(each.row.id)) == name), None)
        if found is None:
            raise missing()
        return InstanceDirectory(self._sources, found)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all machines."""
        return await listing(self, subject, [str(number_of(each.row.id)) for each in self._further()])

    def _further(self) -> list[NodeStanding]:
        found = self._sources.engine.fleet.instances(self._entry_id)
        return [each for each in found if number_of(each.row.id) > 1]


class NodeDirectory(FactsDirectory[_Known]):
    """A node.

    It is its first machine, and its commands are for all.
    """

    called = "<node>"

    def __init__(self, sources: Sources, standing: NodeStanding) -> None:
        row = standing.row
        fellows = sources.engine.fleet.instances(row.entry_id) if number_of(row.id) == 1 else [standing]
        nodes: dict[str, Node] = {"ctl": node_control(sources, row, [each.row.id for each in fellows])}
        if len(fellows) > 1:
            nodes["instances"] = InstancesDirectory(sources, row.entry_id)
        if row.gpus:
            nodes["gpus"] = GpusDirectory(sources, standing)
        super().__init__(("node", row.id), _Known(sources, standing), TEXTS, nodes, mtime_ns=row.registered_at_ns)


class InstanceDirectory(NodeDirectory):
    """A further machine, from 2 on: all that a node has."""

    called = "<k>"
