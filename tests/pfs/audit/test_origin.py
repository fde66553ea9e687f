"""Who acts: known in every task and thread that works for them, and nowhere else."""

from collections.abc import Awaitable, Callable

import trio

from pfs.audit.origin import SERVICE, Origin, acting, origin

Run = Callable[[Callable[[], Awaitable[object]]], object]


def test_the_service_acts_where_nobody_does() -> None:
    assert origin() == SERVICE
    with acting("ann", "10.0.0.7", "3fa9"):
        assert origin() == Origin("ann", "10.0.0.7#3fa9")
        with acting("bob", "local"):
            assert origin() == Origin("bob", "local")
        assert origin().who == "ann"
    assert origin() == SERVICE


def test_tasks_and_threads_that_are_begun_for_somebody_act_for_them(run: Run) -> None:
    found: dict[str, str] = {}

    async def work(name: str) -> None:
        await trio.lowlevel.checkpoint()
        found[name] = origin().who
        found[f"thread of {name}"] = await trio.to_thread.run_sync(lambda: origin().who)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name in ("ann", "bob"):
                with acting(name, "10.0.0.7"):
                    nursery.start_soon(work, name)

    run(main)
    assert found == {"ann": "ann", "bob": "bob", "thread of ann": "ann", "thread of bob": "bob"}
