"""Collecting: at once what comes after a silence, together what comes all the time, and each stream from its place."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import trio
import trio.testing

from jobd.node.collector import GATHER_S, MANY, _copy
from jobd.node.engine import Frames
from jobd.node.spool import Spool

Piece = tuple[int, bytes]


@dataclass
class Engine:
    """Gives all that came since it was last asked, as a socket does.

    Attributes:
        coming: pieces and the time of each, in seconds.
        asked_s: when it was asked.
    """

    coming: list[tuple[float, Piece]]
    asked_s: list[float] = field(default_factory=list)

    async def next(self) -> list[Piece]:
        self.asked_s.append(trio.current_time())
        if self.coming:
            await trio.sleep_until(self.coming[0][0])
        came = [piece for time_s, piece in self.coming if time_s <= trio.current_time()]
        del self.coming[: len(came)]
        return came


def copied(directory: Path, engine: Engine, skip: dict[int, int], gather_s: float = GATHER_S) -> Spool:
    async def main() -> Spool:
        began_s = trio.current_time()
        engine.coming = [(began_s + time_s, piece) for time_s, piece in engine.coming]
        with closing(Spool(directory)) as spool:
            await _copy(cast("Frames", engine), spool, skip, gather_s=gather_s)
        engine.asked_s = [time_s - began_s for time_s in engine.asked_s]
        return spool

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_container_that_prints_all_the_time_is_looked_at_now_and_then(tmp_path: Path) -> None:
    engine = Engine([(number / 2000, (1, b"line\n")) for number in range(2000)])
    copied(tmp_path, engine, {})
    assert (tmp_path / "output").read_bytes() == b"line\n" * 2000
    assert len(engine.asked_s) <= 1 / GATHER_S + 4


def test_what_comes_after_a_silence_is_taken_and_the_end_is_seen_at_once(tmp_path: Path) -> None:
    engine = Engine([(0.0, (1, b"one\n")), (1.0, (1, b"two\n")), (2.0, (2, b"three\n"))])
    copied(tmp_path, engine, {})
    assert engine.asked_s == [0.0, 0.0, 1.0, 2.0]


def test_a_flood_is_not_held_up(tmp_path: Path) -> None:
    engine = Engine([(0.0, (1, b"line\n"))] * MANY * 2)
    engine.coming += [(0.0001, (1, b"line\n"))] * MANY
    copied(tmp_path, engine, {})
    assert engine.asked_s[-1] < GATHER_S


def test_of_each_stream_what_is_known_is_left_out(tmp_path: Path) -> None:
    pieces = [(1, b"out "), (1, b"of it\n"), (2, b"err"), (1, b"more\n"), (2, b"or\n")]
    spool = copied(tmp_path, Engine([(0.0, piece) for piece in pieces]), {1: 7, 2: 1})
    assert (tmp_path / "output").read_bytes() == b"it\nrrmore\nor\n"
    assert spool.counts == {1: 8, 2: 5}
