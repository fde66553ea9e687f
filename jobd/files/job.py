"""The directory of one job: `jobs/<id>/`.

spec.yaml              exactly what was written
resolved.yaml          the same with defaults, nodes, GPUs, and images by their digests
state why status       where it stands, as one word, as a sentence, as facts
events                 what happened, one line each
log                    STREAM: all output so far, then live, until the job is over
log.txt                the output so far, with its true size
exit_code              there once the job is over
wait                   STREAM: silent until the job is over, then its exit code
ctl                    CONTROL: see `jobd.ctl`
patch                  what the shipped tree differs by from the commit that it is based on
processes/<g>.<p>/     one process                (`jobd.files.processes`)
tasks/<k>/             one task of an array       (`jobd.files.tasks`)
src/ keep/ out/        the job's data

What is written, and of a job that is over its logs, its end and its patch, is never another text. The others are: they
name nodes, which may be renamed at any time, or are waited for.
"""

from collections.abc import Awaitable, Callable, Sequence

from jobd.engine.assign import data_path
from jobd.files.facts import flat, mean_texts, moment_text, one_line, place_text, request_text, time_text
from jobd.files.jobcontrol import job_control
from jobd.files.processes import ProcessesDirectory
from jobd.files.resolved import resolved
from jobd.files.sources import Sources, missing
from jobd.files.streams import LogFile, WaitStream
from jobd.files.tasks import TasksDirectory, job_attr
from jobd.job import Job
from jobd.life.events import Event, Placed, encode_event
from jobd.life.model import BEFORE_PLACED, Process, State
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.texts import GrowingText, SettledText, Text
from pfs.tree.virtual import Directory, DomainDirectory, Node, listing

NAMES = (
    *("ctl", "events", "exit_code", "keep", "log", "log.txt", "out", "patch", "processes", "resolved.yaml"),
    *("spec.yaml", "src", "state", "status", "tasks", "wait", "why"),
)
# what everybody else hears nothing of
PRIVATE = frozenset({"events", "log", "log.txt", "patch", "processes", "resolved.yaml", "spec.yaml"})


class JobDirectory(Directory):
    """One job, as it stood when it was looked up."""

    def __init__(self, sources: Sources, job: Job) -> None:
        self.job = job
        self._sources = sources
        self._engine = sources.engine

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the job's last change."""
        return job_attr(self.job.id, self.job.life.changed_at_ns, over=self.job.life.state.over)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the file of that name."""
        life = self.job.life
        if name in PRIVATE:
            await self._sources.audit.reached(subject, self.job.domain)
        match name:
            case "log" if await self._has_log():
                return LogFile(self._engine, self.job, live=True)
            case "log.txt" if await self._has_log():
                return LogFile(self._engine, self.job, live=False)
            case "wait":
                return WaitStream(self._engine, self.job)
            case "ctl":
                return job_control(self._sources, self.job)
            case "keep" | "out" | "src" if not _has_tasks(self.job):
                # what a job wrote is its owner's on the disk, and only jobs write it
                return DomainDirectory(self.job.domain, self._sources.disk.domain(data_path(self.job.id, name), None))
            case "processes" if not _has_tasks(self.job):
                return ProcessesDirectory(self._sources, self.job)
            case "tasks" if _has_tasks(self.job):
                return TasksDirectory(self._sources, self.job, self._enter)
            case "patch" if await self._has_patch():
                return self._text(name, self._patch, life.submitted_at_ns, SettledText if life.state.over else Text)
            case "spec.yaml":
                return self._text(name, self._spec, life.submitted_at_ns, SettledText)
            case "exit_code" if life.exit_code is not None:
                return self._text(name, self._exit_code, life.changed_at_ns, SettledText)
            case "events" | "resolved.yaml" | "state" | "status" | "why":
                return self._standing_text(name)
        raise missing()

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the job's files; its data is there between its preparation and its removal."""
        return await listing(self, subject, NAMES)

    def _enter(self, task: Job) -> "JobDirectory":
        return JobDirectory(self._sources, task)

    def _text(self, name: str, make: Callable[[], Awaitable[bytes]], mtime_ns: int, kind: type[Text] = Text) -> Text:
        return kind(("job", self.job.id, name), make, mtime_ns, lambda: self._engine.ledger.news(self.job.id))

    def _standing_text(self, name: str) -> Text:
        """Return a text about how the job stands, with the time of what it tells."""
        life = self.job.life
        if name == "state":
            return self._text(name, self._state, life.changed_at_ns)
        if name == "events":
            return self._text(name, self._events, life.told_at_ns, GrowingText)
        makers = {"resolved.yaml": self._resolved, "status": self._status, "why": self._why}
        return self._text(name, makers[name], self._told_at_ns())

    def _told_at_ns(self) -> int:
        """Return when that changed last which is told of the job; never before it did.

        Of one that waits, and of an array, it is told how others stand: then any change of them counts.
        """
        job, ledger = self.job, self._engine.ledger
        own_ns = max(job.life.told_at_ns, ledger.shared_at_ns(job))
        tells_of_others = job.life.state in BEFORE_PLACED or (_has_tasks(job) and not job.life.state.over)
        return max(own_ns, ledger.changed_at_ns) if tells_of_others else own_ns

    async def _now(self) -> Job:
        return await self._engine.ledger.current(self.job)

    async def _spec(self) -> bytes:
        return await self._sources.store.spec_text(self.job.id)

    async def _resolved(self) -> bytes:
        return resolved(await self._now(), self._sources.node_names()).encode()

    async def _has_log(self) -> bool:
        """Tell whether there is a log, or will be: that of a job that ended long ago may be gone."""
        if not self.job.life.state.over or _has_tasks(self.job):
            return True
        return await self._sources.workshop.has_log(self.job)

    async def _has_patch(self) -> bool:
        origin = await self._sources.workshop.origin(self.job)
        return origin is not None and origin.patch != ""

    async def _patch(self) -> bytes:
        return await self._sources.workshop.read_patch(self.job)

    async def _state(self) -> bytes:
        return f"{(await self._now()).life.state}\n".encode()

    async def _exit_code(self) -> bytes:
        return f"{(await self._now()).life.exit_code}\n".encode()

    async def _why(self) -> bytes:
        return f"{one_line(self._engine.why(await self._now()))}\n".encode()

    # ---- facts

    async def _status(self) -> bytes:
        job = await self._now()
        facts = self._standing(job) | self._places(job) | await self._of_array(job) | await self._of_origin(job)
        return flat(facts).encode()

    def _standing(self, job: Job) -> dict[str, object]:
        life, spec = job.life, job.spec
        waits = self._engine.standing(job) if life.state is State.WAITING and not life.held_by else None
        start_s = None if waits is None else waits.earliest_start_s
        return {
            "id": job.id,
            "name": spec.name,
            "title": spec.title,
            "user": job.user,
            "groups": " ".join(sorted(job.groups)) or None,
            "state": life.state,
            "why": self._engine.why(job),
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
            "node": " ".join(self._engine.fleet.name(node) for node in job.life.nodes),
            "gpus": sum(len(process.gpus) for process in processes),
            "place": self._place(processes),
            "images": " ".join(sorted(set(filter(None, job.life.images)))) or None,
        }

    def _place(self, processes: Sequence[Process]) -> str:
        return place_text(processes, self._sources.node_names(), self._sources.gpu_numbers())

    async def _of_array(self, job: Job) -> dict[str, object]:
        if job.array_id is not None:
            return {"array": job.array_id, "index": job.array_index}
        if not _has_tasks(job):
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

    # ---- what happened

    async def _events(self) -> bytes:
        events = await self._engine.ledger.history(self.job)
        return "".join(self._event(event) for event in events).encode()

    def _event(self, event: Event) -> str:
        facts = encode_event(event)
        words = [moment_text(event.time_ns), str(facts.pop("event"))]
        for hidden in ("time_ns", "terms", "places"):
            facts.pop(hidden, None)
        if isinstance(event, Placed):
            facts["on"] = self._place([Process(place.node, place.gpus) for place in event.places])
        words += [f"{key}={one_line(value)}" for key, value in facts.items() if value not in ("", False)]
        return " ".join(words) + "\n"


def _has_tasks(job: Job) -> bool:
    return job.spec.array is not None


def _use(job: Job) -> dict[str, object]:
    """Return what a job that is over did with its GPUs on average; of one that runs this would be a running clock."""
    util, memory = mean_texts(job)
    return {"gpu_util_mean": util or None, "gpu_memory_mean": memory or None}
