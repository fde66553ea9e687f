"""The cluster request: how many processes, with which GPUs each.

    request       = process-group *( "," process-group )
    process-group = [ integer ":" ] process             ; 1 where no number stands
    process       = "[" [ resources ] "]"
    resources     = resource-item *( "," resource-item )
    resource-item = [ integer ":" ] name                ; 1 where no number stands
    name          = ALPHA *( ALPHA / DIGIT )
    integer       = 1*DIGIT                             ; decimal, at least 1

White space may stand between any two of these signs, numbers and names. The order of the groups is the order of
the group indices. `2:[8:gtx1070]` asks for two processes with eight GPUs each, `[]` for one process without any.
"""

import re
from dataclasses import dataclass

from pfs.errors import Kind, PfsError

COUNT_MAX = 999_999_999

_TOKEN = re.compile(r"[ \t\r\n]*([0-9]+|[A-Za-z][A-Za-z0-9]*|[][:,])")
_BLANK = re.compile(r"[ \t\r\n]*")
_END = ""
_EXAMPLES = 'write it like "[]", "2:[gtx1070]" or "2:[8:gtx1070]"'
_ALIASES = "a name has only letters and digits, a letter first; use the alias of a model that is called otherwise"


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """`count` processes that each have `items`: pairs of a number and the name of a GPU."""

    count: int
    items: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A whole cluster request; the index of a group is its place."""

    groups: tuple[GroupRequest, ...]


class RequestError(PfsError):
    """A text that is no cluster request.

    Attributes:
        column: where in the text, counted from 1.
        problem: what is wrong there and what to write, without the place.
    """

    def __init__(self, column: int, problem: str) -> None:
        super().__init__(Kind.INVALID, f"cluster request, column {column}: {problem}")
        self.column = column
        self.problem = problem


def parse_request(text: str) -> Request:
    """Return the request that `text` writes.

    Raises:
        RequestError: the text does not follow the grammar.
    """
    tokens = _Tokens(text)
    groups = [_group(tokens)]
    while tokens.take(","):
        groups.append(_group(tokens))
    if tokens.word != _END:
        raise tokens.unexpected('"," or the end')
    return Request(tuple(groups))


def format_request(request: Request) -> str:
    """Return the shortest text that writes `request`."""
    return ",".join(_counted(group.count, f"[{_format_items(group)}]") for group in request.groups)


def _format_items(group: GroupRequest) -> str:
    return ",".join(_counted(count, name) for count, name in group.items)


def _counted(count: int, text: str) -> str:
    return text if count == 1 else f"{count}:{text}"


def _group(tokens: "_Tokens") -> GroupRequest:
    count = tokens.count(_EXAMPLES)
    if not tokens.take("["):
        raise tokens.unexpected('"["')
    items: list[tuple[int, str]] = []
    if not tokens.take("]"):
        items.append(_item(tokens))
        while tokens.take(","):
            items.append(_item(tokens))
        if not tokens.take("]"):
            raise tokens.unexpected('"," or "]"', _ALIASES if tokens.goes_on else _EXAMPLES)
    return GroupRequest(count, tuple(items))


def _item(tokens: "_Tokens") -> tuple[int, str]:
    count = tokens.count(_ALIASES)
    name = tokens.word
    if not (name.isascii() and name[:1].isalpha()):
        raise tokens.unexpected("the name of a GPU")
    tokens.advance()
    return count, name


class _Tokens:
    """The words of a request, one at a time, with the column of each."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self._text, self._end)
        if match is not None:
            self.word, self.column, self._end = match[1], match.start(1) + 1, match.end()
            return
        blank = _BLANK.match(self._text, self._end)
        start = blank.end() if blank else self._end
        self.word, self.column = self._text[start : start + 1], start + 1

    def take(self, sign: str) -> bool:
        if self.word != sign:
            return False
        self.advance()
        return True

    def count(self, cure: str) -> int:
        """Read an optional `integer ":"`; `cure` is for a name that follows at once."""
        digits = self.word
        if not (digits.isascii() and digits.isdigit()):
            return 1
        significant = digits.lstrip("0")
        if not significant:
            raise RequestError(self.column, f"the number {digits} asks for nothing; numbers are at least 1")
        if len(significant) > len(str(COUNT_MAX)):
            raise RequestError(self.column, f"the number is too large; at most {COUNT_MAX} can be named")
        self.advance()
        if not self.take(":"):
            raise self.unexpected('":" after the number', cure if self.word[:1].isalpha() else _EXAMPLES)
        return int(significant)

    @property
    def goes_on(self) -> bool:
        """Whether what stands here looks like more of a name."""
        return self.word[:1].isalnum() or self.word in ("-", "_", ".")

    def unexpected(self, wanted: str, cure: str = _EXAMPLES) -> RequestError:
        found = "the end" if self.word == _END else f'"{self.word[:40]}"'
        return RequestError(self.column, f"expected {wanted}, found {found}; {cure}")
