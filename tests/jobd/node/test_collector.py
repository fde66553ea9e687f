"""Collecting: at once what comes after a silence, together what comes all the time, each stream from its place, all."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from jobd.node import collector
from jobd.node.collector import GATHER_S, LOST, MANY, Collector, _copy
from jobd.node.enginestreams import _FRAME, Frames
from jobd.node.runtime import RuntimeAway, RuntimeFailure
from jobd.node.spool import LINE_BYTES, OUTPUT_BYTES_MAX, Spool
from jobd.wire import CUT_OFF, OUT_OF_MEMORY

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


@dataclass
class Attached:
    """An engine with one container, which is over.

    Attributes:
        passed: what came to whoever was attached.
        logged: what the engine has in its log.
        is_seen_off: the engine that was asked before the start tells of the end.
        asked: which logs were asked for.
    """

    passed: list[Piece]
    logged: list[Piece]
    is_seen_off: bool = True
    asked: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def attach(self, container: str) -> AsyncIterator[Frames]:
        yield frames_of(self.passed)

    @asynccontextmanager
    async def next_exit(self, container: str) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
        async def answer() -> bytes:
            if not self.is_seen_off:
                raise RuntimeAway("another engine")
            return b""

        yield answer

    @asynccontextmanager
    async def logs(self, container: str, *, follow: bool = False, last: int | None = None) -> AsyncIterator[Frames]:
        self.asked.append("follow" if follow else "all" if last is None else "last")
        yield frames_of(self.logged[-last:] if last else self.logged)

    async def wait(self, container: str) -> None:
        """Say that it is over."""

    async def state(self, container: str) -> dict[str, Any]:
        return {"Status": "exited", "ExitCode": 3, "Error": "", "OOMKilled": False, "Id": "a container"}


def frames_of(pieces: list[Piece]) -> Frames:
    texts = [_FRAME.pack(stream, len(data)) + data for stream, data in pieces]

    async def read() -> bytes:
        return texts.pop(0) if texts else b""

    return Frames(read)


def collected(directory: Path, engine: Attached, bytes_max: int = OUTPUT_BYTES_MAX) -> bytes:
    async def main() -> None:
        await Collector(cast("Any", engine), "c", directory, bytes_max).run_attached(trio.TASK_STATUS_IGNORED)

    trio.run(main)
    assert json.loads((directory / "exit").read_text())["code"] == 3
    return (directory / "output").read_bytes()


def test_the_kernel_is_asked_what_its_engine_did_not_hear_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "ran_out_of_memory", lambda container_id: container_id == "a container")
    collected(tmp_path, Attached([], []))
    assert json.loads((tmp_path / "exit").read_text()) == {"code": 3, "reason": OUT_OF_MEMORY}


@dataclass
class Made(Attached):
    """An engine that lost the question to start its container, and has not been asked again.

    Attributes:
        starts: how often it was asked.
    """

    starts: int = 0

    async def start(self, container: str) -> None:
        self.starts += 1

    async def state(self, container: str) -> dict[str, Any]:
        return {**await super().state(container), "Status": "exited" if self.starts else "created"}


async def agreed() -> None:
    """Say that it may start."""


async def too_late() -> None:
    raise RuntimeFailure(CUT_OFF)


@pytest.mark.parametrize(
    ("may_start", "starts", "end"),
    [
        (agreed, 1, {"code": 3, "reason": ""}),
        (too_late, 0, {"code": 125, "reason": CUT_OFF}),
        (None, 0, {"code": 125, "reason": "its container was never started"}),
    ],
    ids=["who may start", "who may not any more", "who was never asked for"],
)
def test_a_container_is_started_only_where_that_is_agreed_to_now(
    tmp_path: Path, may_start: Callable[[], Awaitable[object]] | None, starts: int, end: dict[str, object]
) -> None:
    engine = Made([], [])
    trio.run(Collector(cast("Any", engine), "c", tmp_path, may_start=may_start).run)
    assert engine.starts == starts
    assert json.loads((tmp_path / "exit").read_text()) == end


OUT: list[Piece] = [(1, b"one\n"), (2, b"two\n"), (1, b"three")]


@pytest.mark.parametrize("pieces", [OUT, []])
def test_a_log_is_not_read_again_of_which_all_came(tmp_path: Path, pieces: list[Piece]) -> None:
    engine = Attached(pieces, pieces)
    assert collected(tmp_path, engine) == b"".join(data for _, data in pieces)
    assert engine.asked == ["last"]


@pytest.mark.parametrize("came", range(len(OUT)))
def test_what_did_not_come_is_taken_from_the_log(tmp_path: Path, came: int) -> None:
    engine = Attached(OUT[:came], OUT)
    assert collected(tmp_path, engine) == b"one\ntwo\nthree"
    assert engine.asked == ["last", "all"]


def test_an_engine_that_did_not_see_the_start_is_asked_for_all(tmp_path: Path) -> None:
    engine = Attached(OUT[:1], OUT, is_seen_off=False)
    assert collected(tmp_path, engine) == b"one\ntwo\nthree"
    assert engine.asked == ["follow", "all"]


def test_of_a_log_nothing_more_is_read_than_is_kept(tmp_path: Path) -> None:
    endless: list[Piece] = [(1, b"y\n")] * 40
    few = 20 * (2 + LINE_BYTES)
    engine = Attached(endless, endless)
    assert collected(tmp_path, engine, few) == b"y\n" * 20
    # all came, and the end of what was let go is the log's
    assert engine.asked == ["last"]
    (tmp_path / "again").mkdir()
    engine = Attached(endless[:10], endless, is_seen_off=False)
    assert collected(tmp_path / "again", engine, few) == b"y\n" * 20
    assert engine.asked == ["follow"]


def test_a_log_whose_beginning_the_engine_let_go_is_not_taken_for_what_comes_next(tmp_path: Path) -> None:
    numbers: list[Piece] = [(1, f"{number}\n".encode()) for number in range(100)]
    engine = Attached(numbers[:10], numbers[50:], is_seen_off=False)
    assert collected(tmp_path, engine) == b"".join(data for _, data in numbers[:10])
    assert json.loads((tmp_path / "exit").read_text()) == {"code": 3, "reason": LOST}
