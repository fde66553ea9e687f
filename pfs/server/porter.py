"""Who lets connections in: the crowd (`pfs.server.crowd`) as it is on this machine, with a word in the log.

There may be as many connections as our descriptors allow. Of a proxy's none is bounded by address: all of them have the
same one, and it is the proxy that knows whose they are.
"""

import logging
import resource
import socket
from collections.abc import Callable
from math import inf

import trio

from pfs.accounts.throttle import source_of
from pfs.protocol.sockets import Stream, transport_of
from pfs.server.crowd import MOST, Crowd, Guest
from pfs.server.forwarded import is_near

TELL_EVERY_S = 60.0  # of those who are turned away or cut

log = logging.getLogger(__name__)


class Porter:
    """Lets connections of one server in.

    Args:
        proxied: as of `pfs.server.guard.serve`.
    """

    def __init__(self, *, proxied: bool) -> None:
        self._proxied = proxied
        self._crowd = Crowd(_connections_max())
        self._told_s = -inf

    def let_in(self, stream: Stream, leave: Callable[[], None]) -> Guest | None:
        """Let a connection in; None where there is no room.

        Args:
            leave: ends it, soon, for others.

        Raises:
            OSError: it is gone already.
        """
        address = self._address(stream)

        def leave_for_others(works: bool) -> None:
            if works:
                self._tell("a connection from %s was cut: there are too many, and it had shown no key yet", address)
            leave()

        guest = self._crowd.enter(address, leave_for_others)
        if guest is None:
            self._tell("a connection from %s was turned away: there are too many, and all of them busy", address)
        return guest

    def _address(self, stream: Stream) -> str | None:
        sock = transport_of(stream).socket
        peer = None if sock.family == socket.AF_UNIX else str(sock.getpeername()[0])
        return None if peer is None or (self._proxied and is_near(peer)) else source_of(peer)

    def _tell(self, what: str, address: str | None) -> None:
        if trio.current_time() >= self._told_s + TELL_EVERY_S:
            self._told_s = trio.current_time()
            log.warning(what, address)


def _connections_max() -> int:
    """Return how many connections there may be: half of our descriptors, since each may want a second one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)
