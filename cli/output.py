"""How rows become text: tables for people."""

import re
from collections.abc import Sequence
from datetime import datetime

EMPTY = "-"
NEVER_EMPTY = ("TITLE",)  # where the sign of nothing is what somebody wrote


def table(header: Sequence[str], rows: Sequence[Sequence[str]], gap: int = 2) -> str:
    """Return rows under a header, in columns as wide as they need, with `gap` blanks between."""
    lines = [list(header), *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "\n".join(
        (" " * gap).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def read_tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Return the rows of the tables in a text of the tree, by the line above each table's header.

    Such a table has two blanks or more between its columns, one at most within a cell, and ends with an empty line.
    """
    found = {}
    for section in text.split("\n\n"):
        caption, *lines = section.strip("\n").split("\n")
        if not lines:
            continue
        header, *rows = (re.split(" {2,}", line.rstrip()) for line in lines)
        found[caption] = [
            {
                name: "" if cell == EMPTY and name not in NEVER_EMPTY else cell
                for name, cell in zip(header, row, strict=True)
            }
            for row in rows
            if len(row) == len(header)
        ]
    return found


def as_objects(text: str) -> list[dict[str, str]]:
    """Return the rows of a table of the tree, which is all of a text, with keys as programs want them."""
    rows = read_tables(f"table\n{text}")["table"]
    return [{key.lower().replace(" ", "_"): value for key, value in row.items()} for row in rows]


def printable(text: str) -> str:
    """Take away what would move a terminal's cursor or colours: text of jobs is anybody's."""
    return "".join(c if c.isprintable() else "?" for c in text)


def age(seconds: float) -> str:
    """Return a time span in its largest unit: `15s 3m 2h 5d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def minute(at_ns: int | None) -> str:
    """Return a time, in nanoseconds since the epoch, as people here read it."""
    return EMPTY if at_ns is None else datetime.fromtimestamp(at_ns / 1e9).strftime("%Y-%m-%d %H:%M")


def pit_since(seconds: float) -> str:
    """Return a time span as Snakepit's status shows it: `DDd HH:MM:SS`, from 100 days on just days."""
    seconds = max(0, int(seconds))
    days, rest = divmod(seconds, 86400)
    if days > 99:
        return f"{days}d"
    return f"{days:02}d {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
