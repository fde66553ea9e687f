"""The rules of a node, kept before each start: its owner's policy, its owner's mounts, and sources that cannot change.

A runtime behind these rules is a runtime. What it is told to start is judged and limited by the policy; to the job's
volumes come the mounts of this machine. Every source that somebody else could lead elsewhere before it is mounted is
opened, looked at, and given to the runtime as a path that leads nowhere else (`jobd.node.staging`). After the start it
is looked at what the task sees (`jobd.node.mountcheck`): where that is not what was planned, the task is ended.

Where a job has mounted something itself, that stays. At `/storage` a mount of the node takes the place of the owner's
home, which is there only for those who know no better place.
"""

import logging
import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import trio

from jobd.attach import Program
from jobd.node import mountcheck
from jobd.node.hostmounts import HostMount
from jobd.node.hostpaths import HostPaths
from jobd.node.mountcheck import NO_RIGHTS, Planned, plan
from jobd.node.policy import Policy, capped, judge
from jobd.node.runtime import (
    Attached,
    Connection,
    Consent,
    Exit,
    Launch,
    Runtime,
    RuntimeAway,
    RuntimeFailure,
    Tell,
    Volume,
    granted,
    untold,
)
from jobd.node.staging import Staging
from jobd.wire import STORAGE
from pfs.errors import PfsError

log = logging.getLogger(__name__)

LOOK_AGAIN_S, LOOK_S_MAX = 0.5, 15.0
# what a container gets of /dev/shm that asks for nothing
SHM_BYTES = 1 << 30


class Tree(Protocol):
    """The tree that a job's own volumes lie in."""

    def is_movable(self, volume: Volume) -> bool:
        """Tell whether the owner of a job could lead the source of this volume elsewhere."""

    def has(self, volume: Volume) -> bool:
        """Tell whether the volume lies in this tree."""

    def reopen(self, volume: Volume) -> int:
        """Open the source of a volume, with the same care as at first.

        Raises:
            RuntimeFailure: it is not there any more.
        """


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one node.

    Attributes:
        node: its name, for the words.
        mounts: what every task gets.
        paths: what must stay closed of this machine.
        tree: None where nobody can lead the sources of volumes elsewhere.
    """

    node: str
    policy: Policy = field(default_factory=Policy)
    mounts: tuple[HostMount, ...] = ()
    paths: HostPaths = field(default_factory=HostPaths)
    tree: Tree | None = None

    def admit(self, launch: Launch) -> Launch:
        """Return a launch with the limits that hold here.

        Raises:
            RuntimeFailure: the policy does not allow it.
        """
        problem = judge(self.policy, launch, self.node)
        if problem:
            raise RuntimeFailure(problem)
        return capped(self.policy, launch, SHM_BYTES)

    def held(self, launch: Launch, *, every: bool) -> tuple[Volume, ...]:
        """Return the volumes of a job that are opened anew.

        Args:
            every: also those that nobody could lead elsewhere.
        """
        tree = self.tree
        if tree is None:
            return ()
        return tuple(v for v in launch.volumes if tree.has(v) and (every or tree.is_movable(v)))

    @contextmanager
    def shown(
        self, launch: Launch, held: Sequence[Volume], staging: Staging | None, least: frozenset[str] = frozenset()
    ) -> Iterator[tuple[Launch, tuple[Planned, ...]]]:
        """Give a launch with the mounts of this node, and what the task has to see of them then.

        Args:
            held: the volumes whose sources have to stay what they are.
            staging: what keeps them so; None where it cannot be had: then sources are paths like any other.
            least: what every mount keeps.

        Raises:
            RuntimeFailure: a source may not be shown, or is not there.
        """
        with ExitStack() as stack:
            opened = self._opened(launch, stack)
            volumes = [volume for volume, _ in opened]
            judged = {volume.target: descriptor for volume, descriptor in opened if descriptor is not None}
            try:
                if staging is not None:
                    own = [volume for volume in volumes if volume in held or volume not in launch.volumes]
                    sources = [(judged[volume.target], volume.read_only) for volume in own]
                    places = dict(zip(own, stack.enter_context(staging.shown(launch.task_id, sources)), strict=True))
                    # read-only is mounted so: an engine that is told to would mount it anew, and let devices count
                    volumes = [Volume(places[v], v.target, False) if v in places else v for v in volumes]
                planned = plan(volumes, judged, least)
            except OSError as error:
                raise RuntimeFailure(f"the volumes cannot be mounted: {error.strerror}") from None
            yield replace(launch, volumes=tuple(volumes)), planned

    def _opened(self, launch: Launch, stack: ExitStack) -> list[tuple[Volume, int | None]]:
        """Return all that the task shall see, with a descriptor for each source that somebody could lead elsewhere."""
        try:
            mounted = stack.enter_context(self.paths.opened(self.mounts))
        except PfsError as error:
            raise RuntimeFailure(f"the node {self.node} cannot show what it shall: {error}") from None
        places = {each.mount.target for each in mounted}
        found: list[tuple[Volume, int | None]] = []
        for volume in launch.volumes:
            if volume.target == STORAGE and STORAGE in places:
                continue
            descriptor = None
            if self.tree is not None and self.tree.has(volume):
                descriptor = self.tree.reopen(volume)
                stack.callback(os.close, descriptor)
            found.append((volume, descriptor))
        taken = {volume.target for volume, _ in found}
        for each in mounted:
            if each.mount.target not in taken:
                found.append((Volume(each.real, each.mount.target, each.mount.read_only), each.descriptor))
        return found


class Admitted:
    """A runtime behind the rules of its node.

    Args:
        staging: where it can be had.
        every: have volumes mounted by this daemon that nobody could lead elsewhere, too: what mounts them later would
            let devices and other users' rights count in them.
    """

    def __init__(self, runtime: Runtime, rules: Rules, staging: Staging | None, *, every: bool) -> None:
        self.name = runtime.name
        self._runtime = runtime
        self._rules = rules
        self._staging = staging
        self._every = every

    @property
    def trouble(self) -> str:
        """Why it takes no new tasks now; see `Runtime`."""
        return self._runtime.trouble

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        """Start the task; see `Runtime`.

        Raises:
            RuntimeFailure: the node's owner does not allow it, among others.
        """
        allowed = self._rules.admit(launch)
        held = () if self._staging is None else self._rules.held(allowed, every=self._every)
        with ExitStack() as stack:
            # an engine keeps what the source's mount does, and bubblewrap this at the least
            laid_out = self._rules.shown(allowed, held, self._staging, frozenset() if self._every else NO_RIGHTS)
            # a disk that hangs holds up this task only
            shown, planned = await trio.to_thread.run_sync(stack.enter_context, laid_out)
            await self._runtime.start(shown, tell, partial(self._agreed, consent))
            difference = await self._difference(launch.task_id, planned)
        if difference:
            await self._runtime.remove(launch.task_id)
            raise RuntimeFailure(f"it was ended at once: {difference}")

    async def _agreed(self, consent: Consent, found: str) -> str:
        """Ask for the image of a task; what the node's owner does not allow by its digest is as it was found."""
        asked = await consent(found)
        return asked if not asked or self._rules.policy.image_rules.allow(asked) else found

    async def _difference(self, task_id: str, planned: Sequence[Planned]) -> str:
        """Say what a task that was started sees otherwise than planned."""
        began_s = trio.current_time()
        while True:
            try:
                pid = await self._runtime.inside(task_id) if planned else None
                return "" if pid is None else await trio.to_thread.run_sync(mountcheck.difference, pid, planned)
            except PermissionError:
                return ""
            except RuntimeAway as error:
                log.warning("%s: %s", task_id, error)
            except OSError as error:
                # what serves a mount may just be started again
                if trio.current_time() - began_s > LOOK_S_MAX:
                    return f"what it sees cannot be looked at: {error.strerror} ({error.filename})"
            await trio.sleep(LOOK_AGAIN_S)

    async def tasks(self) -> Sequence[str]:
        """Return the ids of all tasks; see `Runtime`."""
        return await self._runtime.tasks()

    def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the task's output; see `Runtime`."""
        return self._runtime.output(task_id, offset)

    async def wait(self, task_id: str) -> Exit:
        """Return when the task is over; see `Runtime`."""
        return await self._runtime.wait(task_id)

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to all processes of the task; see `Runtime`."""
        await self._runtime.signal(task_id, number)

    def image(self, task_id: str) -> str:
        """Return the image of a task; see `Runtime`."""
        return self._runtime.image(task_id)

    async def inside(self, task_id: str) -> int | None:
        """Return a process of the task; see `Runtime`."""
        return await self._runtime.inside(task_id)

    def attach(self, task_id: str, program: Program) -> AbstractAsyncContextManager[Attached]:
        """Run a program beside the task; see `Runtime`."""
        return self._runtime.attach(task_id, program)

    async def dial(self, task_id: str, port: int) -> Connection:
        """Return a connection to a port of the task; see `Runtime`."""
        return await self._runtime.dial(task_id, port)

    def reach(self, task_id: str) -> Mapping[str, str]:
        """Return what the task is reached by without this daemon; see `Runtime`."""
        return self._runtime.reach(task_id)

    async def remove(self, task_id: str) -> None:
        """End and forget the task; see `Runtime`."""
        await self._runtime.remove(task_id)
