"""How commands reach a datacenter: which one is meant, and what its server is shown.

Where the configuration has a password and no token, as PaddleCloud's has, a token is got with it. It is kept beside the
configuration in `token_cache`, for this server and this user alone, and another one is got when it is good no more.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cli import config
from cli.config import Datacenter
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from pfs.client.web import WebClient

CACHE = "token_cache"


@contextmanager
def connected(dc: str | None) -> "Iterator[WebClient]":
    """Give a client of the datacenter `dc`, or of the current one."""
    from pfs.client.web import WebClient

    where = datacenter(dc)
    with WebClient(where.endpoint, where.token, where.ca, own=config.lasting(where.own)) as client:
        yield client


def datacenter(dc: str | None) -> Datacenter:
    """Return the datacenter of that name, or the current one for None, with what its server is to be shown."""
    return with_token(config.datacenter(dc))


def with_token(where: Datacenter) -> Datacenter:
    """Return a datacenter with a token, where it has a password and none.

    Raises:
        PfsError: the server does not take the password, or is away.
    """
    known = as_known(where)
    if known is where:
        return where
    if known is None:
        click.echo("previous token not found, fetching a new one...", err=True)
    if known is None or not _is_good(known):
        known = _showing(where, _new(where))
        _keep(_cached() | {_key(where): known.token})
    return known


def as_known(where: Datacenter) -> Datacenter | None:
    """Return a datacenter with the token that is kept for it; None where it needs one and none is."""
    if where.token or not where.password:
        return where
    token = _cached().get(_key(where))
    return None if token is None else _showing(where, token)


def forget(where: Datacenter) -> None:
    """Keep no token for a datacenter."""
    kept = _cached()
    if kept.pop(_key(where), None) is not None:
        _keep(kept)


def _showing(where: Datacenter, token: str) -> Datacenter:
    # a certificate beside the password is one that PaddleCloud made, which says nothing here
    return replace(where, token=token, own=None)


def _key(where: Datacenter) -> str:
    return f"{where.username} {where.endpoint}"


def _is_good(where: Datacenter) -> bool:
    from pfs.client.web import WebClient

    try:
        with WebClient(where.endpoint, where.token, where.ca) as client:
            client.read("me")
    except PfsError as error:
        if error.kind is not Kind.UNAUTHENTICATED:
            raise
        return False
    return True


def _new(where: Datacenter) -> str:
    from cli.entering import LOGIN_URL, check_private
    from pfs.client.web import WebClient

    check_private(where.endpoint)
    asked = {"user": where.username, "password": where.password, "machine": socket.gethostname()}
    try:
        with WebClient(where.endpoint, "", where.ca, shows=False) as client:
            return str(client.call("POST", LOGIN_URL, json.dumps(asked).encode())["token"])
    except PfsError as error:
        if error.kind is not Kind.UNAUTHENTICATED:
            raise
        whose = f"the password of {where.username} for {where.name} in {config.config_path()}"
        raise PfsError(error.kind, f"{whose} is not taken: {error.message}") from None


def _path() -> str:
    return os.path.join(os.path.dirname(os.path.realpath(config.config_path())), CACHE)


def _cached() -> dict[str, str]:
    """Return the tokens that are kept; PaddleCloud's own client kept a text that is none of ours."""
    with suppress(FileNotFoundError, ValueError), open(_path(), encoding="utf-8") as file:
        kept = json.load(file)
        if isinstance(kept, dict):
            return {str(key): str(token) for key, token in kept.items()}
    return {}


def _keep(tokens: dict[str, str]) -> None:
    from cli.configfile import write_private

    write_private(_path(), json.dumps(tokens, indent=1) + "\n")
