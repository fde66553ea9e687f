"""What is known of keys, and for how long."""

import pytest
import trio

from pfs.accounts import recognition
from pfs.accounts.recognition import KNOWN_S, Recognition
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import PfsError
from pfs.perm import Subject

ANN = Identity(KeyKind.USER, Subject("ann"))
ADMIN = Identity(KeyKind.USER, Subject("ann", admin=True))


class Accounts:
    def __init__(self) -> None:
        self.found: Identity | None = ANN
        self.asked = 0
        self.stamp = 0
        self.now_s = 1.0
        self.recognition = Recognition(self.identify, lambda: self.stamp, lambda: self.now_s)

    async def identify(self, key: str) -> Identity:
        self.asked += 1
        found = self.found
        await trio.lowlevel.checkpoint()
        if found is None:
            raise PfsError("unauthenticated", "nobody")
        return found


def test_a_key_is_looked_up_once_until_somebody_changes_something():
    async def main():
        accounts = Accounts()
        assert [await accounts.recognition.identify("k") for _ in range(3)] == [ANN] * 3
        assert accounts.asked == 1
        accounts.found, accounts.stamp = ADMIN, 1
        assert await accounts.recognition.identify("k") == ADMIN

    trio.run(main)


def test_what_is_known_is_not_known_for_ever():
    async def main():
        accounts = Accounts()
        await accounts.recognition.identify("k")
        accounts.found = None
        assert await accounts.recognition.identify("k") == ANN
        accounts.now_s += KNOWN_S
        with pytest.raises(PfsError):
            await accounts.recognition.identify("k")

    trio.run(main)


def test_a_key_that_proves_nobody_is_asked_about_again_and_one_key_is_not_another():
    async def main():
        accounts = Accounts()
        await accounts.recognition.identify("k")
        accounts.found = None
        for _ in range(2):
            with pytest.raises(PfsError):
                await accounts.recognition.identify("l")
        accounts.found = ADMIN
        assert await accounts.recognition.identify("l") == ADMIN

    trio.run(main)


def test_what_was_looked_up_while_something_was_changed_is_not_kept():
    async def main():
        accounts = Accounts()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accounts.recognition.identify, "k")
            nursery.start_soon(change, accounts)
        assert await accounts.recognition.identify("k") == ADMIN

    async def change(accounts: Accounts) -> None:
        while not accounts.asked:
            await trio.lowlevel.checkpoint()
        accounts.found, accounts.stamp = ADMIN, 1
        await accounts.recognition.identify("other")

    trio.run(main)


def test_no_more_than_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(recognition, "KEYS_MAX", 2)

    async def main():
        accounts = Accounts()
        for _ in range(2):
            for key in "abc":
                await accounts.recognition.identify(key)
        assert accounts.asked == 4

    trio.run(main)
