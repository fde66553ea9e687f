"""A parameter server, and how trainers ask it.

Of `n` servers, server `i` has the rows `i`, `i + n`, … of every table. A message is a line of JSON and then arrays, as
many bytes as the line says:

    {"op": "pull", "tables": […]}   for each its rows               → for each the values of these
    {"op": "push", "tables": […]}   for each its rows, and changes  → nothing, once all trainers have pushed theirs
"""

import json
import socket
import socketserver
import threading
import time
from typing import Any

import ngram
import numpy as np

RATE = 0.1
PATIENCE_S = 60.0

Arrays = dict[str, np.ndarray]


class Shard:
    """The rows of one server."""

    def __init__(self, index: int, servers: int, trainers: int, words: int) -> None:
        shapes = ngram.shapes(words)
        self.tables = {name: ngram.first(name, *shape)[index::servers] for name, shape in shapes.items()}
        self._squares = {name: np.full_like(table, 1e-6) for name, table in self.tables.items()}
        self._sums = {name: np.zeros_like(table) for name, table in self.tables.items()}
        self._servers = servers
        self._trainers = trainers
        self._ready = 0
        self._done = 0
        self._changed = threading.Condition()

    def pull(self, rows: Arrays) -> Arrays:
        """Return rows of tables as they are now."""
        with self._changed:
            return {name: self.tables[name][which // self._servers] for name, which in rows.items()}

    def push(self, rows: Arrays, values: Arrays) -> None:
        """Take what rows should change by, and return when all trainers have said so and the rows are others."""
        with self._changed:
            own = self._done
            for name, which in rows.items():
                self._sums[name][which // self._servers] += values[name]
            self._ready += 1
            if self._ready == self._trainers:
                self._apply()
                self._ready, self._done = 0, own + 1
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._done > own)

    def _apply(self) -> None:
        for name, total in self._sums.items():
            mean = total / self._trainers
            self._squares[name] += mean**2
            self.tables[name] -= RATE * mean / np.sqrt(self._squares[name])
            total[:] = 0


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        shard: Shard = self.server.shard  # type: ignore[attr-defined]
        while (message := _read(self.rfile)) is not None:
            said, arrays = message
            names = said["tables"]
            rows = dict(zip(names, arrays, strict=False))
            if said["op"] == "pull":
                _write(self.wfile, {}, *shard.pull(rows).values())
            else:
                shard.push(rows, dict(zip(names, arrays[len(names) :], strict=True)))
                _write(self.wfile, {})


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def serve(port: int, shard: Shard) -> None:
    """Serve a shard until the job ends the process."""
    with _Server(("", port), _Handler) as server:
        server.shard = shard  # type: ignore[attr-defined]
        server.serve_forever()


class Client:
    """All servers, as a trainer asks them."""

    def __init__(self, hosts: list[str], port: int) -> None:
        self._files: list[Any] = []
        for host in hosts:
            connection = _connected(host, port)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._files.append(connection.makefile("rwb"))

    def pull(self, rows: Arrays) -> Arrays:
        """Return rows of tables, from whichever server has them."""
        answers = self._ask("pull", rows)
        found = {name: np.empty((len(rows[name]), ngram.columns_of(name)), ngram.FLOAT) for name in rows}
        for index, answer in enumerate(answers):
            for name, values in zip(rows, answer, strict=True):
                found[name][self._is_at(index, rows[name])] = values
        return found

    def push(self, rows: Arrays, values: Arrays) -> None:
        """Send what rows of tables should change by; return when all trainers have done so."""
        self._ask("push", rows, values)

    def _is_at(self, index: int, rows: np.ndarray) -> np.ndarray:
        return rows % len(self._files) == index

    def _ask(self, op: str, rows: Arrays, values: Arrays | None = None) -> list[list[np.ndarray]]:
        for index, file in enumerate(self._files):
            mine = {name: self._is_at(index, which) for name, which in rows.items()}
            arrays = [each[name][mine[name]] for each in (rows, values or {}) for name in each]
            _write(file, {"op": op, "tables": list(rows)}, *arrays)
        answers = [_read(file) for file in self._files]
        if None in answers:
            raise ConnectionError("a parameter server is gone")
        return [answer[1] for answer in answers if answer is not None]


def _connected(host: str, port: int) -> socket.socket:
    """Connect to a server, which was started before and may not listen yet."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((host, port))
        except ConnectionRefusedError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(0.05)


def _write(file: Any, said: dict[str, Any], *arrays: np.ndarray) -> None:
    told = [[str(array.dtype), array.shape] for array in arrays]
    file.write(json.dumps({**said, "arrays": told}).encode() + b"\n")
    for array in arrays:
        file.write(np.ascontiguousarray(array).tobytes())
    file.flush()


def _read(file: Any) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    line = file.readline()
    if not line:
        return None
    said = json.loads(line)
    arrays = []
    for dtype, shape in said["arrays"]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        arrays.append(np.frombuffer(file.read(size), dtype).reshape(shape))
    return said, arrays
