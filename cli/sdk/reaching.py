"""How programs reach a datacenter: which one is meant, and what its server is shown.

Where the configuration has a password and no token, as PaddleCloud's has, a token is got with it. It is kept beside the
configuration in `token_cache`, for this server and this user alone, and another one is got when it is good no more.
"""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from cli import config
from cli.config import Datacenter
from pfs.client.web import WebClient
from pfs.errors import Kind, PfsError
from pfs.keys import address_of

CACHE = "token_cache"
LOGIN_URL = "/api/v1/login"

Say = Callable[[str], None]


def opened(where: Datacenter) -> WebClient:
    """Return a client of a datacenter."""
    return WebClient(where.endpoint, where.token, where.ca, own=config.lasting(where.own))


def meant(name: str | None, endpoint: str | None = None, token: str = "", ca: str | None = None) -> Datacenter:
    """Return the datacenter that a program means, with what its server is to be shown.

    Args:
        name: of one in the configuration; None for the current one.
        endpoint: of its server, where no configuration counts.
        token: to be shown there.
        ca: file with the certificate authority to trust there.

    Raises:
        ConfigError: the configuration has none of that name, or cannot be used.
        PfsError: INVALID for what says two things at once; or the server does not take the password, or is away.
    """
    if endpoint is None:
        if token or ca is not None:
            raise PfsError(Kind.INVALID, "a token and an authority go with an endpoint; say that, too")
        return with_token(config.datacenter(name))
    if name is not None:
        raise PfsError(Kind.INVALID, "a datacenter is meant by its name, or by its endpoint; leave one of them out")
    return Datacenter(config.NAMELESS, config.ME, token, config.endpoint_of(endpoint), ca)


def with_token(where: Datacenter, say: Say = lambda _: None) -> Datacenter:
    """Return a datacenter with a token, where it has a password and none.

    Args:
        say: is told that one is got for the first time.

    Raises:
        PfsError: the server does not take the password, or is away.
    """
    known = as_known(where)
    if known is where:
        return where
    if known is None:
        say("previous token not found, fetching a new one...")
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


def check_private(endpoint: str) -> None:
    """Refuse to send a password where others on the way can read it.

    Raises:
        PfsError: INVALID.
    """
    import ipaddress

    address = address_of(endpoint)
    if address.secure or address.host == "localhost":
        return
    with suppress(ValueError):
        if ipaddress.ip_address(address.host).is_loopback:
            return
    raise PfsError(Kind.INVALID, f"{endpoint} has no TLS: a password sent there can be read on its way; use https://")


def _showing(where: Datacenter, token: str) -> Datacenter:
    # a certificate beside the password is one that PaddleCloud made, which says nothing here
    return replace(where, token=token, own=None)


def _key(where: Datacenter) -> str:
    return f"{where.username} {where.endpoint}"


def _is_good(where: Datacenter) -> bool:
    try:
        with WebClient(where.endpoint, where.token, where.ca) as client:
            client.read("me")
    except PfsError as error:
        if error.kind is not Kind.UNAUTHENTICATED:
            raise
        return False
    return True


def _new(where: Datacenter) -> str:
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
