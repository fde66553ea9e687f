"""Requests of short commands: what is kept, what is noticed, and what is heard of a server that refuses."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pfs.client.http11 import PIECE_BYTES, Body, Http, HttpError, Request

WAIT_S = 30.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nmuch"


def head(connection: socket.socket) -> bytes:
    """Return the head of a request."""
    came = b""
    while b"\r\n\r\n" not in came and (data := connection.recv(1)):
        came += data
    return came


@contextmanager
def server(*conversations: Callable[[socket.socket], object]) -> Iterator[Http]:
    """Take one connection after the other, and have each conversation on one; give who asks."""

    def serve() -> None:
        for conversation in conversations:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(WAIT_S)
                conversation(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        thread = threading.Thread(target=serve)
        thread.start()
        http = Http(f"http://127.0.0.1:{listener.getsockname()[1]}", {"x-key": "k"}, None, WAIT_S)
        try:
            yield http
        finally:
            http.close()
            thread.join()


def ask(http: Http, method: str = "GET", body: Body | None = None) -> tuple[int, bytes]:
    with http.asking(Request(method, "/x", {}, body, WAIT_S)) as answer:
        return answer.status, answer.read()


def test_requests_follow_one_another_on_one_connection() -> None:
    heads: list[bytes] = []

    def twice(connection: socket.socket) -> None:
        for _ in range(2):
            heads.append(head(connection))
            connection.sendall(OK)

    with server(twice) as http:
        assert [ask(http), ask(http)] == [(200, b"ok")] * 2
    assert all(each.startswith(b"GET /x HTTP/1.1\r\n") and b"x-key: k\r\n" in each for each in heads)


def test_a_kept_connection_that_ended_is_not_asked() -> None:
    ended = threading.Event()

    def once(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)
        ended.set()

    with server(once, once) as http:
        assert ask(http) == (200, b"ok")
        assert ended.wait(WAIT_S)
        assert ask(http, "PUT", b"") == (200, b"ok")  # which is never asked twice


def test_a_body_that_is_cut_is_no_whole_one() -> None:
    def cut(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    got: list[bytes] = []
    request = Request("GET", "/x", {}, None, WAIT_S)
    with server(cut) as http, pytest.raises(HttpError, match="hung up"), http.asking(request) as answer:
        got.extend(answer.pieces())
    assert got == [b"half"]
    with server(cut) as http, pytest.raises(HttpError, match="hung up"):
        ask(http)


def test_a_body_whose_length_is_told_comes_in_large_pieces() -> None:
    def give(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * PIECE_BYTES + 1))
        for _ in range(2 * PIECE_BYTES // 16384):
            connection.sendall(bytes(16384))
        connection.sendall(b"x")

    request = Request("GET", "/x", {}, None, WAIT_S)
    with server(give) as http, http.asking(request) as answer:
        assert [len(piece) for piece in answer.pieces()] == [PIECE_BYTES, PIECE_BYTES, 1]


def test_a_body_whose_length_is_not_told_is_given_as_it_comes() -> None:
    came = threading.Event()

    def give(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        if came.wait(WAIT_S):
            connection.sendall(b"4\r\nlast\r\n0\r\n\r\n")

    got: list[bytes] = []
    request = Request("GET", "/x", {}, None, WAIT_S)
    with server(give) as http, http.asking(request) as answer:
        for piece in answer.pieces():
            got.append(piece)
            came.set()
    assert got == [b"first", b"last"]


def test_who_takes_no_more_of_an_upload_is_heard() -> None:
    refused = threading.Event()

    def refuse(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(REFUSED)
        connection.close()  # and with what was not read the connection is reset
        refused.set()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert refused.wait(WAIT_S)
        yield from [b"second"] * 3

    with server(refuse) as http:
        assert ask(http, "PUT", pieces()) == (413, b"much")


def test_pieces_are_sent_as_they_come() -> None:
    came: list[bytes] = []

    def take(connection: socket.socket) -> None:
        assert b"transfer-encoding: chunked\r\n" in head(connection)
        text = b""
        while not text.endswith(b"0\r\n\r\n"):
            text += connection.recv(65536)
        came.append(text)
        connection.sendall(OK)

    with server(take) as http:
        assert ask(http, "PUT", iter([b"in ", b"", b"pieces"])) == (200, b"ok")
    assert came == [b"3\r\nin \r\n6\r\npieces\r\n0\r\n\r\n"]


def test_what_goes_wrong_with_the_pieces_is_no_matter_of_the_server() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise PermissionError(13, "Permission denied")

    with server(head) as http, pytest.raises(PermissionError):
        ask(http, "PUT", pieces())


def test_a_proxy_for_browsers_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    def once(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(OK)

    with server(once) as http:
        assert ask(http) == (200, b"ok")
