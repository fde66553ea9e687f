"""Who a machine is that says hello: which node, in which cluster, and which of the instances of that node.

A *node* has an id, and a name that no other node of its cluster has. Its *instances* are the machines that were started
under that name: all of them get work. An instance is known again by the token that its daemon keeps on disk. Clusters
and nodes belong to an account: "" is that of the datacenter, and a user who has nodes of their own has another.

    --id           means that node; with a name it is renamed, with a cluster it moves there, all its instances with it
    --clusterId    means that cluster; it counts more than a name
    --cluster      means the cluster of that name, which is made where there is none
    neither        means the default cluster; the first one that is made is the default
    the name       means the node of that name in that cluster; where there is none, it is made
    the token      means the instance that has it; a new one takes the place of one that is away and has no work

A user has so many clusters, and machines, at most: there is a place for each for ever. Whoever has that many takes the
place of one that is away.

A machine that says the same as before is who it was, whatever its node and its cluster are called by now, and whichever
cluster is the default. One that has work stays who it is until that is over.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from pfs.errors import Kind, PfsError

FIRST_CLUSTER = "GradientNode Cluster"
CLUSTER_NAME_MAX = 100
CLUSTERS_MAX = 100  # of a user; what administrators let in has no limit
MACHINES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a machine says that it is; what it does not say is "".

    Attributes:
        name: that its node shall have; it may be missing where `node_id` is there.
        cluster, cluster_id: by its name or its id.
        token: of its state directory.
        again: it was told who it is since it was started, and only comes back.
    """

    name: str
    node_id: str = ""
    cluster: str = ""
    cluster_id: str = ""
    token: str = ""
    again: bool = False

    @property
    def words(self) -> str:
        """What it says, so that it can be compared with what it said before."""
        return "\n".join((self.name, self.node_id, self.cluster, self.cluster_id))


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of an account."""

    id: str
    owner: str
    name: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine that was here before.

    Attributes:
        id: that of its node for the first instance, `<id>.<number>` for further ones.
        said: the words of its claim.
        is_here: it is connected.
        has_work: jobs that are not over are there.
    """

    id: str
    node_id: str
    name: str
    cluster_id: str
    owner: str
    token: str
    said: str = ""
    is_here: bool = False
    has_work: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """Who a machine is.

    Attributes:
        said: the words that made it so.
        made: the cluster, where it has to be made.
        left: the id of the instance that it was, and is no more.
        moved: all instances of the node have this name and cluster from now on, which is new.
    """

    id: str
    node_id: str
    name: str
    cluster_id: str
    said: str
    made: Cluster | None = None
    left: str = ""
    moved: bool = False


def settle(
    claim: Claim,
    owner: str,
    instances: Collection[Instance],
    clusters: Collection[Cluster],
    *,
    fresh_node: str,
    fresh_cluster: str,
) -> Settled:
    """Decide who a machine is.

    Args:
        owner: the account of its key.
        instances, clusters: of all accounts.
        fresh_node, fresh_cluster: ids that nobody has.

    Raises:
        PfsError: INVALID: what it names is not there, or the name is taken. DENIED: the user has too many.
    """
    own = [instance for instance in instances if instance.owner == owner]
    me = next((instance for instance in own if claim.token and instance.token == claim.token), None)
    if me is not None and (claim.again or me.said == claim.words):
        return _as_it_is(me)
    account = _Account(
        owner, own, [cluster for cluster in clusters if cluster.owner == owner], fresh_node, fresh_cluster
    )
    wanted = account.by_id(claim) if claim.node_id else account.by_name(claim)
    if me is not None and me.node_id != wanted.node_id:
        if me.has_work:
            return _as_it_is(me)
        wanted = replace(wanted, left=me.id)
    id_ = _place(claim.token, account.node(wanted.node_id), wanted.node_id)
    if owner and len(own) >= MACHINES_MAX and all(instance.id != id_ for instance in own):
        cure = "give this one the --name of one that is away, and it takes its place"
        raise PfsError(Kind.DENIED, f"{account.title} has {MACHINES_MAX} machines already: {cure}")
    return replace(wanted, id=id_)


def _as_it_is(me: Instance) -> Settled:
    return Settled(me.id, me.node_id, me.name, me.cluster_id, me.said)


@dataclass(frozen=True, slots=True)
class _Account:
    """What an account has, and ids that nobody has."""

    owner: str
    instances: Collection[Instance]
    clusters: Collection[Cluster]
    fresh_node: str
    fresh_cluster: str

    @property
    def title(self) -> str:
        return f"the account of {self.owner}" if self.owner else "this datacenter"

    def node(self, node_id: str) -> list[Instance]:
        return [instance for instance in self.instances if instance.node_id == node_id]

    def by_id(self, claim: Claim) -> Settled:
        """Settle for the node whose id was named."""
        node = self.node(claim.node_id)
        if not node:
            cure = "leave --id out for a new one"
            raise PfsError(Kind.INVALID, f"there is no node {claim.node_id} in {self.title}; {cure}")
        first = node[0]
        name, cluster_id, made = claim.name or first.name, first.cluster_id, None
        if claim.cluster or claim.cluster_id:
            cluster, made = self.cluster(claim)
            cluster_id = cluster.id
        moved = (name, cluster_id) != (first.name, first.cluster_id)
        if moved and any((other.name, other.cluster_id) == (name, cluster_id) for other in self.instances):
            cure = f"give {claim.node_id} another --name"
            raise PfsError(Kind.INVALID, f"another node of that cluster is named {name!r}; {cure}")
        return Settled("", claim.node_id, name, cluster_id, claim.words, made, moved=moved)

    def by_name(self, claim: Claim) -> Settled:
        """Settle for the node of a name in a cluster."""
        if not claim.name:
            raise PfsError(Kind.INVALID, "a node has a name; give it one with --name")
        cluster, made = self.cluster(claim)
        there = (other for other in self.instances if (other.name, other.cluster_id) == (claim.name, cluster.id))
        node_id = next((other.node_id for other in there), self.fresh_node)
        return Settled("", node_id, claim.name, cluster.id, claim.words, made)

    def cluster(self, claim: Claim) -> tuple[Cluster, Cluster | None]:
        """Return the cluster that is meant, and once more where it has to be made."""
        if claim.cluster_id:
            found = next((cluster for cluster in self.clusters if cluster.id == claim.cluster_id), None)
            if found is None:
                listed = sorted(f"{cluster.id} ({cluster.name})" for cluster in self.clusters)
                there = f"there are: {', '.join(listed)}" if listed else "there is none yet"
                raise PfsError(Kind.INVALID, f"there is no cluster {claim.cluster_id} in {self.title}; {there}")
        elif claim.cluster:
            found = next((cluster for cluster in self.clusters if cluster.name == claim.cluster), None)
        else:
            found = next((cluster for cluster in self.clusters if cluster.is_default), None)
        if found is not None:
            return found, None
        name = check_cluster_name(claim.cluster or FIRST_CLUSTER)
        if self.owner and len(self.clusters) >= CLUSTERS_MAX:
            cure = "name one of them with --cluster, or rename one: echo rename NAME > clusters/ID/ctl"
            raise PfsError(Kind.DENIED, f"{self.title} has {CLUSTERS_MAX} clusters already: {cure}")
        made = Cluster(self.fresh_cluster, self.owner, name, is_default=not self.clusters)
        return made, made


def _place(token: str, node: Collection[Instance], node_id: str) -> str:
    """Return the id of the instance of a node that a machine is: its own, one that nobody is any more, or a new one."""
    by_number = sorted(node, key=lambda instance: number_of(instance.id))
    for instance in by_number:
        if token and instance.token == token:
            return instance.id
    for instance in by_number:
        # one without a token comes from a time before there were tokens, or was left
        if not instance.is_here and (not instance.has_work or not instance.token):
            return instance.id
    taken = {number_of(instance.id) for instance in node}
    number = next(number for number in range(1, len(taken) + 2) if number not in taken)
    return node_id if number == 1 else f"{node_id}.{number}"


def number_of(instance_id: str) -> int:
    """Return the number of an instance among those of its node, from 1."""
    return int(instance_id.partition(".")[2] or 1)


def check_cluster_name(name: str) -> str:
    """Return the name of a cluster.

    Raises:
        PfsError: INVALID for what cannot be one.
    """
    if not name or name != name.strip() or not name.isprintable() or len(name) > CLUSTER_NAME_MAX:
        raise PfsError(
            Kind.INVALID, f"{name[:CLUSTER_NAME_MAX]!r} cannot be a cluster's name: one line of 1 to 100 characters"
        )
    return name


def meant(clusters: Collection[Cluster], owner: str, text: str) -> str:
    """Return the id of the cluster that a user means by its name or id: one of theirs, else one of the datacenter.

    What nobody has yet is returned as it is.
    """
    for account in (owner, ""):
        for cluster in clusters:
            if cluster.owner == account and text in (cluster.id, cluster.name):
                return cluster.id
    return text


def labels(nodes: Mapping[str, tuple[str, str]], clusters: Iterable[Cluster]) -> dict[str, str]:
    """Return what each node is called among all: its name; with `@<cluster>` where others have it, too.

    In the datacenter's default cluster a node has its name for itself.

    Args:
        nodes: name and cluster of each, by its id.
    """
    first = next((cluster.id for cluster in clusters if cluster.is_default and not cluster.owner), "")
    counts = Counter(name for name, _ in nodes.values())
    return {
        node_id: name if counts[name] == 1 or cluster_id == first else f"{name}@{cluster_id}"
        for node_id, (name, cluster_id) in nodes.items()
    }
