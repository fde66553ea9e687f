"""The directory `gpus/` of a machine: `<i>/` for each GPU; of one that is divided, `<i>.<instance>/`.

What a GPU does is as its node told last, and empty while that is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobd.engine.fleet import NodeStanding
from jobd.files.facts import flat, gpu_number, one_line, request_text
from jobd.files.sources import FactsDirectory, FactText, Sources, missing
from jobd.job import Job
from jobd.spec.units import format_size
from jobd.store.tables import NodeRow
from jobd.wire import GpuReading
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id


@dataclass(frozen=True, slots=True)
class _Known:
    """What the texts of a GPU are made from.

    Args:
        row: of its machine.
        gpu: what the machine told of it, when it registered.
        reading: what it does, as the machine told last.
    """

    sources: Sources
    row: NodeRow
    gpu: Mapping[str, Any]
    reading: GpuReading


class ModelFile(FactText[_Known]):
    """What it is."""

    called = "model"

    def text(self) -> str:
        """Return the text."""
        return f"{one_line(self._about.gpu['model'])}\n"


class AliasFile(FactText[_Known]):
    """The short name of its model."""

    called = "alias"

    def text(self) -> str:
        """Return the text."""
        aliases = self._about.sources.engine.fleet.policy.aliases
        return "".join(f"{alias}\n" for alias, model in aliases.items() if model == self._about.gpu["model"])


class UuidFile(FactText[_Known]):
    """Its name for ever."""

    called = "uuid"

    def text(self) -> str:
        """Return the text."""
        return f"{one_line(self._about.gpu['uuid'])}\n"


class MemoryFile(FactText[_Known]):
    """How much it has."""

    called = "memory"

    def text(self) -> str:
        """Return the text."""
        return f"{format_size(self._about.gpu['memory_bytes'])}\n"


class GroupsFile(FactText[_Known]):
    """For whom it is reserved; empty: for nobody."""

    called = "groups"

    def text(self) -> str:
        """Return the text."""
        policy = self._about.sources.engine.fleet.policy
        of_gpu, of_node = policy.gpu_groups, policy.node_groups
        groups = of_gpu.get(self._about.gpu["uuid"]) or of_node.get(self._about.row.entry_id, frozenset())
        return "".join(f"{group}\n" for group in sorted(groups))


class JobFile(FactText[_Known]):
    """The job that has it; empty: none."""

    called = "job"

    def text(self) -> str:
        """Return the text."""
        job = self._about.sources.uses().of(self._about.row.id).gpus.get(self._about.gpu["uuid"])
        return "" if job is None else public_facts(job)


class HealthFile(FactText[_Known]):
    """`ok`, or what ails it: then no job gets it."""

    called = "health"

    def text(self) -> str:
        """Return the text."""
        return f"{one_line(self._about.gpu.get('ill') or 'ok')}\n"


class UtilFile(FactText[_Known]):
    """How busy it was last, in percent."""

    called = "util"

    def text(self) -> str:
        """Return the text."""
        return _told(self._about.reading.util_percent, "%")


class TemperatureFile(FactText[_Known]):
    """How warm it was last."""

    called = "temperature"

    def text(self) -> str:
        """Return the text."""
        return _told(self._about.reading.temperature_c, "C")


class MemoryUsedFile(FactText[_Known]):
    """How much of its memory was used last."""

    called = "memory_used"

    def text(self) -> str:
        """Return the text."""
        used_bytes = self._about.reading.used_bytes
        return "" if used_bytes is None else f"{format_size(used_bytes)}\n"


class ProcessesFile(FactText[_Known]):
    """Who used it last, by their numbers on its machine, and what they have of its memory."""

    called = "processes"

    def text(self) -> str:
        """Return the text."""
        processes = sorted(self._about.reading.processes.items())
        return flat({str(pid): "" if has is None else format_size(has) for pid, has in processes})


TEXTS: dict[str, type[FactText[_Known]]] = {
    kind.called: kind
    for kind in (
        *(AliasFile, GroupsFile, HealthFile, JobFile, MemoryFile, MemoryUsedFile, ModelFile, ProcessesFile),
        *(TemperatureFile, UtilFile, UuidFile),
    )
}


class GpuDirectory(FactsDirectory[_Known]):
    """A GPU; of one that is divided, an instance: 0.2."""

    called = "<i>"


class GpusDirectory(Directory):
    """Its GPUs, by their numbers there."""

    def __init__(self, sources: Sources, standing: NodeStanding) -> None:
        self._sources = sources
        self._row = standing.row
        self._readings = standing.readings
        self._gpus = {gpu_number(gpu): gpu for gpu in self._row.gpus}

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("node", self._row.id, "gpus"), mtime_ns=self._row.registered_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a GPU."""
        gpu = self._gpus.get(name)
        if gpu is None:
            raise missing()
        reading = self._readings.gpus.get(gpu["uuid"], GpuReading())
        mtime_ns = max(self._sources.engine.ledger.changed_at_ns, self._readings.since_ns)
        words = ("node", self._row.id, "gpu", gpu["uuid"])
        return GpuDirectory(words, _Known(self._sources, self._row, gpu, reading), TEXTS, mtime_ns=mtime_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all GPUs."""
        names = sorted(self._gpus, key=lambda name: [int(part) for part in name.split(".")])
        return await listing(self, subject, names)


def _told(number: int | None, unit: str) -> str:
    return "" if number is None else f"{number}{unit}\n"


def public_facts(job: Job) -> str:
    """Return what everybody sees of every job."""
    return flat(
        {
            "id": job.id,
            "user": job.user,
            "title": job.spec.title,
            "state": job.life.state,
            "request": request_text(job.spec),
        }
    )
