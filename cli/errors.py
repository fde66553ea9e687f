"""How a command ends when something is wrong: one line on stderr, and a status; never a traceback."""

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import click

from pfs.errors import Kind, PfsError

DEFECT = 70
# 2: what was asked for is wrong. 1: it was right, and could not be done
STATUS_OF_KIND = {Kind.INVALID: 2, Kind.UNAUTHENTICATED: 2, Kind.NAME_TOO_LONG: 2}
OF_ALL = frozenset({Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.UNAUTHENTICATED})  # what goes wrong with each the same

Thing = TypeVar("Thing")


def only_error(error: BaseException) -> BaseException:
    """Return the error in a group of one: nurseries wrap even a single one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def run_command(command: click.Command, program: str) -> None:
    """Run a click command as a program and exit with its status."""
    sys.exit(status_of(program, lambda: command.main(prog_name=program, standalone_mode=False)))


def status_of(program: str, work: Callable[[], object], say: Callable[[str], None] | None = None) -> int:
    """Run `work`, telling what goes wrong in one line, and return the program's exit status.

    Args:
        say: takes the line; where there is none, it goes to stderr, behind the program's name.
    """
    say = say or partial(_say, program)
    try:
        result = work()
    except click.exceptions.Abort:
        return 130
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        say(error.message)
        return error.exit_code
    except SystemExit as ended:  # by click or argparse, who have said why
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
        return 141
    except BaseException as error:
        return _told(say, only_error(error))
    return result if isinstance(result, int) else 0


def going_on(things: Iterable[Thing], act: Callable[[Thing], object]) -> int:
    """Do something with each of several things, also behind one with which it could not be done, which is told.

    Returns:
        The exit status of the first that could not be done, and 0 where there is none.

    Raises:
        PfsError: none of them can be done: nobody answers, or nobody knows who asks.
    """
    program = click.get_current_context().find_root().info_name or ""
    status = 0
    for thing in things:
        try:
            act(thing)
        except PfsError as error:
            if error.kind in OF_ALL:
                raise
            told = _told(partial(_say, program), error)
            status = status or told
    return status


def _say(program: str, text: str) -> None:
    click.echo(f"{program}: {text}", err=True)


def _told(say: Callable[[str], None], error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, PfsError):
        say(str(error))
        return STATUS_OF_KIND.get(error.kind, 1)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
        return 1
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    said = next(iter(str(error).splitlines()), "")
    say(f"a defect of this program: {type(error).__name__}: {said} ({where})")
    return DEFECT
