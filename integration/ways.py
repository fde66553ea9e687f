"""Ways to a server that do not let everything pass: each is a port of this machine that leads to another one.

What comes from either side is passed on until one hangs up, or the way itself says that it is cut.
"""

import contextlib
import select
import socket
import threading
from abc import ABC, abstractmethod


class Way(ABC):
    """A way to a port of this machine.

    Attributes:
        port: where it begins.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @abstractmethod
    def lets_pass(self, size_bytes: int, *, up: bool) -> bool:
        """Tell, now or later, whether some bytes pass; if not, both sides of their connection are closed.

        Args:
            up: they come from who uses the way, and not from the server.
        """

    def close(self) -> None:
        """Let nobody begin any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    received = source.recv(65536)
                    if not received or not self.lets_pass(len(received), up=source is near):
                        return
                    (far if source is near else near).sendall(received)
