"""TLS for threads: encrypts and decrypts many records in one go, over a socket that blocks.

An `ssl.SSLSocket` asks the kernel twice for each record of 16 KiB, and an event loop takes a turn for each; here a
quarter of a megabyte is received at a time, and decrypted where it is wanted. What arrived and is not decrypted yet is
in the `ssl.MemoryBIO`, so that several who take turns can share a connection.
"""

import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not loaded for commands that look once and end
    import trio

RECEIVE_BYTES = 256 * 1024
SEND_BYTES = 256 * 1024


class Records:
    """One TLS connection. All calls may raise what the socket raises, and are then made again.

    Args:
        sock: blocks, for as long as it may take.
        tls: made by `ssl.SSLContext.wrap_bio` with the other two.
    """

    def __init__(
        self, sock: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._sock = sock
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self.unsent = b""  # encrypted, and to be sent before anything else

    @classmethod
    def of(cls, stream: "trio.SSLStream[trio.SocketStream]", sock: socket.socket) -> "Records | None":
        """Return what goes on with a connection where trio is; None when this is not the trio that is known here.

        What trio is asked to do meanwhile is well, too, but for sending before `unsent`.

        Args:
            sock: the same socket, which blocks.
        """
        try:
            made = cls(sock, stream._ssl_object, stream._incoming, stream._outgoing)
            made.unsent, stream._delayed_outgoing = stream._delayed_outgoing or b"", None
        except AttributeError:
            return None
        return made

    def shake_hands(self) -> None:
        """Agree on keys; raises OSError when the other side is not trusted."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                self._receive()
            else:
                self.flush()
                return

    def receive_into(self, view: memoryview) -> int:
        """Fill the memory; return how many bytes: fewer at the end, or when nothing comes for too long."""
        got = 0
        while got < len(view):
            try:
                count: int = self._tls.read(len(view) - got, view[got:])  # type: ignore[assignment]
            except ssl.SSLWantReadError:
                try:
                    self._receive()
                except BlockingIOError:
                    if got:
                        break
                    raise
                continue
            if count == 0:
                break
            got += count
        return got

    def receive(self, size: int) -> bytes:
        """Return some bytes, none at the end."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._receive()

    def send(self, view: memoryview) -> int:
        """Encrypt and send some bytes; return how many. Some of the last ones may still be in `unsent`."""
        self.flush()
        count = self._tls.write(view[:SEND_BYTES])
        self.unsent = self._outgoing.read()
        return count

    def flush(self) -> None:
        """Send what is encrypted."""
        self.unsent += self._outgoing.read()
        while self.unsent:
            self.unsent = self.unsent[self._sock.send(self.unsent) :]

    def _receive(self) -> None:
        data = self._sock.recv(RECEIVE_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
