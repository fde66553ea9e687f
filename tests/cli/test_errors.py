import click
import pytest

from cli.errors import status_of
from pfs.errors import Kind, PfsError


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (PfsError(Kind.UNREACHABLE, "no answer"), 1, "prog: no answer\n"),
        (PfsError(Kind.UNAUTHENTICATED, "no token"), 2, "prog: no token\n"),
        (ExceptionGroup("g", [ExceptionGroup("h", [PfsError(Kind.BUSY, "busy")])]), 1, "prog: busy\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "prog: x: No such file or directory\n"),
        (click.UsageError("wrong word"), 2, "Error: wrong word\n"),
        (click.ClickException("not this"), 1, "prog: not this\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_a_status(capsys, error, status, says):
    assert status_of("prog", raising(error)) == status
    assert capsys.readouterr().err == says


def test_a_defect_is_one_line_with_its_place(capsys):
    assert status_of("prog", raising(ZeroDivisionError("x"))) == 70
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "ZeroDivisionError" in text
    assert "test_errors.py, line" in text


def test_a_result_is_the_status():
    assert status_of("prog", lambda: 3) == 3
    assert status_of("prog", lambda: None) == 0
