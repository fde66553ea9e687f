"""What the last upload of a folder brought: so that files which are gone here can go there, and nothing else does.

The record lies in the folder that was uploaded to, so that another machine of the same user finds it, and it moves and
goes with that. A file may go if it is there still as it was brought: what a job has written, or changed, is never
touched. Before anything is sent the record names what was brought and what will be, so that it is true whenever an
upload is cut; at the end it names what is there of this one.
"""

import json
from collections.abc import Iterable

from cli.files.plan import Node, Tree
from pfs.protocol.parcels import FILE, FOLDER, LINK

RECORD = ".pfs-uploaded"
ABOUT = "what the last upload brought; without this file, what is removed at home stays here"

Brought = frozenset[tuple[str, str, int, str]]  # path, kind, time of change in microseconds, size or target


def brought(tree: Tree) -> Brought:
    """Return what an upload of `tree` brings."""
    return frozenset(_line(path, node) for path, node in tree.items())


def was_brought(record: Brought, path: str, node: Node) -> bool:
    """Tell whether something is as an upload has brought it."""
    return node.kind in (FILE, FOLDER, LINK) and _line(path, node) in record


def _line(path: str, node: Node) -> tuple[str, str, int, str]:
    if node.kind == FILE:
        return path, FILE, node.mtime_ns // 1000, str(node.size)
    return path, node.kind, 0, node.target


def encode(record: Brought) -> bytes:
    """Return a record as the text of its file."""
    lines = [json.dumps(ABOUT), *map(json.dumps, sorted(record))]
    return ("\n".join(lines) + "\n").encode()


def decode(text: bytes) -> Brought:
    """Return the record in a text; lines that are none say nothing, and nothing is removed for them."""
    return frozenset(_decoded(text.splitlines()))


def _decoded(lines: Iterable[bytes]) -> Iterable[tuple[str, str, int, str]]:
    for line in lines:
        try:
            path, kind, mtime_us, rest = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(path, str) and isinstance(kind, str) and isinstance(mtime_us, int) and isinstance(rest, str):
            yield path, kind, mtime_us, rest
