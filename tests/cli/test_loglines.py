"""Lines of the daemons' logs: nobody forges one, and none commands a terminal."""

import logging
import re
from collections.abc import Iterator

import pytest

from cli.loglines import LineFormatter, escaped, log_lines

LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (WARNING|ERROR) test: ")
FORGED = "n0\n2026-01-31 12:00:00,000 INFO pfs: root logged in\x1b[2J\x9b31m\u202e"


@pytest.fixture
def logged(tmp_path) -> Iterator[object]:
    """Logs into a file; returns its lines."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    file = tmp_path / "log"
    log_lines(logging.WARNING, str(file))
    yield lambda: file.read_text().splitlines()
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before, level


def test_what_a_user_chose_is_one_line_of_printable_characters(logged) -> None:
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
