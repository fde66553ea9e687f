"""The history of the datacenter as a text: lines are added, the older half goes, and who reads goes on."""

from pathlib import Path

import pytest
import trio
import trio.testing

from jobd.store.history import DROPPED, FIRST, Gone, History
from pfs.errors import Kind, PfsError

BEGIN = f"7 {FIRST}\n"
WHOLE = 1 << 20


async def opened(path: Path, **options: int) -> History:
    history = History(str(path / "events"), lambda time_ns, text: f"{time_ns} {text}", lambda: 7, **options)
    await history.open()
    return history


async def text(history: History) -> str:
    return (await history.read(await history.extent(), 0, WHOLE)).decode()


def test_lines_are_added_in_their_order_and_the_extent_says_how_long_they_are(tmp_path: Path, run) -> None:
    async def main() -> None:
        history = await opened(tmp_path)
        assert await text(history) == BEGIN
        for number in (1, 3, 2):
            history.add(number, "x")
        extent = await history.extent()
        assert await text(history) == f"{BEGIN}1 x\n3 x\n2 x\n"
        assert (extent.size_bytes, extent.changed_at_ns) == (len(BEGIN) + 12, 7)
        assert await history.read(extent, len(BEGIN) + 4, 3) == b"3 x"
        assert await history.read(extent, extent.size_bytes, 3) == b""

    run(main)


def test_all_that_was_added_is_written_when_it_ends(tmp_path: Path, run) -> None:
    async def main() -> None:
        history = await opened(tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(history.run)
            await trio.testing.wait_all_tasks_blocked()
            history.add(1, "x")
            nursery.cancel_scope.cancel()
        assert (tmp_path / "events").read_text() == f"{BEGIN}1 x\n"

    run(main)


def test_it_goes_on_after_a_restart_without_a_line_that_was_cut_off(tmp_path: Path, run) -> None:
    async def main() -> None:
        first = await opened(tmp_path)
        assert first.last == ""
        first.add(1, "one")
        await first.settle()
        path = tmp_path / "events"
        path.write_text(path.read_text() + "2 tw")
        second = await opened(tmp_path)
        assert second.last == "1 one"
        second.add(3, "three")
        assert await text(second) == f"{BEGIN}1 one\n3 three\n"
        assert (await second.extent()).name == (await first.extent()).name

    run(main)


def test_the_older_half_is_dropped_and_the_first_line_says_so(tmp_path: Path, run) -> None:
    async def main() -> None:
        history = await opened(tmp_path, size_bytes_max=400)
        before = await history.extent()
        for number in range(100, 200):
            history.add(number, "x" * 15)
            await history.settle()
            assert (tmp_path / "events").stat().st_size <= 400
        after = await history.extent()
        first, *lines = (await text(history)).splitlines()
        since = int(lines[0].split()[0])
        assert first == f"{since} {DROPPED}"
        assert lines == [f"{number} {'x' * 15}" for number in range(since, 200)]
        assert len(lines) >= 8
        assert before.name != after.name == first
        assert (await opened(tmp_path)).last == lines[-1]

    run(main)


def test_who_has_it_open_goes_on_where_they_were_when_the_older_half_is_dropped(tmp_path: Path, run) -> None:
    async def main() -> None:
        history = await opened(tmp_path, size_bytes_max=400)
        handle, read = await history.extent(), b""
        for number in range(100, 200):
            history.add(number, "x" * 15)
            await history.settle()
            read += await history.read(handle, len(read), WHOLE)
        assert read.decode() == BEGIN + "".join(f"{number} {'x' * 15}\n" for number in range(100, 200))
        now = await history.extent()
        assert now.begin + now.size_bytes - handle.begin == len(read)
        dropped = now.begin - handle.begin + len(now.name)
        assert await history.read(handle, dropped + 1, WHOLE) == read[dropped + 1 :]
        for offset in (0, dropped):
            with pytest.raises(Gone):
                await history.read(handle, offset, WHOLE)

    run(main)


def test_a_disk_that_refuses_lines_costs_these_lines_and_says_so(tmp_path: Path, run, monkeypatch, caplog) -> None:
    async def main() -> None:
        history = await opened(tmp_path)
        real = history._write

        def full(data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(history, "_write", full)
        history.add(1, "x")
        await history.settle()
        assert "1 lines of the datacenter's history are lost: [Errno 28] No space left on device" in caplog.text
        monkeypatch.setattr(history, "_write", real)
        history.add(2, "x")
        assert await text(history) == f"{BEGIN}2 x\n"

    run(main)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, run) -> None:
    async def main() -> None:
        (tmp_path / "events").mkdir()
        with pytest.raises(PfsError, match=r"history .*/events: Is a directory") as caught:
            await opened(tmp_path)
        assert caught.value.kind is Kind.IO

    run(main)
