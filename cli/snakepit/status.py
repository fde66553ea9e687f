"""Jobs as Snakepit's tables: the report of `pit status`, and the list of `pit show jobs`.

Columns, widths, order and captions are its own; what is too long is cut hard. Facts of a job are those of its `status`
in the tree, or of its row in the tree's `status`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cli.output import pit_since, printable, read_tables
from cli.snakepit.states import DONE, RUNNING, WAITING, letters_of

DONE_SHOWN_MAX = 20
TITLE_COLUMNS = 20
LISTED_TITLE_COLUMNS = 40
RESOURCE_COLUMNS = 30  # where nothing is known of the terminal, or it is too narrow
RESOURCE_COLUMNS_MIN = 10

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

Job = Mapping[str, str]
Uses = Mapping[str, tuple[int, int]]


class Tree(Protocol):
    """Who reads the tree (`pfs.client.web.WebClient`)."""

    def read(self, path: str) -> bytes: ...

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]: ...


def jobs_of(text: str) -> list[dict[str, str]]:
    """Return the facts of the jobs that the tree's `status` names, everybody's."""
    rows = [row for table in read_tables(text).values() for row in table if "JOB" in row]
    return [
        {("id" if name == "JOB" else name.lower()): cell for name, cell in row.items()} | {"turn": str(turn)}
        for turn, row in enumerate(rows)
    ]


# ---- how much of their GPUs they use


def uses_of(tree: Tree, jobs: Sequence[Job]) -> Uses:
    """Return for each job that has GPUs now how much it uses of them, and of their memory, in percent."""
    from pfs.errors import Kind, PfsError

    nodes: dict[str, dict[str, tuple[str, str, str]]] = {}
    found = {}
    for job in jobs:
        if letters_of(job["state"]) not in RUNNING:
            continue
        seen = []
        for node, number in gpus_of(job.get("place", "")):
            if node not in nodes:
                try:
                    nodes[node] = _readings(tree, node)
                except PfsError as error:
                    if error.kind is not Kind.NOT_FOUND:
                        raise
                    nodes[node] = {}
            if number in nodes[node]:
                seen.append(nodes[node][number])
        if seen:
            shares = [_percent(used, size) for _, used, size in seen]
            found[job["id"]] = (_mean([_number(util) for util, _, _ in seen]), _mean(shares))
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


def _readings(tree: Tree, node: str) -> dict[str, tuple[str, str, str]]:
    """Return of each GPU of a node what is told of its use, of the memory in use, and of its memory."""
    util, used, size = (
        {str(entry["name"]): (entry.get("each") or "").strip() for entry in tree.list(f"nodes/{node}/gpus", each=name)}
        for name in ("util", "memory_used", "memory")
    )
    return {number: (util[number], used.get(number, ""), size.get(number, "")) for number in util}


def _number(text: str) -> float | None:
    return float(text.removesuffix("%")) if text.removesuffix("%").isdigit() else None


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


# ---- tables


def grouped(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Return jobs in the order of the report, by its captions."""
    by_number = sorted(jobs, key=lambda job: int(job["id"]))
    return {
        "Running": [job for job in by_number if letters_of(job["state"]) in RUNNING],
        "Waiting": sorted((job for job in by_number if letters_of(job["state"]) in WAITING), key=_turn),
        "Done": sorted((job for job in by_number if letters_of(job["state"]) == DONE), key=_newest)[:DONE_SHOWN_MAX],
    }


@dataclass(frozen=True, slots=True)
class _Table:
    """The columns of a table.

    Attributes:
        when: the header of the column for times, and what stands there of a job.
        columns: of the terminal.
        uses: for the numbers of jobs how much of their GPUs, and of their memory, they use, in percent.
    """

    when: tuple[str, Callable[[Job], str]]
    when_columns: int
    title_columns: int
    columns: int
    uses: Uses

    def header(self) -> str:
        """Return the first line."""
        return self._row(("JOB", "S", self.when[0], "UC%", "UM%", "USER", "TITLE", "RESOURCE"))

    def row(self, job: Job) -> str:
        """Return the line of a job."""
        compute, memory = self.uses.get(job["id"], (0, 0))
        words = (job["id"], letters_of(job["state"]), self.when[1](job), str(compute), str(memory))
        return self._row((*words, job["user"], job["title"], resource(job)))

    def _row(self, cells: Sequence[str]) -> str:
        """Return one line; the last column takes the rest of the terminal."""
        job, letters, when, compute, memory, user, title, where = (printable(cell) for cell in cells)
        start = f"{job[:6]:>6} {letters[:3]:>3} {when[: self.when_columns]:<{self.when_columns}} "
        start += f"{compute[:3]:>3} {memory[:3]:>3} {user[:10]:<10} "
        start += f"{title[: self.title_columns]:<{self.title_columns}} "
        room = self.columns - len(start)
        return start + where[: room if room >= RESOURCE_COLUMNS_MIN else RESOURCE_COLUMNS]


def status_report(jobs: Sequence[Job], now_s: float, columns: int, uses: Uses) -> str:
    """Return the report of `pit status`.

    Args:
        now_s: seconds since the epoch.
        columns: of the terminal.
    """

    def since(job: Job) -> str:
        return pit_since(now_s - datetime.fromisoformat(changed(job)).timestamp())

    made = _Table(("SINCE", since), 12, TITLE_COLUMNS, columns, uses)
    lines = [made.header()]
    for caption, members in grouped(jobs).items():
        if members:
            lines += [f"{caption}:", *map(made.row, members)]
    return _text(lines)


def job_list(jobs: Sequence[Job], columns: int, uses: Uses) -> str:
    """Return the list of `pit show jobs`, in the order in which the jobs come."""
    made = _Table(("DATE", changed), 24, LISTED_TITLE_COLUMNS, columns, uses)
    return _text([made.header(), *map(made.row, jobs)])


def _text(lines: Sequence[str]) -> str:
    return "".join(line.rstrip() + "\n" for line in lines)


def changed(job: Job) -> str:
    """Return when the state of a job changed last."""
    return job.get("changed") or job["submitted"]


def resource(job: Job) -> str:
    """Return what a job has, or before it has anything what it asks for."""
    return job.get("place") or job.get("request", "")


def as_object(job: Job, uses: Uses) -> dict[str, object]:
    """Return what the tables tell of a job, for programs."""
    compute, memory = uses.get(job["id"], (0, 0))
    return {
        "id": int(job["id"]),
        "state": letters_of(job["state"]),
        "date": changed(job),
        "utilComp": compute / 100,
        "utilMem": memory / 100,
        "user": job["user"],
        "description": job["title"],
        "resources": resource(job),
    }


def _turn(job: Job) -> tuple[int, int]:
    """Return where a job stands that does not run yet: those in the queue by their places, then the others."""
    return WAITING.index(letters_of(job["state"])), int(job.get("turn") or 0)


def _newest(job: Job) -> tuple[float, int]:
    return -datetime.fromisoformat(changed(job)).timestamp(), -int(job["id"])
