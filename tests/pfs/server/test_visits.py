"""What goes on for somebody ends with the key that let them in."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
import trio.testing

from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.perm import EVERYTHING, Domain, DomainKind, Scope, Subject
from pfs.server import visits
from pfs.server.visits import Visits

Run = Callable[[Callable[[], Awaitable[object]]], object]
ANN = Identity(KeyKind.USER, Subject("ann", groups=frozenset({"ml"})))
NODE = Identity(KeyKind.NODE, Subject("root", admin=True, groups=frozenset({"ml"})))


class Doorkeeper:
    """Knows whose keys are, and what goes on for them."""

    def __init__(self, **known: Identity | PfsError) -> None:
        self.known = known
        self.mark = self.asked = 0
        self.visits = Visits(self.identify, lambda: self.mark)
        self.ended: list[str] = []
        self.one_ended = trio.Event()

    async def identify(self, key: str) -> Identity:
        self.asked += 1
        found = self.known.get(key, PfsError(Kind.UNAUTHENTICATED, "unknown"))
        if isinstance(found, PfsError):
            raise found
        return found

    async def visit(self, key: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.visits.during(key, await self.identify(key)):
            task_status.started()
            await trio.sleep_forever()
        self.ended.append(key)
        self.one_ended.set()


def changed(before: Identity, **how: object) -> Identity:
    return Identity(before.kind, replace(before.subject, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "now",
    [
        PfsError(Kind.UNAUTHENTICATED, "gone"),
        changed(ANN, groups=frozenset()),
        changed(ANN, admin=True),
        changed(ANN, scopes=EVERYTHING - {Scope.WRITE}),
    ],
    ids=["gone", "groups", "admin", "scopes"],
)
def test_it_ends_when_its_key_is_good_no_more_or_for_something_else(run: Run, now: Identity | PfsError) -> None:
    async def main() -> None:
        door = Doorkeeper(a=ANN, b=ANN)
        async with trio.open_nursery() as nursery:
            for key in ("a", "a", "b"):
                await nursery.start(door.visit, key)
            await door.visits.look_again()
            await trio.testing.wait_all_tasks_blocked()
            assert door.ended == []
            door.known["a"] = now
            await door.visits.look_again()
            await trio.testing.wait_all_tasks_blocked()
            assert door.ended == ["a", "a"]
            nursery.cancel_scope.cancel()

    run(main)


def test_a_node_goes_on_whatever_groups_its_owner_is_in(run: Run) -> None:
    async def main() -> None:
        door = Doorkeeper(n=NODE)
        async with trio.open_nursery() as nursery:
            await nursery.start(door.visit, "n")
            for now, ended in ((changed(NODE, groups=frozenset()), []), (changed(NODE, admin=False), ["n"])):
                door.known["n"] = now
                await door.visits.look_again()
                await trio.testing.wait_all_tasks_blocked()
                assert door.ended == ended
            nursery.cancel_scope.cancel()

    run(main)


def test_a_database_that_fails_ends_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        door = Doorkeeper(a=ANN, b=ANN, c=ANN)
        async with trio.open_nursery() as nursery:
            await nursery.start(door.visit, "a")
            await nursery.start(door.visit, "b")
            await nursery.start(door.visit, "c")
            door.known = dict.fromkeys("ac", PfsError(Kind.IO, "the database refuses"))
            await door.visits.look_again()
            await trio.testing.wait_all_tasks_blocked()
            assert door.ended == ["b"]
            nursery.cancel_scope.cancel()

    run(main)
    assert caplog.text.count("the database refuses") == 1


@pytest.mark.parametrize("marked", [True, False])
def test_keys_are_looked_at_after_a_mark_and_every_now_and_then(
    marked: bool,
) -> None:
    async def main() -> None:
        door = Doorkeeper(a=ANN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.visits.run)
            await nursery.start(door.visit, "a")
            await trio.sleep(visits.LOOK_FOR_CHANGES_EVERY_S * 2)
            del door.known["a"]
            door.mark += marked
            since_s = trio.current_time()
            await door.one_ended.wait()
            waited_s = trio.current_time() - since_s
            assert (waited_s <= visits.LOOK_FOR_CHANGES_EVERY_S) is marked
            assert waited_s <= visits.LOOK_EVERY_S
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("by_itself", [True, False], ids=["after a mark", "when asked to"])
def test_a_key_of_which_the_database_could_not_tell_is_looked_at_again_soon(by_itself: bool) -> None:
    async def main() -> None:
        door = Doorkeeper(a=ANN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.visits.run)
            await nursery.start(door.visit, "a")
            door.known["a"] = PfsError(Kind.IO, "the database is busy")
            if by_itself:
                door.mark += 1
                await trio.sleep(visits.LOOK_FOR_CHANGES_EVERY_S * 3.5)
            else:
                await door.visits.look_again()
            assert door.ended == []
            del door.known["a"]
            since_s = trio.current_time()
            await door.one_ended.wait()
            assert trio.current_time() - since_s <= visits.LOOK_FOR_CHANGES_EVERY_S
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_was_told_is_not_asked_again_soon() -> None:
    async def main() -> None:
        door = Doorkeeper(a=ANN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.visits.run)
            await nursery.start(door.visit, "a")
            door.known["a"] = PfsError(Kind.IO, "the database is busy")
            await door.visits.look_again()
            door.known["a"] = ANN
            await trio.sleep(visits.LOOK_FOR_CHANGES_EVERY_S * 1.5)
            asked = door.asked
            await trio.sleep(visits.LOOK_EVERY_S / 2)
            assert door.asked == asked
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_ended_visit_is_not_remembered(run: Run) -> None:
    async def main() -> None:
        door = Doorkeeper(a=ANN)
        with door.visits.during("a", ANN) as scope:
            pass
        del door.known["a"]
        await door.visits.look_again()
        assert not scope.cancel_called

    run(main)


def test_it_ends_for_who_may_not_read_any_more_what_was_shared(run: Run) -> None:
    shared = Domain(DomainKind.JOB, "1", "bob", frozenset({"ml"}))

    async def main() -> None:
        other, node = changed(ANN, groups=frozenset({"hr"})), Identity(KeyKind.NODE, ANN.subject)
        people = {"member": ANN, "owner": changed(ANN, user="bob"), "other": other, "node": node}
        door = Doorkeeper(**people)
        async with trio.open_nursery() as nursery:
            for key in people:
                await nursery.start(door.visit, key)
            for after, ended in ((shared, []), (replace(shared, groups=frozenset()), ["member"])):
                door.visits.end_where_lost(shared, after)
                await trio.testing.wait_all_tasks_blocked()
                assert door.ended == ended
            nursery.cancel_scope.cancel()

    run(main)
