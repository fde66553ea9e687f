"""What has to be done so that one folder is as another: pure, and the same in both directions.

A file is taken for unchanged where size and time of change are the same, so whoever copies gives a copy the time of its
original. Times count to the microsecond: not every disk keeps more. Of modes only the owner's right to run counts for
changes: the rest differs from place to place, where files are a group's, for instance.

What stands where something else shall be is a conflict, and stays, unless it may be removed: a folder is never taken
away with what is in it only because a file has its name now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pfs.protocol.parcels import FILE, FOLDER, LINK, TEXT

RUNS = 0o100
PART_END = ".pfs-part"
OWN = (".pfs-uploaded", ".pfs-upload-")  # a record (`cli.files.record`), and what the server is just making
NAMES = {FILE: "a file", FOLDER: "a folder", LINK: "a symbolic link", TEXT: "a text of the server"}


@dataclass(frozen=True, slots=True)
class Node:
    """What stands at a path.

    Attributes:
        kind: as in a listing (`pfs.protocol.parcels.KINDS`).
        target: where a link leads.
    """

    kind: str
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0o644
    target: str = ""


Tree = Mapping[str, Node]  # by paths below a folder, which is not in it itself
Removable = Callable[[str, Node], bool]


@dataclass(frozen=True, slots=True)
class Conflict:
    """What cannot be copied, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order; paths are sorted.

    Attributes:
        cleared: removed because something of another kind comes there; what is inner first, as in `gone`.
        folders: to be made; each before what is in it.
        files: whose bytes are to be copied; also texts of the server.
        links: to be made or changed.
        attributes: files that run there and not here, or the other way round.
        gone: removed at the end.
        same: files and links that are as they should be.
        kept: files that are there, and are not to be replaced.
    """

    cleared: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def nothing_to_do(self) -> bool:
        """True where the other side is as it should be."""
        return not any((self.cleared, self.folders, self.files, self.links, self.attributes, self.gone))


def nothing(path: str, node: Node) -> bool:
    """Let nothing be removed."""
    return False


def anything(path: str, node: Node) -> bool:
    """Let everything be removed that is not in the source."""
    return True


def plan(
    source: Tree, target: Tree, removable: Removable = nothing, *, always: bool = False, keeps: bool = False
) -> Plan:
    """Return what is to be done so that all of `source` is in `target`.

    Args:
        removable: tells of something in the target that is not in the source whether it may go.
        always: copy also files that seem unchanged.
        keeps: no file or link that is there is replaced.
    """
    removed = _removed(source, target, removable)
    conflicts = [
        Conflict(path, _why(node, target[path]))
        for path, node in sorted(source.items())
        if path in target and _clash(node, target[path]) and path not in removed
    ]
    shut = {each.path for each in conflicts}
    found: dict[str, list[str]] = {name: [] for name in ("folders", "files", "links", "attributes", "same", "kept")}
    for path in sorted(source):
        if path not in shut and not _is_below(path, shut.__contains__):
            there = None if path in removed else target.get(path)
            if what := _to_do(source[path], there, always=always, keeps=keeps):
                found[what].append(path)
    makes_way: Callable[[str], bool] = lambda path: path in source and source[path].kind != FOLDER  # noqa: E731
    cleared: list[str] = []
    gone: list[str] = []
    for path in sorted(removed, reverse=True):
        if not _is_below(path, shut.__contains__):
            (cleared if path in source or _is_below(path, makes_way) else gone).append(path)
    lists = {name: tuple(paths) for name, paths in found.items()}
    return Plan(cleared=tuple(cleared), gone=tuple(gone), conflicts=tuple(conflicts), **lists)


def _to_do(node: Node, there: Node | None, *, always: bool, keeps: bool) -> str:
    """Return which list of the plan a path of the source comes to; "" for none."""
    if node.kind == FOLDER:
        return "" if there is not None else "folders"
    if there is not None and keeps:
        return "kept"
    if node.kind == LINK:
        return "same" if there is not None and there.kind == LINK and there.target == node.target else "links"
    if there is None or always or not is_same(node, there):
        return "files"
    return "same" if (node.mode ^ there.mode) & RUNS == 0 else "attributes"


def is_same(node: Node, there: Node) -> bool:
    """Tell whether a file seems to be unchanged."""
    return (
        node.kind == there.kind == FILE and node.size == there.size and node.mtime_ns // 1000 == there.mtime_ns // 1000
    )


def is_own(name: str) -> bool:
    """Tell whether a name is that of something which only helps copying, and is no part of a folder."""
    return name.endswith(PART_END) or name.startswith(OWN)


def _clash(node: Node, there: Node) -> bool:
    """Tell whether something cannot take the place of what is there: a folder is in the way, or is none yet."""
    return (node.kind == FOLDER) != (there.kind == FOLDER) or (there.kind not in (FILE, LINK, FOLDER))


def _why(node: Node, there: Node) -> str:
    here, stands = NAMES.get(node.kind, "a special file"), NAMES.get(there.kind, "a special file")
    return f"{stands} stands where {here} shall be copied to; remove one of them"


def _removed(source: Tree, target: Tree, removable: Removable) -> set[str]:
    """Return what is removed: a folder only with everything in it."""
    removed: set[str] = set()
    holding: set[str] = set()  # folders in which something stays
    for path in sorted(target, reverse=True):  # what is inner before the folder that it is in
        node, here = target[path], source.get(path)
        wanted = here is not None and not _clash(here, node)
        if not wanted and path not in holding and removable(path, node):
            removed.add(path)
        else:
            holding.add(path.rpartition("/")[0])
    return removed


def _is_below(path: str, is_meant: Callable[[str], bool]) -> bool:
    """Tell whether one of the folders that a path is in is meant."""
    while path := path.rpartition("/")[0]:
        if is_meant(path):
            return True
    return False
