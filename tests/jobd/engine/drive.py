"""What tests of the engine do again and again: people who submit, and nodes that obey and report."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobd.engine.engine import Engine
from jobd.job import Job
from jobd.life.events import Event
from jobd.life.life import Life, State
from jobd.store.tables import DraftRow
from jobd.wire import Assignment, TaskStanding, parse_task_id
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from tests.jobd.conftest import Link, Service

BOUND_S = 20
SPEC = "command: echo hi\n"


class Drive:
    """A running engine, with a person and nodes at hand."""

    def __init__(self, service: Service, engine: Engine) -> None:
        self.service = service
        self.engine = engine

    async def submit(
        self, text: str = SPEC, *, name: str = "a", user: Subject | None = None, key: str | None = None
    ) -> int:
        user, now = user or self.service.ann, self.service.now_ns
        content = text.encode()
        draft = DraftRow(
            user=user.user, name=f"{name}.yaml", content=content, submitted=True, born_ns=now, mtime_ns=now
        )
        return await self.engine.submit(user, draft, name, key)

    async def one_runs(self, text: str = SPEC, **fields: Any) -> tuple[int, "Node", str]:
        """Submit a job of one process, and return its number, the node on which it runs, and its task."""
        job_id = await self.submit(text, **fields)
        node = await self.attach()
        (task,) = await node.starts()
        await node.runs(task.task_id)
        return job_id, node, task.task_id

    async def gang_runs(self, text: str, count: int) -> tuple[int, "Node", list[str]]:
        """Submit a job of `count` processes, and return its number, the node on which they run, and their tasks."""
        job_id = await self.submit(text)
        node = await self.attach()
        tasks = [task.task_id for task in await node.starts(count)]
        await node.runs(*tasks)
        return job_id, node, tasks

    async def job(self, job_id: int) -> Job:
        job = await self.engine.ledger.job(job_id)
        assert job is not None
        return job

    async def life(self, job_id: int) -> Life:
        return (await self.job(job_id)).life

    async def until(self, job_id: int, *states: State, **fields: object) -> Life:
        """Return the life of a job once it is in one of the states, with these fields."""
        with trio.fail_after(BOUND_S):
            while True:
                active = self.engine.ledger.get(job_id)
                life = await self.life(job_id)
                if life.state in states and all(getattr(life, name) == value for name, value in fields.items()):
                    return life
                assert active is not None, f"it ended as {life}"
                await active.changed.wait()

    async def quiet(self) -> None:
        """Return when nothing goes on any more: whatever follows from what was done is done."""
        await wait_all_tasks_blocked()
        while any_in_threads():
            await trio.sleep(0.001)
            await wait_all_tasks_blocked()

    # ---- nodes

    async def attach(self, name: str = "n0", tasks: list[str] | None = None, **fields: object) -> "Node":
        node = Node(self, name)
        row = self.service.node(name)
        row.attrs |= fields.pop("attrs", {})
        for key, value in fields.items():
            setattr(row, key, value)
        node.standings = await self.engine.attach(row, node.link, tasks or [])
        return node

    async def texts(self, job_id: int) -> list[str]:
        """Return the lines of a job's log, without their times."""
        log = await self.engine.log_of(await self.job(job_id))
        text = await self.engine.logs.read(log, None, 0, 100_000)
        return [line.split("] ", 1)[1] for line in text.decode().splitlines()]


class Node:
    """A node: what it was asked, and what it tells."""

    def __init__(self, drive: Drive, name: str) -> None:
        self.drive = drive
        self.name = name
        self.id = f"cm{name}"
        self.link = Link()
        self.standings: dict[str, TaskStanding] = {}

    async def heard(self, is_so: Callable[[Link], object]) -> None:
        """Wait until the node was asked for something."""
        with trio.fail_after(BOUND_S):
            while not is_so(self.link):
                await self.link.heard.wait()

    async def starts(self, count: int = 1) -> list[Assignment]:
        """Return the tasks that it was asked to start, once there are so many, in the order of their workers."""
        await self.heard(lambda link: len(link.started) >= count)
        return sorted(self.link.started, key=lambda task: parse_task_id(task.task_id))

    async def stops(self, *tasks: str) -> None:
        """Wait until it was asked to stop these tasks."""
        await self.heard(lambda link: set(tasks) <= set(link.stopped))

    async def runs(self, *tasks: str) -> None:
        """Tell that tasks run."""
        for task in tasks:
            await self.drive.engine.running(self.id, task, self.drive.service.now_ns)

    async def ends(self, *tasks: str, code: int = 0, reason: str = "", out_of_memory: bool = False) -> None:
        """Tell that tasks are over."""
        now_ns = self.drive.service.now_ns
        for task in tasks:
            await self.drive.engine.ended(
                self.id, task, code=code, reason=reason, out_of_memory=out_of_memory, time_ns=now_ns
            )

    def leaves(self) -> None:
        """Lose the connection."""
        self.drive.engine.detach(self.id, self.link)


def any_in_threads() -> bool:
    """Tell whether a task waits for a thread."""
    root = trio.lowlevel.current_root_task()
    tasks = [root] if root is not None else []
    while tasks:
        task = tasks.pop()
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        frame: Any = task.coro
        while frame is not None and hasattr(frame, "cr_await"):
            if frame.cr_code.co_name == "to_thread_run_sync":
                return True
            frame = frame.cr_await
    return False


async def refusal(asked: Awaitable[object]) -> Kind:
    """Return as what something is refused."""
    with pytest.raises(PfsError) as caught:
        await asked
    return caught.value.kind


def refuse_events(
    service: Service, monkeypatch: pytest.MonkeyPatch, is_refused: Callable[[int, Sequence[Event]], bool]
) -> None:
    """Let the database refuse to keep some events, told by their job and themselves."""
    real = service.store.record

    async def record(job_id: int, events: Sequence[Event], life: Life, *more: Any) -> None:
        if is_refused(job_id, events):
            raise PfsError(Kind.IO, "the disk is full")
        await real(job_id, events, life, *more)

    monkeypatch.setattr(service.store, "record", record)


@asynccontextmanager
async def driving(service: Service) -> AsyncIterator[Drive]:
    """Run an engine on the service's directory."""
    async with service.running() as engine:
        yield Drive(service, engine)
