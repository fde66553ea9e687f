"""What .gitignore and .pitignore leave out, where there is no git to ask: the rules of gitignore(5).

A rule is a pattern in a file of a directory and holds for everything below that; among rules that match the last one
decides, of the deepest file. What lies in a directory that is left out is left out with it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a file of rules.

    Attributes:
        matches: matches paths relative to the directory of the file.
        keeps: it takes back what rules before it leave out.
        directories_only: it leaves out directories, not files.
    """

    matches: re.Pattern[str]
    keeps: bool
    directories_only: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a directory and of those above it.

    Attributes:
        levels: for each file of rules the path of its directory, "" or ending in a slash, and its rules; topmost first.
    """

    levels: tuple[tuple[str, tuple[Rule, ...]], ...] = ()

    def below(self, directory: str, texts: Sequence[str]) -> "Rules":
        """Return what holds in a directory whose files of rules have these texts."""
        rules = tuple(rule for text in texts for rule in parse_rules(text))
        return Rules((*self.levels, (f"{directory}/" if directory else "", rules))) if rules else self

    def leave_out(self, path: str, *, directory: bool) -> bool:
        """Tell whether `path` itself is left out; what lies above it is not."""
        for base, rules in reversed(self.levels):
            if path.startswith(base):
                for rule in reversed(rules):
                    if (directory or not rule.directories_only) and rule.matches.fullmatch(path[len(base) :]):
                        return not rule.keeps
        return False

    def leave_out_within(self, path: str) -> bool:
        """Tell whether the file `path`, or a directory on the way to it, is left out."""
        ends = [index for index, character in enumerate(path) if character == "/"]
        return any(self.leave_out(path[:end], directory=True) for end in ends) or self.leave_out(path, directory=False)


def parse_rules(text: str) -> list[Rule]:
    """Return the rules in a file; lines that are none are left out."""
    return [rule for line in text.split("\n") if (rule := _parse(line)) is not None]


def _parse(line: str) -> Rule | None:
    pattern = re.sub(r"(?<!\\) +$", "", line.removesuffix("\r"))
    if not pattern or pattern.startswith("#"):
        return None
    keeps = pattern.startswith("!")
    pattern = pattern[1:] if keeps else pattern
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/") if directories_only else pattern
    if not pattern:
        return None
    anywhere = "/" not in pattern
    try:
        matches = re.compile(("(?:.*/)?" if anywhere else "") + _regex(pattern.removeprefix("/")), re.DOTALL)
    except re.error:
        return None
    return Rule(matches, keeps, directories_only)


def _regex(pattern: str) -> str:
    parts = pattern.split("/")
    out = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out += ".+" if last else "(?:.*/)?"
        else:
            out += _part_regex(part) + ("" if last else "/")
    return out


def _part_regex(part: str) -> str:
    """Return the regular expression of a part without slashes."""
    out, index = "", 0
    while index < len(part):
        character = part[index]
        index += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "[" and (found := re.match(r"([!^]?)(\]?(?:\\.|\[:[a-z]+:\]|[^\]\\])*)\]", part[index:])):
            inverted, members = found.groups()
            out += f"(?!/)[{'^' if inverted else ''}{_members(members)}]"
            index += found.end()
        elif character == "\\" and index < len(part):
            out += re.escape(part[index])
            index += 1
        else:
            out += re.escape(character)
    return out


def _members(text: str) -> str:
    """Return the members of a class of characters as a regular expression has them."""
    for name, members in (
        ("alnum", "a-zA-Z0-9"),
        ("alpha", "a-zA-Z"),
        ("digit", "0-9"),
        ("lower", "a-z"),
        ("upper", "A-Z"),
        ("space", r"\s"),
    ):
        text = text.replace(f"[:{name}:]", members)
    return re.sub(r"([\[\]&~|^])", r"\\\1", text) if not text.startswith("]") else r"\]" + _members(text[1:])
