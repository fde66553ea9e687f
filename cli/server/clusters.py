"""Commands of `jobd` about nodes and clusters: the keys of nodes, and what clusters are called.

They change the database, and a server that runs takes the change up at once (`cli.server.knock`).
"""

import click

from cli.server.administration import data_root_option, database_option, opened


@click.command("node-key")
@data_root_option
@database_option
@click.argument("user", required=False)
def node_key(data_root: str | None, database: str | None, user: str | None) -> None:
    """Print a new key for gradient-node: for a node of the datacenter, or one of USER's own.

    A node on the key of an administrator takes everybody's jobs; one on that of somebody else takes only theirs.
    """
    with opened(data_root, database) as store:
        key, owner = store.add_node_key(user)
        click.echo(
            f"Nodes with this key run {f'jobs of {owner} only' if owner else 'the jobs of everybody'}.", err=True
        )
        click.echo(key)


@click.command("join-token")
@data_root_option
@database_option
@click.option(
    "--minutes", type=click.IntRange(1, 7 * 24 * 60), default=60, show_default=True, help="It ends after so many."
)
@click.argument("user", required=False)
def join_token(data_root: str | None, database: str | None, minutes: int, user: str | None) -> None:
    """Print a token with which one machine becomes a node: of the datacenter, or of USER's own.

    gradient-node --apiKey TOKEN makes a key of its own for that machine, which it uses from then on.
    """
    with opened(data_root, database) as store:
        token, owner = store.join_token(user, minutes)
        runs = f"jobs of {owner} only" if owner else "the jobs of everybody"
        click.echo(f"One machine joins with this within {minutes} minutes, and runs {runs}.", err=True)
        click.echo(token)


@click.command()
@data_root_option
@database_option
@click.option("--user", metavar="NAME", default="", help="The clusters of a user who has nodes of their own.")
@click.option("--rename", metavar="NAME", help="It is called so from now on.")
@click.option("--default", "default", is_flag=True, help="Nodes that name no cluster come into it from now on.")
@click.argument("which", metavar="[CLUSTER]", required=False)
def cluster(
    *, data_root: str | None, database: str | None, user: str, rename: str | None, default: bool, which: str | None
) -> None:
    """Change the cluster of this name or id; print all clusters.

    A cluster is made by the first node that names it: gradient-node --cluster NAME.
    """
    if (which is None) != (rename is None and not default):
        raise click.UsageError("a CLUSTER with --rename NAME or --default, or nothing at all")
    with opened(data_root, database) as store:
        clusters = [each for each in store.jobs.clusters_now() if each.owner == user]
        if which is not None:
            found = next((each for each in clusters if which in (each.id, each.name)), None)
            if found is None:
                there = ", ".join(repr(each.name) for each in clusters) or "none"
                raise click.UsageError(f"there is no cluster {which!r}; there are: {there}")
            if rename is not None:
                store.jobs.rename_cluster_now(found.id, rename)
            if default:
                store.jobs.make_default_now(found.id)
        for each in store.jobs.clusters_now():
            of = f", of {each.owner}" if each.owner else ""
            click.echo(f"{each.id}: {each.name}{', the default' if each.is_default else ''}{of}")


COMMANDS = (node_key, join_token, cluster)
