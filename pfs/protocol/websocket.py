"""A WebSocket at either end after its handshake: what carries a channel's messages.

A message leaves at once where the socket takes it: no turn of the event loop, no lock. Both ends listen for signs of
life; the server asks for them (`ping`) and the dialling end answers, so that neither takes a dead line for a quiet one.
"""

import contextlib
import logging
import os
from collections import deque

import trio

from pfs.errors import Kind, PfsError
from pfs.protocol.frames import FrameReader, Opcode, encode_message
from pfs.protocol.lookout import Lookout
from pfs.protocol.wire import FRAME_BYTES_MAX

log = logging.getLogger(__name__)

RECEIVE_BYTES = 64 * 1024
PING_EVERY_S = 20.0
SILENCE_MAX_S = 65.0  # three pings without any sign of life
CLOSE_NORMAL, CLOSE_WRONG, CLOSE_TOO_LARGE = 1000, 1002, 1009


class WebSocketTransport:
    """`pfs.protocol.channel.Transport` over a stream.

    Args:
        stream: plain or TLS.
        dialled: this end has dialled; so it masks what it sends, and the other end pings.
        early: what came behind the handshake.
    """

    def __init__(self, stream: trio.abc.Stream, *, dialled: bool, early: bytes = b"") -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._dialled = dialled
        self._frames = FrameReader(masked=not dialled, bytes_max=FRAME_BYTES_MAX)
        self._early = early
        self._messages: deque[bytes] = deque()
        self._over = False
        self._closed = False
        self._why = CLOSE_NORMAL
        self._heard_s = trio.current_time()
        self._pongs: deque[bytes] = deque(maxlen=1)
        self._wake = trio.Event()
        self._lookout = Lookout(self._socket.fileno()) if self._socket is not None and dialled else None

    def frame(self, message: bytes) -> bytes:
        """Return the bytes that carry `message`."""
        return self._framed(Opcode.BINARY, message)

    def _framed(self, opcode: Opcode, data: bytes) -> bytes:
        return encode_message(opcode, data, os.urandom(4) if self._dialled else None)

    def send_now(self, data: bytes) -> int:
        """Give the socket as much as it takes without waiting; return how many bytes."""
        if self._socket is None:
            return 0
        fd = self._socket.fileno()
        if fd < 0:
            raise trio.ClosedResourceError
        try:
            return os.write(fd, data)
        except BlockingIOError:
            return 0

    async def send_rest(self, data: bytes) -> None:
        """Send all of `data`; one caller at a time."""
        await self._stream.send_all(data)

    async def receive(self) -> bytes | None:
        """Return the next message, None when there will be no more."""
        while not self._messages:
            if self._over:
                return None
            try:
                data = self._early or await self._receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                return None
            if not data:
                return None
            self._early = b""
            self._take(data)
        return self._messages.popleft()

    async def _receive_some(self) -> bytes | bytearray:
        if self._socket is None:
            return await self._stream.receive_some(RECEIVE_BYTES)
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(BlockingIOError):  # somebody has looked, and taken it
                return os.read(self._socket.fileno(), RECEIVE_BYTES)

    def pays_to_look(self, *, alone: bool) -> bool:
        """Tell whether to look for the answer to a question; see `pfs.protocol.lookout`."""
        return self._lookout is not None and not self._early and self._lookout.pays(alone=alone)

    def look(self) -> list[bytes]:
        """Return the next messages, if any come within a moment; a task may be waiting in `receive`."""
        if not self._messages and self._socket is not None and self._lookout is not None and self._lookout.sees():
            with contextlib.suppress(OSError):  # who receives is told of it, and of the end
                self._take(os.read(self._socket.fileno(), RECEIVE_BYTES))
            if self._over:
                trio.lowlevel.notify_closing(self._socket)
        found = list(self._messages)
        self._messages.clear()
        return found

    def _take(self, data: bytes | bytearray) -> None:
        self._heard_s = trio.current_time()
        try:
            found = self._frames.feed(bytes(data))
        except PfsError as error:
            log.info("a connection is ended: %s", error.message)
            self._over = True
            self._why = CLOSE_TOO_LARGE if error.kind is Kind.TOO_LARGE else CLOSE_WRONG
            return
        for message in found:
            if message.opcode is Opcode.BINARY:
                self._messages.append(message.data)
            elif message.opcode is Opcode.PING:
                self._pongs.append(message.data)
                self._wake.set()
            elif message.opcode is not Opcode.PONG:
                self._over = True

    async def pulse(self) -> bytes | None:
        """Return what is to be sent next to keep the line alive, once it is time; None when it is dead."""
        while True:
            wait_s = SILENCE_MAX_S if self._dialled else PING_EVERY_S
            with trio.move_on_after(wait_s):
                await self._wake.wait()
            if self._pongs:
                self._wake = trio.Event()
                return self._framed(Opcode.PONG, self._pongs.pop())
            if trio.current_time() >= self._heard_s + SILENCE_MAX_S:
                return None
            if not self._dialled:
                return self._framed(Opcode.PING, b"")

    async def close(self) -> None:
        """Hang up; who is at the other end is told, if the socket takes that at once."""
        if not self._closed:
            self._over = self._closed = True
            try:
                self.send_now(self._framed(Opcode.CLOSE, self._why.to_bytes(2, "big")))
            except (OSError, trio.ClosedResourceError):
                log.debug("the other end is gone already")
        await trio.aclose_forcefully(self._stream)
