"""The reference of the tree, as README shows it: a line for each kind of file, drawn from the classes of a live tree.

A path is written as in README: `<id>` is a number, any other word in brackets a name. A task of an array has all that
a job has, and a further machine of a node all that a node has.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pfs.api import Attr, NodeType
from pfs.tree.virtual import How, Node

README = Path(__file__).parents[3] / "README.md"
SHOWN = re.compile(r"(### Every file\n.*?\n```\n)(.*?)(```\n)", re.DOTALL)
_AGAIN = (
    (r"^(jobs/(?:\d+|<id>))/tasks/[^/]+/", r"\1/"),
    (r"^(nodes/[^/]+)/instances/[^/]+/", r"\1/"),
)
_FOLDERS = (How.FOLDER, How.FILES)
_NODE_TYPES = {How.FOLDER: NodeType.DIRECTORY, How.FILES: NodeType.DIRECTORY, How.LINK: NodeType.SYMLINK}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: where it is, what one does with it, and what it is."""

    path: str
    how: How
    text: str

    def fits(self, path: str, attr: Attr) -> bool:
        """Tell whether a file of the tree is one of this kind."""
        if attr.type is not _NODE_TYPES.get(self.how, NodeType.FILE):
            return False
        is_written = self.how in (How.CONTROL, How.WRITTEN)
        if attr.type is NodeType.FILE and is_written is not (attr.mode & 0o222 != 0):
            return False
        words = re.split(r"(<\w+>)", self.path.rstrip("/"))
        return re.fullmatch("".join(map(_pattern, words)), path) is not None


def _pattern(word: str) -> str:
    return {"<id>": r"\d+"}.get(word, r"[^/]+") if word.startswith("<") else re.escape(word)


def first(path: str) -> str:
    """Return where the same file of a job, or of a node, is that has no other above it."""
    for again, where in _AGAIN:
        path = re.sub(again, where, path)
    return path


def kind_of(path: str, attr: Attr) -> Kind | None:
    """Return the kind of a file of the tree, as README shows it; None for one that has none."""
    return next((kind for kind in KINDS if kind.fits(first(path), attr)), None)


def kind_from(path: str, node: type[Node]) -> Kind:
    """Return what the class of a file says of it."""
    lines = (node.__doc__ or "").splitlines() or [""]
    text = lines[0].removesuffix(".")
    return Kind(path + "/" * (node.how in _FOLDERS), node.how, text[:1].lower() + text[1:])


def reference(kinds: Mapping[str, set[type[Node]]]) -> str:
    """Return all kinds as README shows them, by their paths.

    Args:
        kinds: the classes of all files of a live tree, by where they are.
    """
    found = {kind_from(path, node) for path, nodes in kinds.items() for node in nodes}
    rows = sorted(found, key=lambda kind: (kind.path.split("/"), kind.how))
    width = max(len(kind.path) for kind in rows)
    return "".join(f"{kind.path:{width}}  {kind.how:7}  {kind.text}\n" for kind in rows)


def _kinds(lines: Iterable[str]) -> tuple[Kind, ...]:
    cells = (line.split(maxsplit=2) for line in lines)
    return tuple(Kind(path, How(how), text) for path, how, text in cells)


def shown() -> str:
    """Return the reference as README has it."""
    found = SHOWN.search(README.read_text())
    assert found is not None
    return found[2]


KINDS = _kinds(shown().splitlines())
