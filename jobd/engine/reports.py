"""What nodes tell: that they are there, what they have, and what becomes of it.

A node may tell anything twice, late, or of an attempt that is over: the task's id says what it speaks of, and only the
node that was given a task may speak for it.
"""

import re
from collections.abc import Mapping

from jobd.engine.alarms import Alarms
from jobd.engine.assign import can_pin, node_of, pinned_of, task_of, worker_of
from jobd.engine.fleet import LOST_AFTER_S, OFFLINE_AFTER_S, SUSPECT_AFTER_S, UNKNOWN_AFTER_S
from jobd.engine.flow import Flow
from jobd.engine.knowngpus import remembered
from jobd.engine.ledger import Active
from jobd.engine.ports import NodeLink, Sleep
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.actions import FETCH
from jobd.life.events import Event
from jobd.life.life import ON_NODES
from jobd.store.logs import DAEMON, PREPARE, Note
from jobd.store.tables import NodeRow
from jobd.wire import CUT_OFF, TaskStanding, Wanted, decode_gpus, encode_gpus, parse_task_id

REBOOTED = "the node {node} was started again"
NEWS_MAX, NEWS_LENGTH_MAX = 200, 500
MARKS_S = (SUSPECT_AFTER_S, UNKNOWN_AFTER_S, LOST_AFTER_S, OFFLINE_AFTER_S)
SILENT = "the node {node} was not heard of for {seconds:.0f} s"

_DIGEST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:/-]{0,300}@)?[a-z0-9]{1,20}:[0-9a-f]{32,128}")


class Reports:
    """Takes the reports of nodes."""

    def __init__(self, flow: Flow, sleep_until: Sleep) -> None:
        self._flow = flow
        self.alarms: Alarms[str] = Alarms(flow.clock, sleep_until, self._ring)

    # ---- nodes come and go

    async def attach(self, row: NodeRow, link: NodeLink, named: list[str]) -> dict[str, TaskStanding]:
        """Take a node into service; say of each task that it named what is known and wanted of it."""
        flow = self._flow
        with flow.fleet.arriving(row.id):
            standings = await self._welcome(row, named)
            flow.fleet.connect(row.id, link)
        for active in flow.on_node(row.id):
            _take_stock(active, row.id, standings)
        self._seen(row.id)
        for active in flow.on_node(row.id):
            flow.follow(active)
        if row.attrs.get("swarmManager"):
            self._make_networks()
        flow.find_lost_rights()
        return standings

    async def _welcome(self, row: NodeRow, named: list[str]) -> dict[str, TaskStanding]:
        """Keep who is about to come, and say what is known and wanted of each task."""
        flow = self._flow
        known = flow.fleet.row(row.id)
        if known is not None and known.boot_id != row.boot_id:
            for active in flow.on_node(row.id):
                await flow.lose(active, {row.id}, REBOOTED, unless_new=True)
        if known is not None:
            # where its connection ends before it is taken in, somebody has to look again how long it is silent
            self.alarms.set(row.id, flow.clock() + int(SUSPECT_AFTER_S * 1e9))
            row.gpus = encode_gpus(remembered(decode_gpus(known.gpus), decode_gpus(row.gpus)))
        await flow.store.save_node(row)
        flow.fleet.register(row)
        for active in flow.on_node(row.id):
            await flow.ledger.settled(active)  # the node may have been given up just before it came
        return {task: await self._standing(task, row.id) for task in named}

    def _make_networks(self) -> None:
        """Drop what a manager was missing for, and go on with what it has to make."""
        self._flow.drop_networks()
        for active in self._flow.ledger.active():
            if active.job.life.state in ON_NODES and not active.tasks.is_ready:
                self._flow.follow(active)

    def detach(self, node_id: str, link: NodeLink) -> None:
        """A node's connection is gone; what runs there goes on."""
        flow = self._flow
        if not flow.fleet.disconnect(node_id, link):
            return
        flow.ledger.meters.read(node_id, {}, flow.clock())
        for active in flow.on_node(node_id):
            _take_stock(active, node_id, None)
        self._seen(node_id)

    def heard(self, node_id: str) -> None:
        """A node is there still."""
        if self._flow.fleet.heard(node_id):
            self._seen(node_id)

    def leaves(self, node_id: str) -> None:
        """A node's daemon is about to end; what runs there goes on."""
        self._flow.fleet.leaves(node_id)
        self._seen(node_id)

    def troubled(self, node_id: str, troubles: Mapping[str, str]) -> None:
        """Note what a node has that takes no tasks now."""
        if self._flow.fleet.trouble(node_id, troubles):
            self._seen(node_id)

    def watch(self) -> None:
        """Wait for all nodes that ever registered."""
        for standing in self._flow.fleet.standings():
            self._ring(standing.row.id)

    def _seen(self, node_id: str) -> None:
        """A node came, went, or was silent for a while."""
        self._flow.ledger.touch()
        self._flow.queue.see(node_id)
        self._flow.wake()
        self._ring(node_id)

    def _ring(self, node_id: str) -> None:
        """Look how long a node is silent, and when to look again."""
        flow = self._flow
        since_ns, now_ns = flow.fleet.seen_ns(node_id), flow.clock()
        marks_ns = [since_ns + int(after_s * 1e9) for after_s in MARKS_S]
        later = [mark_ns for mark_ns in marks_ns if mark_ns > now_ns]
        if len(later) < len(marks_ns):
            flow.queue.see(node_id)
        if later:
            self.alarms.set(node_id, later[0])
        if now_ns >= since_ns + int(LOST_AFTER_S * 1e9):
            flow.chores.start(self._give_up, node_id)
        flow.lookout([node_id])

    async def _give_up(self, node_id: str) -> None:
        """Run elsewhere what may be: its watchdog ended it on the silent node by now."""
        for active in self._flow.on_node(node_id):
            if active.job.life.terms.leaves_nodes:
                text = SILENT.replace("{seconds:.0f}", f"{LOST_AFTER_S:.0f}")
                await self._flow.lose(active, {node_id}, text, only_if=self._flow.fleet.is_lost)

    # ---- tasks

    async def news(self, node_id: str, task_id: str, text: str, time_ns: int) -> None:
        """The start of a task waits for something: its image has to be fetched."""
        found = self._find(node_id, task_id)
        if found is None:
            return
        active, worker = found
        tasks = active.tasks
        tasks.told[worker] += 1
        if tasks.told[worker] > NEWS_MAX:
            return
        told = f"{self._flow.fleet.name(node_id)}: {' '.join(text.split())[:NEWS_LENGTH_MAX]}"
        tasks.news[worker] = told
        self._flow.ledger.touch()
        # fellows on the same node wait for the same: a line that is there is not told again
        note = Note(DAEMON, told, self._not_ahead(time_ns), parse_task_id(task_id)[1])
        await self._flow.logs.notes(active.job.id, [note])

    async def image(self, node_id: str, task_id: str, image: str) -> str:
        """Return the image that a task shall have, where its node found this one: that of the first of its fellows."""
        found = self._find(node_id, task_id)
        if found is None or found[1] == FETCH:
            return image
        active, worker = found
        name = active.job.spec.groups[parse_task_id(task_id)[2]].image
        if name is None or not _DIGEST.fullmatch(image) or not can_pin(name, image):
            return image
        now_ns, attempt = self._flow.clock(), active.job.life.run(worker)
        event = happened.ImageFound(time_ns=now_ns, attempt=attempt, worker=worker, image=image)
        await self._flow.apply(active, event, only_if=lambda _: pinned_of(active.job, name) is None)
        return pinned_of(active.job, name) or image

    async def running(self, node_id: str, task_id: str, time_ns: int, image: str = "") -> None:
        """A task runs.

        Args:
            image: its image by its digest.
        """
        found = self._find(node_id, task_id)
        if found is not None:
            await self._note_start(*found, time_ns, image if _DIGEST.fullmatch(image) else "")

    async def output(self, node_id: str, task_id: str, offset: int, pieces: list[tuple[int, int]], data: bytes) -> int:
        """A task wrote; return how much of it the log has now."""
        found = self._find(node_id, task_id)
        if found is None:
            return offset + len(data)  # nobody wants it any more
        active, worker = found
        if pieces:
            await self._note_start(active, worker, pieces[0][0])
        attempt = parse_task_id(task_id)[1]
        return await self._flow.logs.append(
            active.job.id, attempt, _log_source(worker), offset, pieces=pieces, data=data
        )

    async def ended(
        self, node_id: str, task_id: str, *, code: int, reason: str, out_of_memory: bool, time_ns: int
    ) -> None:
        """A task is over, and all of its output is in the log."""
        found = self._find(node_id, task_id)
        if found is None:
            return
        active, worker = found
        _, attempt, group, process = parse_task_id(task_id)
        time_ns = self._not_ahead(time_ns)
        if worker == FETCH:
            await self._flow.apply(active, _fetch_ended(attempt, code, reason, time_ns))
            return
        if reason == CUT_OFF:
            # what it ended with says nothing of the task: it was to be started elsewhere
            lost = happened.NodeLost(time_ns=time_ns, attempt=attempt, worker=worker, text=CUT_OFF)
            await self._flow.apply(active, lost)
            return
        result = await self._flow.workshop.read_result(active.job, group, process)
        event = happened.Ended(
            time_ns=time_ns,
            attempt=attempt,
            worker=worker,
            code=code,
            reason=reason,
            out_of_memory=out_of_memory,
            result=result,
        )
        await self._flow.apply(active, event)

    def _find(self, node_id: str, task_id: str) -> tuple[Active, int] | None:
        """Return the job of a task and its worker, if it is still that node's and that attempt's."""
        active = self._flow.ledger.get(parse_task_id(task_id)[0])
        worker = None if active is None else worker_of(active.job, task_id)
        if active is None or worker is None or node_of(active.job, worker) != node_id:
            return None
        return active, worker

    async def _note_start(self, active: Active, worker: int, time_ns: int, image: str = "") -> None:
        life = active.job.life
        if worker == FETCH or life.processes[worker].started_at_ns is not None or life.processes[worker].over:
            return
        time_ns = self._not_ahead(time_ns)
        started = happened.Started(time_ns=time_ns, attempt=life.run(worker), worker=worker, image=image)
        await self._flow.apply(active, started)

    def _not_ahead(self, time_ns: int) -> int:
        """Return a time that a node told, whose clock may be ahead."""
        return min(time_ns, self._flow.clock())

    def _is_wanted(self, task_id: str, node_id: str) -> bool:
        found = self._find(node_id, task_id)
        return found is not None and not _is_over(found[0].job, found[1])

    async def _standing(self, task_id: str, node_id: str) -> TaskStanding:
        found = self._find(node_id, task_id)
        if found is None or not self._is_wanted(task_id, node_id):
            return TaskStanding(Wanted.FORGET)
        active, worker = found
        job = active.job
        offset = await self._flow.logs.offset_of(job.id, job.life.run(worker), _log_source(worker))
        return TaskStanding(Wanted.RUN, offset)


def _log_source(worker: int) -> int:
    return PREPARE if worker == FETCH else worker


def _is_over(job: Job, worker: int) -> bool:
    return job.life.fetched if worker == FETCH else job.life.processes[worker].over


def _fetch_ended(attempt: int, code: int, reason: str, time_ns: int) -> Event:
    if code == 0:
        return happened.Fetched(time_ns=time_ns, attempt=attempt)
    text = f"git: {reason or f'the files could not be fetched (exit code {code}); the log has more'}"
    return happened.FetchFailed(time_ns=time_ns, attempt=attempt, text=text)


def _take_stock(active: Active, node_id: str, standings: dict[str, TaskStanding] | None) -> None:
    """Note which of a job's tasks its node has; None where it is gone and nothing is known."""
    job, tasks = active.job, active.tasks
    workers = [worker for worker, process in enumerate(job.life.processes) if process.node == node_id]
    if job.spec.git is not None and node_of(job, FETCH) == node_id:
        workers.append(FETCH)
    for worker in workers:
        tasks.stopping.discard(worker)
        tasks.begun.discard(worker)
        tasks.known.discard(worker)
        tasks.denied.discard(worker)
        if standings is not None:
            (tasks.known if task_of(job, worker) in standings else tasks.denied).add(worker)
