"""Sends what is written to one open file, in gathered pieces, several at once.

The first bytes go at once: most files are written in one piece, and a shell does not look at what close(2) says.
After them `add` returns before the server has the bytes; `flush` returns when it has all of them. An error of the
server is told once, by whichever of the two comes next: a program that closes, or asks for fsync, hears of it.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from fuseclient.cache.gather import Gather, Piece
from pfs.errors import Kind, PfsError
from pfs.parts import Part

log = logging.getLogger(__name__)

IN_FLIGHT_MAX = 4
AWAY = (Kind.TIMED_OUT, Kind.UNREACHABLE)

Send = Callable[[int, Sequence[Part]], Awaitable[None]]


class Writer:
    """The way of one open file's bytes to the server.

    Args:
        send: writes at an offset the parts that join one another there.
        nursery: where pieces are sent.
        in_order: one piece after the other: the server adds each at the end of the file.
    """

    def __init__(self, send: Send, nursery: trio.Nursery, *, in_order: bool) -> None:
        self._send = send
        self._nursery = nursery
        self._gather = Gather()
        self._in_order = in_order
        self._places = trio.Semaphore(1 if in_order else IN_FLIGHT_MAX)
        self._sending: dict[int, trio.Event] = {}
        self._error: PfsError | None = None
        self._begun = False
        self._unsent: list[Piece] = []

    @property
    def dirty(self) -> bool:
        """True while the server does not have everything."""
        return self.dirty_bytes > 0

    @property
    def dirty_bytes(self) -> int:
        """How many bytes the server does not have."""
        return self._gather.dirty_bytes

    def begin(self) -> None:
        """Note that the server has the first bytes already."""
        self._begun = True

    async def add(self, offset: int, data: bytes) -> None:
        """Take what a program writes; wait where too much is under way.

        Raises:
            PfsError: an earlier piece could not be written.
        """
        self._tell()
        if len(self._unsent) >= IN_FLIGHT_MAX:  # who goes on writing to a server that is away must not fill the memory
            await self.flush()
        pieces = self._gather.add(offset, data)
        if self._begun:
            await self._start(pieces)
        else:
            self._begun = True
            await self._start(pieces)
            await self.flush()

    async def flush(self) -> None:
        """Return when the server has everything.

        Raises:
            PfsError: something could not be written.
        """
        await self.drain()
        self._tell()

    async def drain(self) -> None:
        """Return when nothing is under way any more; what went wrong is kept for who wrote it."""
        await self._start(self._gather.take())
        while self._sending:
            await next(iter(self._sending.values())).wait()

    def _tell(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    async def _start(self, pieces: list[Piece]) -> None:
        unsent, self._unsent = self._unsent, []
        for piece in (*unsent, *pieces):
            waits = [self._sending[number] for number in piece.after if number in self._sending]
            self._sending[piece.number] = trio.Event()
            with trio.CancelScope(shield=True):  # it was handed out: nobody else sends it
                await self._places.acquire()
            self._nursery.start_soon(self._deliver, piece, waits)

    async def _deliver(self, piece: Piece, waits: list[trio.Event]) -> None:
        try:
            for event in waits:
                await event.wait()
            await self._send(piece.offset, piece.parts)
        except PfsError as error:
            self._error = error
            if error.kind in AWAY and not self._in_order:
                self._unsent.append(piece)
                return
            self._gather.done(piece)
        except Exception:
            log.exception("writing %d bytes at %d", piece.size, piece.offset)
            self._error = PfsError(Kind.INTERNAL, "a defect of the mount; its log has more")
            self._gather.done(piece)
        except BaseException:
            self._error = PfsError(Kind.IO, "the mount was ended before this was written")
            raise
        else:
            self._gather.done(piece)
        finally:
            self._sending.pop(piece.number).set()
            self._places.release()
