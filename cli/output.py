"""How rows become text: tables for people."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header, in columns as wide as they need, with two spaces between."""
    lines = [list(header), *[[_shown(cell) for cell in row] for row in rows]]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _shown(cell: str) -> str:
    """Take away what would move a terminal's cursor or colours: text of jobs is anybody's."""
    return "".join(c if c.isprintable() else "?" for c in cell)


def age(seconds: float) -> str:
    """Return a time span in its largest unit: `15s 3m 2h 5d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def pit_since(seconds: float) -> str:
    """Return a time span as Snakepit's status shows it: `DDd HH:MM:SS`, from 100 days on just days."""
    seconds = max(0, int(seconds))
    days, rest = divmod(seconds, 86400)
    if days > 99:
        return f"{days}d"
    return f"{days:02}d {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
