"""Who asks, where a proxy stands in between: believed of a proxy on this machine, and of nobody else.

To a server behind a proxy every sender has the proxy's address. The proxy says whom it speaks for, in a header
`X-Forwarded-For`, and adds what it knows behind what is there already: all before the last address is what somebody
elsewhere says of themselves. Whoever is not on this machine could write anything there, and so is what their connection
tells. What is no address counts for nothing.
"""

from collections.abc import Iterable
from ipaddress import ip_address

HEADER = b"x-forwarded-for"


def sender(peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the address of who asks.

    Args:
        peer: the address at the other end of the connection; None for a Unix socket.
        headers: of the request; names in small letters.
    """
    if not is_near(peer):
        return peer
    said = [value for name, value in headers if name == HEADER]
    last = said[-1].rpartition(b",")[2].strip().partition(b"%")[0] if said else b""
    try:
        return str(ip_address(last.decode("ascii")))
    except ValueError:
        return peer


def is_near(peer: str | None) -> bool:
    """Tell whether a connection is from this machine."""
    try:
        return peer is None or ip_address(peer).is_loopback
    except ValueError:
        return False
