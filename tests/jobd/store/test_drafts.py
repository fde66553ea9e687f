"""Texts in `jobs/` in SQL."""

import time

import pytest

from jobd.store.drafts import DRAFTS_LISTED_MAX, ListedDraft
from jobd.store.tables import DraftRow


@pytest.fixture
def store(service):
    return service.store


def row(name: str = "a.yaml", content: bytes = b"text", **fields) -> DraftRow:
    return DraftRow(user="ann", name=name, content=content, **{"born_ns": 1, "mtime_ns": 2} | fields)


def test_a_text_is_kept_under_its_name_and_replaced_by_the_next(store, run):
    async def main():
        await store.save_draft(row())
        await store.save_draft(row(content=b"longer text", born_ns=5))
        kept = await store.standing("ann", "a.yaml")
        assert (kept.content, kept.born_ns, kept.submitted) == (b"longer text", 5, False)
        assert await store.standing("bob", "a.yaml") is None
        assert await store.drafts("ann", 0) == [ListedDraft("ann", "a.yaml", 11, False, 5, 2)]

    run(main)


def test_what_is_kept_is_what_it_was_when_it_was_given(store, run):
    async def main():
        text = row()
        waiting = store.save_draft(text)
        await waiting
        text.content = b"written to meanwhile"
        assert (await store.standing("ann", "a.yaml")).content == b"text"

    run(main)


def test_a_text_takes_the_place_of_the_one_under_its_new_name(store, run):
    async def main():
        await store.save_draft(row("a.yaml", b"a"))
        await store.save_draft(row("b.yaml", b"b"))
        await store.rename_draft("ann", "a.yaml", "b.yaml")
        assert [text.name for text in await store.drafts("ann", 0)] == ["b.yaml"]
        assert (await store.standing("ann", "b.yaml")).content == b"a"
        await store.set_error("ann", "b.yaml", "wrong", 1)
        await store.delete_draft("ann", "b.yaml")
        assert (await store.standing("ann", "b.yaml"), await store.errors("ann")) == (None, {})

    run(main)


def test_scratch_is_swept_by_when_it_was_written_and_not_by_the_time_it_bears(store, run):
    async def main():
        await store.save_draft(row("old.yaml", mtime_ns=1))
        await store.save_draft(row("kept.yaml", mtime_ns=1, submitted=True))
        await store.sweep_drafts(time.time_ns() - 10**9 * 3600)
        assert {text.name for text in await store.drafts("ann", time.time_ns() - 10**9 * 3600)} == {
            "old.yaml",
            "kept.yaml",
        }
        await store.sweep_drafts(time.time_ns() + 1)
        assert [text.name for text in await store.drafts("ann", 0)] == ["kept.yaml"]

    run(main)


def test_a_listing_names_no_more_than_the_newest(store, run, monkeypatch):
    monkeypatch.setattr("jobd.store.drafts.DRAFTS_LISTED_MAX", 2)

    async def main():
        for name in ("a", "b", "c"):
            await store.save_draft(row(name))
        assert [text.name for text in await store.drafts("ann", 0)] == ["c", "b"]
        assert await store.drafts("ann", time.time_ns()) == []

    run(main)
    assert DRAFTS_LISTED_MAX == 10_000
