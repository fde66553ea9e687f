"""How fast passwords may be tried: slower and slower where they are wrong, and nobody is ever locked out.

Three things are counted, each of which is forgotten after a while of quiet:

    account and address   wrong passwords of one account from one address: after a few, the next may be tried only after
                          a wait, which doubles up to minutes. Who tries before is refused and not counted
    address               of whatever account, for those who try one password on many of them. An account that came in
                          from this address before is let through
    account               from wherever. Everybody might be kept out of an account by wrong passwords from many
                          addresses; so nobody is refused for it, but each answer takes a moment longer

An attempt counts as wrong from its beginning on: many at one moment are no way around. All times are seconds of a clock
that does not go back.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from pfs.errors import Kind, PfsError

PAIR_FREE = 5
ADDRESS_FREE = 20
ACCOUNT_FREE = 10
DELAY_S = 1.0
DELAY_MAX_S = 300.0
SLOWED_MAX_S = 2.0
FORGET_S = 3600.0
KEPT_MAX = 20_000

_PAIR, _ADDRESS, _ACCOUNT, _GOOD = range(4)
_Key = tuple[int, str, str]


def source_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of a customer, since each of them has many addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


@dataclass(slots=True)
class _Count:
    wrong: int
    last_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that was let through.

    Attributes:
        held_s: for how long its answer is to be held back.
        at_s: when it was begun.
        before_s: when the last one before it was, by what it counts for.
    """

    held_s: float
    at_s: float
    before_s: dict[_Key, float]


class Throttle:
    """Counts wrong passwords. Its methods are for one thread at a time."""

    def __init__(self) -> None:
        self._counts: OrderedDict[_Key, _Count] = OrderedDict()

    def attempt(self, account: str, source: str, now_s: float) -> Attempt:
        """Somebody is about to try a password.

        Raises:
            PfsError: TOO_MANY when it is too early for them.
        """
        pair, address, whole = _keys(account, source)
        known = self._known((_GOOD, account, source), now_s) is not None
        early_s = self._early_s(pair, PAIR_FREE, now_s)
        if not known:
            early_s = max(early_s, self._early_s(address, ADDRESS_FREE, now_s))
        if early_s > 0:
            raise PfsError(
                Kind.TOO_MANY, f"too many wrong passwords from this address; try again in {int(early_s) + 1} s"
            )
        before_s = {key: self._count(key, now_s) for key in (pair, address, whole)}
        more = self._wrong(whole, now_s) - ACCOUNT_FREE
        held_s = 0.0 if known or more <= 0 else min(SLOWED_MAX_S, DELAY_S * more / ACCOUNT_FREE)
        return Attempt(held_s, now_s, before_s)

    def take_back(self, attempt: Attempt) -> None:
        """The password was not tried after all."""
        for key, before_s in attempt.before_s.items():
            count = self._counts.get(key)
            if count is not None:
                count.wrong -= 1
                if count.last_s == attempt.at_s:
                    count.last_s = before_s
                if count.wrong <= 0:
                    del self._counts[key]

    def succeeded(self, account: str, source: str, now_s: float) -> None:
        """The password that was tried was right."""
        pair, address, whole = _keys(account, source)
        self._counts.pop(pair, None)
        for key in (address, whole):
            count = self._known(key, now_s)
            if count is not None:
                count.wrong -= 1
        self._count((_GOOD, account, source), now_s)

    def _early_s(self, key: _Key, free: int, now_s: float) -> float:
        """Return how much too early it is for another attempt."""
        count = self._known(key, now_s)
        if count is None or count.wrong < free:
            return 0.0
        delay_s = min(DELAY_MAX_S, DELAY_S * 2.0 ** min(count.wrong - free, 30))
        return max(0.0, count.last_s + delay_s - now_s)

    def _wrong(self, key: _Key, now_s: float) -> int:
        count = self._known(key, now_s)
        return 0 if count is None else count.wrong

    def _known(self, key: _Key, now_s: float) -> _Count | None:
        count = self._counts.get(key)
        if count is not None and now_s - count.last_s > FORGET_S:
            del self._counts[key]
            return None
        return count

    def _count(self, key: _Key, now_s: float) -> float:
        """Count one more; return when the last one before it was."""
        count = self._known(key, now_s)
        if count is None:
            count = self._counts[key] = _Count(0, now_s)
            while len(self._counts) > KEPT_MAX:
                self._counts.popitem(last=False)
        before_s, count.last_s = count.last_s, now_s
        count.wrong += 1
        self._counts.move_to_end(key)
        return before_s


def _keys(account: str, source: str) -> tuple[_Key, _Key, _Key]:
    return (_PAIR, account, source), (_ADDRESS, "", source), (_ACCOUNT, account, "")
