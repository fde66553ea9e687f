"""What a client knows of its server: the address, and the API key or token that lets it in.

A key is `pfs1.<where>.<secret>`: the server's URL (base64url, no padding), so that a node needs nothing but
its key to find its server, and 256 random bits. Only the SHA-256 of the whole text is ever stored.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from pfs.errors import Kind, PfsError

PREFIX = "pfs1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and whether it speaks TLS."""

    host: str
    port: int
    secure: bool


def address_of(url: str) -> Address:
    """Return the address in `http://host:port` or `https://host:port`.

    Raises:
        PfsError: INVALID when the text is none.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            secure = parts.scheme == "https"
            return Address(parts.hostname, parts.port or (443 if secure else 80), secure)
    except ValueError:
        pass
    raise PfsError(Kind.INVALID, f"{url!r} is no server's address; one looks like https://host:8470")


def make_key(url: str, secret: str) -> str:
    """Return the key for the server at `url`; `secret` comes from the caller's random source."""
    where = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
    return f"{PREFIX}.{where}.{secret}"


def url_of_key(key: str) -> str:
    """Return the URL of the server that gave out `key`.

    Raises:
        PfsError: UNAUTHENTICATED when the text is no key.
    """
    parts = key.split(".")
    try:
        if len(parts) != 3 or parts[0] != PREFIX or not parts[2]:
            raise ValueError
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise PfsError(Kind.UNAUTHENTICATED, "this is no API key: a key looks like pfs1.<server>.<secret>") from None


def bearer(token: str) -> str:
    """Return the value of the `Authorization` header that shows `token`.

    Raises:
        PfsError: UNAUTHENTICATED when the text holds what no token does: a space, a line end, an umlaut.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise PfsError(Kind.UNAUTHENTICATED, "this is no token: one has letters, digits and -_. only; copy it again")
    return f"Bearer {token}"


def fingerprint(key: str) -> str:
    """Return what is stored of a key: the hexadecimal SHA-256 of its text."""
    return hashlib.sha256(key.encode()).hexdigest()
