"""What a node asks of the thing that runs containers, and nothing of how it does it.

A *task* is one process of one attempt of a job; its id, `"<job>.<attempt>.<group>.<process>"`, names the
container and fences everything that is reported. Runtimes keep what they need to know about a task outside the
daemon (labels of the engine, files of the state directory), so that a restarted daemon finds every task again:

    start ──▶ output (from any byte offset, until the task is over) ──▶ wait ──▶ remove
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory of this machine that the task sees at `target`."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything a runtime needs to start one task.

    Attributes:
        argv: the program and its arguments; a command text comes as `["sh", "-c", text]`.
        image: name of a container image; None asks for the machine's own userland.
        uid, gid: whose the processes are; None keeps the daemon's own (a daemon without root).
        hostname: what the task calls its machine.
        cpus: limit in CPUs; None is no limit.
        memory_bytes: limit; None is no limit.
        gpus: UUIDs of the GPUs that are its own.
        hosts: name and address of every process of its gang; "" where the gang's network tells the address.
        network: of its gang; None for a task without fellows.
        overlay: the network is there, made for several machines; else it is made on first use.
        shm_bytes: size of /dev/shm; None is the runtime's own.
    """

    task_id: str
    argv: Sequence[str]
    env: Mapping[str, str]
    workdir: str
    hostname: str
    image: str | None = None
    uid: int | None = None
    gid: int | None = None
    volumes: Sequence[Volume] = field(default_factory=tuple)
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: Sequence[str] = ()
    hosts: Sequence[tuple[str, str]] = ()
    network: str | None = None
    overlay: bool = False
    shm_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task ended.

    Attributes:
        code: what the program returned; 128 + n for signal n; 125 when nothing could run.
        reason: "" for an ordinary end, else a sentence ("killed: out of memory").
    """

    code: int
    reason: str = ""


class RuntimeFailure(Exception):
    """The task cannot be started; the text is for its owner ("no such image: …")."""


class RuntimeAway(Exception):
    """What runs the tasks does not answer now; they may well be running."""


class Runtime(Protocol):
    """One way to run tasks. Every method may be called again after a restart of the daemon."""

    name: str

    async def start(self, launch: Launch) -> None:
        """Start the task; a task that was started before is left alone (nothing runs twice).

        Raises:
            RuntimeFailure: nothing was started and nothing is left behind.
        """

    async def tasks(self) -> Sequence[str]:
        """Ids of all tasks that were started and not removed, running or over.

        Raises:
            RuntimeAway
        """

    def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield what the task wrote (stdout and stderr as they came), from byte `offset` on.

        Ends when the task is over and everything was yielded. The same bytes at each call. Whoever leaves before
        the end closes it (`contextlib.aclosing`).
        """

    async def wait(self, task_id: str) -> Exit:
        """Return when the task is over, also when it was over long ago."""

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to all processes of the task; over already is no error.

        Raises:
            RuntimeAway
        """

    def reach(self, task_id: str) -> Mapping[str, str]:
        """Return what the watchdog reaches the task by, which works without this daemon."""

    async def remove(self, task_id: str) -> None:
        """End the task if it runs, and forget it with its output; unknown is no error."""


class Overlays(Protocol):
    """Networks across machines, for gangs; what an engine that is in a swarm can make."""

    async def swarm(self) -> tuple[str, bool]:
        """Return what all machines of the swarm call it, "" where there is none, and whether this one manages it.

        Raises:
            RuntimeAway
        """

    async def make_network(self, name: str) -> None:
        """Make a network for a gang; there already is well.

        Raises:
            PfsError: with the engine's words.
            RuntimeAway
        """

    async def drop_network(self, name: str) -> None:
        """Remove it when all have left it; gone already is well.

        Raises:
            PfsError: BUSY when somebody stays in it.
            RuntimeAway
        """
