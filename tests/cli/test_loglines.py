"""Lines of the daemons' logs: nobody forges one, and none commands a terminal."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.loglines import GoFormatter, JsonFormatter, LineFormatter, escaped, log_lines
from pfs.protocol.defects import told_defect

LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (WARNING|ERROR) test: ")
FORGED = "n0\n2026-01-31 12:00:00,000 INFO pfs: root logged in\x1b[2J\x9b31m\u202e"


@pytest.fixture
def formatter() -> logging.Formatter | None:
    return None


@pytest.fixture
def logged(tmp_path: Path, formatter: logging.Formatter | None) -> Iterator[Callable[[], list[str]]]:
    """Logs into a file; returns its lines."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    file = tmp_path / "log"
    log_lines(logging.WARNING, str(file), formatter)
    yield lambda: file.read_text().splitlines()
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before, level


def test_what_a_user_chose_is_one_line_of_printable_characters(logged: Callable[[], list[str]]) -> None:
    logging.getLogger("test").warning("the node %s is gone", FORGED)
    [line] = logged()
    assert LINE.match(line)
    assert line.isprintable()
    assert line.endswith(r"root logged in\x1b[2J\x9b31m\u202e is gone")


def test_a_traceback_has_no_line_that_looks_like_one_of_the_log(logged) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("test").exception("a defect")
    first, *more = logged()
    assert LINE.match(first)
    assert any("root logged in" in line for line in more)
    assert all(line.startswith("  | ") and line.isprintable() for line in more)


def test_letters_of_all_languages_stay() -> None:
    assert escaped("Müller 木 🎉 a\\b") == "Müller 木 🎉 a\\b"
    assert LineFormatter()._fmt == "%(asctime)s %(levelname)s %(name)s: %(message)s"


# ---- for programs


def in_form(formatter: logging.Formatter) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("formatter", [formatter])


@in_form(JsonFormatter())
def test_as_json_a_record_is_an_object_on_a_line_and_nothing_in_it_commands_a_terminal(logged) -> None:
    logging.getLogger("test").warning("the node %s is gone", FORGED + '", "level": "INFO"}\u2028')
    [line] = logged()
    assert line.isprintable()
    told = json.loads(line)
    assert list(told) == ["time", "level", "logger", "message"]
    assert (told["level"], told["logger"]) == ("WARNING", "test")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert told["message"].isprintable()
    assert told["message"].endswith(r'root logged in\x1b[2J\x9b31m\u202e", "level": "INFO"}\u2028 is gone')


@in_form(JsonFormatter())
def test_as_json_a_traceback_is_a_field(logged) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("test").exception("a defect")
    [line] = logged()
    assert line.isprintable()
    lines = json.loads(line)["exception"].split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert any(r"root logged in\x1b" in each for each in lines)
    assert all(each.isprintable() for each in lines)


@in_form(JsonFormatter())
def test_as_json_the_number_that_a_user_was_told_is_a_field(logged) -> None:
    try:
        raise ValueError
    except ValueError:
        told = told_defect(logging.getLogger("test"), "answering")
    [line] = logged()
    assert json.loads(line)["request"] in str(told)


def test_the_time_of_json_is_utc() -> None:
    record = logging.LogRecord("test", logging.INFO, "", 0, "said", None, None)
    record.created = 1.5
    assert json.loads(JsonFormatter().format(record))["time"] == "1970-01-01T00:00:01.500Z"


@in_form(GoFormatter())
def test_in_the_form_of_go_a_record_is_a_line_and_what_is_wrong_says_so(logged) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("test").exception("a defect")
    [line] = logged()
    assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d error: a defect Traceback", line)
    assert line.isprintable()
    record = logging.LogRecord("test", logging.INFO, "", 0, "said", None, None)
    assert GoFormatter().format(record).endswith(" said")
