"""Bytes that are fetched over a connection that is cut now and then, and the bar that shows how far they are."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from cli.progress import Transfer, bar
from cli.resuming import TRIES
from cli.snakepit.transfer import copy
from pfs.errors import Kind, PfsError

DATA = bytes(range(256)) * 10


class Cut:
    """A file, of which each connection brings only so much."""

    def __init__(self, *comes: int, stream: bool = False) -> None:
        self.comes = list(comes)
        self.stream_ = stream
        self.starts: list[int] = []

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        self.starts.append(start)
        yield self.pieces(0 if self.stream_ else start)

    def pieces(self, start: int) -> Iterator[bytes]:
        count = self.comes.pop(0) if self.comes else len(DATA)
        for at in range(start, min(start + count, len(DATA)), 100):
            yield DATA[at : min(at + 100, start + count)]
        if start + count < len(DATA):
            raise PfsError(Kind.UNREACHABLE, "no answer from the server")


def fetched(source: Cut, size: int | None = len(DATA), done: int = 0) -> bytes:
    out = io.BytesIO()
    slept: list[float] = []
    copy(cast("Any", source), "home/me/x", out, Transfer("x", size, done), slept.append)
    assert len(slept) == max(0, len(source.starts) - 1)
    return out.getvalue()


def test_a_file_goes_on_where_it_was_cut() -> None:
    source = Cut(1000, 700)
    assert fetched(source) == DATA
    assert source.starts == [0, 1000, 1700]


def test_what_is_there_is_not_fetched_again() -> None:
    assert fetched(source := Cut(), done=2000) == DATA[2000:]
    assert source.starts == [2000]
    assert fetched(Cut(), done=len(DATA)) == b""


def test_a_stream_is_told_anew_and_what_was_seen_is_passed_over() -> None:
    source = Cut(1000, 1500, stream=True)
    assert fetched(source, size=None) == DATA
    assert source.starts == [0, 0, 0]


def test_it_is_given_up_when_nothing_comes_any_more() -> None:
    source = Cut(*[0] * TRIES)
    with pytest.raises(PfsError, match="no answer"):
        copy(cast("Any", source), "x", io.BytesIO(), Transfer("x", len(DATA)), lambda _: None)
    assert len(source.starts) == TRIES


def test_the_bar_tells_how_far_it_is() -> None:
    assert bar("big", 15 * 2**20, 30 * 2**20).split(maxsplit=1)[1] == (
        "15.0 of 30.0 MiB [###############               ]  50%"
    )
    assert bar("x" * 40, 2**20, None) == f"{'x' * 30} 1.0 MiB"


def test_what_goes_to_a_terminal_itself_or_is_there_at_once_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", said := Terminal())
    for transfer, count in ((Transfer("big", 10**8, is_shown=False), 10**8), (Transfer("log", None), 1000)):
        with transfer:
            transfer.moved(count)
    assert said.getvalue() == ""
    with Transfer("log", None) as transfer:
        transfer.moved(10**8)
    assert said.getvalue().endswith("95.4 MiB\n")


def test_only_a_terminal_and_what_takes_a_while_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = {}
    for said in (io.StringIO(), Terminal()):
        monkeypatch.setattr("sys.stderr", said)
        for size in (1000, 10**8):
            with Transfer("home/me/big", size) as transfer:
                transfer.moved(size)
            shown[type(said), size] = said.getvalue()
    assert [bool(text) for text in shown.values()] == [False, False, False, True]
    assert "big  " in shown[Terminal, 10**8]
    assert shown[Terminal, 10**8].endswith("100%\n")
