"""How `paddle` comes in: a password for a token, which is kept in `~/.paddle/config`.

Passwords are asked for on the terminal, sent once, and kept nowhere. They are sent to a server with TLS, or on this
machine; to none else. Which datacenter is meant the environment may say, as it does for all commands.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import click

from cli.config import (
    CURRENT,
    ME,
    OVERRIDES,
    ConfigError,
    Datacenter,
    config_path,
    effective,
    endpoint_of,
    lasting,
    load,
)
from cli.configfile import rewrite
from cli.reaching import datacenter
from cli.sdk.reaching import LOGIN_URL, as_known, check_private, forget
from pfs.client.web import WebClient
from pfs.errors import Kind, PfsError
from pfs.keys import url_of_key
from pfs.path import check_name

REGISTER_URL = "/api/v1/register"
PASSWORD_URL = "/api/v1/password"
TOKENS_URL = "/api/v1/tokens"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, as people and as programs are told; neither gets anything secret."""

    text: str
    facts: dict[str, str]


def register(invitation: str, user: str | None, ca: str | None) -> Outcome:
    """Make an account on the server that an invitation, or an address, names; return what to tell.

    Raises:
        PfsError: what the server refuses with.
    """
    shown = "" if "://" in invitation else invitation
    endpoint = url_of_key(shown) if shown else endpoint_of(invitation)
    check_private(endpoint)
    _check_can_keep()
    name = user or click.prompt("User name", err=True)
    password = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    asked = {"user": name, "password": password, "invitation": shown, "machine": socket.gethostname()}
    with WebClient(endpoint, shown, ca, shows=False) as client:
        return _keep(client.call("POST", REGISTER_URL, _body(asked)), endpoint, ca)


def login(endpoint: str | None, dc: str | None, user: str | None, ca: str | None) -> Outcome:
    """Get a token for this machine; return what to tell.

    Args:
        endpoint: of the server; None is that of a datacenter in the configuration, or in the environment.

    Raises:
        PfsError: what the server refuses with.
    """
    where = effective().named(dc) if endpoint is None else Datacenter("", "", "", endpoint_of(endpoint), ca)
    check_private(where.endpoint)
    _check_can_keep()
    known = "" if where.username == ME else where.username
    name = user or known or click.prompt("User name", err=True)
    password = click.prompt(f"Password of {name}", hide_input=True, err=True)
    asked = {"user": name, "password": password, "machine": socket.gethostname()}
    ca = ca or where.ca
    with WebClient(where.endpoint, where.token, ca, shows=False) as client:
        return _keep(client.call("POST", LOGIN_URL, _body(asked)), where.endpoint, ca)


def logout(dc: str | None) -> Outcome:
    """Take back the token of this machine; return what to tell.

    That is the one which other commands show; where the environment says it, the configuration keeps its own.
    """
    meant = effective()
    where = meant.named(dc)
    written = load().datacenters.get(where.name) if os.path.exists(config_path()) else None
    if written is None:
        meant.showing(where.name)  # or there is nothing to take back
    shown = as_known(where)
    if shown is not None:
        _take_back(shown, is_elsewhere=written is None or written.endpoint != where.endpoint)
    if written is None or written.token != where.token:
        return _outcome(f"The token that {OVERRIDES['token']} says is taken back; unset that.", where)
    rewrite(where.name, {"token": None})
    forget(where)
    return _outcome(f"The token of {where.username} for this machine is taken back.", where)


def _take_back(shown: Datacenter, *, is_elsewhere: bool) -> None:
    """Have a server forget a token.

    Args:
        is_elsewhere: it is not the server of the configuration; what it does not know may well be good there.

    Raises:
        PfsError: the token is not forgotten.
    """
    try:
        with _client(replace(shown, own=None)) as client:
            client.call("DELETE", f"{TOKENS_URL}/own", b"")
    except _Unknown:
        if is_elsewhere:
            raise


def change_password(dc: str | None) -> Outcome:
    """Give oneself another password; return what to tell."""
    where = datacenter(dc)
    check_private(where.endpoint)
    old = click.prompt(
        "Password until now (empty where there is none)", hide_input=True, default="", show_default=False, err=True
    )
    new = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    with _client(where) as client:
        client.call("POST", PASSWORD_URL, _body({"password": old, "new": new}))
    return _outcome("The password is changed; all other tokens are taken back.", where)


def _outcome(text: str, where: Datacenter) -> Outcome:
    return Outcome(text, {"datacenter": where.name, "user": where.username})


def tokens(dc: str | None) -> list[dict[str, Any]]:
    """Return what the server tells of one's own keys."""
    with _client(datacenter(dc)) as client:
        found: list[dict[str, Any]] = client.call("GET", TOKENS_URL, b"")["tokens"]
    return found


def revoke(dc: str | None, name: str) -> None:
    """Take back one of one's own keys."""
    with _client(datacenter(dc)) as client:
        client.call("DELETE", f"{TOKENS_URL}/{quote(check_name(name))}", b"")


def make_token(dc: str | None, label: str, scopes: list[str], days: int | None) -> str:
    """Return a new token, for a script."""
    with _client(datacenter(dc)) as client:
        return str(client.call("POST", TOKENS_URL, _body({"label": label, "scopes": scopes, "days": days}))["token"])


class _Unknown(PfsError):
    """The token is good no more."""


@contextmanager
def _client(where: Datacenter) -> Iterator[WebClient]:
    try:
        with WebClient(where.endpoint, where.token, where.ca, own=lasting(where.own)) as client:
            yield client
    except PfsError as error:
        if error.kind is Kind.UNAUTHENTICATED:
            raise _Unknown(error.kind, error.message) from None
        raise


def _body(asked: Mapping[str, object]) -> bytes:
    return json.dumps(asked).encode()


def _check_can_keep() -> None:
    """Refuse to get a token that the configuration could not take: an invitation is good only once.

    Raises:
        ConfigError
    """
    path = os.path.realpath(config_path())
    if os.path.exists(path) and os.path.getsize(path):
        load()
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the token would be kept in {config_path()}, and {folder} is no folder that can be written to"
        )


def _keep(welcome: dict[str, Any], endpoint: str, ca: str | None) -> Outcome:
    """Put what the server gave into the configuration."""
    try:
        name, user, token = (str(welcome[field]) for field in ("datacenter", "user", "token"))
        check_name(name)
    except (KeyError, TypeError):
        raise PfsError(Kind.UNREACHABLE, f"what answers at {endpoint} is not a pfs server") from None
    path = None if ca is None else os.path.abspath(ca)
    rewrite(name, {"username": user, "token": token, "endpoint": endpoint, **({} if path is None else {"ca": path})})
    _tell_what_counts_more(name, token, endpoint)
    text = f"{user} is known to the datacenter {name}; {config_path()} has the token."
    return Outcome(text, {"datacenter": name, "user": user, "config": config_path()})


def _tell_what_counts_more(name: str, token: str, endpoint: str) -> None:
    """Tell who has come in that commands come in as the environment says all the same, where that is so."""
    if (os.environ.get(CURRENT) or load().current) != name:
        return
    kept = {"token": token, "endpoint": endpoint}
    for field, value in kept.items():
        said = os.environ.get(OVERRIDES[field])
        if said and (endpoint_of(said) if field == "endpoint" else said) != value:
            click.echo(f"{OVERRIDES[field]} is set, and counts more than this login; unset it", err=True)
