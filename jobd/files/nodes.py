"""The directory `nodes/`: every machine that ever registered, as `nodes/<name>/{state,attrs,status}`."""

from collections.abc import Sequence

from jobd.engine.engine import Engine
from jobd.engine.fleet import NodeStanding
from pfs.api import Attr, Entry
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, Text, directory_attr, virtual_id


class NodesDirectory(Directory):
    """`nodes/`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("nodes"), mtime_ns=self._engine.ledger.changed_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a node by name."""
        for standing in self._engine.fleet.standings():
            if standing.row.name == name:
                return NodeDirectory(standing)
        raise PfsError(Kind.NOT_FOUND, "no such file or directory")

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all nodes."""
        nodes = [NodeDirectory(standing) for standing in self._engine.fleet.standings()]
        return [Entry(node.standing.row.name, await node.attr(subject)) for node in nodes]


class NodeDirectory(Directory):
    """One machine."""

    def __init__(self, standing: NodeStanding) -> None:
        self.standing = standing
        self._texts = {"state": self._state, "attrs": self._attrs, "status": self._status}

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("node", self.standing.row.id), mtime_ns=self.standing.row.registered_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a file."""
        make = self._texts.get(name)
        if make is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")

        async def text() -> bytes:
            return make().encode()

        return Text(("node", self.standing.row.id, name), text, self.standing.row.seen_at_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the files."""
        return [Entry(name, await (await self.lookup(subject, name)).attr(subject)) for name in sorted(self._texts)]

    def _state(self) -> str:
        return "ONLINE\n" if self.standing.online else "UNKNOWN\n"

    def _attrs(self) -> str:
        return "".join(f"{key} {value}\n" for key, value in sorted(self.standing.row.attrs.items()))

    def _status(self) -> str:
        row = self.standing.row
        facts = {
            "id": row.id,
            "name": row.name,
            "state": self._state().strip(),
            "runtimes": " ".join(row.runtimes) or "none",
            "cpus": row.attrs.get("cpuCount", ""),
            "memory": row.attrs.get("cpuMem", ""),
        }
        return "".join(f"{key} {value}".rstrip() + "\n" for key, value in facts.items())
