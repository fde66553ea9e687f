"""The owners of jobs."""

import trio
import trio.testing

from jobd.engine.owners import Owners
from pfs.perm import Subject


class Accounts:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.there = {"ann": Subject("ann")}
        self.answers = trio.Event()
        self.answers.set()

    async def find(self, name: str) -> Subject | None:
        self.asked.append(name)
        found = self.there.get(name)
        await self.answers.wait()
        return found


def test_an_account_is_looked_up_once_and_again_after_a_change(run):
    async def main():
        accounts = Accounts()
        owners = Owners(accounts.find)
        for _ in range(3):
            assert await owners("ann") == Subject("ann")
        assert accounts.asked == ["ann"]
        accounts.there["ann"] = Subject("ann", groups=frozenset({"lab"}))
        owners.forget()
        assert await owners("ann") == accounts.there["ann"]

    run(main)


def test_who_is_not_there_may_come_to_be(run):
    async def main():
        accounts = Accounts()
        owners = Owners(accounts.find)
        assert await owners("bob") is None
        accounts.there["bob"] = Subject("bob")
        assert await owners("bob") == Subject("bob")

    run(main)


def test_a_look_that_a_change_overtakes_is_not_remembered(run):
    async def main():
        accounts = Accounts()
        owners = Owners(accounts.find)
        accounts.answers = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owners, "ann")
            await trio.testing.wait_all_tasks_blocked()
            accounts.there["ann"] = Subject("ann", admin=True)
            owners.forget()
            accounts.answers.set()
        assert await owners("ann") == Subject("ann", admin=True)

    run(main)
