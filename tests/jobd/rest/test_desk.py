"""The ends of logs: as many lines as are asked for, wherever the pieces are cut in which a log is read."""

import pytest

from jobd.rest import desk
from jobd.rest.desk import tail
from pfs.api import Attr, NodeType


class Log:
    """An open log."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.attr = Attr(NodeType.FILE, 1, 0o444, len(data))

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        return self._data[offset : offset + size]


@pytest.mark.parametrize("piece", range(1, 20))
@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("lines", range(6))
def test_the_last_lines_are_whole(run, monkeypatch, piece: int, end: str, lines: int) -> None:
    monkeypatch.setattr(desk, "LOG_PIECE_BYTES", piece)
    every = ["aaaa", "", "cc", "ddddddd"]

    async def main() -> str:
        return await tail(Log(("\n".join(every) + end).encode()), lines)  # type: ignore[arg-type]

    assert run(main) == "\n".join(every[-lines:] if lines else [])


def test_a_log_that_is_empty_has_no_lines(run) -> None:
    async def main() -> str:
        return await tail(Log(b""), 10)  # type: ignore[arg-type]

    assert run(main) == ""
