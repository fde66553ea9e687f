"""Commands of `jobd` for administrators: groups of accounts, what is reserved for them, and short names of GPUs.

They change the database, and a server that runs takes the change up at once (`cli.knock`).
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.serve import Store
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


@click.command()
@data_root_option
@database_option
@click.option("--remove", is_flag=True, help="It stands for nothing any more.")
@click.argument("name", required=False)
@click.argument("model", required=False)
def alias(*, data_root: str | None, database: str | None, remove: bool, name: str | None, model: str | None) -> None:
    """Let NAME stand for GPUs of MODEL in requests; without arguments, print what stands for what."""
    if name is not None and (model is None) != remove:
        raise click.UsageError("a NAME with the MODEL that it stands for, or with --remove")
    with opened(data_root, database) as store:
        if name is not None:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
                raise click.UsageError(f"{name!r} cannot be an alias: a letter, then letters and digits")
            models = _models(store.jobs.nodes_now())
            if name in models:
                raise click.UsageError(f"{name!r} is a model of GPUs itself; choose another name")
            store.jobs.alias_now(name, model)
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
            node_id, gpu = _found(nodes, what)
            store.jobs.reserve_now(node_id, gpu, frozenset(groups))
        _tell_reserved(store, nodes)


COMMANDS = (group, alias, reserve)


@contextmanager
def opened(data_root: str | None, database: str | None) -> "Iterator[Store]":
    """Give the opened store; tell the server that something may have changed."""
    from cli import serve as server
    from cli.knock import knock

    store = server.Store(data_root or server.default_data_root(), database, exclusive=False)
    try:
        yield store
        knock(store.private)
    finally:
        store.close()


def _found(nodes: "list[NodeRow]", what: str) -> tuple[str, str]:
    """Return the id of a node, and the UUID of one of its GPUs, "" for the whole node."""
    name, colon, index = what.partition(":")
    node = next((node for node in nodes if node.name == name), None)
    if node is None:
        raise click.UsageError(f"there is no node {name!r}; there are: {_listed(node.name for node in nodes)}")
    if not colon:
        return node.id, ""
    for gpu in node.gpus:
        if str(gpu["index"]) == index:
            return node.id, str(gpu["uuid"])
    numbers = _listed(str(gpu["index"]) for gpu in node.gpus)
    raise click.UsageError(f"the node {name!r} has no GPU {index!r}; it has: {numbers}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _models(nodes: "list[NodeRow]") -> set[str]:
    return {str(gpu["model"]) for node in nodes for gpu in node.gpus}


def _tell_members(store: "Store", name: str) -> None:
    click.echo(f"{name}: {_words(store.accounts.members_now(name)) or 'nobody'}")


def _tell_reserved(store: "Store", nodes: "list[NodeRow]") -> None:
    policy = store.jobs.policy_now()
    for node in nodes:
        if node.id in policy.node_groups:
            click.echo(f"{node.name}: {_words(policy.node_groups[node.id])}")
        for gpu in node.gpus:
            if gpu["uuid"] in policy.gpu_groups:
                click.echo(f"{node.name}:{gpu['index']}: {_words(policy.gpu_groups[gpu['uuid']])}")


def _words(groups: Iterable[str]) -> str:
    return " ".join(sorted(groups))
