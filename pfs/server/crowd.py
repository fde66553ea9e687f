"""Who is connected: how many there may be, and who makes room for others.

A connection costs its sender nothing, and us a descriptor and some memory. So there is a limit for each address and one
for all, and what is over them displaces whoever has rested longest: a connection rests while nothing is asked on it,
that is from its beginning to the end of a request's head, and between requests. Where nobody rests the new one is
turned away. So a thousand connections on which nothing happens keep nobody out, wherever they come from.

Of an address only those count that have not shown whose they are. A mount's channel and its lines for bulk have; they
are bounded by account, and many of them may well be behind one address.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

MOST = 4096
MOST_OF_ADDRESS = 512


@dataclass(eq=False, slots=True)
class Guest:
    """One connection.

    Attributes:
        address: what counts as one; None for a program on this machine, of which none is bounded.
        leave: ends it, soon.
    """

    address: str | None
    leave: Callable[[], None]
    crowd: "Crowd | None"

    def works(self) -> None:
        """Something is asked on it."""
        if self.crowd is not None:
            self.crowd.unrest(self)

    def rests(self) -> None:
        """What was asked is answered."""
        if self.crowd is not None:
            self.crowd.rest(self)

    def proves(self) -> None:
        """It has shown whose it is."""
        if self.crowd is not None:
            self.crowd.trust(self)

    def is_gone(self) -> None:
        """It has ended."""
        if self.crowd is not None:
            self.crowd.remove(self)


def lone_guest() -> Guest:
    """Return one who is in no crowd."""
    return Guest(None, lambda: None, None)


@dataclass(slots=True)
class _Group:
    """Who counts together, those who rest in the order in which they began to."""

    count: int = 0
    resting: OrderedDict[Guest, None] = field(default_factory=OrderedDict)


class Crowd:
    """All connections of a server.

    Args:
        most: how many there may be.
        most_of_address: how many of one address that have not shown whose they are.
    """

    def __init__(self, most: int = MOST, most_of_address: int = MOST_OF_ADDRESS) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._all = _Group()
        self._addresses: dict[str, _Group] = {}

    def enter(self, address: str | None, leave: Callable[[], None]) -> Guest | None:
        """Let somebody in, who rests at first; None where there is no room."""
        if address is not None and not _make_room(self._addresses.get(address), self._most_of_address):
            return None
        if not _make_room(self._all, self._most):
            return None
        guest = Guest(address, leave, self)
        self._all.count += 1
        if address is not None:
            self._addresses.setdefault(address, _Group()).count += 1
        self.rest(guest)
        return guest

    def rest(self, guest: Guest) -> None:
        """As `Guest.rests`."""
        for group in self._groups(guest):
            group.resting[guest] = None

    def unrest(self, guest: Guest) -> None:
        """As `Guest.works`."""
        for group in self._groups(guest):
            group.resting.pop(guest, None)

    def trust(self, guest: Guest) -> None:
        """As `Guest.proves`."""
        if guest.address is not None:
            self._leave_group(guest, guest.address)
            guest.address = None

    def remove(self, guest: Guest) -> None:
        """As `Guest.is_gone`."""
        self.trust(guest)
        self._all.resting.pop(guest, None)
        self._all.count -= 1
        guest.crowd = None

    def _groups(self, guest: Guest) -> list[_Group]:
        return [self._all] if guest.address is None else [self._all, self._addresses[guest.address]]

    def _leave_group(self, guest: Guest, address: str) -> None:
        group = self._addresses[address]
        group.resting.pop(guest, None)
        group.count -= 1
        if not group.count:
            del self._addresses[address]


def _make_room(group: _Group | None, most: int) -> bool:
    """Tell whether one more fits in, after one who rests was told to leave where that is needed."""
    if group is None or group.count < most:
        return True
    if not group.resting:
        return False
    longest = next(iter(group.resting))
    longest.leave()
    longest.is_gone()
    return True
