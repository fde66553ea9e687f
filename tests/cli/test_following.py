"""What commands do with a job that they have submitted, also when the way to the server is cut."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli import following
from cli.following import copy_stream, exit_code, follow, submit
from cli.resuming import TRIES
from pfs.errors import Kind, PfsError

CUT = PfsError(Kind.UNREACHABLE, "no answer from the server")


class Server:
    """Gives, for each time that a stream is opened, some pieces, and then perhaps an error."""

    def __init__(self, *runs: tuple[list[bytes], BaseException | None]) -> None:
        self.runs = list(runs)
        self.put_keys: list[str] = []
        self.puts: list[BaseException | str] = []

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        pieces, error = self.runs.pop(0)

        def come() -> Iterator[bytes]:
            yield from pieces
            if error is not None:
                raise error

        yield come()

    def put(self, path: str, data: bytes, key: str) -> str:
        self.put_keys.append(key)
        answer = self.puts.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def no_sleep(_seconds: float) -> None:
    return None


def test_a_stream_that_was_cut_goes_on_where_it_was(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    server = Server(([b"first\n", b"sec"], CUT), ([], CUT), ([b"first", b"\nsecond\n", b"third\n"], None))
    copy_stream(server, "jobs/1/log", no_sleep)  # type: ignore[arg-type]
    assert capfdbinary.readouterr().out == b"first\nsecond\nthird\n"


def test_a_server_that_stays_away_is_told_in_the_end() -> None:
    with pytest.raises(PfsError, match="no answer"):
        copy_stream(Server(*[([], CUT)] * TRIES), "jobs/1/log", no_sleep)  # type: ignore[arg-type]


def test_what_the_server_refuses_is_told_at_once() -> None:
    refusal = PfsError(Kind.NOT_FOUND, "no such file or directory")
    with pytest.raises(PfsError, match="no such file"):
        copy_stream(Server(([], refusal)), "jobs/1/log", no_sleep)  # type: ignore[arg-type]


def test_who_stops_looking_is_told_that_the_job_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    server = Server(([b"line\n"], KeyboardInterrupt()))
    assert not follow(server, "jobs/17", "pit stop 17 ends it")  # type: ignore[arg-type]
    out, err = capfd.readouterr()
    assert out == "line\n"
    assert "job 17 goes on; pit stop 17 ends it" in err


def test_a_cut_submission_is_repeated_with_the_same_key() -> None:
    server = Server()
    server.puts = [CUT, "jobs/17"]
    assert submit(server, "j.yaml", b"", "key", no_sleep) == "jobs/17"  # type: ignore[arg-type]
    assert server.put_keys == ["key", "key"]
    server.puts = [PfsError(Kind.INVALID, "line 1: no")]
    with pytest.raises(PfsError, match="line 1"):
        submit(server, "j.yaml", b"", "key", no_sleep)  # type: ignore[arg-type]


def test_the_exit_code_is_the_jobs() -> None:
    assert exit_code(Server(([b"7\n"], None)), "jobs/17") == 7  # type: ignore[arg-type]
    assert following.INTERRUPTED == 130
