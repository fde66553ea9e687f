"""Half a spec is no job, and a whole one is one job: every prefix of real specs, and every way in which a writer ends.

How a mount tells these ways from one another is shown by `integration/test_drops.py`, with real programs.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from itertools import count

import pytest
import trio

from jobd.files import drafts
from jobd.files.drafts import Draft, OpenDraft
from jobd.spec.spec import SpecError, parse_spec, prefix_problems
from jobd.spec.text import Problem
from jobd.store.tables import DraftRow
from pfs.api import Closing, OpenFlags
from pfs.errors import PfsError
from pfs.perm import Subject
from tests.jobd.spec.realspecs import REAL

ANN = Subject("ann", admin=False)
LAST, SHARED, DYING = Closing.LAST, Closing.SHARED, Closing.DYING
SYNC = "fsync"

# what comes between the last write and the release
DEATHS = {
    "killed": [DYING],
    "killed behind fsync": [SYNC, DYING],
    "killed when a child had closed": [SHARED, DYING],
    "killed, and a child closes": [DYING, SHARED],
    "killed, and a child closes as the last one": [DYING, LAST],
    "cut off, as sessions end": [DYING, DYING],
}
ENDS = {
    "closed": [LAST],
    "closed behind fsync": [SYNC, LAST],
    "closed twice": [LAST, LAST],
    "closed by a child, and then closed": [SHARED, LAST],
    "closed by everybody at once, so that nobody was the last": [SHARED, SHARED],
    "not closed before the release": [],
}


@cache
def problems(text: bytes) -> tuple[Problem, ...]:
    """Return what is wrong with a spec."""
    try:
        parse_spec(text, "x")
    except SpecError as error:
        return error.problems
    return ()


class NotingDesk:
    """A directory in which every valid text becomes a job."""

    def __init__(self) -> None:
        self.jobs: list[bytes] = []
        self._numbers = count(1)

    def turn(self, draft: Draft) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def submit(self, subject: Subject, row: DraftRow) -> int:
        if problems(row.content):
            raise SpecError(problems(row.content))
        self.jobs.append(row.content)
        return next(self._numbers)

    async def save(self, row: DraftRow) -> None:
        pass

    async def complain(self, row: DraftRow, error: PfsError) -> None:
        pass

    def closed(self, draft: Draft) -> None:
        pass


@pytest.fixture(autouse=True)
def _judged_once(monkeypatch):
    # the same thousands of texts come again for each way
    monkeypatch.setattr(drafts, "prefix_problems", _judge)


_judge = cache(prefix_problems)


async def jobs_of(name: str, *acts: bytes | Closing | str) -> list[bytes]:
    """Return what was submitted when a file is opened, written and closed so, and released."""
    desk = NotingDesk()
    row = DraftRow(user="ann", name=name, content=b"", born_ns=0, mtime_ns=0)
    file = OpenDraft(ANN, Draft(row), OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE, desk, lambda: 0)
    offset = 0
    for act in acts:
        try:
            if isinstance(act, bytes):
                offset += await file.write(offset, act)
            elif isinstance(act, Closing):
                await file.flush(act)
            else:
                await file.fsync()
        except SpecError:
            assert act is LAST  # a good spec is refused in no write, wherever that ends
    await file.release()
    return desk.jobs


def each_prefix(texts: dict[str, bytes]):
    """Yield the name and text of each spec with each size of a part of it, but for the whole."""
    for name, text in texts.items():
        for size in range(len(text)):
            yield name, text, size


@pytest.mark.parametrize("death", DEATHS)
def test_a_prefix_whose_writer_dies_is_no_job(death: str):
    async def main():
        for name, text, size in each_prefix(REAL):
            assert await jobs_of(name, text[:size], *DEATHS[death]) == [], (name, size)
            assert await jobs_of(name, text[: size // 2], text[size // 2 : size], *DEATHS[death]) == [], (name, size)

    trio.run(main)


@pytest.mark.parametrize("death", DEATHS)
def test_a_whole_spec_whose_writer_dies_before_it_closes_is_no_job(death: str):
    async def main():
        for name, text in REAL.items():
            assert await jobs_of(name, text, *DEATHS[death]) == [], name

    trio.run(main)


@pytest.mark.parametrize("end", ENDS)
def test_a_whole_spec_is_one_job_wherever_its_writer_paused(end: str):
    async def main():
        for name, text, size in each_prefix(REAL):
            halves = text[:size], text[size:]
            assert await jobs_of(name, *halves, *ENDS[end]) == [text], (name, size)
            # as a shell's { …; } > x.yaml does, of which each child closes the file when it ends
            assert await jobs_of(name, halves[0], SHARED, SYNC, halves[1], *ENDS[end]) == [text], (name, size)

    trio.run(main)


@pytest.mark.parametrize("end", ENDS)
def test_of_a_writer_that_closes_half_a_spec_in_peace_only_the_text_can_tell(end: str):
    async def main():
        for name, text, size in each_prefix(REAL):
            half = text[:size]
            assert await jobs_of(name, half, *ENDS[end]) == ([half] if size and not problems(half) else []), (
                name,
                size,
            )

    trio.run(main)


@pytest.mark.parametrize("way", ["killed", "closed", "not closed before the release"])
def test_under_any_other_name_nothing_is_a_job_before_it_is_renamed(way: str):
    async def main():
        for name, text, size in each_prefix(REAL):
            for part in (text[:size], text):
                assert await jobs_of(f"{name}.tmp", part, *(DEATHS | ENDS)[way]) == [], (name, size)

    trio.run(main)
