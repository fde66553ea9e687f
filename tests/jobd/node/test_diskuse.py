"""What a task has written: blocks of all files once, looked at at a pace that grows with how long that takes."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from jobd.node import diskuse
from jobd.node.diskuse import LOOK_EVERY_S, PAUSE_FACTOR, PAUSE_MOST_S, exceeded, in_words, used_bytes

MIB = 1 << 20


def test_all_files_count_by_their_blocks_and_once(tmp_path: Path) -> None:
    empty = used_bytes([str(tmp_path)])
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"x" * MIB)
    (tmp_path / "a/again").hardlink_to(tmp_path / "a/b/file")
    (tmp_path / "a/link").symlink_to("/usr")
    with open(tmp_path / "a/hole", "wb") as file:
        file.truncate(100 * MIB)
    assert MIB <= used_bytes([str(tmp_path)]) - empty < MIB + 100_000
    assert used_bytes([str(tmp_path / "nothing")]) == 0


def clear(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def test_what_goes_while_it_is_looked_at_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(diskuse, "BREATHE_EVERY", 5)
    monkeypatch.setattr("time.sleep", lambda _: clear(tmp_path))
    used_bytes([str(tmp_path)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("took_s", "pause_s"), [(0, LOOK_EVERY_S), (2, 2 * PAUSE_FACTOR), (1000, PAUSE_MOST_S)])
def test_a_look_that_takes_long_is_seldom(monkeypatch: pytest.MonkeyPatch, took_s: float, pause_s: float) -> None:
    clock = trio.testing.MockClock()
    looks: list[float] = []

    def look(directories: Sequence[str]) -> int:
        looks.append(clock.current_time())
        clock.jump(took_s)
        return 100 * len(looks)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            assert await exceeded(["x"], 250) == 300
            nursery.cancel_scope.cancel()

    async def go_on() -> None:
        while True:
            await trio.testing.wait_all_tasks_blocked()
            sleeps = trio.lowlevel.current_statistics().seconds_to_next_deadline
            clock.jump(sleeps if 0 < sleeps < 1e6 else 0)

    monkeypatch.setattr(diskuse, "used_bytes", look)
    trio.run(main, clock=clock)
    assert looks[1] - looks[0] == pytest.approx(took_s + pause_s)


def test_the_words_have_both_numbers() -> None:
    assert in_words(int(21.3 * (1 << 30)), 20 << 30) == "disk: 21.3 GiB written outside the mounts, 20 GiB allowed"
    assert in_words(3 << 19, 1 << 20) == "disk: 0.00146 GiB written outside the mounts, 0.000977 GiB allowed"
