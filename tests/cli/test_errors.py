import click
import pytest

from cli.errors import going_on, status_of
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


def done_with(capsys, *errors: PfsError | None) -> tuple[int, int, str]:
    """Do something with as many things as there are errors; return the status, how many were tried, what is said."""
    tried = []

    def act(error: PfsError | None) -> None:
        tried.append(error)
        if error is not None:
            raise error

    @click.command()
    def command() -> int:
        return going_on(errors, act)

    status = status_of("prog", lambda: command.main([], prog_name="prog", standalone_mode=False))
    return status, len(tried), capsys.readouterr().err


def test_what_cannot_be_done_with_one_of_several_things_keeps_the_others_from_nothing(capsys):
    missing, wrong = PfsError(Kind.NOT_FOUND, "no a"), PfsError(Kind.INVALID, "no name")
    assert done_with(capsys, None, None) == (0, 2, "")
    assert done_with(capsys, None, missing, None, wrong, None) == (1, 5, "prog: no a\nprog: no name\n")
    assert done_with(capsys, wrong, missing) == (2, 2, "prog: no name\nprog: no a\n")


@pytest.mark.parametrize("kind", [Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.UNAUTHENTICATED])
def test_what_goes_wrong_with_each_the_same_is_told_once(capsys, kind):
    status, tried, text = done_with(capsys, None, PfsError(kind, "no answer"), None)
    assert (status > 0, tried, text) == (True, 2, "prog: no answer\n")
