"""The directory `gpus/` of a machine.

nodes/<name>/gpus/<i>/   model alias uuid memory groups    what it is; an instance of a divided GPU is <i>.<instance>
                         job                               the job that has it
                         health                            ok, or why it is given to nobody
                         util temperature memory_used processes    what it does, as its node told last; empty while that
                                                                   is not known
"""

from collections.abc import Sequence
from typing import Any

from jobd.engine.fleet import NodeStanding
from jobd.files.facts import flat, gpu_number, one_line, request_text
from jobd.files.sources import FactsDirectory, Sources, missing
from jobd.job import Job
from jobd.spec.units import format_size
from jobd.wire import GpuReading
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id

FILES = (
    *("alias", "groups", "health", "job", "memory", "memory_used", "model", "processes", "temperature", "util"),
    "uuid",
)


class GpusDirectory(Directory):
    """`gpus/` of a machine: a directory for each, by its number there."""

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
        texts = {
            "model": lambda: f"{one_line(gpu['model'])}\n",
            "uuid": lambda: f"{one_line(gpu['uuid'])}\n",
            "memory": lambda: f"{format_size(gpu['memory_bytes'])}\n",
            "alias": lambda: self._alias(gpu),
            "groups": lambda: self._groups(gpu),
            "job": lambda: self._job(gpu),
            "health": lambda: f"{one_line(gpu.get('ill') or 'ok')}\n",
            "util": lambda: _told(reading.util_percent, "%"),
            "temperature": lambda: _told(reading.temperature_c, "C"),
            "memory_used": lambda: "" if reading.used_bytes is None else f"{format_size(reading.used_bytes)}\n",
            "processes": lambda: _processes(reading),
        }
        assert set(texts) == set(FILES)
        mtime_ns = max(self._sources.engine.ledger.changed_at_ns, self._readings.since_ns)
        return FactsDirectory(("node", self._row.id, "gpu", gpu["uuid"]), texts, mtime_ns=mtime_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all GPUs."""
        names = sorted(self._gpus, key=lambda name: [int(part) for part in name.split(".")])
        return await listing(self, subject, names)

    def _alias(self, gpu: dict[str, Any]) -> str:
        aliases = self._sources.engine.fleet.policy.aliases
        return "".join(f"{alias}\n" for alias, model in aliases.items() if model == gpu["model"])

    def _groups(self, gpu: dict[str, Any]) -> str:
        policy = self._sources.engine.fleet.policy
        groups = policy.gpu_groups.get(gpu["uuid"]) or policy.node_groups.get(self._row.entry_id, frozenset())
        return "".join(f"{group}\n" for group in sorted(groups))

    def _job(self, gpu: dict[str, Any]) -> str:
        job = self._sources.uses().of(self._row.id).gpus.get(gpu["uuid"])
        return "" if job is None else public_facts(job)


def _told(number: int | None, unit: str) -> str:
    return "" if number is None else f"{number}{unit}\n"


def _processes(reading: GpuReading) -> str:
    """Return the processes that use a GPU, by their numbers on its machine, and what they have of its memory."""
    return flat({str(pid): "" if has is None else format_size(has) for pid, has in sorted(reading.processes.items())})


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
