"""Name and password with each request, as REST v1 of PaddleCloud takes them: `Authorization: Basic`.

They are proved once, as a login is, which gives a token; what comes with them later is asked with that, as long as it
is good. So a request costs no more than one with a token, guessing is as slow as at the login, and whatever takes an
account's tokens back, such as another password, holds for these, too.
"""

import hmac
import os
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request

from pfs.accounts.store import Identity
from pfs.errors import Kind, PfsError

SCHEME = "basic"
LABEL = "HTTP Basic"  # what such a token is called
KNOWN_MAX = 10_000

Welcome = Callable[[Request, str, str], Awaitable[str]]
Prove = Callable[[Mapping[str, str], Mapping[str, Any]], Awaitable[Identity]]


class Basic:
    """Gives requests with a name and a password the token that stands for these.

    Args:
        welcome: checks a name and a password; returns a new token.
        prove: fails with UNAUTHENTICATED for a token that is good no more.
    """

    def __init__(self, welcome: Welcome, prove: Prove) -> None:
        self._welcome = welcome
        self._prove = prove
        self._secret = os.urandom(32)  # passwords are remembered by a digest that nobody else can make
        self._tokens: dict[bytes, str] = {}

    async def with_token(self, request: Request) -> Request:
        """Return a request as it would be with a token; one that has none of the two as it is.

        Raises:
            PfsError: UNAUTHENTICATED for what is no name with its password, TOO_MANY when it is too early to try.
        """
        scheme, _, said = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != SCHEME:
            return request
        shown = f"Bearer {await self._token(request, said.strip())}".encode()
        others = [(name, value) for name, value in request.scope["headers"] if name != b"authorization"]
        return Request({**request.scope, "headers": [*others, (b"authorization", shown)]}, request.receive)

    async def _token(self, request: Request, said: str) -> str:
        user, password = _read(said)
        name = hmac.digest(self._secret, f"{user}:{password}".encode(), "sha256")
        known = self._tokens.get(name)
        if known is not None:
            try:
                await self._prove({"authorization": f"Bearer {known}"}, {})
            except PfsError as error:
                if error.kind is not Kind.UNAUTHENTICATED:
                    raise
                self._tokens.pop(name, None)
            else:
                return known
        token = await self._welcome(request, user, password)
        if len(self._tokens) >= KNOWN_MAX:
            self._tokens.clear()
        self._tokens[name] = token
        return token


def _read(said: str) -> tuple[str, str]:
    """Return the name and the password in what was shown."""
    try:
        user, colon, password = b64decode(said, validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise PfsError(Kind.UNAUTHENTICATED, "Authorization: Basic is <name>:<password> in base64")
    return user, password
