"""What a client knows of its server: the address, and the API key or token that lets it in.

A key is `pfs1.<where>.<secret>`: where the server is (base64url, no padding), so that a node needs nothing but its key
to find its server, and 256 random bits. Where a server is, is its URL, and behind it `#sha256:<hex>` where an authority
of its own vouches for it: whoever dials with the key trusts the certificate that has this hash, and no other. Only the
SHA-256 of a whole key is ever stored.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pfs.errors import Kind, PfsError

PREFIX = "pfs1"
CERTIFICATE = "certificate"
JOIN = "join-"
_CA = re.compile(r"(.*)#sha256:([0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and whether it speaks TLS."""

    host: str
    port: int
    secure: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate that tells a server who one is, and its key (PEM files).

    Behind the certificate there may be that of the authority which made it: it vouches for the server as well, where
    nothing else is said of whom to trust.
    """

    certfile: str
    keyfile: str


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


def where_of(url: str, authority: bytes | None) -> str:
    """Return where the server at `url` is, for its keys.

    Args:
        authority: the certificate (DER) that vouches for the server; None where the authorities of each system do.
    """
    return url if authority is None else f"{url}#sha256:{hash_of(authority)}"


def hash_of(certificate: bytes) -> str:
    """Return the hexadecimal SHA-256 of a certificate (DER)."""
    return hashlib.sha256(certificate).hexdigest()


def make_key(where: str, secret: str) -> str:
    """Return a key for the server at `where`; `secret` comes from the caller's random source."""
    return f"{PREFIX}.{base64.urlsafe_b64encode(where.encode()).decode().rstrip('=')}.{secret}"


def make_join_token(where: str, secret: str) -> str:
    """Return a token with which one machine becomes a node, for the server at `where`; it says itself what it is."""
    return make_key(where, JOIN + secret)


def is_join_token(key: str) -> bool:
    """Tell whether a key is good for nothing but to become a node."""
    return key.rpartition(".")[2].startswith(JOIN)


def key_beside(key: str, secret: str) -> str:
    """Return another key for the server of `key`."""
    return f"{key.rpartition('.')[0]}.{secret}"


def url_of_key(key: str) -> str:
    """Return the URL of the server that gave out `key`.

    Raises:
        PfsError: UNAUTHENTICATED when the text is no key.
    """
    return _where(key)[0]


def authority_of_key(key: str) -> str:
    """Return the hexadecimal SHA-256 of the one certificate that `key` trusts; "" where it names none."""
    try:
        return _where(key)[1]
    except PfsError:
        return ""


def _where(key: str) -> tuple[str, str]:
    parts = key.split(".")
    try:
        if len(parts) != 3 or parts[0] != PREFIX or not parts[2]:
            raise ValueError
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        where = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise PfsError(Kind.UNAUTHENTICATED, "this is no API key: a key looks like pfs1.<server>.<secret>") from None
    found = _CA.fullmatch(where)
    return (where, "") if found is None else (found[1], found[2])


def key_of_certificate(certificate: bytes) -> str:
    """Return what stands for a certificate (DER) wherever keys are told apart.

    No token can be this text: a token has no spaces. Who merely knows a certificate has not shown that it is theirs.
    """
    return f"{CERTIFICATE} {hash_of(certificate)}"


def is_token(text: str) -> bool:
    """Tell whether a text can be a token: it has no spaces, line ends or umlauts."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def bearer(token: str) -> str:
    """Return the value of the `Authorization` header that shows `token`.

    Raises:
        PfsError: UNAUTHENTICATED when the text holds what no token does: a space, a line end, an umlaut.
    """
    if not is_token(token):
        raise PfsError(Kind.UNAUTHENTICATED, "this is no token: one has letters, digits and -_. only; copy it again")
    return f"Bearer {token}"


def fingerprint(key: str) -> str:
    """Return what is stored of a key: the hexadecimal SHA-256 of its text."""
    return hashlib.sha256(key.encode()).hexdigest()
