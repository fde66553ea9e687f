"""TLS between two threads."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme

from pfs.protocol.records import SEND_BYTES, Records

HOST = "pfs.test"


def records(sock: socket.socket, context: ssl.SSLContext, **how: object) -> Records:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return Records(sock, context.wrap_bio(incoming, outgoing, **how), incoming, outgoing)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert(HOST).configure_cert(server)
    return client, server


@contextlib.contextmanager
def beside(call: Callable[[], object]) -> Iterator[None]:
    """Call something in a thread while the block runs."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=60)


@contextlib.contextmanager
def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[tuple[Records, Records, socket.socket]]:
    """Yield both ends, and the socket of the second."""
    one, other = socket.socketpair()
    with one, other:
        ours = records(one, contexts[0], server_hostname=HOST)
        theirs = records(other, contexts[1], server_side=True)
        with beside(theirs.shake_hands):
            ours.shake_hands()
        yield ours, theirs, other


def send_all(end: Records, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[end.send(view) :]
    end.flush()


@pytest.mark.parametrize("size", [1, 16 * 1024 + 1, 3 * SEND_BYTES + 7])
def test_what_is_sent_arrives(contexts: tuple[ssl.SSLContext, ssl.SSLContext], size: int) -> None:
    data, memory = os.urandom(size), bytearray(size)
    with connected(contexts) as (ours, theirs, _), beside(lambda: send_all(ours, data)):
        assert theirs.receive_into(memoryview(memory)) == size
    assert memory == data


def test_memory_is_filled_as_far_as_anything_comes(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    memory = bytearray(100)
    with connected(contexts) as (ours, theirs, sock):
        send_all(ours, b"0123")
        sock.setblocking(False)
        assert theirs.receive_into(memoryview(memory)) == 4
        with pytest.raises(BlockingIOError):
            theirs.receive_into(memoryview(memory))
        send_all(ours, b"45")
        assert theirs.receive(100) == b"45"
    assert memory[:4] == b"0123"


def test_an_end_that_was_cut_is_no_end(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with connected(contexts) as (ours, _theirs, sock):
        sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OSError, match="EOF"):
            ours.receive(1)


def test_who_is_not_trusted_is_not_talked_to(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    one, other = socket.socketpair()
    with one, other:
        ours = records(one, ssl.create_default_context(), server_hostname=HOST)
        theirs = records(other, contexts[1], server_side=True)

        def answer() -> None:
            with contextlib.suppress(OSError):
                theirs.shake_hands()

        with beside(answer):
            with pytest.raises(ssl.SSLCertVerificationError):
                ours.shake_hands()
            one.close()
