"""How shells ask what can stand where somebody presses the tab key: click's way, and what it leaves to us.

bash takes a colon for the end of a word: it asks for the `17` of `job:17` as three words, and puts in the answer behind
the colon. And whatever goes wrong while somebody types is not told: it would stand in the middle of their line.
"""

import os
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from pfs.errors import PfsError

BREAKS = frozenset(":=")


class Quiet(ShellComplete):
    """Says nothing of what goes wrong."""

    def complete(self) -> str:
        """Return what the shell is to be told."""
        try:
            return super().complete()
        except (PfsError, click.ClickException):
            return ""


class Bash(Quiet, BashComplete):
    """Makes whole again the words that bash has cut."""

    def source(self) -> str:
        """Return the script, wherever it is made."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that."""
        words, at = split_arg_string(os.environ["COMP_WORDS"]), int(os.environ["COMP_CWORD"])
        args = whole(words[1 : at + 1])
        return (args[:-1], args[-1]) if at < len(words) else (args, "")

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """Return what could stand there, without what bash takes for words of their own."""
        found = super().get_completions(args, incomplete)
        cut = 1 + max(incomplete.rfind(sign) for sign in BREAKS)
        for item in found:
            if item.type == "plain":
                item.value = item.value[cut:]
        return found


class Zsh(Quiet, ZshComplete):
    """click's."""


class Fish(Quiet, FishComplete):
    """click's."""


CLASSES: dict[str, type[ShellComplete]] = {each.name: each for each in (Bash, Zsh, Fish)}


def whole(words: Sequence[str]) -> list[str]:
    """Put together again what was cut at colons and equals signs."""
    found: list[str] = []
    glued = False
    for word in words:
        is_break = bool(word) and BREAKS.issuperset(word)
        if found and (glued or is_break):
            found[-1] += word
        else:
            found.append(word)
        glued = is_break
    return found


def prepare() -> None:
    """Have click answer by these."""
    for each in CLASSES.values():
        add_completion_class(each)


def variable_of(program: str) -> str:
    """Return the variable of the environment by which a shell asks a program."""
    return f"_{program}_COMPLETE".replace("-", "_").replace(".", "_").upper()


def script(shell: str, command: click.Command, program: str) -> str:
    """Return what a shell has to be told to complete the commands of a program."""
    return CLASSES[shell](command, {}, program, variable_of(program)).source()
