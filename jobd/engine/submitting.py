"""From a text to a job: parsed, checked against what there is and who asks, and kept with its first events.

All that can be known to be wrong is said before there is a number. What has nothing to wait for and nothing to be
brought together waits for nodes at once: that is one commit.
"""

from weakref import WeakValueDictionary

import trio

from jobd.engine.commandrules import check_priority
from jobd.engine.credentials import FindSecret, check_places, check_use, find_credential, find_secrets
from jobd.engine.demands import needs_of
from jobd.engine.dependencies import next_step
from jobd.engine.flow import Flow
from jobd.job import Job
from jobd.life.events import Event, Submitted, Terms
from jobd.life.life import fold
from jobd.scheduling.quotas import gpus_of
from jobd.spec.defaultimages import with_default_image
from jobd.spec.model import JobSpec
from jobd.spec.spec import parse_spec
from jobd.spec.values import name_problem
from jobd.store.jobs import NewTask
from jobd.store.tables import DraftRow
from pfs.errors import AllowanceError, Kind, PfsError
from pfs.perm import Subject

QUICK_SPEC_BYTES = 16 * 1024
AT_ONCE = 16  # submissions of one user


class Submissions:
    """Makes jobs."""

    def __init__(self, flow: Flow, secret: FindSecret) -> None:
        self._flow = flow
        self._secret = secret
        self._turns: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()

    async def submit(self, subject: Subject, draft: DraftRow, stem: str, key: str | None) -> int:
        """Make a job of a text; return its number once it is on disk.

        Args:
            stem: names the job where the spec does not.
            key: the same key of the same user again gives the same job.

        Raises:
            PfsError: what is wrong with the spec, why it could never run here, or QUOTA.
        """
        async with self._turn(subject.user):
            try:
                return await self._submit(subject, draft, stem, key)
            except PfsError as error:
                if key is None or error.kind is not Kind.QUOTA:
                    raise
                known = await self._flow.store.job_of_key(draft.user, key)  # what fills the quota may be this very job
                if known is None:
                    raise
                return known

    async def check(self, subject: Subject, text: bytes, stem: str) -> None:
        """Refuse a text as `submit` would, but for its files, which may still have to be brought.

        Raises:
            PfsError: as of `submit`.
        """
        async with self._turn(subject.user):
            await self._check(subject, await self._whole(text, stem))

    async def least_gpus(self, subject: Subject, text: bytes, stem: str) -> int:
        """Return how many GPUs a job of this text has at least while it runs: so many count for quotas.

        Raises:
            PfsError: INVALID for what is no spec.
        """
        async with self._turn(subject.user):
            return gpus_of(needs_of(await _parsed(text, stem)))

    async def _whole(self, text: bytes, stem: str) -> JobSpec:
        return with_default_image(await _parsed(text, stem), self._flow.fleet.policy.images)

    def _turn(self, user: str) -> trio.CapacityLimiter:
        """Return what lets some of a user's submissions go on at once: further ones hold up nobody else's."""
        turn = self._turns.get(user)
        if turn is None:
            turn = self._turns[user] = trio.CapacityLimiter(AT_ONCE)
        return turn

    async def _submit(self, subject: Subject, draft: DraftRow, stem: str, key: str | None) -> int:
        spec = await self._whole(draft.content, stem)
        await self._check(subject, spec)
        await self._flow.workshop.check(spec, subject)
        events = self._first_events(subject, spec, is_array=spec.array is not None)
        tasks: list[NewTask] = []
        if spec.array is not None:
            of_task = self._first_events(subject, spec, is_array=False)
            life = fold(of_task)
            tasks = [(index, of_task, life) for index in spec.array.indices]
        names = [name for name in dict.fromkeys((stem, spec.name)) if name_problem(name) is None]
        with self._flow.queue.waiting_room.entering(subject.user, len(tasks) or 1):
            job_id, made = await self._flow.ledger.add(draft, names, spec, events, key=key, tasks=tasks)
            if made:
                self._flow.begin(made)
        return job_id

    async def _check(self, subject: Subject, spec: JobSpec) -> None:
        check_priority(subject, spec.priority)
        if len({group.image is None for group in spec.groups}) > 1:
            text = "groups with an image and groups without could not reach one another; name an image for all or none"
            raise PfsError(Kind.INVALID, text)
        if spec.git is not None and any(word.startswith("-") for word in (spec.git.url, spec.git.ref or "")):
            raise PfsError(Kind.INVALID, "git: neither url nor ref begins with a dash")
        for dependency in spec.depends_on:
            try:
                await self._flow.ledger.find(dependency.job_id, subject)
            except PfsError:
                raise PfsError(Kind.INVALID, f"depends_on: there is no job {dependency.job_id}") from None
        credential = await find_credential(self._secret, subject.user, spec.registry)
        if credential is not None:
            check_use(spec, credential)
        await find_secrets(self._secret, subject.user, spec)
        check_places(spec)
        job = Job(0, subject.user, spec, fold(self._first_events(subject, spec, is_array=False)))
        forbidden = self._flow.queue.forbidden(job)
        if forbidden is not None:
            raise AllowanceError(Kind.QUOTA, forbidden)
        impossible = self._flow.queue.refuse(job)
        if impossible is not None:
            raise PfsError(Kind.INVALID, impossible)

    def _first_events(self, subject: Subject, spec: JobSpec, *, is_array: bool) -> list[Event]:
        now_ns = self._flow.clock()
        held_by = subject.user if spec.hold and not is_array else ""
        events: list[Event] = [Submitted(time_ns=now_ns, terms=terms_of(spec, is_array=is_array), held_by=held_by)]
        if not is_array and not spec.depends_on:
            events.append(next_step(spec, now_ns))
        return events


def terms_of(spec: JobSpec, *, is_array: bool) -> Terms:
    """Return what the life of a job follows from; an array has no process."""
    retry = spec.retry
    return Terms(
        services=() if is_array else tuple(group.service for group in spec.groups for _ in range(group.count)),
        end=spec.end,
        on_error=spec.on_error,
        retries=0 if retry is None else retry.max,
        retry_on=() if retry is None else retry.on,
        priority=spec.priority,
        max_duration_s=spec.max_duration_s,
        fetches=spec.git is not None,
        replaces=spec.replaces,
        least=spec.least,
        together=_begins_together(spec),
        is_array=is_array,
    )


def _begins_together(spec: JobSpec) -> bool:
    """Tell whether trainers wait for one another: in PaddleCloud they do, where all are there from the beginning."""
    return spec.paddle is not None and spec.least is None and spec.paddle.fields["faulttolerant"] == "false"


async def _parsed(text: bytes, stem: str) -> JobSpec:
    """Parse a spec; a long one, which may be made to be slow, holds up nobody else."""
    if len(text) <= QUICK_SPEC_BYTES:
        return parse_spec(text, stem)
    return await trio.to_thread.run_sync(parse_spec, text, stem)
