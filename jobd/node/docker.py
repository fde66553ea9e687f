"""The docker runtime: each task is one container of an engine on this machine.

A container's name fences its task: the engine refuses a second one. Its output is taken from the engine in two
ways. While the daemon that started it lives, it is attached, since an engine's log shows nothing of a line before
its end, and a progress bar is one endless line. After a restart, and once more when the container is over (following
is known to miss the end), the rest comes from the engine's log, of which as many bytes of each stream are left out
as the spool has. The log driver is `local`: it keeps every byte, where json-file spoils what is no UTF-8.

What the engine can do (GPUs, a swarm) is asked when the daemon starts.

A task's directory: `container` (its id, once made), `output` and `streams` (`Spool`), `exit` (last of all).
"""

import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.types
import trio

from jobd.node import processes
from jobd.node.collector import PAUSE_FIRST_S, PAUSE_MOST_S, Collector
from jobd.node.engine import CONFLICT, NOT_FOUND, Engine, Refusal
from jobd.node.gpus import device_requests
from jobd.node.networks import LABEL_NODE, SHARED, Joined, Networks, attachment
from jobd.node.runtime import Exit, Launch, RuntimeAway, RuntimeFailure
from jobd.node.tail import follow

LABEL_TASK, LABEL_NETWORK = "pfs.task", "pfs.network"
PROCESSES_MAX = 4096
SHM_BYTES = 1 << 30  # programs that load data in parallel end with a bus error in the engine's default of 64 MiB
PULL_TIMEOUT_S = 3600.0
CLEAN_UP_S = 5.0
JOINING_S = 4.0
THREADS_MAX = 4

_T = TypeVar("_T")
_LOG_OPTIONS = {"max-size": "1024t", "max-file": "1", "compress": "false"}


@asynccontextmanager
async def open_docker(base_url: str, directory: Path, instance: str) -> AsyncIterator["DockerRuntime"]:
    """Give a runtime on the engine at `base_url` while the block runs.

    Args:
        directory: where the runtime keeps what it must know about its tasks.
        instance: tells this daemon's containers from others' on the same engine.

    Raises:
        RuntimeAway: no engine answers there.
    """
    engine = Engine(base_url)
    try:
        info = await engine.call(lambda client: client.info())
        async with trio.open_nursery() as nursery:
            yield DockerRuntime(engine, info, directory, instance, nursery)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(CLEAN_UP_S):
            await engine.close()


class DockerRuntime:
    """Runs tasks as containers; made by `open_docker`."""

    name = "docker"

    def __init__(
        self, engine: Engine, info: Mapping[str, Any], directory: Path, instance: str, nursery: trio.Nursery
    ) -> None:
        self._engine = engine
        self._info = info
        self._networks = Networks(engine, instance)
        self._tasks = directory / "tasks"
        self._instance = instance
        self._nursery = nursery
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._starting: set[str] = set()
        self._collectors: dict[str, Collector] = {}
        self._tasks.mkdir(mode=0o700, parents=True, exist_ok=True)

    def container(self, task_id: str) -> str:
        """Return the name of a task's container."""
        return f"pfs-{task_id}-{self._instance}"

    async def start(self, launch: Launch) -> None:
        """Start the task; see `Runtime`."""
        task_id, directory = launch.task_id, self._tasks / launch.task_id
        if task_id in self._starting or task_id in self._collectors or (directory / "exit").exists():
            return
        self._starting.add(task_id)
        try:
            self._networks.use(self._networks.name(launch), task_id)
            await self._start(launch, directory)
        except (Refusal, RuntimeAway, OSError) as error:
            with trio.move_on_after(CLEAN_UP_S):
                await self.remove(task_id)
            raise RuntimeFailure(str(error)) from None
        finally:
            self._starting.discard(task_id)

    async def _start(self, launch: Launch, directory: Path) -> None:
        container = self.container(launch.task_id)
        try:
            await self._create(launch, container)
        except Refusal as refusal:
            state = await self._engine.state(container) if refusal.status == CONFLICT else None
            if state is None:
                raise
            if state["Status"] != "created":
                return
        _record(directory)
        collector = self._collectors[launch.task_id] = Collector(self._engine, container, directory)
        await self._nursery.start(collector.run_attached)
        await self._engine.call(lambda client: client.start(container))

    async def _create(self, launch: Launch, container: str) -> None:
        joined = await self._networks.make(launch)
        labels = {LABEL_TASK: launch.task_id, LABEL_NODE: self._instance, LABEL_NETWORK: joined.name}

        def create(client: docker.APIClient) -> None:
            configuration = container_configuration(client, launch, joined, self._info)
            client.create_container(name=container, labels=labels, **configuration)

        try:
            return await self._engine.call(create)
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
        image = str(launch.image)
        try:
            with trio.fail_after(PULL_TIMEOUT_S):
                await self._engine.pull(image)
        except Refusal as refusal:
            raise Refusal(NOT_FOUND, f"no image {image!r}: {refusal}") from None
        except trio.TooSlowError:
            raise Refusal(NOT_FOUND, f"image {image!r} did not come within {PULL_TIMEOUT_S / 60:.0f} min") from None
        return await self._engine.call(create)

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
            found.add(task_id)
            self._networks.use(str(container["Labels"].get(LABEL_NETWORK, SHARED)), task_id)
        for directory in self._tasks.iterdir():
            if (directory / "container").exists() or directory.name in self._starting:
                found.add(directory.name)
            elif directory.name not in found:
                # a daemon was killed before there was a container: nothing ever ran
                shutil.rmtree(directory)
        await self._networks.clear()
        return sorted(found)

    def _collector(self, task_id: str) -> Collector:
        if task_id not in self._collectors:
            directory = self._tasks / task_id
            directory.mkdir(mode=0o700, exist_ok=True)
            collector = self._collectors[task_id] = Collector(self._engine, self.container(task_id), directory)
            self._nursery.start_soon(collector.run)
        return self._collectors[task_id]

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
        reached = number != signal.SIGKILL and await self._in_thread(lambda: _signal_all(state, number))
        if not reached:
            await self._call_if_there(lambda client: client.kill(container, number))
        if task_id in self._collectors:
            self._collectors[task_id].was_signalled = True

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
                await self._call_if_there(lambda client: client.remove_container(container, v=True, force=True))
                await self._networks.leave(task_id)
                break
            except RuntimeAway:
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MOST_S)
        await self._in_thread(lambda: shutil.rmtree(self._tasks / task_id, ignore_errors=True))

    def gives(self, gpus: Sequence[str]) -> bool:
        """Tell whether the engine knows a way to give these GPUs to containers."""
        return bool(device_requests(self._info, gpus))

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


def _record(directory: Path) -> None:
    """Write down that the task has a container."""
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "container").touch()


def container_configuration(
    client: docker.APIClient, launch: Launch, joined: Joined, info: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the engine is told of a container.

    Args:
        joined: how it is in its network.
        info: what the engine tells of itself.
    """
    mounts = [
        docker.types.Mount(volume.target, volume.source, type="bind", read_only=volume.read_only)
        for volume in sorted(launch.volumes, key=lambda volume: volume.target)
    ]
    host = client.create_host_config(
        init=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        pids_limit=PROCESSES_MAX,
        shm_size=SHM_BYTES if launch.shm_bytes is None else launch.shm_bytes,
        nano_cpus=None if launch.cpus is None else round(launch.cpus * 1e9),
        mem_limit=launch.memory_bytes,
        memswap_limit=launch.memory_bytes,
        mounts=mounts,
        log_config=docker.types.LogConfig(type="local", config=_LOG_OPTIONS),
        network_mode=joined.name,
        extra_hosts={name: address for name, address in joined.addresses.items() if name != launch.hostname},
    )
    if requests := device_requests(info, launch.gpus):
        host["DeviceRequests"] = requests
    return {
        "image": launch.image,
        # the image's own entry point would take the command for its arguments
        "entrypoint": list(launch.argv[:1]),
        "command": list(launch.argv[1:]),
        "environment": dict(launch.env),
        "working_dir": launch.workdir,
        "hostname": launch.hostname,
        "user": "" if launch.uid is None else f"{launch.uid}:{launch.gid}",
        "healthcheck": {"test": ["NONE"]},
        "host_config": host,
        "networking_config": attachment(launch, joined),
    }


def swarm_of(info: Mapping[str, Any], networks: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return what is the same on all machines of the engine's swarm, or "", and whether the engine manages it.

    A worker is not told the swarm's own id; the network that every swarm has for what it publishes has one on all.

    Args:
        info: what the engine tells of itself.
        networks: those that it knows.
    """
    standing = info.get("Swarm") or {}
    if standing.get("LocalNodeState") != "active":
        return "", False
    ingress = [str(network["Id"]) for network in networks if network.get("Ingress")]
    return (ingress[0] if ingress else ""), bool(standing.get("ControlAvailable"))


def _signal_all(state: dict[str, Any], number: int) -> bool:
    """Send a signal to all processes of a container but its init; False when that is the engine's to do.

    The engine knows the first process only, which passes a signal on to its child and to nobody below.
    """
    init = processes.find(int(state["Pid"]))
    if init is None or not _belongs_to(init.pid, str(state["Id"])):
        return False
    try:
        return processes.send_to_all_below(init, number, 1) > 0
    except PermissionError:
        return False


def _belongs_to(pid: int, container: str) -> bool:
    """Tell whether a process of *this* machine is the container's: an engine may be elsewhere."""
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
