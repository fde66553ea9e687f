"""Whether the server may listen where it is asked to, and with which certificate: closed unless it is safe.

TLS            what keys say decides: https:// is served with TLS, http:// without
its own        the certificate that `jobd init` made, where keys name its authority; else options name another
without TLS    on this machine alone: for keys that say http://, or with --no-tls behind a proxy
elsewhere      beyond this machine only with TLS, and where somebody could come in
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from pfs.errors import Kind, PfsError
from pfs.keys import address_of


class Certificate(StrEnum):
    """What a server shows."""

    OWN = "own"
    GIVEN = "given"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Asked:
    """What options ask for.

    Attributes:
        host: the address to listen on.
        certificate: they name one.
        plain: no TLS.
    """

    host: str
    certificate: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """What the datacenter is.

    Attributes:
        endpoint: the URL that keys say.
        vouched: keys name the datacenter's own authority.
        enterable: somebody has an account, or an invitation to be the first administrator.
    """

    endpoint: str
    vouched: bool
    enterable: bool


def certificate_for(asked: Asked, site: Site) -> Certificate:
    """Return what the server shows.

    Raises:
        PfsError: INVALID when it must not listen so: what, where, and what to do.
    """
    if "/" in asked.host:
        raise PfsError(Kind.INVALID, f"{asked.host} is no host and no address: 127.0.0.1 is for this machine alone")
    beyond = not is_loopback(asked.host)
    found = _certificate(asked, site)
    if found is Certificate.NONE and beyond:
        why, cure = _why_plain(asked, site)
        raise PfsError(Kind.INVALID, f"{asked.host} can be reached from other machines, and {why}: {cure}")
    if beyond and not site.enterable:
        why = f"{asked.host} can be reached from other machines, and nobody has an account here"
        raise PfsError(Kind.INVALID, f"{why}: make one with jobd adduser --admin NAME, or with jobd invite --admin")
    return found


def _certificate(asked: Asked, site: Site) -> Certificate:
    if asked.plain and asked.certificate:
        raise PfsError(Kind.INVALID, "--no-tls and --tls-cert are two different wishes")
    if asked.certificate:
        return Certificate.GIVEN
    if asked.plain or not site.endpoint.startswith("https:"):
        return Certificate.NONE
    if site.vouched:
        return Certificate.OWN
    why = f"keys say {site.endpoint}, and do not name this server's own authority"
    cure = "give --tls-cert and --tls-key, or let keys name it with jobd url --tls-ca own"
    raise PfsError(Kind.INVALID, f"{why}: {cure}")


def _why_plain(asked: Asked, site: Site) -> tuple[str, str]:
    if asked.plain:
        return "--no-tls is for a proxy on this machine", "leave it out, or listen on 127.0.0.1"
    cure = "jobd url https://NAME:8470 has them say that name, and the server has a certificate for it then"
    return f"keys say {site.endpoint}, which is without TLS", cure


def where_keys_mislead(host: str, port: int, endpoint: str, *, proxied: bool) -> str:
    """Return what to say where keys do not lead here; "" where they may.

    Args:
        host: what is listened at.
        port: there; 0 for any that is free.
        endpoint: the URL that keys say.
        proxied: another program stands before the server, and has ports of its own.
    """
    said = address_of(endpoint)
    if not is_loopback(said.host):
        return ""
    if not is_loopback(host):
        cure = "jobd url https://NAME:8470 has new ones say that name"
        return f"other machines do not find the server where keys say it is, {endpoint}: {cure}"
    if port in (0, said.port) or proxied:
        return ""
    return f"keys say that the server is at {endpoint}, and it listens at port {port}: --port {said.port} is theirs"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens there."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
