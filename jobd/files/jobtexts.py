"""Texts in the directory of a job: what was asked for, where it stands, what happened.

Each tells of the job as it stands when it is read, also through a file that was opened before; and who waits for
another text is told of it. What was written, and of a job that is over its end and its patch, is never another text;
the others are: they name nodes, which may be renamed at any time, or are waited for.
"""

from abc import abstractmethod
from collections.abc import Sequence

from jobd.files.facts import flat, mean_texts, moment_text, one_line, place_text, request_text, time_text
from jobd.files.resolved import resolved
from jobd.files.sources import Sources
from jobd.job import Job
from jobd.life.events import Event, Placed, encode_event
from jobd.life.model import BEFORE_PLACED, Process, State
from pfs.tree.texts import GrowingText, Text


def has_tasks(job: Job) -> bool:
    """Tell whether a job is an array."""
    return job.spec.array is not None


class JobText(Text):
    """A text about a job.

    Args:
        job: as it stood when the text was looked up.
    """

    def __init__(self, sources: Sources, job: Job) -> None:
        self._sources = sources
        self._job = job
        words = ("job", job.id, self.called)
        super().__init__(words, self._made, self._changed_at_ns(), lambda: sources.engine.ledger.news(job.id))

    @abstractmethod
    async def _made(self) -> bytes:
        """Return the text."""

    @abstractmethod
    def _changed_at_ns(self) -> int:
        """Return when the text last changed; never before it did."""

    async def _now(self) -> Job:
        return await self._sources.engine.ledger.current(self._job)


class GivenText(JobText):
    """A text that is there since the job was submitted, and stays as it is."""

    def _changed_at_ns(self) -> int:
        return self._job.life.submitted_at_ns


class SpecFile(GivenText):
    """Its spec: exactly what was written."""

    called = "spec.yaml"

    def _stays(self) -> bool:
        return True

    async def _made(self) -> bytes:
        return await self._sources.store.spec_text(self._job.id)


class PatchFile(GivenText):
    """What a shipped tree differs by from its commit; there where it does."""

    called = "patch"

    def _stays(self) -> bool:
        return self._job.life.state.over

    async def _made(self) -> bytes:
        return await self._sources.workshop.read_patch(self._job)


class StateText(JobText):
    """A text that changes with the job's state alone."""

    def _changed_at_ns(self) -> int:
        return self._job.life.changed_at_ns


class StateFile(StateText):
    """Where it stands, one word; poll wakes up when that changes."""

    called = "state"

    async def _made(self) -> bytes:
        return f"{(await self._now()).life.state}\n".encode()


class ExitCodeFile(StateText):
    """The code that it ended with; there once it is over."""

    called = "exit_code"

    def _stays(self) -> bool:
        return True

    async def _made(self) -> bytes:
        return f"{(await self._now()).life.exit_code}\n".encode()


class StandingText(JobText):
    """A text about how the job stands.

    Of one that waits, and of an array, it is told how others stand: then any change of them counts.
    """

    def _changed_at_ns(self) -> int:
        job, ledger = self._job, self._sources.engine.ledger
        own_ns = max(job.life.told_at_ns, ledger.shared_at_ns(job))
        tells_of_others = job.life.state in BEFORE_PLACED or (has_tasks(job) and not job.life.state.over)
        return max(own_ns, ledger.changed_at_ns) if tells_of_others else own_ns


class ResolvedFile(StandingText):
    """Its spec with all defaults, nodes, GPUs, and images by their digests."""

    called = "resolved.yaml"

    async def _made(self) -> bytes:
        return resolved(await self._now(), self._sources.node_names()).encode()


class WhyFile(StandingText):
    """Why it waits, or failed, with numbers and what would help."""

    called = "why"

    async def _made(self) -> bytes:
        return f"{one_line(self._sources.engine.why(await self._now()))}\n".encode()


class StatusFile(StandingText):
    """All facts about it, a key and its value in each line."""

    called = "status"

    async def _made(self) -> bytes:
        job = await self._now()
        facts = self._standing(job) | self._places(job) | await self._of_array(job) | await self._of_origin(job)
        return flat(facts).encode()

    def _standing(self, job: Job) -> dict[str, object]:
        life, spec = job.life, job.spec
        waits = self._sources.engine.standing(job) if life.state is State.WAITING and not life.held_by else None
        start_s = None if waits is None else waits.earliest_start_s
        return {
            "id": job.id,
            "name": spec.name,
            "title": spec.title,
            "user": job.user,
            "groups": " ".join(sorted(job.groups)) or None,
            "state": life.state,
            "why": self._sources.engine.why(job),
            "held": life.held_by or None,
            "attempt": life.attempt,
            "priority": life.priority,
            "request": request_text(spec),
            "queue_place": None if waits is None else waits.place,
            "earliest_start": None if start_s is None else time_text(int(start_s * 1e9)),
            "depends_on": " ".join(f"{each.kind}:{each.job_id}" for each in spec.depends_on) or None,
            "continue": spec.continue_from,
            "max_duration_s": None if life.max_duration_s is None else f"{life.max_duration_s:g}",
            "submitted": time_text(life.submitted_at_ns),
            "changed": time_text(life.changed_at_ns),
            "started": time_text(life.started_at_ns),
            "ended": time_text(life.ended_at_ns),
            "exit_code": "" if life.exit_code is None else life.exit_code,
        } | _use(job)

    def _places(self, job: Job) -> dict[str, object]:
        processes = job.life.processes
        return {
            "node": " ".join(self._sources.engine.fleet.name(node) for node in job.life.nodes),
            "gpus": sum(len(process.gpus) for process in processes),
            "place": _place(self._sources, processes),
            "images": " ".join(sorted(set(filter(None, job.life.images)))) or None,
        }

    async def _of_array(self, job: Job) -> dict[str, object]:
        if job.array_id is not None:
            return {"array": job.array_id, "index": job.array_index}
        if not has_tasks(job):
            return {}
        states = await self._sources.store.task_states(job.id)
        counts = {f"tasks_{state.lower()}": states[state] for state in State if states[state]}
        return {"tasks": states.total(), **counts}

    async def _of_origin(self, job: Job) -> dict[str, object]:
        origin = await self._sources.workshop.origin(job)
        if origin is None:
            return {}
        remote = f"{origin.remote} {origin.url}".strip() or None
        return {"remote": remote, "hash": origin.hash or None, "diff_lines": origin.diff_lines}


class EventsFile(JobText, GrowingText):
    """What happened to it, a line each."""

    called = "events"

    async def _made(self) -> bytes:
        events = await self._sources.engine.ledger.history(self._job)
        return "".join(self._event(event) for event in events).encode()

    def _changed_at_ns(self) -> int:
        return self._job.life.told_at_ns

    def _event(self, event: Event) -> str:
        facts = encode_event(event)
        words = [moment_text(event.time_ns), str(facts.pop("event"))]
        for hidden in ("time_ns", "terms", "places"):
            facts.pop(hidden, None)
        if isinstance(event, Placed):
            facts["on"] = _place(self._sources, [Process(place.node, place.gpus) for place in event.places])
        words += [f"{key}={one_line(value)}" for key, value in facts.items() if value not in ("", False)]
        return " ".join(words) + "\n"


def _place(sources: Sources, processes: Sequence[Process]) -> str:
    return place_text(processes, sources.node_names(), sources.gpu_numbers())


def _use(job: Job) -> dict[str, object]:
    """Return what a job that is over did with its GPUs on average; of one that runs this would be a running clock."""
    util, memory = mean_texts(job)
    return {"gpu_util_mean": util or None, "gpu_memory_mean": memory or None}


# those that are always there
STANDING: dict[str, type[JobText]] = {
    kind.called: kind for kind in (SpecFile, ResolvedFile, StateFile, StatusFile, WhyFile, EventsFile)
}
