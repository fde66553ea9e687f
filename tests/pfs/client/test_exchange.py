"""How long a request may take, and what a thread that waits for a server hears when its connection is ended."""

import socket
import threading
import time

import pytest

from pfs.client.exchange import (
    SILENCE_MAX_S,
    SLOWEST_BYTES_PER_S,
    Connection,
    GoneError,
    Patience,
    Question,
    SilentError,
)


def lasts_s(size: int, step_s: float) -> float:
    """Return how long a request lasts on which a byte moves every so often."""
    patience, now_s = Patience(size, 100.0), 100.0
    while True:
        now_s += step_s
        try:
            patience.moved(now_s)
        except SilentError:
            return now_s - 100.0


def test_silence_ends_a_request_of_any_size() -> None:
    patience = Patience(1 << 40, 100.0)
    patience.moved(101.0)
    patience.check(101.0 + SILENCE_MAX_S - 0.1)
    with pytest.raises(SilentError):
        patience.check(101.0 + SILENCE_MAX_S)


def test_a_trickle_ends_by_the_size() -> None:
    assert lasts_s(10 * SLOWEST_BYTES_PER_S, SILENCE_MAX_S / 3) == pytest.approx(SILENCE_MAX_S + 10)


def test_what_moves_is_noted() -> None:
    patience = Patience(0, 100.0)
    patience.moved(103.0)
    assert patience.moved_s == 103.0


@pytest.mark.parametrize("data", [b"", bytes(64 << 20)])  # it waits for an answer; it waits until all is sent
def test_closing_ends_what_a_thread_waits_for(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    connection, heard = Connection(ours), list[Exception]()

    def ask() -> None:
        question = Question("PUT" if data else "GET", "/", [("host", "x")], (data,) if data else ())
        try:
            connection.ask(question, Patience(len(data), time.monotonic()))
        except GoneError as error:
            heard.append(error)

    with theirs:
        thread = threading.Thread(target=ask)
        thread.start()
        assert theirs.recv(3)  # it has begun
        connection.close()
        thread.join(timeout=60)
    assert len(heard) == 1


def test_a_connection_that_was_closed_is_gone() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    connection.close()
    connection.close()
    with theirs, pytest.raises(GoneError):
        connection.ask(Question("GET", "/", [("host", "x")]), Patience(0, time.monotonic()))


def test_an_answer_whose_head_comes_in_parts_is_put_together() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    parts = [b"HTTP/1.1 2", b"06 X\r\ncontent-le", b"ngth: 6\r\n\r", b"\nab", b"cd", b"ef"]

    def answer() -> None:
        theirs.recv(1000)
        for part in parts:
            theirs.send(part)
            while theirs_unread(ours):
                time.sleep(0.001)

    with theirs:
        thread = threading.Thread(target=answer)
        thread.start()
        found = connection.ask(Question("GET", "/", [("host", "x")], body_bytes_max=6), Patience(6, time.monotonic()))
        thread.join(timeout=60)
        assert (found.status, found.body, found.cut, connection.reusable) == (206, b"abcdef", False, True)
        connection.close()


def theirs_unread(sock: socket.socket) -> bool:
    """Tell whether something was sent that is not received."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False
