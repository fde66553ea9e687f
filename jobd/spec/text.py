"""A spec file as a tree of values, each with its line and column; no meaning yet.

The text is YAML 1.2, of which JSON is a part. The tree is built from the parser's events, never by constructing
objects, so a tag can do nothing and a hostile file stops at a limit before it costs anything. Scalars keep their
text as it was written: `0.1` stays `0.1`, `yes` stays `yes`.

A text that is *still being written* is read by the same code. The parser gets the text in pieces; whatever it says
before it asked for more than there is, it will say of every continuation too. `read(text, whole=False)` keeps exactly
that: values that are complete, and problems that nothing written behind them can cure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pfs.errors import Kind, PfsError

TEXT_BYTES_MAX = 1 << 20
DEPTH_MAX = 16
# of the text with every alias written out: a file of a few lines can otherwise stand for billions of values
NODES_MAX = 20_000

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

# what ruamel.yaml raises, beside its own errors, for odd directives, escapes and tags
_PARSER_FAULTS = (AssertionError, AttributeError, LookupError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong at one place of a spec, and what to do about it; line and column count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class SpecError(PfsError):
    """A spec that is refused, with every problem that it has."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(Kind.INVALID, "\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it was written; `plain` when no quotes stand around it, `block` when it stands in lines below."""

    text: str
    plain: bool
    line: int
    column: int
    block: bool = False

    @property
    def is_null(self) -> bool:
        return self.plain and _NULL.fullmatch(self.text) is not None

    @property
    def is_bool(self) -> bool:
        return self.plain and _BOOL.fullmatch(self.text) is not None

    @property
    def is_int(self) -> bool:
        return self.plain and _INT.fullmatch(self.text) is not None

    @property
    def is_number(self) -> bool:
        return self.plain and _FLOAT.fullmatch(self.text) is not None


@dataclass(slots=True)
class Sequence:
    """A list; `closed` once its end was read."""

    line: int
    column: int
    items: "list[Node]" = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class Mapping:
    """Keys and values in the order of the text; a value is None as long as it is not there."""

    line: int
    column: int
    entries: "list[tuple[Scalar, Node | None]]" = field(default_factory=list)
    closed: bool = False


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Document:
    """What was read: the root, as far as it goes, and the problems of the text itself."""

    root: Node | None
    problems: tuple[Problem, ...]


def complete(node: Node | None) -> bool:
    """Whether the whole value was read."""
    return node is not None and (isinstance(node, Scalar) or node.closed)


def describe(node: Node) -> str:
    """Say what a value is, for "expected …, found …"."""
    if isinstance(node, Sequence):
        return "an empty list" if node.closed and not node.items else "a list"
    if isinstance(node, Mapping):
        return "an empty mapping" if node.closed and not node.entries else "a mapping of keys to values"
    if node.is_null:
        return "nothing"
    if node.is_bool:
        return f"the truth value {node.text}"
    if node.is_number:
        return f"the number {node.text[:40]}"
    return f"the text {node.text[:40]!r}"


def read(data: bytes, *, whole: bool) -> Document:
    """Read the text of a spec.

    Args:
        data: the bytes of the file.
        whole: False when more bytes may follow; only what holds for every continuation is returned then.
    """
    if len(data) > TEXT_BYTES_MAX:
        return Document(None, (Problem(1, 1, "the file is larger than 1 MiB; keep data in your home"),))
    text, problem = _decode(data, whole)
    if problem is not None:
        return Document(None, (problem,))
    builder = _Builder()
    source = _Pieces(text)
    try:
        for event in _Yaml(typ="safe", pure=True).parse(source):
            if source.asked_for_more and not whole:
                break
            builder.take(event)
    except _Refused as refused:
        builder.problems.append(refused.problem)
    except YAMLError as error:
        if whole or not source.asked_for_more:
            builder.problems.append(_explained(error))
    except _PARSER_FAULTS:
        if whole or not source.asked_for_more:
            message = "the YAML parser cannot read what stands here; write it more plainly"
            builder.problems.append(Problem(builder.line, builder.column, message))
    return Document(builder.root, tuple(builder.problems))


def _decode(data: bytes, whole: bool) -> tuple[str, Problem | None]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        text = data[: error.start].decode("utf-8")
        if whole or error.end < len(data) or error.reason != "unexpected end of data":
            line, column = _place(text, len(text))
            return "", Problem(line, column, f"the byte 0x{data[error.start]:02x} is no UTF-8; save the file as UTF-8")
    text = text.removeprefix("\ufeff")
    match = _UNPRINTABLE.search(text)
    if match is not None:
        line, column = _place(text, match.start())
        return "", Problem(line, column, f"the character U+{ord(match[0]):04X} may not stand here; remove it")
    return text, None


def _place(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of a character, counted from 1 as the YAML parser counts."""
    ends = [match.end() for match in _LINE_END.finditer(text, 0, offset)]
    return len(ends) + 1, offset - (ends[-1] if ends else 0) + 1


class _Yaml(YAML):
    """The parser without plug-ins, which it looks for on the disk each time that one is made."""

    def official_plug_ins(self) -> list[str]:
        return []


class _Pieces:
    """Gives the parser the text piece by piece and notes when it asked for more than there is."""

    def __init__(self, text: str) -> None:
        self._pieces = self._cut(text)
        self.asked_for_more = False

    @staticmethod
    def _cut(text: str) -> Iterator[str]:
        # the parser fetches two pieces at its start; a short first one keeps it from touching the end too early
        yield text[:2]
        yield from text[2:].splitlines(keepends=True)

    def read(self, _size: int = -1) -> str:
        piece = next(self._pieces, "")
        self.asked_for_more = self.asked_for_more or not piece
        return piece


class _Refused(Exception):
    """The text goes beyond what a spec may be; reading stops."""

    def __init__(self, mark: Any, message: str) -> None:
        super().__init__(message)
        self.problem = _problem_at(mark, message)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end is still to come; `lines` are those of its keys."""

    node: Sequence | Mapping
    anchor: str | None
    lines: dict[str, int] = field(default_factory=dict)


class _Builder:
    """Builds the tree from events, which `take` gets in their order."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.line = self.column = 1
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        self.line, self.column = event.end_mark.line + 1, event.end_mark.column + 1
        handler = getattr(self, "_" + type(event).__name__, None)
        if handler is not None:
            handler(event)

    def _DocumentStartEvent(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _Refused(event.start_mark, "a second document begins here; write one file for each job")

    def _ScalarEvent(self, event: Any) -> None:
        text = self._checked_text(event)
        plain = not event.style
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        key = self._open_key()
        if key is not None and plain and not text:
            # the parser finds a value that is not there somewhere behind; people look for it at its key
            line, column = key.line, key.column
        node = Scalar(text, plain, line, column, block=event.style in ("|", ">"))
        self._put(node, event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _SequenceStartEvent(self, event: Any) -> None:
        self._begin(Sequence(event.start_mark.line + 1, event.start_mark.column + 1), event)

    def _MappingStartEvent(self, event: Any) -> None:
        self._begin(Mapping(event.start_mark.line + 1, event.start_mark.column + 1), event)

    def _SequenceEndEvent(self, _event: Any) -> None:
        self._end()

    def _MappingEndEvent(self, _event: Any) -> None:
        self._end()

    def _AliasEvent(self, event: Any) -> None:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise _Refused(event.start_mark, f"*{event.anchor} stands for nothing that ends before it; write it out")
        self._put(node, event, _size(node))

    def _begin(self, node: Sequence | Mapping, event: Any) -> None:
        if len(self._open) >= DEPTH_MAX:
            raise _Refused(event.start_mark, f"this is nested more than {DEPTH_MAX} deep; no spec needs that")
        self._put(node, event, 1)
        self._open.append(_Open(node, event.anchor))

    def _end(self) -> None:
        ended = self._open.pop()
        ended.node.closed = True
        if ended.anchor is not None:
            self._anchors[ended.anchor] = ended.node

    def _put(self, node: Node, event: Any, size: int) -> None:
        if getattr(event, "tag", None) is not None:
            raise _Refused(event.start_mark, "tags (words that begin with '!') mean nothing here; remove it")
        self._count += size
        if self._count > NODES_MAX:
            raise _Refused(event.start_mark, f"more than {NODES_MAX} values, with aliases written out; use fewer")
        if not self._open:
            self.root = node
            return
        parent = self._open[-1].node
        key = self._open_key()
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif key is not None:
            parent.entries[-1] = (key, node)
        elif isinstance(node, Scalar):
            self._check_duplicate(self._open[-1].lines, node)
            parent.entries.append((node, None))
        else:
            raise _Refused(event.start_mark, f"a key is a word, not {describe(node)}; put quotes around it")

    def _open_key(self) -> Scalar | None:
        """Return the key that waits for its value."""
        parent = self._open[-1].node if self._open else None
        if not isinstance(parent, Mapping) or not parent.entries or parent.entries[-1][1] is not None:
            return None
        return parent.entries[-1][0]

    def _check_duplicate(self, lines: dict[str, int], key: Scalar) -> None:
        if key.text in lines:
            message = f"the key {key.text!r} stood in line {lines[key.text]} already; keep one of them"
            self.problems.append(Problem(key.line, key.column, message))
        lines.setdefault(key.text, key.line)

    @staticmethod
    def _checked_text(event: Any) -> str:
        text: str = event.value
        try:
            # JSON writes characters above U+FFFF as two escapes
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise _Refused(event.start_mark, "half of a surrogate pair is no character; remove the escape") from None
        if "\0" in text:
            raise _Refused(event.start_mark, "a NUL cannot be part of a value; remove the escape")
        return text


def _size(node: Node) -> int:
    """Count the values of a node, stopping soon after the limit."""
    count, waiting = 0, [node]
    while waiting and count <= NODES_MAX:
        current = waiting.pop()
        count += 1
        if isinstance(current, Sequence):
            waiting.extend(current.items)
        elif isinstance(current, Mapping):
            count += len(current.entries)
            waiting.extend(value for _, value in current.entries if value is not None)
    return count


# what the parser says, the sentence for people, and whether it is about where the parser began rather than stopped
_CURES = (
    ("'\\t'", "a tab cannot indent; use spaces", False),
    ("could not find expected ':'", "this line has no ':'; write it as key: value", True),
    ("unexpected end of stream", "this quote is never closed; close it", True),
    ("expected ',' or", "after this bracket a ',' or the closing bracket is missing; add it", True),
    ("mapping values are not allowed", "a ':' stands where none can be; quote the value, or indent it properly", False),
    ("cannot start any token", "this character cannot begin a value; put quotes around the value", False),
    ("expected <block end>", "this does not belong to what is above it; check the indentation and the quotes", False),
    ("chomping or indentation", "'>' and '|' begin a text of several lines; put quotes around the value", True),
    ("unknown escape character", "there is no such escape; use single quotes, or two backslashes", False),
)


def _explained(error: YAMLError) -> Problem:
    """Turn an error of the parser into a place and a sentence."""
    said = str(getattr(error, "problem", None) or error).splitlines()[0]
    stopped = getattr(error, "problem_mark", None)
    began = getattr(error, "context_mark", None)
    for part, cure, where_it_began in _CURES:
        if part in said:
            return _problem_at((began if where_it_began else stopped) or stopped, cure)
    message = f"this is no proper YAML ({said}); check the indentation and the quotes here"
    return _problem_at(stopped or began, message)


def _problem_at(mark: Any, message: str) -> Problem:
    return Problem(1, 1, message) if mark is None else Problem(mark.line + 1, mark.column + 1, message)
