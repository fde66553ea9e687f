"""Commands of `jobd` for administrators: groups, what is reserved for them, names of GPUs, nodes without new work.

They change the database, and a server that runs takes the change up at once (`cli.server.knock`).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.server.datacenter import Store
    from jobd.store.tables import NodeRow

data_root_option = click.option("--data-root", metavar="DIR", help="Where the data is. Default: /var/lib/pfs for root.")
database_option = click.option(
    "--database", metavar="URL", help="Where jobs and accounts are. Default: an SQLite file in the data root."
)


@click.group()
def group() -> None:
    """Groups of accounts."""


@group.command()
@data_root_option
@database_option
@click.argument("name")
@click.argument("user")
def add(data_root: str | None, database: str | None, name: str, user: str) -> None:
    """Let USER be in the group NAME, which is made by its first member."""
    with opened(data_root, database) as store:
        store.join_group(name, user)
        _tell_members(store, name)


@group.command()
@data_root_option
@database_option
@click.argument("name")
@click.argument("user")
def remove(data_root: str | None, database: str | None, name: str, user: str) -> None:
    """Let USER be in the group NAME no more; waiting jobs that need it are taken off."""
    with opened(data_root, database) as store:
        store.accounts.leave_now(name, user)
        _tell_members(store, name)


@group.command(name="list")
@data_root_option
@database_option
def list_groups(data_root: str | None, database: str | None) -> None:
    """Print who is in which group; one that everybody left keeps its files."""
    with opened(data_root, database) as store:
        for name in store.accounts.groups_now():
            _tell_members(store, name)


@click.command()
@data_root_option
@database_option
@click.option("--remove", is_flag=True, help="It stands for nothing any more.")
@click.argument("name", required=False)
@click.argument("model", required=False)
def alias(*, data_root: str | None, database: str | None, remove: bool, name: str | None, model: str | None) -> None:
    """Let NAME stand for GPUs of MODEL in requests; without arguments, print what stands for what."""
    from jobd.store.decisions import models_of

    if name is not None and (model is None) != remove:
        raise click.UsageError("a NAME with the MODEL that it stands for, or with --remove")
    with opened(data_root, database) as store:
        if name is not None:
            store.jobs.alias_now(name, model)
            models = models_of(store.jobs.nodes_now())
            if model is not None and model not in models:
                known = ", ".join(repr(each) for each in sorted(models)) or "none"
                click.echo(f"No node has a GPU of the model {model!r} yet; known models: {known}", err=True)
        for each, stands_for in sorted(store.jobs.policy_now().aliases.items()):
            click.echo(f"{each}: {stands_for}")


@click.command()
@data_root_option
@database_option
@click.option("--free", is_flag=True, help="Everybody may use it.")
@click.argument("what", metavar="[NODE[:GPU]]", required=False)
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
def reserve(
    *, data_root: str | None, database: str | None, free: bool, what: str | None, groups: tuple[str, ...]
) -> None:
    """Reserve a node, or one GPU of it by its number, for groups; without arguments, print what is reserved.

    Only jobs of their members are started there; those that are waiting for it and have no right any more are taken
    off. What runs goes on.
    """
    if what is not None and bool(groups) == free:
        raise click.UsageError("which groups? Or --free for everybody")
    with opened(data_root, database) as store:
        nodes = store.jobs.nodes_now()
        if what is not None:
            node_id, gpu = _found(nodes, _paths(store), what)
            store.jobs.reserve_now(node_id, gpu, frozenset(groups))
        _tell_reserved(store, nodes)


@click.command()
@data_root_option
@database_option
@click.argument("node", required=False)
@click.argument("why", nargs=-1)
def drain(data_root: str | None, database: str | None, node: str | None, why: tuple[str, ...]) -> None:
    """Give NODE no new work, and say WHY; what runs there goes on. Without arguments, print what takes no new work."""
    import getpass
    import time

    from jobd.nodectl import check_why
    from jobd.nodestate import Closed

    with opened(data_root, database) as store:
        if node is not None:
            closed = Closed(getpass.getuser(), check_why(" ".join(" ".join(why).split())), time.time_ns())
            store.jobs.close_nodes_now(_machines(store, node), closed)
        _tell_closed(store)


@click.command()
@data_root_option
@database_option
@click.argument("node")
def resume(data_root: str | None, database: str | None, node: str) -> None:
    """Give NODE new work again, which was drained, or set aside since one job after the other failed there."""
    with opened(data_root, database) as store:
        store.jobs.open_nodes_now(_machines(store, node))
        _tell_closed(store)


COMMANDS = (group, alias, reserve, drain, resume)


@contextmanager
def opened(data_root: str | None, database: str | None) -> "Iterator[Store]":
    """Give the opened store; tell the server that something may have changed."""
    from cli.server.datacenter import Store, default_data_root
    from cli.server.knock import PATIENCE_S, knock

    store = Store(data_root or default_data_root(), database, exclusive=False)
    try:
        yield store
        if not knock(store.private, PATIENCE_S):
            click.echo("this is done; the server is busy, and will take it up in a moment", err=True)
    finally:
        store.close()


def _found(nodes: "list[NodeRow]", paths: Mapping[str, str], what: str) -> tuple[str, str]:
    """Return the id of a node, and the UUID of one of its GPUs, "" for the whole node."""
    from jobd.files.facts import gpu_number

    name, colon, index = what.partition(":")
    node = next((node for node in nodes if paths[node.id] == name), None)
    if node is None:
        raise click.UsageError(f"there is no node {name!r}; there are: {_listed(sorted(paths.values()))}")
    if not colon:
        return node.entry_id, ""
    for gpu in node.gpus:
        if gpu_number(gpu) == index:
            return node.id, str(gpu["uuid"])
    numbers = _listed(gpu_number(gpu) for gpu in node.gpus)
    raise click.UsageError(f"the node {name!r} has no GPU {index!r}; it has: {numbers}")


def _machines(store: "Store", what: str) -> list[str]:
    """Return the ids of all instances of a node, by what it is called below nodes/, or by its id."""
    calls = _calls(store)
    found = [node_id for node_id, names in calls.items() if what in names]
    if not found:
        names = sorted({name for name, _ in calls.values()})
        raise click.UsageError(f"there is no node {what!r}; there are: {_listed(names)}")
    return found


def _calls(store: "Store") -> dict[str, tuple[str, str]]:
    """Return what each machine is called, and the id of its node, by the id of the machine."""
    from jobd.identity import labels

    rows = store.jobs.nodes_now()
    names = labels({row.entry_id: (row.name, row.cluster_id) for row in rows}, store.jobs.clusters_now())
    return {row.id: (names[row.entry_id], row.entry_id) for row in rows}


def _paths(store: "Store") -> dict[str, str]:
    """Return the path of each machine below nodes/, by its id."""
    from jobd.identity import number_of

    calls = {node_id: name for node_id, (name, _) in _calls(store).items()}
    further = {node_id: number for node_id in calls if (number := number_of(node_id)) > 1}
    return calls | {node_id: f"{calls[node_id]}/instances/{number}" for node_id, number in further.items()}


def _tell_closed(store: "Store") -> None:
    calls = _calls(store)
    for node_id, closed in sorted(store.jobs.closed_now().items()):
        click.echo(f"{calls[node_id][0]}: {closed.text}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _tell_members(store: "Store", name: str) -> None:
    click.echo(f"{name}: {_words(store.accounts.members_now(name)) or 'nobody'}")


def _tell_reserved(store: "Store", nodes: "list[NodeRow]") -> None:
    from jobd.files.facts import gpu_number

    policy, paths = store.jobs.policy_now(), _paths(store)
    for node in nodes:
        if node.id in policy.node_groups:
            click.echo(f"{paths[node.id]}: {_words(policy.node_groups[node.id])}")
        for gpu in node.gpus:
            if gpu["uuid"] in policy.gpu_groups:
                click.echo(f"{paths[node.id]}:{gpu_number(gpu)}: {_words(policy.gpu_groups[gpu['uuid']])}")


def _words(groups: Iterable[str]) -> str:
    return " ".join(sorted(groups))
