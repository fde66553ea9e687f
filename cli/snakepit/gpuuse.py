"""How much jobs use of their GPUs: those that run at present, by what their nodes tell; those that are over on average.

What the tree tells of a job that is over stands with its state; of one that runs nothing does, since that would change
all the time.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cli.snakepit.states import DONE, RUNNING, letters_of
from pfs.errors import Kind, PfsError

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

Job = Mapping[str, str]
# of each job, by its number, how much it uses of its GPUs, and of their memory, in percent
Uses = Mapping[str, tuple[int, int]]


class Tree(Protocol):
    """Who reads the tree (`pfs.client.web.WebClient`)."""

    def read(self, path: str) -> bytes: ...

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]: ...


def uses_of(tree: Tree, jobs: Sequence[Job]) -> Uses:
    """Return for each job that has GPUs, or is over, how much it uses of them, and of their memory, in percent."""
    nodes = _Nodes(tree)
    found = {}
    for job in jobs:
        letters = letters_of(job["state"])
        if letters == DONE:
            found[job["id"]] = (_whole(job.get("gpu_util_mean", "")), _whole(job.get("gpu_memory_mean", "")))
        elif letters in RUNNING:
            found[job["id"]] = nodes.use(gpus_of(job.get("place", "")))
    return found


def gpus_of(place: str) -> list[tuple[str, str]]:
    """Return the GPUs of a place such as `n0[cuda 0-1,4] + n1[]`: each with its node, and its number there."""
    found = []
    for node, text in re.findall(r"([^\s\[\]]+)\[cuda ([^\]]*)\]", place):
        for part in text.split(","):
            first, dash, last = part.partition("-")
            if dash and first.isdigit() and last.isdigit():
                found += [(node, str(number)) for number in range(int(first), int(last) + 1)]
            else:
                found.append((node, part))
    return found


class _Nodes:
    """What the GPUs of nodes do; each node is asked once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[str, dict[str, tuple[int | None, float | None]]] = {}

    def use(self, gpus: Sequence[tuple[str, str]]) -> tuple[int, int]:
        """Return how much these do, and have of their memory, on average."""
        told = [self._of(node).get(number, (None, None)) for node, number in gpus]
        return _mean([util for util, _ in told]), _mean([memory for _, memory in told])

    def _of(self, node: str) -> Mapping[str, tuple[int | None, float | None]]:
        if node not in self._known:
            try:
                self._known[node] = self._read(node)
            except PfsError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
                self._known[node] = {}
        return self._known[node]

    def _read(self, node: str) -> dict[str, tuple[int | None, float | None]]:
        entries = {name: self._tree.list(f"nodes/{node}/gpus", each=name) for name in ("util", "memory_used", "memory")}
        util, used, size = (
            {str(entry["name"]): (entry.get("each") or "").strip() for entry in listed} for listed in entries.values()
        )
        return {
            number: (_number(text), _percent(used.get(number, ""), size.get(number, "")))
            for number, text in util.items()
        }


def _number(text: str) -> int | None:
    return int(text.removesuffix("%")) if text.removesuffix("%").isdigit() else None


def _whole(text: str) -> int:
    return _number(text) or 0


def _percent(used: str, size: str) -> float | None:
    has, holds = _bytes(used), _bytes(size)
    return 100 * has / holds if has is not None and holds else None


def _bytes(text: str) -> float | None:
    """Return a size as it is written in the tree, which may have been rounded."""
    found = re.fullmatch(r"([0-9.]+) ?(bytes|[KMGTPE]iB)", text)
    return float(found[1]) * 1024 ** _UNITS.index(found[2]) if found is not None else None


def _mean(values: Sequence[float | None]) -> int:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known)) if known else 0
