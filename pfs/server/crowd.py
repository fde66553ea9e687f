"""Who is connected: how many there may be, and who makes room for others.

A connection costs its sender nothing, and us a descriptor and some memory. So there is a limit for each address and one
for all, and a new one that is over them makes somebody leave. A connection rests while nothing is asked on it, that is
from its beginning to the end of a request's head, and between requests; it is a stranger's until a good key was shown
on it, and while it works, until that was shown with what it works at. These leave, in this order:

    strangers who rest          who has rested longest
    strangers who work          who has worked longest: a body that never comes is waited for for a while
    who is known, and rests     who has rested longest

Who is known and works stays; where there are only such, the new one is turned away. So connections on which nothing
happens, or that ask for something and never say the rest of it, keep nobody out, wherever they come from. Some
strangers may work in peace as long as others rest: else, where a crowd of known ones fills the house, nobody would come
to the end of logging in.

Of an address only strangers count. Mounts' channels, their lines for bulk and whoever else has shown a key are bounded
by account, and many of them may well be behind one address.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST = 4096
MOST_OF_ADDRESS = 512
IN_PEACE = 1 / 8  # of all: strangers who work while somebody known rests


@dataclass(eq=False, slots=True)
class Guest:
    """One connection.

    Attributes:
        address: what counts as one; None for a program on this machine, of which none is bounded, and for who is known.
        leave: ends it, soon; it is told whether something was asked on it that was not answered yet.
        known: a good key was shown on it, now or before.
    """

    address: str | None
    leave: Callable[[bool], None]
    crowd: "Crowd | None"
    known: bool = False

    def works(self) -> None:
        """Something is asked on it."""
        if self.crowd is not None:
            self.crowd.work(self)

    def rests(self) -> None:
        """What was asked is answered."""
        if self.crowd is not None:
            self.crowd.rest(self)

    def proves(self) -> None:
        """With what it works at it has shown whose it is."""
        if self.crowd is not None:
            self.crowd.trust(self)

    def is_gone(self) -> None:
        """It has ended."""
        if self.crowd is not None:
            self.crowd.remove(self)


def lone_guest() -> Guest:
    """Return one who is in no crowd."""
    return Guest(None, lambda works: None, None)


def told_of(guest: Guest) -> dict[str, dict[str, Any]]:
    """Return what tells an application of a connection who that is (`guest_in`), as extensions of ASGI."""
    return {"guest": {"is": guest}}


def guest_in(extensions: Mapping[str, Any]) -> Guest:
    """Return whose connection a request came on; one who is in no crowd where nothing is said of that."""
    return extensions["guest"]["is"] if "guest" in extensions else lone_guest()


_Queue = OrderedDict[Guest, None]


@dataclass(slots=True)
class _Group:
    """Who counts together; those who may have to leave in the order in which they began to rest, or to work."""

    count: int = 0
    strangers: _Queue = field(default_factory=OrderedDict)  # who rest
    working: _Queue = field(default_factory=OrderedDict)  # without having shown a key for that
    known: _Queue = field(default_factory=OrderedDict)  # who rest

    def put(self, guest: Guest, *, works: bool) -> None:
        """Let a guest be at the end of one of the queues."""
        self.pull(guest)
        queue = self.working if works else self.known if guest.known else self.strangers
        queue[guest] = None

    def pull(self, guest: Guest) -> None:
        """Let a guest be in no queue: it does not have to leave."""
        for queue in (self.strangers, self.working, self.known):
            queue.pop(guest, None)

    def first(self, in_peace: int) -> Guest | None:
        """Return who has to leave."""
        late = self.working if len(self.working) > in_peace else self.known or self.working
        return next(iter(self.strangers or late), None)


class Crowd:
    """All connections of a server.

    Args:
        most: how many there may be.
        most_of_address: how many strangers of one address.
    """

    def __init__(self, most: int = MOST, most_of_address: int = MOST_OF_ADDRESS) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._all = _Group()
        self._addresses: dict[str, _Group] = {}

    def enter(self, address: str | None, leave: Callable[[bool], None]) -> Guest | None:
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
            group.put(guest, works=False)

    def work(self, guest: Guest) -> None:
        """As `Guest.works`."""
        for group in self._groups(guest):
            group.put(guest, works=True)

    def trust(self, guest: Guest) -> None:
        """As `Guest.proves`."""
        guest.known = True
        self._all.pull(guest)
        self._leave_address(guest)

    def remove(self, guest: Guest) -> None:
        """As `Guest.is_gone`."""
        self._all.pull(guest)
        self._leave_address(guest)
        self._all.count -= 1
        guest.crowd = None

    def _groups(self, guest: Guest) -> list[_Group]:
        return [self._all] if guest.address is None else [self._all, self._addresses[guest.address]]

    def _leave_address(self, guest: Guest) -> None:
        if guest.address is None:
            return
        group = self._addresses[guest.address]
        group.pull(guest)
        group.count -= 1
        if not group.count:
            del self._addresses[guest.address]
        guest.address = None


def _make_room(group: _Group | None, most: int) -> bool:
    """Tell whether one more fits in, after somebody was told to leave where that is needed."""
    if group is None or group.count < most:
        return True
    guest = group.first(int(most * IN_PEACE))
    if guest is None:
        return False
    works = guest in group.working
    guest.is_gone()
    guest.leave(works)
    return True
