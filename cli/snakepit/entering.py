"""`pit exec` and `pit forward`: into the workers of a job, which are counted over all groups."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cli.snakepit.entities import job_number

if TYPE_CHECKING:
    from cli.attach.line import Server, Target
    from cli.snakepit.connection import Pit


def execute(client: "Pit", job: str, worker: int, words: Sequence[str], *, wants_tty: bool | None) -> int:
    """Run a command in a worker of a job, and return its exit code."""
    from cli.attach.exec import run_program

    return _enter(client, job, worker, lambda server, target: run_program(server, target, words, wants_tty=wants_tty))


def forward(client: "Pit", job: str, worker: int, ports: Sequence[str]) -> int:
    """Forward ports of a worker of a job until Ctrl-C."""
    from cli.attach.forward import forward_ports, parse_ports

    pairs = parse_ports(ports)
    return _enter(client, job, worker, lambda server, target: forward_ports(server, target, pairs))


def _enter(client: "Pit", job: str, worker: int, work: "Callable[[Server, Target], int]") -> int:
    """Do something in a worker; who has no good token any more is asked for a password."""
    from cli.attach.line import Server, Target

    target = Target(int(job_number(job)), str(worker))
    where, who = client.where, client.who
    return client.again(lambda _: work(Server(where.endpoint, who.token, where.ca), target))
