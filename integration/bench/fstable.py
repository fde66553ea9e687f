"""The table of `script/bench fs`: medians, how they compare, and which bars they miss. Pure.

A ratio says how many times as fast the mount is: it is taken round by round, between neighbours in time, and then its
median, because the machine's speed drifts more between rounds than within one.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from integration.bench.fsrows import ROWS, Row

Found = Mapping[str, Mapping[str, Sequence[float]]]  # by target, by row, one number each round


@dataclass(frozen=True)
class Bar:
    """How many times as fast as another target a row has to be, and what is really wanted."""

    row: str
    over: str
    least: float
    wanted: float | None = None


BARS: dict[str, Sequence[Bar]] = {
    "pfs": (
        Bar("seq_write", "sshfs", 2, 3),
        Bar("seq_read_cold", "sshfs", 2, 4),
        Bar("seq_read_warm", "plain", 0.7),
        Bar("random_4k_cold", "sshfs", 1, 2),
        Bar("small_create", "sshfs", 1.3, 3),
        Bar("walk_cold", "sshfs", 2, 5),
        Bar("walk_warm", "plain", 0.5),
        Bar("small_read_cold", "sshfs", 3, 8),
        Bar("small_read_warm", "sshfs", 3, 6),
        Bar("rmtree", "sshfs", 1),
    ),
    "pfs same machine": (Bar("seq_read_cold", "plain", 0.5),),
    "pfs write-behind": (Bar("small_create", "sshfs", 2, 5), Bar("rmtree", "sshfs", 3)),
}
BARS["pfs TLS"] = BARS["pfs"]
OTHERS = ("plain", "sshfs")
ENCRYPTED = ("pfs TLS",)  # these have a table of their own: sshfs encrypts as well


def ratio(row: Row, ours: Sequence[float], others: Sequence[float]) -> float:
    """Return how many times as fast we are."""
    pairs = zip(ours, others, strict=True)
    return statistics.median(a / b if row.more_is_better else b / a for a, b in pairs)


def tables(found: Found) -> list[str]:
    """Return a table of the mounts that do not encrypt, and one of those that do, as far as there are any."""
    mounts = [target for target in found if target not in OTHERS]
    groups = [[each for each in mounts if (each in ENCRYPTED) is encrypted] for encrypted in (False, True)]
    return [table({name: found[name] for name in found if name in (*OTHERS, *group)}) for group in groups if group]


def table(found: Found) -> str:
    """Return all targets side by side, each mount with its ratios and its bars, as Markdown."""
    mounts = [target for target in found if target not in OTHERS]
    others = [target for target in OTHERS if target in found]
    head = ["row", "unit", *others]
    for mount in mounts:
        head += [mount, *(f"× {other}" for other in others), "bar (wanted)"]
    lines = [head]
    for row in ROWS:
        line = [row.title, row.unit, *(_number(statistics.median(found[other][row.name])) for other in others)]
        for mount in mounts:
            ours = found[mount][row.name]
            if not ours:
                line += [""] * (2 + len(others))
                continue
            line.append(_number(statistics.median(ours)))
            line += [_number(ratio(row, ours, found[other][row.name])) for other in others]
            line.append(_verdict(row, mount, found))
        lines.append(line)
    return markdown(lines, left=2)


def missed(found: Found) -> list[str]:
    """Return a sentence for each bar that is missed."""
    sentences = []
    for mount in found:
        for row in ROWS:
            bar = _bar(row, mount, found)
            if bar is not None and (reached := _reached(row, bar, mount, found)) < bar.least:
                sentences.append(f"{mount}: {row.title}: {_number(reached)} of {bar.least:g} × {bar.over}")
    return sentences


def _bar(row: Row, mount: str, found: Found) -> Bar | None:
    """Return the bar of a row, where what it is measured against was measured."""
    if not found[mount][row.name]:
        return None
    return next((bar for bar in BARS.get(mount, ()) if bar.row == row.name and bar.over in found), None)


def _reached(row: Row, bar: Bar, mount: str, found: Found) -> float:
    return ratio(row, found[mount][row.name], found[bar.over][row.name])


def _verdict(row: Row, mount: str, found: Found) -> str:
    bar = _bar(row, mount, found)
    if bar is None:
        return ""
    wanted = "" if bar.wanted is None else f" ({bar.wanted:g})"
    reached = "MISSED" if _reached(row, bar, mount, found) < bar.least else "ok"
    return f"{bar.least:g}{wanted} × {bar.over}: {reached}"


def _number(value: float) -> str:
    """Return as many digits as mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def markdown(lines: Sequence[Sequence[str]], left: int) -> str:
    """Return a table; its first line is its head, its first `left` columns are texts, the last one too."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    texts = [place < left or place == len(widths) - 1 for place in range(len(widths))]

    def joined(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(cells, widths, texts, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * width) if text else "-" * (width - 1) + ":" for width, text in zip(widths, texts, strict=True)]
    return "\n".join(joined(line) for line in (lines[0], rule, *lines[1:]))
