"""What everybody may know of every job: its number, user, title, state, request and place, and its use of GPUs.

It is what the texts `status` and `queue` of the tree tell, also of jobs that these leave out since they ended before.
"""

from collections.abc import Mapping

from jobd.files.facts import mean_texts, place_text, request_text, time_text
from jobd.files.sources import Sources
from jobd.job import Job
from jobd.store.search import ORDERS, JobSearch
from pfs.errors import Kind, PfsError

LISTED_MAX = 100
OFFSET_MAX = 100_000
SECONDS_MAX = 9_000_000_000  # what a database can count in nanoseconds
TITLE_CHARACTERS_MAX = 200
NUMBER_DIGITS_MAX = 18


class Survey:
    """Looks jobs up for everybody."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def jobs(self, asked: JobSearch) -> list[dict[str, str]]:
        """Return what is told of the jobs that are asked for."""
        names, numbers = self._sources.node_names(), self._sources.gpu_numbers()
        return [_row(job, names, numbers) for job in await self._sources.store.search(asked)]

    async def job(self, number: int) -> list[dict[str, str]]:
        """Return what is told of one job, also of a task; nothing where there is none."""
        found = await self._sources.store.jobs([number])
        return [_row(job, self._sources.node_names(), self._sources.gpu_numbers()) for job in found.values()]


def search_of(said: Mapping[str, str]) -> JobSearch:
    """Return what a query asks for.

    Raises:
        PfsError: INVALID for a value that cannot be.
    """
    since, till = (_count(said, name, SECONDS_MAX) for name in ("since", "till"))
    limit, offset = _count(said, "limit", LISTED_MAX), _count(said, "offset", OFFSET_MAX)
    title = said.get("title")
    if title is not None and len(title) > TITLE_CHARACTERS_MAX:
        raise PfsError(Kind.INVALID, f"title has {TITLE_CHARACTERS_MAX} characters at most")
    orders = tuple(_order(word) for word in said.get("order", "").split(",") if word)
    return JobSearch(said.get("user"), title, since, till, orders, LISTED_MAX if limit is None else limit, offset or 0)


def number_of(said: str) -> int:
    """Return the number of a job that somebody asks for; there is none where it cannot be one."""
    return int(said) if said.isascii() and said.isdigit() and len(said) <= NUMBER_DIGITS_MAX else 0


def _count(said: Mapping[str, str], name: str, most: int) -> int | None:
    text = said.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX and int(text) <= most):
        raise PfsError(Kind.INVALID, f"{name} is a number from 0 to {most}, not {text[:40]!r}")
    return int(text)


def _order(word: str) -> tuple[str, bool]:
    name = word.removeprefix("-")
    if name not in ORDERS:
        raise PfsError(Kind.INVALID, f"order is one of {', '.join(sorted(ORDERS))}, with - downward, not {word[:40]!r}")
    return name, word != name


def _row(job: Job, names: Mapping[str, str], numbers: Mapping[str, str]) -> dict[str, str]:
    util, memory = mean_texts(job)
    title = job.spec.title if job.array_index is None else f"{job.spec.title}[{job.array_index}]"
    return {
        "id": str(job.id),
        "user": job.user,
        "title": title,
        "state": job.life.state.value,
        "changed": time_text(job.life.changed_at_ns),
        "request": request_text(job.spec),
        "place": place_text(job.life.processes, names, numbers),
        "gpu_util_mean": util,
        "gpu_memory_mean": memory,
    }
