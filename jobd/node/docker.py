"""The docker runtime: each task is one container of an engine on this machine.

A container's name fences its task: the engine refuses a second one. Its output is taken from the engine in two
ways. While the daemon that started it lives, it is attached, since an engine's log shows nothing of a line before
its end, and a progress bar is one endless line. After a restart, and once more when the container is over (following
is known to miss the end), the rest comes from the engine's log, of which as many bytes of each stream are left out
as the spool has. The log driver is `local`: it keeps every byte, where json-file spoils what is no UTF-8. It is told to
begin another file where the spool is full for sure, and to keep two: what is kept is never split over two files, whose
seam is not safe to follow, and a task that writes without an end takes no more of the disk.

A start waits for an engine that does not answer, and goes on where it was: what has come of it in the meantime tells
the container's state, and nothing is started twice. A start that fails ends when nothing is left behind. A container
whose maker has gone before its start is removed by the next daemon: the server says whether its task shall start still.

What a task writes outside its mounts has a limit. An engine whose storage can keep it is told to; what every container
has written is looked at besides, and one that has too much is ended with the reason.

A task's directory: `container` (its image, once made), `output` and `streams` (`Spool`), `ended` (why the node ended
it), `execs` (what runs beside it), `exit` (last of all).
"""

import logging
import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import docker
import trio

from jobd.attach import Program
from jobd.node import diskuse, processes
from jobd.node.collector import PAUSE_FIRST_S, PAUSE_MOST_S, Collector, MayStart
from jobd.node.containers import container_configuration, may_have_quotas, swarm_of, with_lists
from jobd.node.engine import CONFLICT, NOT_FOUND, Engine, Refusal
from jobd.node.enginewatch import EngineWatch
from jobd.node.execs import Executed, dialled, end_left, executed
from jobd.node.gpus import device_requests
from jobd.node.images import Found, Images
from jobd.node.networks import LABEL_NODE, SHARED, Networks
from jobd.node.runtime import Consent, Exit, Launch, RuntimeAway, RuntimeFailure, Tell, granted, untold
from jobd.node.spool import OUTPUT_BYTES_MAX
from jobd.node.tail import follow
from jobd.node.versions import versions_in

LABEL_TASK, LABEL_NETWORK, LABEL_IMAGE = "pfs.task", "pfs.network", "pfs.image"
CLEAN_UP_S = 5.0
JOINING_S = 4.0
THREADS_MAX = 4
STARTS_MIN, STARTS_PER_CPU = 4, 2

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@asynccontextmanager
async def open_docker(
    base_url: str, directory: Path, instance: str, *, output_bytes_max: int = OUTPUT_BYTES_MAX
) -> AsyncIterator["DockerRuntime"]:
    """Give a runtime on the engine at `base_url` while the block runs.

    Args:
        directory: where the runtime keeps what it must know about its tasks.
        instance: tells this daemon's containers from others' on the same engine.
        output_bytes_max: so much of a task's output is kept.

    Raises:
        RuntimeAway: no engine answers there.
    """
    engine = Engine(base_url)
    try:
        try:
            info = await engine.call(lambda client: client.info())
            versions = versions_in(await engine.call(lambda client: client.version()))
        except Refusal as refusal:
            text = f"the container engine at {base_url} answers {refusal.status} {refusal}"
            raise RuntimeAway(text) from None
        async with trio.open_nursery() as nursery:
            runtime = DockerRuntime(engine, info, directory, instance, nursery, output_bytes_max=output_bytes_max)
            runtime.versions = versions
            yield runtime
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(CLEAN_UP_S):
            await engine.close()


class DockerRuntime:
    """Runs tasks as containers; made by `open_docker`.

    Attributes:
        versions: of the engine and its parts, as attributes of a node.
    """

    name = "docker"

    def __init__(
        self,
        engine: Engine,
        info: Mapping[str, Any],
        directory: Path,
        instance: str,
        nursery: trio.Nursery,
        *,
        output_bytes_max: int,
    ) -> None:
        self.versions: Mapping[str, str] = {}
        self._engine = engine
        self._watch = EngineWatch(engine, info)
        self._networks = Networks(engine, instance)
        self._images = Images(engine, directory / "images", nursery)
        self._tasks = directory / "tasks"
        self._instance = instance
        self._nursery = nursery
        self._output_bytes_max = output_bytes_max
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        # more at once only take longer, and hold up what ends
        self._starts = trio.CapacityLimiter(max(STARTS_MIN, STARTS_PER_CPU * int(info.get("NCPU", 0))))
        self._starting: set[str] = set()
        self._without_quotas: Mapping[str, Any] | None = None
        self._collectors: dict[str, Collector] = {}
        self._tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
        nursery.start_soon(self._networks.guard)
        nursery.start_soon(self._watch.run)

    def container(self, task_id: str) -> str:
        """Return the name of a task's container."""
        return f"pfs-{task_id}-{self._instance}"

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        """Start the task; see `Runtime`."""
        task_id, directory = launch.task_id, self._tasks / launch.task_id
        if task_id in self._starting or task_id in self._collectors or (directory / "exit").exists():
            return
        self._starting.add(task_id)
        try:
            self._networks.use(self._networks.name(launch), task_id)
            await self._start_surely(launch, directory, tell, consent)
        except (Refusal, OSError) as error:
            await self.remove(task_id)
            raise RuntimeFailure(str(error)) from None
        finally:
            self._starting.discard(task_id)

    async def _start_surely(self, launch: Launch, directory: Path, tell: Tell, consent: Consent) -> None:
        """Start a task, now or when the engine answers again."""
        said, pause_s = "", PAUSE_FIRST_S
        while True:
            try:
                return await self._start(launch, directory, tell, consent)
            except RuntimeAway as error:
                if collector := self._collectors.pop(launch.task_id, None):
                    collector.stop()  # it is not attached
                if said != str(error):
                    said = str(error)
                    tell(f"{said}; it is started when that answers again")
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MOST_S)

    async def _image(self, launch: Launch, tell: Tell, consent: Consent) -> Found:
        """Return the image of a task once it is there and the task may start."""
        found = await self._images.bring(launch, tell)
        asked = await consent(found.digest)
        if asked == found.digest:
            return found
        found = await self._images.bring(replace(launch, pinned=asked), tell)
        await consent(asked)  # it may have taken long
        return found

    async def _start(self, launch: Launch, directory: Path, tell: Tell, consent: Consent) -> None:
        container, image = self.container(launch.task_id), await self._image(launch, tell, consent)
        try:
            await self._create(launch, container, image)
        except Refusal as refusal:
            state = await self._engine.state(container) if refusal.status == CONFLICT else None
            if state is None:
                raise
            if state["Status"] != "created":
                return
        _record(directory, image.digest)
        collector = self._new_collector(launch.task_id, partial(consent, image.digest))
        self._collectors[launch.task_id] = collector
        await self._nursery.start(collector.run_attached)
        try:
            async with self._starts:
                await self._engine.start(container)
        except RuntimeAway as error:
            log.warning("%s: %s", container, error)
            collector.look_again()
        self._nursery.start_soon(self._look_at_disk, launch.task_id, collector)

    async def _create(self, launch: Launch, container: str, image: Found) -> None:
        joined = await self._networks.make(launch)
        labels = {LABEL_TASK: launch.task_id, LABEL_NODE: self._instance, LABEL_NETWORK: joined.name}
        labels[LABEL_IMAGE] = str(launch.image)
        if launch.disk_bytes is not None:
            labels[diskuse.LABEL] = str(launch.disk_bytes)
        asked, info = replace(with_lists(launch, image.env), image=image.id), self._watch.info
        has_quota = launch.disk_bytes is not None and may_have_quotas(info) and info is not self._without_quotas

        def create(client: docker.APIClient) -> None:
            configuration = container_configuration(
                client, asked, joined, info, self._output_bytes_max, has_quota=has_quota, most=self._watch.limits
            )
            client.create_container(name=container, labels=labels, **configuration)

        try:
            await self._engine.call(create)
        except Refusal as refusal:
            if not has_quota or "storage-opt" not in str(refusal).lower():
                raise
            log.info("the container engine keeps no limit of what containers write: %s", refusal)
            self._without_quotas = info
            await self._create(launch, container, image)

    async def tasks(self) -> Sequence[str]:
        """Return the ids of all tasks; see `Runtime`.

        Raises:
            RuntimeAway: they cannot be told now.
        """
        labels = {"label": [f"{LABEL_NODE}={self._instance}"]}
        containers = await self._engine.call(lambda client: client.containers(all=True, filters=labels))
        found = set()
        for container in containers:
            task_id = str(container["Labels"][LABEL_TASK])
            if container["State"] == "created" and task_id not in self._starting and task_id not in self._collectors:
                # a daemon was killed before the start: whether it may start now, the server has to say
                await self._call_if_there(partial(_remove_container, container["Id"]))
                shutil.rmtree(self._tasks / task_id, ignore_errors=True)
                continue
            found.add(task_id)
            self._networks.use(str(container["Labels"].get(LABEL_NETWORK, SHARED)), task_id)
        for directory in self._tasks.iterdir():
            if self._is_known(directory.name):
                found.add(directory.name)
            elif directory.name not in found:
                # a daemon was killed before there was a container: nothing ever ran
                shutil.rmtree(directory)
        await self._networks.clear()
        return sorted(found)

    def _is_known(self, task_id: str) -> bool:
        """Tell whether a container was made, and that written down, or is being made."""
        return (self._tasks / task_id / "container").exists() or task_id in self._starting

    def _new_collector(self, task_id: str, may_start: MayStart | None = None) -> Collector:
        where = self.container(task_id), self._tasks / task_id
        return Collector(self._engine, *where, self._output_bytes_max, may_start=may_start)

    def _collector(self, task_id: str) -> Collector:
        if task_id not in self._collectors:
            (self._tasks / task_id).mkdir(mode=0o700, exist_ok=True)
            collector = self._collectors[task_id] = self._new_collector(task_id)
            self._nursery.start_soon(collector.run)
            self._nursery.start_soon(end_left, self._engine, self.container(task_id), self._tasks / task_id)
            self._nursery.start_soon(self._look_at_disk, task_id, collector)
        return self._collectors[task_id]

    async def _look_at_disk(self, task_id: str, collector: Collector) -> None:
        """End a task when it has written more than it may."""
        async with trio.open_nursery() as nursery:
            container, directory = self.container(task_id), self._tasks / task_id
            nursery.start_soon(diskuse.end_when_too_large, self._engine, container, directory)
            await collector.over()
            nursery.cancel_scope.cancel()

    async def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the task's output; see `Runtime`."""
        collector = self._collector(task_id)
        file = self._tasks / task_id / "output"
        file.touch(0o600)
        async with aclosing(follow(file, offset, collector.is_over)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def wait(self, task_id: str) -> Exit:
        """Return when the task is over; see `Runtime`."""
        return await self._collector(task_id).wait()

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to all processes of the task; see `Runtime`."""
        container = self.container(task_id)
        state = await self._engine.state(container)
        if state is None or not state["Running"]:
            return
        send = partial(processes.send_to_container, int(state["Pid"]), str(state["Id"]), number)
        if number == signal.SIGKILL or not await self._in_thread(send):
            await self._call_if_there(lambda client: client.kill(container, number))
        if task_id in self._collectors:
            self._collectors[task_id].was_signalled = True

    def image(self, task_id: str) -> str:
        """Return the image of a task; see `Runtime`."""
        try:
            return (self._tasks / task_id / "container").read_text()
        except FileNotFoundError:
            return ""

    async def inside(self, task_id: str) -> int | None:
        """Return a process of the task; see `Runtime`."""
        state = await self._engine.state(self.container(task_id))
        if state is None or not state["Running"] or not processes.belongs_to(int(state["Pid"]), str(state["Id"])):
            return None
        return int(state["Pid"])

    def attach(self, task_id: str, program: Program) -> AbstractAsyncContextManager[Executed]:
        """Run a program beside the task; see `Runtime`."""
        return executed(self._engine, self.container(task_id), self._tasks / task_id, program)

    async def dial(self, task_id: str, port: int) -> trio.SocketStream:
        """Return a connection to a port of the task; see `Runtime`."""
        return await dialled(self._engine, self.container(task_id), port)

    def reach(self, task_id: str) -> Mapping[str, str]:
        """Return what the task is reached by without this daemon; see `Runtime`."""
        return {"engine": self._engine.base_url, "container": self.container(task_id)}

    async def remove(self, task_id: str) -> None:
        """End and forget the task; see `Runtime`."""
        container = self.container(task_id)
        collector = self._collectors.pop(task_id, None)
        if collector is not None:
            collector.stop()
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                await self._call_if_there(partial(_remove_container, container))
                await self._networks.leave(task_id)
                break
            except RuntimeAway:
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MOST_S)
        await self._in_thread(lambda: shutil.rmtree(self._tasks / task_id, ignore_errors=True))

    def gives(self, gpus: Sequence[str]) -> bool:
        """Tell whether the engine knows a way to give these GPUs to containers."""
        return bool(device_requests(self._watch.info, gpus))

    @property
    def trouble(self) -> str:
        """Why it takes no new tasks now; see `Runtime`."""
        return str(self._engine.trouble or "")

    @property
    def times_renewed(self) -> int:
        """How often the engine was asked anew what it can do; see `Overlays`."""
        return self._watch.times_asked

    async def swarm(self) -> tuple[str, bool]:
        """Tell which swarm the engine is in, and whether it manages it; see `Overlays`."""
        found = "", False
        with trio.move_on_after(JOINING_S):
            while True:
                try:
                    info, networks = await self._engine.ask("/info"), await self._engine.ask("/networks")
                except Refusal as refusal:
                    raise RuntimeAway(str(refusal)) from None
                found = swarm_of(info, networks)
                # an engine that has just joined is told of the swarm's networks a little later
                if found[0] or (info.get("Swarm") or {}).get("LocalNodeState") not in ("active", "pending"):
                    break
                await trio.sleep(PAUSE_FIRST_S)
        return found

    async def make_network(self, name: str) -> None:
        """Make a network across machines; see `Overlays`."""
        await self._networks.make_overlay(name)

    async def drop_network(self, name: str) -> None:
        """Remove it; see `Overlays`."""
        await self._networks.drop_overlay(name)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(function, limiter=self._threads)

    async def _call_if_there(self, function: Callable[[docker.APIClient], object]) -> None:
        """Call the engine about a container that may be over, or not there."""
        try:
            await self._engine.call(function)
        except Refusal as refusal:
            if refusal.status not in (NOT_FOUND, CONFLICT):
                raise RuntimeAway(str(refusal)) from None


def _record(directory: Path, digest: str) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "container").write_text(digest)  # of what its container is


def _remove_container(container: str, client: docker.APIClient) -> None:
    client.remove_container(container, v=True, force=True)
