"""How commands reach a datacenter: as all programs do (`cli.sdk.reaching`), and telling it where a password is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from cli import config
from cli.config import Datacenter

if TYPE_CHECKING:
    from pfs.client.web import WebClient


@contextmanager
def connected(dc: str | None) -> "Iterator[WebClient]":
    """Give a client of the datacenter `dc`, or of the current one."""
    from cli.sdk.reaching import opened

    with opened(datacenter(dc)) as client:
        yield client


def datacenter(dc: str | None) -> Datacenter:
    """Return the datacenter of that name, or the current one for None, with what its server is to be shown."""
    return with_token(config.datacenter(dc))


def with_token(where: Datacenter) -> Datacenter:
    """Return a datacenter with a token, where it has a password and none.

    Raises:
        PfsError: the server does not take the password, or is away.
    """
    from cli.sdk import reaching

    return reaching.with_token(where, partial(click.echo, err=True))
