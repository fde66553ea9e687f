"""Machines come and go, in one world for a whole script; all that is done is shown as it stands afterwards.

    hello TOKEN [name=…] [id=…] [cluster=…] [clusterId=…] [of=USER] [again]    a machine says who it is
    away TOKEN      it is gone
    work TOKEN      jobs are there; `idle TOKEN`: none any more
    rename ID name  somebody calls the node otherwise; `default ID` makes a cluster the default
    labels          what nodes are called among all

`_` in a value stands for a blank.
"""

from dataclasses import replace

from jobd.identity import Claim, Cluster, Instance, Settled, labels, settle
from tests.golden import Handler, Step


def start() -> Handler:
    return World().handle


class World:
    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.clusters: dict[str, Cluster] = {}

    def handle(self, step: Step) -> str:
        verb, *words = step.words
        match verb:
            case "hello":
                return self.hello(words)
            case "away":
                return self.change(words[0], is_here=False)
            case "work":
                return self.change(words[0], has_work=True)
            case "idle":
                return self.change(words[0], has_work=False)
            case "rename":
                for instance in list(self.instances.values()):
                    if instance.node_id == words[0]:
                        self.instances[instance.id] = replace(instance, name=words[1])
                return ""
            case "default":
                for cluster in list(self.clusters.values()):
                    self.clusters[cluster.id] = replace(cluster, is_default=cluster.id == words[0])
                return ""
            case "labels":
                nodes = {each.node_id: (each.name, each.cluster_id) for each in self.instances.values()}
                return "\n".join(f"{key} {label}" for key, label in labels(nodes, self.clusters.values()).items())
        raise AssertionError(verb)

    def change(self, token: str, **fields: bool) -> str:
        [instance] = [each for each in self.instances.values() if each.token == token]
        self.instances[instance.id] = replace(instance, **fields)
        return ""

    def hello(self, words: list[str]) -> str:
        token, *said = words
        fields = {key: value.replace("_", " ") for key, _, value in (word.partition("=") for word in said)}
        owner = fields.get("of", "")
        claim = Claim(
            fields.get("name", ""),
            fields.get("id", ""),
            fields.get("cluster", ""),
            fields.get("clusterId", ""),
            token,
            "again" in fields,
        )
        fresh_node = f"cm{len({each.node_id for each in self.instances.values()}) + 1}"
        settled = settle(
            claim,
            owner,
            self.instances.values(),
            self.clusters.values(),
            fresh_node=fresh_node,
            fresh_cluster=f"cl{len(self.clusters) + 1}",
        )
        self.keep(settled, owner, token)
        return self.shown(settled)

    def keep(self, settled: Settled, owner: str, token: str) -> None:
        if settled.made is not None:
            self.clusters[settled.made.id] = settled.made
        if settled.left:
            self.instances[settled.left] = replace(self.instances[settled.left], token="", is_here=False)
        for fellow in list(self.instances.values()) if settled.moved else ():
            if fellow.node_id == settled.node_id:
                self.instances[fellow.id] = replace(fellow, name=settled.name, cluster_id=settled.cluster_id)
        has_work = settled.id in self.instances and self.instances[settled.id].has_work
        who = (settled.id, settled.node_id, settled.name, settled.cluster_id, owner, token, settled.said)
        self.instances[settled.id] = Instance(*who, is_here=True, has_work=has_work)

    def shown(self, settled: Settled) -> str:
        cluster = self.clusters[settled.cluster_id]
        notes = [
            f"new: {cluster.id}" if settled.made else "",
            "the default" if cluster.is_default else "",
            f"of {cluster.owner}" if cluster.owner else "",
            f"it was {settled.left}" if settled.left else "",
        ]
        told = f"{settled.id}: {settled.name} in {cluster.id}, {cluster.name!r}"
        return "; ".join(note for note in (told, *notes) if note)
