"""HTTP/1.1 on a connection that carries nothing but large bodies, the server's side.

Requests come one after the other, each with a body whose length is told; h11 reads their heads. Bodies travel between
the socket and a file of the disk inside of worker threads: one that waits in the kernel until a megabyte is through
costs little more than the kernel's own copying, while the event loop would be woken for every few hundred kilobytes.
But no thread is held by a peer who is slow: once nothing has moved for `STALL_S`, the rest of a body is left to the
event loop, where waiting costs nothing. There all else travels, too: to and from what is no file of the disk.

A connection is kept for the next request only where the client says, hop by hop, that it carries nothing else: any
other request on it could not be answered here. A proxy does not pass that word on.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import h11
import trio

from pfs.errors import Kind, PfsError
from pfs.protocol.records import SEND_BYTES, Records
from pfs.protocol.sockets import transport_of
from pfs.protocol.wire import KEPT_FOR_BULK, RANGE_BYTES_MAX
from pfs.server.takeover import Headers, Taken, response_head

PIECE_BYTES = 1024 * 1024  # in threads; of memory that is used again
LOOP_PIECE_BYTES = 256 * 1024  # through the event loop; of these, a server may hold one for each connection
HEAD_BYTES_MAX = 16 * 1024
STALL_S = 0.05
BODY_SILENCE_S = 30.0
BODY_RATE_MIN = 1024  # bytes a second
KEEP_ALIVE_S = 75.0
LINGER_S = 2.0
UNTOLD_BYTES = 2**63  # for a body that ends nobody knows where

_TIMEVAL = struct.pack("ll", 0, int(STALL_S * 1_000_000))


class GoneError(Exception):
    """The client has left in the middle of something."""


class Line:
    """One connection. Use it as a context manager; whoever handed it over ends it.

    Attributes:
        kept: another request may follow.
        begun: something was said to the present one.
        body_bytes: of the present request, not yet received.
    """

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._early = memoryview(taken.early)
        self._expects = False
        self._sock: socket.socket | None = None
        self._records: Records | None = None
        self.kept = self.begun = False
        self.body_bytes = 0
        transport = transport_of(taken.stream)
        if isinstance(transport, trio.SocketStream):
            self._sock = socket.socket(fileno=os.dup(transport.socket.fileno()))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # these count only where it is made to block
                self._sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL)
            if isinstance(taken.stream, trio.SSLStream):
                self._records = Records.of(taken.stream, self._sock)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        if self._sock is not None:
            self._sock.close()

    @property
    def extensions(self) -> dict[str, dict[str, Any]]:
        """What the connection tells of who is at the other end (`pfs.server.takeover.Taken`)."""
        return self._taken.extensions

    @property
    def source(self) -> str:
        """The address of who asks."""
        return self._taken.source

    @property
    def direct(self) -> bool:
        """True where bodies can travel in threads."""
        return self._sock is not None and (self._records is not None or self._plain)

    @property
    def _plain(self) -> bool:
        return isinstance(self._taken.stream, trio.SocketStream)

    def proven(self) -> None:
        """Whose requests these are has been shown."""
        self._taken.guest.proves()

    # ---- heads

    def first(self) -> h11.Request:
        """Return the request with which the connection was handed over."""
        return self._begin(self._taken.request)

    async def next(self) -> h11.Request | None:
        """Return the next request, None when there will be none.

        Raises:
            PfsError: INVALID, what came is no HTTP; the line is not kept after that.
        """
        self.kept = False
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        with self._taken.idle(KEEP_ALIVE_S):
            try:
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(await self._some())
            except h11.RemoteProtocolError as error:
                raise PfsError(Kind.INVALID, f"this is no HTTP/1.1: {error}") from None
            except (OSError, trio.BrokenResourceError):
                raise GoneError from None
            if isinstance(event, h11.Request):
                self._early = memoryview(http.trailing_data[0])
                return self._begin(event)
        return None

    def _begin(self, request: h11.Request) -> h11.Request:
        headers = dict(request.headers)
        options = [word.strip() for word in headers.get(b"connection", b"").lower().split(b",")]
        told = b"transfer-encoding" not in headers
        self.body_bytes = int(headers.get(b"content-length", b"0")) if told else UNTOLD_BYTES
        self.kept = KEPT_FOR_BULK in options and self.body_bytes <= (RANGE_BYTES_MAX if request.method == b"PUT" else 0)
        self._expects = headers.get(b"expect", b"").lower() == b"100-continue"
        self.begun = False
        return request

    async def _some(self) -> bytes:
        """Return some of what comes; where that can be, nothing behind the end of a head."""
        if self._early:
            data, self._early = bytes(self._early), memoryview(b"")
            return data
        if self._sock is None or not self._plain:
            return bytes(await self._taken.stream.receive_some(HEAD_BYTES_MAX))
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            with contextlib.suppress(BlockingIOError):
                seen = self._sock.recv(HEAD_BYTES_MAX, socket.MSG_PEEK)
                end = seen.find(b"\r\n\r\n")
                return self._sock.recv(len(seen) if end < 0 else end + 4)

    # ---- answers

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer a request; what is left of its own body is let pass, that the client can hear the answer."""
        if self._expects:  # it sends a body only when it is told to, or does not: nobody knows what comes next
            self.kept, self.body_bytes = False, 0
        await self.send(self.head(status, headers) + body)
        if self.body_bytes:
            with trio.move_on_after(BODY_SILENCE_S if self.kept else LINGER_S), contextlib.suppress(PfsError):
                while self.body_bytes:
                    await self.receive(min(self.body_bytes, LOOP_PIECE_BYTES))
            self.kept = self.kept and not self.body_bytes

    def head(self, status: int, headers: Headers) -> bytes:
        """Return the head of an answer."""
        return response_head(status, headers if self.kept else [*headers, (b"connection", b"close")])

    async def send(self, data: bytes) -> None:
        """Send some of an answer through the event loop, after all that a thread has left to be sent."""
        self.begun = True
        try:
            if self._records is not None and self._records.unsent:
                unsent, self._records.unsent = self._records.unsent, b""
                await self._taken.deadlines.send(transport_of(self._taken.stream), unsent)
            if data:
                await self._taken.send(data)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            raise GoneError from None

    # ---- bodies

    async def invite(self) -> None:
        """Let a client who waits for that send the body."""
        if self._expects:
            self._expects = False
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.begun = False  # the answer proper

    async def receive(self, size: int) -> bytes:
        """Return exactly so many bytes of the body.

        Raises:
            PfsError: TIMED_OUT when the client falls silent, or sends too slowly.
            GoneError: it left.
        """
        data = bytearray(size)
        end_s = trio.current_time() + BODY_SILENCE_S + size / BODY_RATE_MIN
        with memoryview(data) as view:
            got = self._take_early(view)
            while got < size:
                with trio.CancelScope(deadline=min(end_s, trio.current_time() + BODY_SILENCE_S)) as silence:
                    got += await self._receive_into(view[got:])
                if silence.cancelled_caught:
                    self.kept = False
                    raise PfsError(Kind.TIMED_OUT, "the upload was silent for too long, or too slow")
        self.body_bytes -= size
        return bytes(data)

    async def _receive_into(self, view: memoryview) -> int:
        stream = self._taken.stream
        try:
            if isinstance(stream, trio.SocketStream):
                count = await stream.socket.recv_into(view)
            else:
                data = await stream.receive_some(len(view))
                count = len(data)
                view[:count] = data
        except (OSError, trio.BrokenResourceError):
            raise GoneError from None
        if count == 0:
            raise GoneError
        return count

    def _take_early(self, view: memoryview) -> int:
        count = min(len(view), len(self._early))
        view[:count] = self._early[:count]
        self._early = self._early[count:]
        return count

    def receive_into_file(self, fd: int, offset: int, memory: bytearray, most: int = UNTOLD_BYTES) -> int:
        """Write to a file what comes of the body without a break; return how many bytes. For a thread.

        Args:
            memory: through which it goes.
            most: how many bytes at most.

        Raises:
            OSError: of the file.
            GoneError: the client left.
        """
        done = 0
        with memoryview(memory) as view, self._blocking() as sock:
            while self.body_bytes and done < most:
                wanted = min(len(view) - (offset + done) % len(view), self.body_bytes, most - done)  # whole pages
                got = self._take_early(view[:wanted])
                if got < wanted:
                    got += self._received(sock, view[got:wanted])
                self.body_bytes -= got
                _write(fd, view[:got], offset + done)
                done += got
                if got < wanted:
                    break
        return done

    def send_from_file(self, head: bytes, fd: int, offset: int, size: int) -> int:
        """Send a head, if any, and bytes of a file as long as they go without a break; return how many. For a thread.

        Raises:
            GoneError: the client left, or the file cannot be read.
        """
        done = count = wanted = 0
        self.begun = True
        with self._blocking() as sock:
            try:
                # there is room for the head: all before it has been taken
                if head and self._records is None:
                    sock.sendall(head, socket.MSG_MORE if size else 0)
                elif head and self._records is not None:
                    self._records.send(memoryview(head))
                while done < size and count == wanted:
                    wanted = min(size - done, PIECE_BYTES)
                    count = self._sent(sock, fd, offset + done, wanted)
                    done += count
                if self._records is not None:
                    with contextlib.suppress(BlockingIOError):
                        self._records.flush()
            except OSError:
                raise GoneError from None
        return done

    def _received(self, sock: socket.socket, view: memoryview) -> int:
        """Fill the memory, as far as that goes without a break; return how many bytes."""
        try:
            if self._records is None:
                count = sock.recv_into(view, 0, socket.MSG_WAITALL)
            else:
                count = self._records.receive_into(view)
        except BlockingIOError:
            return 0
        except OSError:
            raise GoneError from None
        if count == 0:
            raise GoneError
        return count

    def _sent(self, sock: socket.socket, fd: int, offset: int, size: int) -> int:
        """Send bytes of a file, as far as that goes without a break; return how many."""
        done = 0
        try:
            if self._records is None:
                return os.sendfile(sock.fileno(), fd, offset, size)
            while done < size and (data := os.pread(fd, min(size - done, SEND_BYTES), offset + done)):
                done += self._records.send(memoryview(data))
        except BlockingIOError:
            pass
        return done

    @contextlib.contextmanager
    def _blocking(self) -> Iterator[socket.socket]:
        """Let calls wait, which is for threads, for `STALL_S` at most."""
        sock = self._sock
        if sock is None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.set_blocking(sock.fileno(), True)
        try:
            yield sock
        finally:
            os.set_blocking(sock.fileno(), False)


def _write(fd: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
