"""Jobs found by what everybody may know of them: all users', however long they are over."""

from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import event

from jobd.store.search import SECOND_NS, JobSearch
from tests.jobd.store.test_jobs import ARRAY, SPEC, add, end

YEAR_S = 365 * 86_400
NOW_S = 10 * YEAR_S


@pytest.fixture
def store(service):
    return service.store


async def some(store) -> None:
    """1 to 3 are over, since ten years, a year and a second; 4 and 5 wait; 6 is an array, of which nothing is over."""
    for number, (user, title, at_s) in enumerate(
        [("ann", "Old", 0), ("bob", "First light", NOW_S - YEAR_S), ("ann", "Second light", NOW_S - 1)], start=1
    ):
        [job], _ = await add(store, user=user, spec=replace(SPEC, title=title), time_ns=at_s * SECOND_NS + 1)
        await end(store, job, at_s * SECOND_NS + 2)
        assert job.id == number
    for user, title, at_s in [("bob", "A", NOW_S), ("ann", "B", NOW_S - 2)]:
        await add(store, user=user, spec=replace(SPEC, title=title), time_ns=at_s * SECOND_NS)
    await add(store, user="bob", spec=ARRAY, time_ns=(NOW_S - 3) * SECOND_NS, tasks=(0, 1, 2))


def found_by(store, run, **asked) -> list[int]:
    async def main():
        await some(store)
        return [job.id for job in await store.search(JobSearch(**asked))]

    return run(main)


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, [4, 3, 5, 6, 2, 1]),  # the newest first, of an array only itself
        ({"limit": 2}, [4, 3]),
        ({"limit": 2, "offset": 3}, [6, 2]),
        ({"limit": 0}, []),
        ({"offset": 6}, []),
        ({"user": "ann"}, [3, 5, 1]),
        ({"user": "nobody"}, []),
        ({"title": "%light"}, [3, 2]),
        ({"title": "_"}, [4, 5, 6]),
        ({"title": "light"}, []),
        ({"since_s": NOW_S - 1}, [4, 3]),
        ({"till_s": 0}, [1]),  # the second itself belongs to it
        ({"since_s": 1, "till_s": NOW_S - YEAR_S}, [2]),
        ({"orders": (("date", False),)}, [1, 2, 6, 5, 3, 4]),
        ({"orders": (("date", False),), "limit": 1}, [1]),
        ({"orders": (("user", True),)}, [4, 6, 2, 3, 5, 1]),
        ({"orders": (("user", False), ("title", True)), "limit": 4}, [3, 1, 5, 6]),
        ({"orders": (("title", False),), "limit": 3}, [4, 5, 2]),
        ({"orders": (("state", True),), "limit": 3}, [3, 2, 1]),  # all that are over are the same
        ({"orders": (("state", False),), "limit": 4}, [4, 5, 6, 3]),
    ],
)
def test_jobs_are_found_by_what_everybody_knows_of_them(asked, numbers, store, run) -> None:
    assert found_by(store, run, **asked) == numbers


def test_a_job_that_was_thrown_away_is_not_found(store, run) -> None:
    async def main():
        await some(store)
        await store.remove(3, 1)
        return [job.id for job in await store.search(JobSearch(user="ann"))]

    assert run(main) == [5, 1]


@pytest.mark.parametrize("asked", [JobSearch(), JobSearch(user="ann"), JobSearch(since_s=5, orders=(("date", False),))])
def test_who_asks_for_the_newest_or_oldest_makes_nobody_look_at_all_jobs(asked, store, run) -> None:
    questions = []

    def note(_connection, _cursor, statement, values, *_) -> None:
        questions.append((statement, values))

    async def main():
        await some(store)
        event.listen(store._database._engine, "before_cursor_execute", note)
        await store.search(asked)

    run(main)
    with closing(store._database._engine.raw_connection()) as connection:
        for statement, values in questions:
            if "LIMIT" not in statement:
                continue
            steps = [step for *_, step in connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            sorts = any("TEMP B-TREE" in step for step in steps)
            assert all("INDEX ix_job_" in step for step in steps if step.startswith(("SCAN", "SEARCH"))), steps
            assert not sorts or "ended_at_ns=?" in str(steps), steps  # those that are not over
