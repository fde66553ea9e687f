"""`paddle forward`: which ports, who may connect to them, what goes through, and what is said of it."""

import contextlib
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.attach.forward import BACK, LOST, Pair, parse_ports
from pfs.errors import PfsError
from tests.cli.attach.conftest import Typed

WAIT_S = 60


@pytest.mark.parametrize(
    ("words", "pairs"),
    [(("8080:80",), [Pair(8080, 80)]), (("6006", "0:22"), [Pair(6006, 6006), Pair(0, 22)])],
)
def test_a_port_is_said_for_here_and_there_or_once_for_both(words: tuple[str, ...], pairs: list[Pair]) -> None:
    assert parse_ports(words) == pairs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no port is named"),
        (("http",), "'http' is no port"),
        (("80:",), "'80:' is no port"),
        (("8080:0",), "is no port"),
        (("65536",), "is no port"),
        (("80:65536",), "is no port"),
        (("8080:80", "8080:81"), "port 8080 of this machine is named twice"),
    ],
)
def test_what_is_no_port_is_told(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(PfsError, match=re.escape(said)):
        parse_ports(words)


@contextmanager
def forwarding(typed: Typed, *ports: int) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Forward these ports of the job to any that are free; yields where they are."""
    words = [f"0:{port}" for port in ports]
    how = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with typed.started("forward", "17", *words, **how) as process:
        assert process.stderr is not None
        here = []
        for port in ports:
            line = process.stderr.readline()
            found = re.fullmatch(rf"127\.0\.0\.1:(\d+) is port {port} of job 17; Ctrl-C ends that\n", line)
            assert found is not None, line
            here.append(int(found[1]))
        yield process, here


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Serve connections: read all until they are closed on that half, then answer, with how much it was."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                count = 0
                while data := connection.recv(1 << 16):
                    count += len(data)
                connection.sendall(answer + b" %d" % count)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def everything(connection: socket.socket) -> bytes:
    connection.settimeout(WAIT_S)
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_who_wants_to_hear_nothing_is_not_told_of_ports(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    how = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with server(b"a") as there, typed.started("forward", "-q", "17", f"{port}:{there}", **how) as process:
        with connected(port) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection) == b"a 0"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT_S) == (None, "")
        assert process.returncode == 0


def connected(port: int) -> socket.socket:
    """Connect to a port of this machine as soon as somebody listens there."""
    until_s = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < until_s
            time.sleep(0.05)


def test_many_connections_at_once_to_many_ports_each_half_closed_for_itself(typed: Typed) -> None:
    with server(b"a") as a, server(b"b") as b, forwarding(typed, a, b) as (process, [first, second]):
        connections = [socket.create_connection(("127.0.0.1", port)) for port in (first, second, first)]
        for count, connection in enumerate(connections):
            connection.sendall(bytes(count * 100_000))
        for connection in connections:
            connection.shutdown(socket.SHUT_WR)
        assert [everything(connection) for connection in connections] == [b"a 0", b"b 100000", b"a 200000"]
        for connection in connections:
            connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_who_has_said_all_there_still_hears_what_is_said_here(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        with (
            forwarding(typed, listener.getsockname()[1]) as (_, [here]),
            socket.create_connection(("127.0.0.1", here)) as connection,
        ):
            there, _ = listener.accept()
            with there:
                there.sendall(b"all")
                there.shutdown(socket.SHUT_WR)
                assert everything(connection) == b"all"
                connection.sendall(b"heard")
                connection.shutdown(socket.SHUT_WR)
                assert everything(there) == b"heard"


def test_only_this_machine_is_let_in(typed: Typed) -> None:
    with server(b"a") as port, forwarding(typed, port) as (_, [here]), socket.socket() as other:
        other.bind(("127.0.0.2", here))  # nobody has it there


def test_a_port_that_nobody_listens_on_there_is_told_once_and_the_connection_is_closed(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with forwarding(typed, port) as (process, [here]):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", here)) as connection:
                assert everything(connection) == b""
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == f"port {port}: nobody listens on port {port} there\n"


def test_a_port_in_use_is_told_before_anything_is_forwarded(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = typed.words("forward", "17", "0:80", f"{port}:80")
        done = subprocess.run(words, env=typed.env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    said = f"paddle: port {port} of this machine is in use; take another one, as in 8081:80\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_job_that_cannot_be_entered_is_told_before_anything_is_forwarded(typed: Typed) -> None:
    words = typed.words("forward", "18", "0:80")
    done = subprocess.run(words, env=typed.env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (1, "paddle: job 18 is not running: it waits\n")


def answered(port: int, asked: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(asked)
        connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def test_ports_outlive_a_connection_to_the_server_and_what_went_by_it_is_closed(typed: Typed) -> None:
    with server(b"a") as port, forwarding(typed, port) as (process, [here]):
        assert process.stderr is not None
        with socket.create_connection(("127.0.0.1", here)) as connection:
            begun = len(typed.fake.sessions)
            connection.sendall(b"x")
            assert answered(here, b"") == b"a 0"  # by now the first one is there, too
            typed.fake.drop(typed.fake.sessions[begun])
            assert everything(connection) == b""
        assert process.stderr.readline() == f"{LOST}\n"
        assert answered(here, b"xyz") == b"a 3"
        assert process.stderr.readline() == f"{BACK}\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(WAIT_S), process.stderr.read()) == (0, "")


def test_who_connects_while_the_server_is_away_is_served_when_it_is_back(typed: Typed) -> None:
    with server(b"a") as port, forwarding(typed, port) as (process, [here]):
        assert process.stderr is not None
        assert answered(here, b"") == b"a 0"
        with typed.fake.away():
            assert process.stderr.readline() == f"{LOST}\n"
            connection = socket.create_connection(("127.0.0.1", here))
            connection.sendall(b"xyz")
            connection.shutdown(socket.SHUT_WR)
        with connection:
            assert everything(connection) == b"a 3"


def test_who_is_not_let_in_any_more_is_told(typed: Typed) -> None:
    with server(b"a") as port, forwarding(typed, port) as (process, [here]):
        assert process.stderr is not None
        assert answered(here, b"") == b"a 0"
        with typed.fake.closed_to_all():
            typed.fake.drop(typed.fake.sessions[-1])
            assert process.wait(WAIT_S) == 2
        refusal = f"the server at {typed.fake.url} does not accept the token"
        assert process.stderr.read() == f"{LOST}\npaddle: {refusal}\n"


def test_who_hangs_up_here_hangs_up_there(typed: Typed) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        forwarding(typed, listener.getsockname()[1]) as (_, [here]),
    ):
        listener.settimeout(WAIT_S)
        with socket.create_connection(("127.0.0.1", here)) as connection:
            there, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()  # by a reset
            with there:
                there.settimeout(WAIT_S)
                with contextlib.suppress(ConnectionResetError):
                    assert there.recv(1) == b""
