"""What the owner of a node shows to all of its tasks: mounts written `host:container[:ro]`, and which are refused.

Pure: what a path of the machine really is finds out `jobd.node.hostpaths`.

A mount may not hide what every task relies on (`/pfs`, its home, the kernel's own files), and it may not open the
machine: nothing of the kernel's, of `/etc`, of the container engine, of this daemon or of the server's data, whose
rights a plain mount would go around. A directory that *contains* one of these is refused like one that lies in it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobd.wire import ARTIFACTS, HOME
from pfs.errors import Kind, PfsError

READ_ONLY = "ro"

KEPT_TARGETS = ("/", ARTIFACTS, HOME)
KEPT_BELOW = ("/proc", "/sys", "/dev", "/pfs")
NO_MOUNTS = "the policy of this node allows no mounts"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class HostMount:
    """A directory or file of the machine that tasks see at `target`; `source` is what its owner wrote."""

    source: str
    target: str
    read_only: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.target}" + (f":{READ_ONLY}" if self.read_only else "")


def parse_mounts(texts: Iterable[str]) -> tuple[HostMount, ...]:
    """Read mounts, several of them in one text with commas between.

    Raises:
        PfsError: INVALID with all that is wrong.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    found, problems = [], []
    for word in filter(None, words):
        made = _parse(word)
        if isinstance(made, str):
            problems.append(f"{word}: {made}")
        else:
            found.append(made)
    problems += _overlaps(found)
    if problems:
        raise PfsError(Kind.INVALID, f"--mount {'; --mount '.join(problems)}")
    return tuple(found)


def _parse(word: str) -> HostMount | str:
    """Return a mount, or what is wrong with it."""
    source, _, rest = word.partition(":")
    target, *options = rest.split(":")
    if _CONTROL.search(word):
        return "a control character cannot stand in a path"
    if not source or not target:
        return "write host:container, such as /srv/data:/data, and :ro behind it where tasks may only read"
    if options not in ([], [READ_ONLY]):
        return f"behind the container's path only :{READ_ONLY} can stand; without it tasks may write"
    if not source.startswith("/") or not target.startswith("/"):
        return "both paths begin with /"
    target = normal(target)
    if target in KEPT_TARGETS or is_below(target, KEPT_BELOW):
        return f"tasks have something of their own at {target}; choose another place, such as {HOME}/data"
    return HostMount(source, target, read_only=bool(options))


def _overlaps(mounts: Sequence[HostMount]) -> list[str]:
    """Tell which mounts would hide others; one below another that is given is well."""
    first: dict[str, HostMount] = {}
    problems = []
    for mount in mounts:
        if mount.target in first:
            problems.append(f"{mount}: {first[mount.target]} has the same place in the container")
        first.setdefault(mount.target, mount)
    for mount in mounts:
        outer = next((other for other in mounts if mount.target.startswith(f"{other.target}/")), None)
        if outer is not None and outer.read_only:
            problems.append(f"{mount}: it has no place in {outer}, which tasks may only read; choose another one")
    return problems


def normal(path: str) -> str:
    """Return an absolute path without empty, `.` and `..` parts, as a container without links would take it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Tell whether a path is one of `tops` or lies in one; both are without links and odd parts."""
    return any(path == top or path.startswith(f"{top.rstrip('/')}/") for top in tops)


def source_problem(real: str, kept: Mapping[str, str], allowed: Sequence[str] | None) -> str:
    """Say why a path of the machine may not be shown to tasks; "" where it may.

    Args:
        real: the path, without links.
        kept: what must stay closed, by path without links: what it is.
        allowed: the only directories in which mounts may lie; None for all.
    """
    if real == "/":
        return "this is the whole machine"
    for path, what in kept.items():
        if is_below(real, (path,)):
            return f"it is {what}" if real == path else f"it lies in {path}, {what}"
        if is_below(path, (real,)):
            return f"it contains {path}, {what}"
    if allowed is not None and not is_below(real, allowed):
        return f"the policy of this node allows mounts of {', '.join(allowed)} only" if allowed else NO_MOUNTS
    return ""
