"""What daemons log: a record is a line, whatever stands in it.

Names, reasons and the texts of errors are made by users. Nothing of them moves the cursor of a terminal on which the
log is read, and none looks like a line of the log itself: what is no printable character is written as its escape, and
the lines of a traceback are indented.
"""

import logging

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
INDENT = "  | "


class LineFormatter(logging.Formatter):
    """Formats as FORM says."""

    def __init__(self) -> None:
        super().__init__(FORM)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the first line."""
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        """Return the lines of a traceback."""
        text = super().formatException(ei)  # type: ignore[arg-type]  # as the base class has it, which names no type
        return "\n".join(INDENT + escaped(line) for line in text.split("\n"))


def escaped(text: str) -> str:
    """Return a text on one line, without what moves cursors."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_lines(level: int | str, path: str | None = None) -> None:
    """Let everything that is logged from this level on go to a file, or to stderr, as lines."""
    handler = logging.StreamHandler() if path is None else logging.FileHandler(path)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler])
