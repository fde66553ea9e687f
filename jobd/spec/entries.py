"""A mapping of a spec by a table of its keys: what was given, where it stands, and which keys there are not.

A table gives each key its reader. A key counts as soon as it is there, its value once it is complete; so one table
serves a text that is whole and a text that is still being written.
"""

from collections.abc import Callable, Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from jobd.spec.text import Mapping, Node, Scalar, complete
from jobd.spec.values import Report

Reader = Callable[[Node, Report], Any]

_NEAR_ENOUGH = 0.6


@dataclass(slots=True)
class Given:
    """The entries of one mapping.

    Attributes:
        node: the mapping.
        keys: where each known key stands, in the order of the text.
        values: what each key says; None where that is wrong, which was reported, or not complete.
    """

    node: Mapping
    keys: dict[str, Scalar] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def get(self, key: str, default: Any = None) -> Any:
        """Return what the key says, or the default where it is not given."""
        return self.values.get(key, default)

    def present(self, keys: Iterable[str]) -> list[str]:
        """Return those of `keys` that are given, in the order of the text."""
        wanted = set(keys)
        return [key for key in self.keys if key in wanted]

    def refuse_both(self, one: str, other: str, what: str, report: Report) -> None:
        """Report at the later of two keys that both are given: both say `what`."""
        both = self.present((one, other))
        if len(both) == 2:
            report.at(self.keys[both[1]], f"{both[0]} and {both[1]} both say {what}; keep one of them")


def read_entries(
    node: Mapping,
    readers: Table[str, Reader],
    report: Report,
    *,
    not_yet: frozenset[str] = frozenset(),
    foreign: Table[str, Reader] | None = None,
    elsewhere: Table[str, str] | None = None,
) -> Given:
    """Read the entries of a mapping.

    Args:
        readers: the keys that there are.
        not_yet: keys that are known and refused.
        foreign: keys that are read as well, but not named to somebody who looks for one.
        elsewhere: keys that belong to another place, and what to write instead.
    """
    given = Given(node)
    tables = {**(foreign or {}), **readers}
    for key, value in node.entries:
        if key.text in not_yet:
            if _says_something(value):
                report.at(key, f"{key.text} is not supported by this server yet; remove it")
        elif elsewhere is not None and key.text in elsewhere:
            report.at(key, f"{key.text} does not stand here; {elsewhere[key.text]}")
        elif key.text not in tables:
            _refuse(key, list(readers), [*tables, *sorted(not_yet)], report)
        elif key.text not in given:
            given.keys[key.text] = key
            given.values[key.text] = None
            if value is not None and complete(value):
                given.values[key.text] = tables[key.text](value, report)
    return given


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that somebody who wrote `word` may have meant."""
    near = get_close_matches(word.lower()[:80].replace("-", "_"), list(known), n=1, cutoff=_NEAR_ENOUGH)
    return near[0] if near else None


def _says_something(node: Node | None) -> bool:
    # there are clients that send every field that they know, empty where nothing was said
    return node is not None and not (isinstance(node, Scalar) and not node.plain and not node.text)


def _refuse(key: Scalar, keys: list[str], known: list[str], report: Report) -> None:
    near = nearest(key.text, keys) or nearest(key.text, known)
    cure = f"did you mean {near}?" if near else f"the keys are {', '.join(keys)}"
    report.at(key, f"there is no key {key.text[:80]!r}; {cure}")
