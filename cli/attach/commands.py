"""`paddle exec` and `paddle forward`, as they are typed. What they do is loaded when they are called."""

from typing import TYPE_CHECKING

import click

from cli import completion
from cli.attach.options import tty_option
from cli.dashes import DashCommand

if TYPE_CHECKING:
    from cli.attach.line import Server, Target

process_option = click.option(
    *("-p", "--process"),
    metavar="GROUP.PROCESS",
    help="Which process of the job, such as 1.0; or a number that counts them all. Default: the first.",
)


@click.command("exec", cls=DashCommand, context_settings={"allow_interspersed_args": False})
@process_option
@tty_option
@click.argument("job", shell_complete=completion.paddle_jobs)
@click.argument("words", metavar="[--] [CMD…]", nargs=-1, type=click.UNPROCESSED)
def execute(*, job: str, words: tuple[str, ...], process: str | None, wants_tty: bool | None, dc: str | None) -> int:
    """Run CMD beside a process of JOB, a name or a number: a shell where none is named.

    It runs as the job does, where the job does: in its container or sandbox, with its files and variables. Its input
    and output are those of this command, and so is its exit code.
    """
    from cli.attach.exec import run_program

    return run_program(*_inside(dc, job, process), words, wants_tty=wants_tty)


@click.command(cls=DashCommand)
@process_option
@click.argument("job", shell_complete=completion.paddle_jobs)
@click.argument("ports", metavar="PORT…", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="Do not tell which port is where.")
def forward(*, job: str, ports: tuple[str, ...], process: str | None, quiet: bool, dc: str | None) -> int:
    """Let programs of this machine connect to PORTs of a process of JOB, until Ctrl-C.

    8080:80 is port 80 there as port 8080 here, 6006 the same port on both sides.
    """
    from cli.attach.forward import forward_ports, parse_ports

    pairs = parse_ports(ports)
    return forward_ports(*_inside(dc, job, process), pairs, quiet=quiet)


def _inside(dc: str | None, job: str, process: str | None) -> "tuple[Server, Target]":
    """Return where a datacenter is, and which process of a job is meant there."""
    from cli import config, reaching
    from cli.attach.line import Server, Target

    where = reaching.datacenter(dc)
    server = Server(where.endpoint, where.token, where.ca, config.lasting(where.own))
    number = int(job) if job.isascii() and job.isdigit() else _number_of(server, job)
    return server, Target(number, process)


def _number_of(server: "Server", name: str) -> int:
    from cli.sdk import operations
    from cli.sdk.way import asked
    from pfs.client.web import WebClient

    with WebClient(server.endpoint, server.token, server.ca, own=server.own) as client:
        return asked(client, operations.number_of, name)
