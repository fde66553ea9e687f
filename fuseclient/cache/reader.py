"""Reads one open file through a window: pieces are fetched once, some of them before anybody asks."""

import logging
from collections.abc import Awaitable, Callable

import trio

from fuseclient.cache.readahead import Range, Window
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

Fetch = Callable[[int, int], Awaitable[bytes]]
Lone = Callable[[int, int, int], None]


class _Fetched:
    """A piece on its way, or here; `left` when who fetched it was cancelled."""

    __slots__ = ("data", "done", "error", "left")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.data = b""
        self.error: PfsError | None = None
        self.left = False


class _LeftError(Exception):
    """Who fetched a piece, for others as well, was cancelled."""


class Reader:
    """What is held of one open file.

    Args:
        fetch: asks for bytes: (offset, size); fewer only at the end of the file.
        nursery: where pieces are fetched.
        lone: told of each read that goes on with nothing and is fetched: (offset, size, bytes of the file).
    """

    def __init__(self, fetch: Fetch, nursery: trio.Nursery, lone: Lone = lambda offset, size, file_size: None) -> None:
        self._fetch = fetch
        self._nursery = nursery
        self._lone = lone
        self._window = Window()
        self._pieces: dict[Range, _Fetched] = {}

    def clear(self) -> None:
        """The file has other content by now: what is held, and what is on its way, is of no use."""
        self._window.clear()
        self._pieces.clear()

    async def read(self, offset: int, size: int, file_size: int) -> bytes:
        """Return up to `size` bytes from `offset`.

        Args:
            file_size: how long the file is known to be.

        Raises:
            PfsError: a piece could not be fetched; the next read tries again.
        """
        while True:
            try:
                return await self._read(offset, size, file_size)
            except _LeftError:
                continue

    async def _read(self, offset: int, size: int, file_size: int) -> bytes:
        plan = self._window.read(offset, size, file_size)
        new = [(piece, _Fetched()) for piece in (*plan.now, *plan.ahead)]
        self._pieces.update(new)
        parts = [(piece, self._pieces[piece]) for piece in plan.use]
        for piece in plan.drop:
            self._pieces.pop(piece, None)
        own = new[:1] if plan.now else []  # what is waited for anyway needs no task, which doubles a small read's cost
        for piece, fetched in new[len(own) :]:
            self._nursery.start_soon(self._get, piece, fetched)
        if plan.lone:
            self._lone(offset, size, file_size)
        for piece, fetched in own:
            await self._get(piece, fetched)
        end, result = min(offset + size, file_size), []
        for piece, fetched in parts:
            if not fetched.done.is_set():
                await fetched.done.wait()
            if fetched.left:
                raise _LeftError
            if fetched.error is not None:
                raise fetched.error
            first, last = max(offset, piece.start) - piece.start, min(end, piece.end) - piece.start
            whole = first == 0 and last >= len(fetched.data)
            result.append(fetched.data if whole else fetched.data[first:last])
            if len(fetched.data) < piece.size:
                break  # the file is shorter by now
        return result[0] if len(result) == 1 else b"".join(result)

    async def _get(self, piece: Range, fetched: _Fetched) -> None:
        try:
            fetched.data = await self._fetch(piece.start, piece.size)
        except PfsError as error:
            fetched.error = error
        except Exception:
            log.exception("reading %d bytes at %d", piece.size, piece.start)
            fetched.error = PfsError(Kind.INTERNAL, "a defect of the mount; its log has more")
        except BaseException:
            fetched.left = True
            raise
        finally:
            if (fetched.left or fetched.error is not None) and self._pieces.get(piece) is fetched:
                del self._pieces[piece]
                self._window.lost(piece)
            fetched.done.set()
