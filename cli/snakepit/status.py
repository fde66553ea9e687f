"""Jobs as Snakepit's tables: the report of `pit status`, and the list of `pit show jobs`.

Columns, widths, order and captions are its own; what is too long is cut hard. Facts of a job are those of its `status`
in the tree, of its row in the tree's `status`, or what the server tells everybody of it (`cli.snakepit.jobquery`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cli.output import pit_since, printable, read_tables
from cli.snakepit.gpuuse import Job, Uses
from cli.snakepit.states import DONE, RUNNING, WAITING, letters_of

DONE_SHOWN_MAX = 20
TITLE_COLUMNS = 20
LISTED_TITLE_COLUMNS = 40
RESOURCE_COLUMNS = 30  # where nothing is known of the terminal, or it is too narrow
RESOURCE_COLUMNS_MIN = 10

# what the columns of the tree's tables are in a job's own `status`, where they are called otherwise
_FACTS = {"JOB": "id", "UTIL": "gpu_util_mean", "MEMORY": "gpu_memory_mean"}


def jobs_of(text: str) -> list[dict[str, str]]:
    """Return the facts of the jobs that the tree's `status` names, everybody's."""
    rows = [row for table in read_tables(text).values() for row in table if "JOB" in row]
    return [
        {_FACTS.get(name, name.lower()): cell for name, cell in row.items()} | {"turn": str(turn)}
        for turn, row in enumerate(rows)
    ]


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
