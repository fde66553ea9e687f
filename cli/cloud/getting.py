"""`paddle get`: what there is, as tables; and the credentials for registries, which are made and deleted here, too."""

import json

import click

from cli import reaching
from cli.cloud.commands import age_of
from cli.cloud.options import Voice, dc_option, doing, job_argument, show_rows, shown
from cli.dashes import DashCommand, DashGroup

WIDE = ("ID", "NAME", "USER", "STATE", "REQUEST", "PLACE", "AGE")
NODES = {
    "name": "NAME",
    "state": "STATE",
    "gpus": "GPUS",
    "gpus_free": "FREE",
    "processes": "PROCESSES",
    "cpus": "CPUS",
    "memory": "MEMORY",
    "runtimes": "RUNTIMES",
}


@click.group(cls=DashGroup)
@click.option("-a", "--all", "everything", is_flag=True, help="Jobs: also those that are over.")
@click.pass_context
def get(ctx: click.Context, *, everything: bool) -> None:
    """Show jobs, their processes, nodes, quotas or registries."""
    ctx.obj = everything


@get.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that are over.")
@click.option(
    "-o", "form", type=click.Choice(["wide"]), help="Every job that you may read, with number, user and place."
)
@shown
@click.pass_obj
def jobs(before: bool, *, everything: bool, form: str | None, as_json: bool, quiet: bool, dc: str | None) -> None:
    """List your jobs: those that are not over, unless -a is given."""
    everything = everything or before
    if form is None:
        _own_jobs(dc, everything=everything, as_json=as_json, quiet=quiet)
    else:
        _all_jobs(dc, everything=everything, as_json=as_json, quiet=quiet)


def _own_jobs(dc: str | None, *, everything: bool, as_json: bool, quiet: bool) -> None:
    from cli.cloud import tables
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        found = [job for job in asked(client, operations.jobs) if everything or job["state"] not in tables.OVER]
        servers = {row["id"]: row for row in asked(client, operations.servers)}
    rows = [tables.job_cells(job, servers.get(job["id"], {})) for job in found]
    numbers = [str(job["id"]) for job in found]
    show_rows(tables.JOBS, rows, found, numbers, as_json=as_json, quiet=quiet, gap=tables.GAP)


def _all_jobs(dc: str | None, *, everything: bool, as_json: bool, quiet: bool) -> None:
    from cli.cloud.tables import OVER
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        found = [job for job in asked(client, operations.everybodys_jobs) if everything or job["state"] not in OVER]
    rows = [
        [
            *(job[key] for key in ("id", "name", "user", "state", "request")),
            job["place"] or "-",
            age_of(job["submitted"]),
        ]
        for job in found
    ]
    show_rows(WIDE, rows, found, [job["id"] for job in found], as_json=as_json, quiet=quiet)


@get.command()
@shown
@job_argument
def workers(*, job: str, as_json: bool, quiet: bool, dc: str | None) -> None:
    """List the processes of JOB: how each stands, and with what, and why, it ended."""
    from cli.cloud import tables
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        found = asked(client, operations.workers, job)
    rows, names = [tables.worker_cells(each) for each in found], [each["name"] for each in found]
    show_rows(tables.WORKERS, rows, found, names, as_json=as_json, quiet=quiet, gap=tables.GAP)


@get.command()
@shown
def nodes(*, as_json: bool, quiet: bool, dc: str | None) -> None:
    """List the machines that run jobs."""
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        found = asked(client, operations.nodes)
    rows = [[node[fact] for fact in NODES] for node in found]
    show_rows(tuple(NODES.values()), rows, found, [node["name"] for node in found], as_json=as_json, quiet=quiet)


@get.command()
@shown
def quota(*, as_json: bool, quiet: bool, dc: str | None) -> None:
    """Show what you and your groups have and may have: bytes and files, jobs, GPUs."""
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        if as_json or quiet:
            rows = asked(client, operations.quota)
            names = [f"{row['of']} {row['what']}" for row in rows]
            show_rows((), (), rows, names, as_json=as_json, quiet=quiet)
        else:  # the table of the server, as it is
            click.echo(client.read("quota").decode(), nl=False)


@get.command("registry")
@shown
def registries(*, as_json: bool, quiet: bool, dc: str | None) -> None:
    """List your credentials for registries of images, and when each was written."""
    from cli.cloud import tables
    from cli.sdk import operations
    from cli.sdk.way import asked

    with reaching.connected(dc) as client:
        found = asked(client, operations.registries)
    rows, names = [[str(row["id"]), row["name"], row["data"]] for row in found], [row["name"] for row in found]
    show_rows(tables.REGISTRIES, rows, found, names, as_json=as_json, quiet=quiet, gap=tables.GAP)


@click.command(cls=DashCommand)
@click.option(
    "--name", metavar="NAME", required=True, help="How `registry:` of a spec, or `submit -registry`, calls it."
)
@click.option("--username", metavar="USER", required=True, help="Who you are there.")
@click.option(
    "--password", metavar="WORD", help="Your password there. Default: you are asked, which leaves it in no history."
)
@click.option("--server", metavar="HOST", required=True, help="The registry, such as registry.example.org:5000.")
@doing
@dc_option
def registry(*, voice: Voice, dc: str | None, **said: str | None) -> None:
    """Keep a credential for a registry of images: the secret NAME, which only your jobs get."""
    if said["password"] is None:
        said["password"] = click.prompt(f"Password of {said['username']}", hide_input=True, err=True)
    with reaching.connected(dc) as client:
        client.call("POST", "/api/v1/registry", json.dumps(said).encode())
    voice.tell({key: said[key] for key in ("name", "server", "username")})


@click.group(cls=DashGroup)
def delete() -> None:
    """Delete what `registry` keeps."""


@delete.command("registry")
@click.argument("name")
@doing
@dc_option
def delete_registry(name: str, voice: Voice, dc: str | None) -> None:
    """Forget the credential NAME."""
    with reaching.connected(dc) as client:
        text = str(client.call("DELETE", "/api/v1/registry", json.dumps({"name": name}).encode())["msg"])
    voice.tell({"name": name, "deleted": True}, text)
