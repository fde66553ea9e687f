"""Watching directories: nothing that happened is missed, and everybody is told of their own directory only."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from jobd.node.watch import Watch

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def _is_told(watch: Watch) -> bool:
    with trio.move_on_after(0.05):
        await watch.changed()
        return True
    return False


def test_what_happened_before_the_wait_counts_once(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with Watch(tmp_path) as watch:
            (tmp_path / "file").write_text("x")
            await watch.changed()
            assert not await _is_told(watch)

    run(main)


def test_each_is_told_of_its_own_directory(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        with Watch(tmp_path / "a") as first, Watch(tmp_path / "a") as second, Watch(tmp_path / "b") as other:
            (tmp_path / "a/file").write_text("x")
            await first.changed()
            await second.changed()
            assert not await _is_told(other)

    run(main)


def test_one_that_ends_leaves_the_other_on_its_directory(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with Watch(tmp_path) as stays:
            with Watch(tmp_path):
                pass
            (tmp_path / "file").write_text("x")
            await stays.changed()

    run(main)


def test_a_directory_that_is_made_anew_is_another(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        place = tmp_path / "a"
        place.mkdir()
        with Watch(place) as old:
            place.rmdir()
            await old.changed()
            place.mkdir()
            with Watch(place) as new:
                (place / "file").write_text("x")
                await new.changed()

    run(main)


def test_a_directory_that_is_not_there_is_an_error(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError, match="nowhere"):
            Watch(tmp_path / "nowhere")

    run(main)
