"""What the hourly sweep takes away."""

from collections.abc import Callable, Sequence

import pytest

from jobd.engine.retention import Retention, awaited_trees
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import SECOND_NS, Service
from tests.jobd.engine.test_workshop import Shop


@pytest.fixture
def shop(service: Service) -> Shop:
    return Shop(service)


def retention(shop: Shop, keep_s: float | None, ended_at_s: dict[int, int], removed: Sequence[int] = ()) -> Retention:
    async def removed_of(job_ids: Sequence[int]) -> list[int]:
        return [job_id for job_id in job_ids if job_id in removed]

    async def over_before(job_ids: Sequence[int], time_ns: int) -> list[int]:
        return [job_id for job_id in job_ids if ended_at_s.get(job_id, 10**9) * SECOND_NS < time_ns]

    return Retention(
        shop.workshop, shop.service.trees, over_before, removed_of, keep_s=keep_s, clock=lambda: 10_000 * SECOND_NS
    )


def test_jobs_that_ended_long_ago_lose_their_files(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        for number in (1, 2, 3):
            await shop.prepared(shop.job(number))
        await retention(shop, None, {1: 9_800, 2: 9_950}).sweep()
        assert sorted(await shop.workshop.on_disk("data", "logs")) == [1, 2, 3]
        await retention(shop, 100.0, {1: 9_800, 2: 9_950}).sweep()
        assert sorted(await shop.workshop.on_disk("data", "logs")) == [2, 3]

    run(main)


def test_jobs_that_ended_under_a_server_that_was_killed_lose_their_tmp_when_the_next_one_starts(
    shop: Shop, run: Callable
) -> None:
    async def main() -> None:
        for number in (1, 2, 3):
            await shop.prepared(shop.job(number))
        await retention(shop, None, {1: 100, 2: 9_999}).sweep()
        assert sorted(await shop.workshop.on_disk("data/tmp")) == [3]
        assert sorted(await shop.workshop.on_disk("data/keep")) == [1, 2, 3]

    run(main)


def test_who_ends_while_the_server_lives_is_not_tidied_by_the_sweep(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        await shop.prepared(shop.job(1))
        ended_at_s = {1: 10_000}
        sweeper = retention(shop, None, ended_at_s)
        await sweeper.sweep()
        ended_at_s[1] = 9_999  # its node says so, whose clock is late
        await sweeper.sweep()
        assert await shop.workshop.on_disk("data/tmp") == [1]

    run(main)


def test_what_could_not_be_tidied_is_tried_again(shop: Shop, run: Callable, monkeypatch) -> None:
    async def broken(_job_id: int) -> None:
        raise PfsError(Kind.IO, "the disk is broken")

    async def main() -> None:
        await shop.prepared(shop.job(1))
        sweeper = retention(shop, None, {1: 100})
        with monkeypatch.context() as failing:
            failing.setattr(shop.workshop, "remove_tmp", broken)
            await sweeper.sweep()
        await sweeper.sweep()
        assert await shop.workshop.on_disk("data/tmp") == []

    run(main)


def test_a_removed_job_whose_files_stayed_goes_to_the_trash(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        for number in (1, 2):
            await shop.prepared(shop.job(number))
        await retention(shop, None, {}, removed=[2, 3]).sweep()
        assert await shop.workshop.on_disk("data") == [1]
        assert (shop.root / "server/trash/2/data/src").is_dir()

    run(main)


def test_what_cannot_be_taken_away_holds_up_nothing_else(shop: Shop, run: Callable, monkeypatch) -> None:
    async def broken(_now_s: float) -> None:
        raise PfsError(Kind.IO, "the disk is broken")

    monkeypatch.setattr(shop.workshop.trash, "sweep", broken)

    async def main() -> None:
        await shop.prepared(shop.job(1))
        await retention(shop, 100.0, {1: 9_800}).sweep()
        assert await shop.workshop.on_disk("data", "logs") == []

    run(main)


def test_a_tree_is_awaited_by_the_jobs_that_name_it(shop: Shop) -> None:
    jobs = [shop.job(1, src="tree:" + "a" * 64), shop.job(2, src="folder"), shop.job(3)]
    assert awaited_trees(jobs) == {("ann", "a" * 64)}
