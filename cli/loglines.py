"""What daemons log: a record is a line, whatever stands in it.

Names, reasons and the texts of errors are made by users. Nothing of them moves the cursor of a terminal on which the
log is read, and none looks like a line of the log itself: what is no printable character is written as its escape, and
the lines of a traceback are indented.

For programs that collect logs a record is an object of JSON, whose fields are texts that were made harmless in the same
way: they are as safe for who takes them out again.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
GO_FORM, GO_TIME = "%(asctime)s %(message)s", "%Y/%m/%d %H:%M:%S"
INDENT = "  | "
TEXT, JSON = FORMATS = ("text", "json")


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


class GoFormatter(logging.Formatter):
    """Formats as Go's log does: one line with everything; what is no information says what it is."""

    def __init__(self) -> None:
        super().__init__(GO_FORM, GO_TIME)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return escaped(" ".join(super().format(record).split()))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return what stands before a traceback."""
        if record.levelno != logging.INFO:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """Formats as an object on one line: time, level, logger, message, and where they are, request and exception.

    The time is UTC in the form of RFC 3339; the request is the number that was told to whoever asked.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": escaped(record.getMessage()),
        }
        if (request := getattr(record, "request", None)) is not None:
            fields["request"] = str(request)
        if record.exc_info:
            fields["exception"] = "\n".join(map(escaped, self.formatException(record.exc_info).split("\n")))
        return json.dumps(fields, ensure_ascii=False)


FORMATTERS: Mapping[str, Callable[[], logging.Formatter]] = MappingProxyType({TEXT: LineFormatter, JSON: JsonFormatter})


def escaped(text: str) -> str:
    """Return a text on one line, without what moves cursors."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_lines(level: int | str, path: str | None = None, formatter: logging.Formatter | None = None) -> None:
    """Let everything that is logged from this level on go to a file, or to stderr, as lines.

    Args:
        formatter: what makes them; a LineFormatter where nothing is said.
    """
    handler = logging.StreamHandler() if path is None else logging.FileHandler(path)
    handler.setFormatter(formatter or LineFormatter())
    logging.basicConfig(level=level, handlers=[handler])
