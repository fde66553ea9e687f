"""The forms in which a configuration is written: each is brought to the same entries, with their lines.

A word is the text that is written: a password of digits keeps its zeros, and somebody may be called `no`. So YAML tells
only what is where, and not of which type it is; but where there is a choice, `null` and `~` say that nothing is chosen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from configparser import ConfigParser

LIST = "datacenters"
CURRENT = "current-datacenter"
CHOICES = ("ca", "usercert", "userkey", "active", CURRENT)  # `null` is none of them
_SECTION = re.compile(r"\s*([#;].*\n\s*)*\[[^\[\],\n]+\]\s*([#;].*)?$", re.MULTILINE)
_HEADING = re.compile(r"\s*\[(?P<name>.+)\]")
_OPTION = re.compile(r"\s*(?P<name>[^\s#;=:][^=:]*?)\s*[=:]")
_TAG = "tag:yaml.org,2002:"
_CURES = {  # for what is wrong in the words of ruamel.yaml
    r"character '\t'": "indent with spaces",
    "cannot start any token": "a word that begins with it goes in quotes",
    "undefined alias": "`*` stands for what `&` has named above; a word that begins with it goes in quotes",
    "another document": "all datacenters stand in one; take the line --- away",
}


class WrongError(Exception):
    """What a configuration cannot say, and on which line it does."""

    def __init__(self, message: str, line: int, column: int | None = None) -> None:
        super().__init__(message)
        self.place = f"line {line}" if column is None else f"line {line}, column {column}"


class Said(NamedTuple):
    """A word of a file.

    Attributes:
        text: None where there is a list or the like in its place.
    """

    text: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is said of one datacenter."""

    name: str
    line: int
    fields: dict[str, Said]


class Written(NamedTuple):
    """What a configuration says."""

    entries: dict[str, Entry]
    current: Said | None


def is_ini(text: str) -> bool:
    """Tell whether a configuration is written as an ini file."""
    return _SECTION.match(text) is not None


def read(text: str) -> Written:
    """Return what a configuration says.

    Raises:
        WrongError: it is in none of the forms, or says something twice.
    """
    return Written(_sections(text), None) if is_ini(text) else _yaml(text)


def _twice(what: str, line: int, before: int) -> WrongError:
    return WrongError(f"{what} is said a second time, after line {before}; take one of them away", line)


# ---- ini files


def _sections(text: str) -> dict[str, Entry]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, default_section="")
    lines = dict(reversed(list(_places(text))))  # where something is said for the first time
    try:
        parser.read_string(text)
    except configparser.ParsingError as error:
        line, _ = error.errors[0]
        raise WrongError("this is neither `name = value` nor a [section]", line) from None
    except configparser.DuplicateSectionError as error:
        raise _twice(error.section, error.lineno or 1, lines[error.section, ""]) from None
    except configparser.DuplicateOptionError as error:
        raise _twice(error.option, error.lineno or 1, lines[error.section, error.option]) from None
    return {name: Entry(name, lines[name, ""], _options(parser, name, lines)) for name in parser.sections()}


def _options(parser: "ConfigParser", section: str, lines: dict[tuple[str, str], int]) -> dict[str, Said]:
    begins = lines[section, ""]
    return {option: Said(text, lines.get((section, option), begins)) for option, text in parser[section].items()}


def _places(text: str) -> Iterator[tuple[tuple[str, str], int]]:
    """Give the sections of an ini file, and their options, with their lines."""
    section = ""
    for at, line in enumerate(text.split("\n"), 1):
        if heading := _HEADING.match(line):
            section = heading["name"]
            yield (section, ""), at
        elif option := _OPTION.match(line):
            yield (section, option["name"].lower()), at


# ---- YAML


def _yaml(text: str) -> Written:
    top = _composed(text)
    found = _mapping(top) if _is("mapping", top) else {}
    if not found:
        why = "this names no datacenter; write `<name>:` and below it username, token and endpoint"
        raise WrongError(why, 1 if top is None else _line(top))
    if LIST in found:
        return Written(_listed(*found[LIST]), _said(CURRENT, *found[CURRENT]) if CURRENT in found else None)
    entries = {}
    for name, (line, node) in found.items():
        if not _is("mapping", node):
            raise WrongError(f"{name} has no fields; it needs username, token and endpoint", line)
        entries[name] = _entry(name, line, _mapping(node))
    return Written(entries, None)


def _composed(text: str) -> Any:
    """Return the node that YAML is, None for nothing."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # each `*` means the `&` before it
    try:
        return yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        raise WrongError(f"{error.problem}; {_cure(str(error.problem))}", line, column) from None
    except ReaderError as error:
        what = f"the character {text[error.position]!r} cannot be here; take it away"
        raise WrongError(what, text.count("\n", 0, error.position) + 1) from None
    except YAMLError as error:
        raise WrongError(f"this is no YAML: {str(error).partition(chr(10))[0]}", 1) from None


def _cure(problem: str) -> str:
    return next((cure for words, cure in _CURES.items() if words in problem), "see `paddle --help` for the form")


def _listed(line: int, node: Any) -> dict[str, Entry]:
    form = f"{LIST} is a list, each with name, username, token and endpoint"
    if not _is("sequence", node) or not node.value:
        raise WrongError(form, line)
    entries: dict[str, Entry] = {}
    for each in node.value:
        fields = _mapping(each) if _is("mapping", each) else {}
        named, name = fields.pop("name", (0, None))
        if not _is("scalar", name):
            raise WrongError(form, _line(each))
        entry = _entry(name.value, named, fields)
        before = entries.setdefault(entry.name, entry)
        if before is not entry:
            raise _twice(entry.name, entry.line, before.line)
    return entries


def _entry(name: str, line: int, fields: dict[str, tuple[int, Any]]) -> Entry:
    said = {field: _said(field, *found) for field, found in fields.items()}
    return Entry(name, line, {field: word for field, word in said.items() if word is not None})


def _said(field: str, line: int, node: Any) -> Said | None:
    """Return what a field says, None for no choice."""
    if not _is("scalar", node):
        return Said(None, line)
    if not str(node.tag).startswith(_TAG) or (node.anchor and not node.value):
        mark = "&" if node.anchor else "!"
        raise WrongError(f"YAML takes `{mark}` for a sign; a {field} that begins with it goes in quotes", line)
    return None if field in CHOICES and str(node.tag) == f"{_TAG}null" else Said(node.value, line)


def _mapping(node: Any, around: tuple[Any, ...] = ()) -> dict[str, tuple[int, Any]]:
    """Return the values of a mapping, each with the line of its name; also those that `<<` takes from others.

    Args:
        around: the mappings into which this one is taken, none of which it can take in itself.
    """
    own: dict[str, tuple[int, Any]] = {}
    taken: dict[str, tuple[int, Any]] = {}
    around = (*around, node)
    for key, value in node.value:
        line = _line(key)
        if not _is("scalar", key):
            raise WrongError("this is no name; a name is one word", line)
        if str(key.tag) == f"{_TAG}merge":
            for each in value.value if _is("sequence", value) else [value]:
                if not _is("mapping", each) or any(each is outer for outer in around):
                    raise WrongError("`<<` takes in the fields of another entry, and this is none", line)
                taken = {**_mapping(each, around), **taken}
        elif key.value in own:
            raise _twice(key.value, line, own[key.value][0])
        else:
            own[key.value] = line, value
    return {**own, **{name: found for name, found in taken.items() if name not in own}}


def _is(kind: str, node: Any) -> bool:
    return node is not None and node.id == kind


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
