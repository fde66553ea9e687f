"""The journal in a folder: kept over the end of a mount, for one mount at a time."""

import os
from pathlib import Path

import pytest

from fuseclient.behind import journal as module
from fuseclient.behind.journal import Journal, open_journal
from fuseclient.behind.journalformat import MAGIC
from fuseclient.behind.queue import Promise
from pfs.errors import Kind, PfsError
from pfs.protocol.steps import Step, Verb


def promise(number: int, data: bytes = b"text") -> Promise:
    return Promise(number, Step(Verb.MAKE_FILE, f"f{number}", mode=0o644, data=data), 100 + number)


def again(journal: Journal, folder: Path) -> Journal:
    journal.close()
    return open_journal(str(folder), "http://server", "ann")


def test_what_was_promised_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    journal = open_journal(str(tmp_path), "http://server", "ann")
    journal.promise(promise(1))
    journal.promise(promise(2))
    journal.kept([1], {101: 7})
    found = again(journal, tmp_path).found
    assert list(found.promises.values()) == [promise(2)]
    assert found.real == {101: 7}


def test_a_torn_end_is_kept_beside_and_written_over(tmp_path: Path) -> None:
    journal = open_journal(str(tmp_path), "http://server", "ann")
    journal.promise(promise(1))
    journal.promise(promise(2))
    os.truncate(journal.path, journal.size_bytes - 3)
    second = again(journal, tmp_path)
    assert list(second.found.promises) == [1]
    assert Path(f"{second.path}.torn").stat().st_size > 0
    second.promise(promise(3))
    assert list(again(second, tmp_path).found.promises) == [1, 3]


def test_one_mount_at_a_time_has_it(tmp_path: Path) -> None:
    first = open_journal(str(tmp_path), "http://server", "ann")
    with pytest.raises(PfsError) as caught:
        open_journal(str(tmp_path), "http://server", "ann")
    assert caught.value.kind is Kind.BUSY
    open_journal(str(tmp_path), "http://server", "bob").close()
    open_journal(str(tmp_path), "http://other", "ann").close()
    again(first, tmp_path).close()


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    journal = open_journal(str(tmp_path), "http://server", "ann")
    assert os.stat(journal.path).st_mode & 0o077 == 0
    assert os.stat(os.path.dirname(journal.path)).st_mode & 0o077 == 0


def test_when_all_is_kept_it_is_empty(tmp_path: Path) -> None:
    journal = open_journal(str(tmp_path), "http://server", "ann")
    journal.promise(promise(1))
    journal.rewrite((), {})
    assert Path(journal.path).read_bytes() == MAGIC
    journal.promise(promise(2))
    assert list(again(journal, tmp_path).found.promises) == [2]


def test_what_is_rewritten_is_what_is_left(tmp_path: Path) -> None:
    journal = open_journal(str(tmp_path), "http://server", "ann")
    for number in range(1, 10):
        journal.promise(promise(number, bytes(1000)))
    before = journal.size_bytes
    journal.rewrite([promise(8), promise(9)], {101: 7})
    assert journal.size_bytes < before / 4
    journal.promise(promise(10))
    with pytest.raises(PfsError):  # the new file is locked, too
        open_journal(str(tmp_path), "http://server", "ann")
    found = again(journal, tmp_path).found
    assert list(found.promises) == [8, 9, 10]
    assert found.real == {101: 7}


def test_a_disk_without_room_refuses_and_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(str(tmp_path), "http://server", "ann")
    journal.promise(promise(1))

    def full(fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data[:5], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_all", full)
        with pytest.raises(PfsError) as caught:
            journal.promise(promise(2))
    assert caught.value.kind is Kind.NO_SPACE
    journal.promise(promise(3))
    assert list(again(journal, tmp_path).found.promises) == [1, 3]


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "behind").write_text("a file")
    with pytest.raises(PfsError) as caught:
        open_journal(str(tmp_path), "http://server", "ann")
    assert caught.value.kind is Kind.DENIED
