"""How each kind of value of a spec is read: a node of the text becomes a value, or a problem is reported.

Every reader has the form `reader(node, report) -> value | None`; None says that a problem was reported. Scalars are
taken as they were written wherever text is wanted, so `title: 2024` and `command: true` mean what they look like.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from jobd.spec.request import Request, RequestError, parse_request
from jobd.spec.text import Mapping, Node, Problem, Scalar, Sequence, describe
from jobd.spec.units import parse_duration, parse_size

# the kernel starts no program with a longer word or variable (MAX_ARG_STRLEN, with its closing NUL)
WORD_BYTES_MAX = 128 * 1024 - 1
TITLE_MAX = 255
CPUS_MAX = 100_000
_MODEL_MAX = 100

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_Number = TypeVar("_Number", int, float)


class Report:
    """Collects the problems of one spec."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def at(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.line, node.column, message))

    def inside(self, node: Node, column: int, message: str) -> None:
        """Report at a column of a value's own text, counted from 1."""
        if not isinstance(node, Scalar) or node.block:
            self.at(node, message)
        else:
            quote = 0 if node.plain else 1
            self.problems.append(Problem(node.line, node.column + quote + column - 1, message))

    def wrong(self, node: Node, expected: str) -> None:
        self.at(node, f"expected {expected}, found {describe(node)}")


def text(node: Node, report: Report, expected: str = "text") -> str | None:
    """Read a scalar as it was written; nothing and empty text are refused."""
    if not isinstance(node, Scalar) or node.is_null or not node.text.strip():
        report.wrong(node, expected)
        return None
    return node.text


def name_problem(name: str) -> str | None:
    """Say what keeps `name` from being the name of a job or group."""
    if not _NAME.fullmatch(name):
        return f"{name[:80]!r} is no name; use at most 63 letters, digits, '_', '.' and '-', a letter or digit first"
    if name.isdigit():
        return f"the name {name} has only digits, like the number of a job; put a letter into it"
    if name.startswith("by-"):
        return f"the name {name} begins with 'by-', like the directories of views; begin it differently"
    return None


def name(node: Node, report: Report) -> str | None:
    """Read the name of a job or group."""
    value = text(node, report, "a name")
    problem = name_problem(value) if value is not None else None
    if problem is not None:
        report.at(node, problem)
        return None
    return value


def title(node: Node, report: Report) -> str | None:
    """Read the title: one line for people."""
    value = text(node, report, "a title in one line")
    if value is None:
        return None
    value = value.strip()
    if len(value) > TITLE_MAX or CONTROL.search(value):
        report.at(node, f"a title is one line of at most {TITLE_MAX} characters; shorten it")
        return None
    return value


def command(node: Node, report: Report) -> tuple[str, ...] | None:
    """Read a command: text for `sh -c`, or a list of words."""
    expected = "a command: text, or a list of words"
    if isinstance(node, Sequence) and node.items:
        words = [_word(item, report) for item in node.items]
        known = tuple(word for word in words if word is not None)
        if len(known) < len(words):
            return None
        if not known[0]:
            report.at(node.items[0], "the first word of a command is the program; write its name")
            return None
        return known
    value = text(node, report, expected)
    return None if value is None or not fits(node, value, report) else ("sh", "-c", value)


def _word(node: Node, report: Report) -> str | None:
    if not isinstance(node, Scalar) or node.is_null:
        report.wrong(node, "a word of the command")
        return None
    return node.text if fits(node, node.text, report) else None


def fits(node: Node, value: str, report: Report) -> bool:
    """Whether a program can be started with this word or variable; report it where it cannot."""
    fits = len(value.encode()) <= WORD_BYTES_MAX
    if not fits:
        report.at(node, "no program can be started with more than 128 KiB in one word; put it into a file")
    return fits


def env(node: Node, report: Report) -> dict[str, str] | None:
    """Read variables: a mapping of names to scalars as they were written."""
    if not isinstance(node, Mapping):
        report.wrong(node, "variables, such as {LR: 0.1}")
        return None
    values = {key.text: _variable(key, value, report) for key, value in node.entries if value is not None}
    known = {key: value for key, value in values.items() if value is not None}
    return known if len(known) == len(values) else None


def _variable(key: Scalar, node: Node, report: Report) -> str | None:
    variable = key.text
    if not _VARIABLE.fullmatch(variable):
        report.at(key, f"{variable[:80]!r} cannot name a variable; use letters, digits and '_', no digit first")
        return None
    if variable == "CUDA_VISIBLE_DEVICES" or variable.startswith(("NVIDIA_", "PFS_")):
        report.at(key, f"{variable} is set by the server; ask for GPUs with resources, and remove this")
        return None
    if not isinstance(node, Scalar):
        report.wrong(node, f"one value for {variable}")
        return None
    return node.text if fits(node, f"{variable}={node.text}", report) else None


def request(node: Node, report: Report) -> Request | None:
    """Read a cluster request."""
    value = text(node, report, 'a cluster request in quotes, such as "[]" or "2:[8:gtx1070]"')
    if value is None:
        return None
    try:
        return parse_request(value)
    except RequestError as error:
        report.inside(node, error.column, error.problem)
        return None


def whole_number(lowest: int, highest: int) -> Callable[[Node, Report], int | None]:
    """Return a reader of a whole number in these bounds."""

    def read(node: Node, report: Report) -> int | None:
        if isinstance(node, Scalar) and node.is_int and len(node.text) <= 20 and lowest <= int(node.text) <= highest:
            return int(node.text)
        report.wrong(node, f"a whole number from {lowest} to {highest}")
        return None

    return read


def cpus(node: Node, report: Report) -> float | None:
    """Read a number of CPUs, whole or not."""
    if isinstance(node, Scalar) and node.is_number and 0 < float(node.text) <= CPUS_MAX:
        return float(node.text)
    report.wrong(node, "a number of CPUs, such as 4 or 0.5")
    return None


def size(node: Node, report: Report) -> int | None:
    """Read a size that is not zero, in bytes."""
    value = text(node, report, "a size such as 16GiB")
    return None if value is None else _positive(parse_size, value, node, report)


def duration(node: Node, report: Report) -> float | None:
    """Read a duration that is not zero, in seconds."""
    value = text(node, report, "a duration such as 90s or 2h")
    return None if value is None else _positive(parse_duration, value, node, report)


def grace(node: Node, report: Report) -> float | None:
    """Read a duration that may be zero, in seconds."""
    value = text(node, report, "a duration such as 30s")
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        report.at(node, str(error))
        return None


def _positive(parse: Callable[[str], _Number], value: str, node: Node, report: Report) -> _Number | None:
    try:
        number = parse(value)
    except ValueError as error:
        report.at(node, str(error))
        return None
    if number <= 0:
        report.at(node, f"{value} is nothing; write more, or remove the line")
        return None
    return number


def one_of(*words: str) -> Callable[[Node, Report], str | None]:
    """Return a reader of one of these words."""

    def read(node: Node, report: Report) -> str | None:
        if isinstance(node, Scalar) and node.text in words:
            return node.text
        report.wrong(node, " or ".join(words))
        return None

    return read


def truth(node: Node, report: Report) -> bool | None:
    """Read true or false."""
    if isinstance(node, Scalar) and node.is_bool:
        return node.text.lower() == "true"
    report.wrong(node, "true or false")
    return None


def gpus(node: Node, report: Report) -> tuple[tuple[int, str | None], ...] | None:
    """Read GPUs: a number of any model, or a mapping of models to numbers."""
    if isinstance(node, Mapping):
        counts = {key.text: _gpu_count(key, value, report) for key, value in node.entries if value is not None}
        known = tuple((count, model) for model, count in counts.items() if count is not None)
        return known if len(known) == len(counts) else None
    if isinstance(node, Scalar) and node.is_int:
        count = whole_number(0, 9999)(node, report)
        return None if count is None else ((count, None),) if count else ()
    report.wrong(node, "a number of GPUs, or models with numbers such as {gtx1070: 2}")
    return None


def _gpu_count(model: Scalar, node: Node, report: Report) -> int | None:
    if not model.text.strip() or len(model.text) > _MODEL_MAX or CONTROL.search(model.text):
        report.at(model, f"this is no model of a GPU; write its name or alias, of at most {_MODEL_MAX} characters")
    return whole_number(1, 9999)(node, report)
