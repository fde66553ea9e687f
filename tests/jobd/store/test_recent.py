"""What was looked up last, and how long that is good for."""

import trio
import trio.testing

from jobd.store.recent import Recent


class World:
    """Something that changes, and is looked up slowly."""

    def __init__(self) -> None:
        self.value = 1
        self.asked = 0
        self.gate = trio.Event()
        self.gate.set()
        self.recent: Recent[str, int] = Recent(2)

    async def look(self) -> int:
        self.asked += 1
        found = self.value
        await self.gate.wait()
        return found

    async def get(self, key: str = "a") -> int:
        return await self.recent.get(key, self.look, lambda found: found < 10)


def test_what_was_looked_up_is_not_looked_up_again_until_it_changes(run):
    async def main():
        world = World()
        assert [await world.get() for _ in range(3)] == [1, 1, 1]
        with world.recent.changing(["a"]):
            world.value = 2
        assert [await world.get(), world.asked] == [2, 2]
        with world.recent.changing(["b"]):
            world.value = 3
        assert await world.get() == 2
        with world.recent.changing(None):
            pass
        assert await world.get() == 3

    run(main)


def test_what_was_learnt_is_not_looked_up_until_it_changes(run):
    async def main():
        world = World()
        await world.get()
        world.recent.learn("a", 2)
        world.recent.learn("b", 3)
        assert [await world.get("a"), await world.get("b"), world.asked] == [2, 3, 1]
        world.recent.learn("c", 4)
        assert [await world.get("c"), world.asked] == [4, 1]
        assert [await world.get("a"), world.asked] == [1, 2]  # it was not asked for longest
        with world.recent.changing(["b"]):
            pass
        assert await world.get("b") == 1

    run(main)


def test_what_was_looked_up_while_it_changed_is_told_and_not_kept(run):
    async def main():
        world, told = World(), []
        world.gate = trio.Event()

        async def ask() -> None:
            told.append(await world.get())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            with world.recent.changing(["a"]):
                world.value = 2
            world.gate.set()
        assert told == [1]
        assert await world.get() == 2

    run(main)


def test_a_change_that_fails_may_have_been_one(run):
    async def main():
        world = World()
        await world.get()
        try:
            with world.recent.changing(["a"]):
                world.value = 2
                raise OSError
        except OSError:
            assert await world.get() == 2

    run(main)


def test_only_so_much_is_kept_and_nothing_that_is_large(run):
    async def main():
        world = World()
        for key in ("a", "b", "a", "c", "a"):
            await world.get(key)
        assert world.asked == 3
        await world.get("b")
        assert world.asked == 4
        world.value = 10
        assert [await world.get("x") for _ in range(2)] == [10, 10]
        assert world.asked == 6

    run(main)
