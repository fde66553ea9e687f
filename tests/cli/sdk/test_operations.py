"""What services do while time passes and connections are cut: a way whose clock and whose server are played."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cli.resuming import TRIES
from cli.sdk import operations
from cli.sdk.way import Straight
from cli.submit.ship import ship
from pfs.client.immediate import each, now
from pfs.errors import Kind, PfsError
from tests.cli.repository import no_settings
from tests.cli.shelf import Shelf

T = TypeVar("T")
CUT = PfsError(Kind.UNREACHABLE, "no answer from the server")


class Played:
    """A way on which each opening of a stream brings what is in its turn, takes as long as it may, or is cut.

    Attributes:
        may: how long each opening was let be silent.
        paused: how long was waited in between.
    """

    def __init__(self, *turns: list[bytes], code: str = "") -> None:
        self.turns = list(turns)
        self.code = code
        self.now_s = 100.0
        self.may: list[float | None] = []
        self.paused: list[float] = []
        self.opened = self.closed = 0
        self.tree: Any = self

    async def read(self, path: str) -> bytes:
        assert path == "jobs/digits/status"
        return f"id 17\nstate RUNNING\nexit_code {self.code}\n".encode()

    @asynccontextmanager
    async def stream(
        self, path: str, start: int = 0, silence_s: float | None = None
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        self.may.append(silence_s)
        turn = self.turns.pop(0) if self.turns else None

        async def pieces() -> AsyncGenerator[bytes, None]:
            for piece in turn or ():
                yield piece
            if turn is None or not turn[-1].endswith(b"\n"):
                self.now_s += silence_s or 0
                raise CUT

        self.opened += 1
        try:
            yield pieces()
        finally:
            self.closed += 1

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now_s += seconds

    def clock_s(self) -> float:
        return self.now_s

    async def aside(self, work: Callable[[Any], T]) -> T:
        raise AssertionError


def test_a_job_that_is_not_over_in_time_is_told_and_no_sooner() -> None:
    way = Played()
    with pytest.raises(PfsError, match="job 17 is not over after 5 s") as caught:
        now(operations.wait(way, "digits", timeout_s=5))
    assert caught.value.kind is Kind.TIMED_OUT
    assert (way.now_s, way.may, way.paused) == (105.0, [5], [])


def test_what_a_lost_connection_took_counts_as_time() -> None:
    way = Played([b"1"], [b"1", b"3\n"])
    way.now_s = 0
    assert now(operations.wait(way, "digits")) == 13
    assert way.may == [None, None]
    way = Played([b"1"], code="")
    way.stream = _cut_at_once(way)  # type: ignore[method-assign]
    with pytest.raises(PfsError) as caught:
        now(operations.wait(way, "digits", timeout_s=3))
    assert caught.value.kind is Kind.TIMED_OUT
    assert (way.paused, way.may) == ([0.5, 1.0, 1.5], [3, 2.5, 1.5, operations.SOONEST_S])


def _cut_at_once(way: Played) -> Any:
    @asynccontextmanager
    async def stream(path: str, start: int = 0, silence_s: float | None = None) -> AsyncIterator[Any]:
        way.may.append(silence_s)
        raise CUT
        yield

    return stream


def test_a_job_that_is_over_is_not_waited_for_however_short_the_time() -> None:
    assert now(operations.wait(Played(code="3"), "digits", timeout_s=0)) == 3


def test_a_log_goes_on_where_it_was_cut() -> None:
    way = Played([b"first\n", b"sec"], [b"first", b"\nsecond\n", b"third\n"])
    assert b"".join(each(operations.log(way, "digits"))) == b"first\nsecond\nthird\n"
    assert way.paused == [0.5]


def test_a_server_that_stays_away_is_told_in_the_end() -> None:
    way = Played()
    with pytest.raises(PfsError, match="no answer"):
        list(each(operations.stream(way, "jobs/17/log")))
    assert len(way.paused) == TRIES - 1


def test_who_stops_reading_leaves_no_connection_open() -> None:
    way = Played([b"first\n", b"second\n"])
    pieces = each(operations.log(way, "digits"))
    assert next(pieces) == b"first\n"
    assert (way.opened, way.closed) == (1, 0)
    pieces.close()  # type: ignore[attr-defined]
    assert (way.opened, way.closed) == (1, 1)


def test_a_folder_of_this_machine_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_settings(monkeypatch)
    shelf: Any = Shelf(tmp_path / "server")
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "train.py").write_text("pass\n")
    of_folder = now(operations.packed(Straight(shelf), folder, None, {"command": "python train.py"}, ship))
    of_spec = now(operations.packed(Straight(shelf), {"command": "x", "src": folder}, "mine", {}, ship))
    assert (of_folder[0], of_spec[0]) == ("digits", "mine")
    for _, text in (of_folder, of_spec):
        src = text.decode().partition("tree:")[2][:64]
        assert shelf.files(f"tree:{src}") == {"train.py": b"pass\n"}
    shelf.disk.close()


def test_a_spec_that_no_text_can_say_is_refused() -> None:
    nobody: Any = None
    with pytest.raises(PfsError, match="the spec holds what no text can say") as caught:
        now(operations.packed(Straight(nobody), {"env": {"A": {1, 2}}}, None, {}, ship))
    assert caught.value.kind is Kind.INVALID
