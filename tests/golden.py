"""Golden scripts: text files that say what a pure core answers.

    # a comment
    verb and arguments
    lines of input
    ----
    the answer

A step ends at the first empty line. `{blank}` stands for an empty line in an input or answer, and a file is run from
top to bottom by one handler, so that steps may build on each other. `pytest --rewrite` writes the present answers
into the file; commit such a change only if you can explain it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pfs.errors import PfsError

SEPARATOR = "----"
BLANK = "{blank}"


@dataclass(frozen=True)
class Step:
    """One question of a script: the words of its first line, and the lines below it."""

    words: tuple[str, ...]
    text: str


Handler = Callable[[Step], str]


def replay(script: str, handler: Handler) -> str:
    """Return the script with the answers that the handler gives now."""
    paragraphs = script.rstrip("\n").split("\n\n")
    return "\n\n".join(_replay_paragraph(paragraph, handler) for paragraph in paragraphs) + "\n"


def check(path: Path, handler: Handler, rewrite: bool) -> None:
    """Fail where the handler does not answer as the script says, or write its answers there."""
    script = path.read_text()
    now = replay(script, handler)
    if rewrite and now != script:
        path.write_text(now)
    else:
        assert now == script


def _replay_paragraph(paragraph: str, handler: Handler) -> str:
    lines = paragraph.split("\n")
    comments = list(takewhile(lambda line: line.startswith("#"), lines))
    question = lines[len(comments) :]
    if not question:
        return paragraph
    if SEPARATOR in question:
        question = question[: question.index(SEPARATOR)]
    text = "".join(f"{'' if line == BLANK else line}\n" for line in question[1:])
    answer = _answer(handler, Step(tuple(question[0].split()), text))
    shown = [line or BLANK for line in answer.split("\n")] if answer else []
    return "\n".join([*comments, *question, SEPARATOR, *shown])


def _answer(handler: Handler, step: Step) -> str:
    try:
        return handler(step).rstrip("\n")
    except PfsError as error:
        return f"{error.kind}: {error}"
