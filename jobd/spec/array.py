"""The tasks of an array, in Slurm's words.

    array  = item *( "," item ) [ "%" number ]          ; how many of them at once; all where no number stands
    item   = number [ "-" number [ ":" number ] ]       ; from, to (included), and the step

`0-99%10`, `1,3,5`, `1-7:2%3`. The tasks are the set of all numbers, in order: what two items name is one task.
"""

import re

from jobd.spec.model import ArraySpec
from jobd.spec.text import Node
from jobd.spec.values import Report, text
from pfs.errors import Kind, PfsError

TASKS_MAX = 10_000
# Slurm's own bound
INDEX_MAX = 4_000_000

_DIGITS = re.compile(r"[0-9]+")
_EXAMPLES = "write it like 0-99, 1,3,5 or 1-7:2, and %10 behind it for ten at once"


class ArrayError(PfsError):
    """A text that names no tasks.

    Attributes:
        column: where in the text, counted from 1.
        problem: what is wrong there and what to write, without the place.
    """

    def __init__(self, column: int, problem: str) -> None:
        super().__init__(Kind.INVALID, f"array, column {column}: {problem}")
        self.column = column
        self.problem = problem


def parse_array(text: str) -> ArraySpec:
    """Return the tasks that `text` names.

    Raises:
        ArrayError: the text does not follow the grammar, or names too many.
    """
    scanner = _Scanner(text)
    indices: set[int] = set()
    count = 0
    while True:
        column = scanner.column
        named = _item(scanner)
        count += len(named)
        if count > TASKS_MAX:
            raise ArrayError(column, f"an array has at most {TASKS_MAX} tasks; with this there are {count}")
        indices.update(named)
        if not scanner.take(","):
            break
    at_once = scanner.number("how many tasks run at once", 1) if scanner.take("%") else None
    if not scanner.at_end:
        raise scanner.unexpected("the end" if at_once else '",", "-", "%" or the end')
    return ArraySpec(tuple(sorted(indices)), at_once)


def array(node: Node, report: Report) -> ArraySpec | None:
    """Read the tasks of an array."""
    value = text(node, report, "tasks such as 0-99%10")
    if value is None:
        return None
    try:
        return parse_array(value)
    except ArrayError as error:
        report.inside(node, error.column, error.problem)
        return None


def _item(scanner: "_Scanner") -> range:
    first = scanner.number("the number of a task", 0)
    if not scanner.take("-"):
        return range(first, first + 1)
    column = scanner.column
    last = scanner.number("the number of the last task", 0)
    if last < first:
        raise ArrayError(column, f"the last task {last} comes before the first, {first}; write {last}-{first}")
    return range(first, last + 1, scanner.number("the step", 1) if scanner.take(":") else 1)


class _Scanner:
    """What is still to be read of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0

    @property
    def column(self) -> int:
        return self._offset + 1

    @property
    def at_end(self) -> bool:
        return self._offset == len(self._text)

    def take(self, sign: str) -> bool:
        taken = self._text.startswith(sign, self._offset)
        self._offset += len(sign) if taken else 0
        return taken

    def number(self, what: str, lowest: int) -> int:
        match = _DIGITS.match(self._text, self._offset)
        if match is None:
            raise self.unexpected(what)
        significant = match[0].lstrip("0") or "0"
        if len(significant) > len(str(INDEX_MAX)) or int(significant) > INDEX_MAX:
            raise ArrayError(self.column, f"the number is too large; tasks have numbers up to {INDEX_MAX}")
        if int(significant) < lowest:
            raise ArrayError(self.column, f"expected {what}, at least {lowest}, found {match[0]}")
        self._offset = match.end()
        return int(significant)

    def unexpected(self, wanted: str) -> ArrayError:
        found = "the end" if self.at_end else f'"{self._text[self._offset]}"'
        return ArrayError(self.column, f"expected {wanted}, found {found}; {_EXAMPLES}")
