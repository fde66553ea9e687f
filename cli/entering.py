"""How `paddle` comes in: a password for a token, which is kept in `~/.paddle/config`.

Passwords are asked for on the terminal, sent once, and kept nowhere. They are sent to a server with TLS, or on this
machine; to none else.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import click

from cli.config import ConfigError, Datacenter, config_path, endpoint_of, lasting, load
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


def register(invitation: str, user: str | None, ca: str | None) -> str:
    """Make an account on the server that an invitation, or an address, names; return what to tell.

    Raises:
        PfsError: what the server refuses with.
    """
    shown = "" if "://" in invitation else invitation
    endpoint = url_of_key(shown) if shown else endpoint_of(invitation)
    check_private(endpoint)
    _check_can_keep()
    name = user or click.prompt("User name")
    password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    asked = {"user": name, "password": password, "invitation": shown, "machine": socket.gethostname()}
    with WebClient(endpoint, shown, ca, shows=False) as client:
        return _keep(client.call("POST", REGISTER_URL, _body(asked)), endpoint, ca)


def login(endpoint: str | None, dc: str | None, user: str | None, ca: str | None) -> str:
    """Get a token for this machine; return what to tell.

    Args:
        endpoint: of the server; None is that of a datacenter in the configuration.

    Raises:
        PfsError: what the server refuses with.
    """
    where = _known(dc) if endpoint is None else Datacenter("", "", "", endpoint_of(endpoint), ca)
    check_private(where.endpoint)
    _check_can_keep()
    name = user or where.username or click.prompt("User name")
    password = click.prompt(f"Password of {name}", hide_input=True)
    asked = {"user": name, "password": password, "machine": socket.gethostname()}
    ca = ca or where.ca
    with WebClient(where.endpoint, where.token, ca, shows=False) as client:
        return _keep(client.call("POST", LOGIN_URL, _body(asked)), where.endpoint, ca)


def logout(dc: str | None) -> str:
    """Take back the token of this machine; return what to tell."""
    where = _known(dc)
    shown = as_known(where)
    if shown is not None:
        with suppress(_Unknown), _client(replace(shown, own=None)) as client:
            client.call("DELETE", f"{TOKENS_URL}/own", b"")
    rewrite(where.name, {"token": None})
    forget(where)
    return f"The token of {where.username} for this machine is taken back."


def change_password(dc: str | None) -> str:
    """Give oneself another password; return what to tell."""
    where = datacenter(dc)
    check_private(where.endpoint)
    old = click.prompt(
        "Password until now (empty where there is none)", hide_input=True, default="", show_default=False
    )
    new = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    with _client(where) as client:
        client.call("POST", PASSWORD_URL, _body({"password": old, "new": new}))
    return "The password is changed; all other tokens are taken back."


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


def _known(dc: str | None) -> Datacenter:
    loaded = load(needs_token=False)
    name = dc or loaded.current
    if name not in loaded.datacenters:
        raise PfsError(Kind.INVALID, f"{loaded.path} knows no datacenter {name!r}: {', '.join(loaded.datacenters)}")
    return loaded.datacenters[name]


def _body(asked: Mapping[str, object]) -> bytes:
    return json.dumps(asked).encode()


def _check_can_keep() -> None:
    """Refuse to get a token that the configuration could not take: an invitation is good only once.

    Raises:
        ConfigError
    """
    path = os.path.realpath(config_path())
    if os.path.exists(path) and os.path.getsize(path):
        load(needs_token=False)
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the token would be kept in {config_path()}, and {folder} is no folder that can be written to"
        )


def _keep(welcome: dict[str, Any], endpoint: str, ca: str | None) -> str:
    """Put what the server gave into the configuration."""
    try:
        name, user, token = (str(welcome[field]) for field in ("datacenter", "user", "token"))
        check_name(name)
    except (KeyError, TypeError):
        raise PfsError(Kind.UNREACHABLE, f"what answers at {endpoint} is not a pfs server") from None
    path = None if ca is None else os.path.abspath(ca)
    rewrite(name, {"username": user, "token": token, "endpoint": endpoint, **({} if path is None else {"ca": path})})
    return f"{user} is known to the datacenter {name}; {config_path()} has the token."
