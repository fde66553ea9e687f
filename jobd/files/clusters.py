"""The directory `clusters/`: every cluster of the datacenter, and those of users who have nodes of their own.

clusters/<id>/name default owner      its name; yes or no; the user whose it is, nothing for one of the datacenter
clusters/<id>/nodes                   the nodes in it, a path below nodes/ in each line
clusters/<id>/ctl                     rename NAME, default
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobd.ctltext import lines_of, unknown
from jobd.files.control import Control
from jobd.files.sources import FactsDirectory, FactText, Sources, missing
from jobd.identity import Cluster, check_cluster_name, number_of
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id

HELP = """\
Commands, one per line, for administrators and whoever the cluster belongs to:
  rename NAME   give it another name
  default       nodes that name no cluster come into this one
"""
_WORDS = "the commands are: rename NAME, default"


class ClustersDirectory(Directory):
    """All clusters of nodes."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("clusters"), mtime_ns=self._sources.engine.ledger.changed_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a cluster by its id."""
        for cluster in self._sources.engine.fleet.clusters:
            if cluster.id == name:
                return ClusterDirectory(self._sources, cluster)
        raise missing()

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all clusters."""
        return await listing(self, subject, sorted(cluster.id for cluster in self._sources.engine.fleet.clusters))


@dataclass(frozen=True, slots=True)
class _Known:
    """What the texts of a cluster are made from."""

    sources: Sources
    cluster: Cluster


class NameFile(FactText[_Known]):
    """Its name."""

    called = "name"

    def text(self) -> str:
        """Return the text."""
        return f"{self._about.cluster.name}\n"


class DefaultFile(FactText[_Known]):
    """Whether nodes come into it that name none: yes or no."""

    called = "default"

    def text(self) -> str:
        """Return the text."""
        return "yes\n" if self._about.cluster.is_default else "no\n"


class OwnerFile(FactText[_Known]):
    """Whose it is; empty: the datacenter's."""

    called = "owner"

    def text(self) -> str:
        """Return the text."""
        return f"{self._about.cluster.owner}\n" if self._about.cluster.owner else ""


class NodesFile(FactText[_Known]):
    """The nodes in it, a line each."""

    called = "nodes"

    def text(self) -> str:
        """Return the text."""
        standings = self._about.sources.engine.fleet.standings()
        cluster_id = self._about.cluster.id
        here = [each for each in standings if each.row.cluster_id == cluster_id and number_of(each.row.id) == 1]
        return "".join(f"{each.label}\n" for each in here)


class ClusterControl(Control):
    """Commands of administrators, and of who owns it; reading it prints them."""


TEXTS = {kind.called: kind for kind in (NameFile, DefaultFile, OwnerFile, NodesFile)}


class ClusterDirectory(FactsDirectory[_Known]):
    """A cluster, by its id."""

    called = "<cluster>"

    def __init__(self, sources: Sources, cluster: Cluster) -> None:
        changed_at_ns = sources.engine.ledger.changed_at_ns
        nodes = {"ctl": _control(sources, cluster, changed_at_ns)}
        super().__init__(("cluster", cluster.id), _Known(sources, cluster), TEXTS, nodes, mtime_ns=changed_at_ns)


def _control(sources: Sources, cluster: Cluster, mtime_ns: int) -> ClusterControl:
    """Return the `ctl` of a cluster."""

    async def obey(subject: Subject, data: bytes) -> None:
        names = parse_ctl(data)
        for name in names:
            sources.engine.roster.check_cluster(subject, cluster, name)
        for name in names:
            if name is None:
                await sources.engine.roster.make_default(subject, cluster)
            else:
                await sources.engine.roster.rename_cluster(subject, cluster, name)

    return ClusterControl(("cluster", cluster.id), HELP, obey, mtime_ns, sources.audit)


def parse_ctl(data: bytes) -> list[str | None]:
    """Return the commands of one write, in order: a new name, or None for `default`.

    Raises:
        PfsError: INVALID when any line is no command; nothing is to be applied then.
    """
    return [_command(line) for line in lines_of(data, _WORDS)]


def _command(line: str) -> str | None:
    word, _, rest = line.partition(" ")
    if line == "default":
        return None
    if word == "rename" and rest.strip():
        return check_cluster_name(rest.strip())
    raise unknown(line, _WORDS)
