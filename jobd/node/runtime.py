"""What a node asks of the thing that runs containers, and nothing of how it does it.

A *task* is one process of one attempt of a job; its id, `"<job>.<attempt>.<group>.<process>"`, names the
container and fences everything that is reported. Runtimes keep what they need to know about a task outside the
daemon (labels of the engine, files of the state directory), so that a restarted daemon finds every task again:

    start ──▶ output (from any byte offset, until the task is over) ──▶ wait ──▶ remove
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from jobd.attach import Program, Terminal
from jobd.imagelists import Side
from jobd.wire import Assignment, Credential

# shows the owner of a task what its start waits for
Tell = Callable[[str], None]


# asked when all is there that a task needs, with its image by its digest ("" for none); returns, as soon as the task
# may be started, the image that it shall have
Consent = Callable[[str], Awaitable[str]]


def untold(text: str) -> None:
    """Show it to nobody."""


async def granted(image: str) -> str:
    """Let a task start with what was found."""
    return image


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
        extended: variables that stand beside what the image says of them, and where, not in its place.
        uid, gid: whose the processes are; None keeps the daemon's own (a daemon without root).
        gids: of groups that they are in beside it.
        hostname: what the task calls its machine.
        cpus: limit in CPUs; None is no limit.
        memory_bytes: limit; None is no limit.
        gpus: UUIDs of the GPUs that are its own.
        hosts: name and address of every process of its gang; "" where the gang's network tells the address.
        network: of its gang; None for a task without fellows.
        overlay: the network is there, made for several machines; else it is made on first use.
        shm_bytes: size of /dev/shm; None is the runtime's own.
        processes: how many processes and threads it may have at once; None is the runtime's own.
        disk_bytes: how much it may write outside its volumes; None is no limit.
        ulimits: what each of its processes gets at most, by the names of `jobd.node.ulimits`.
        credential: for the registry of its image.
        pinned: its image by the digest that it shall have; None leaves that to the image's name.
    """

    task_id: str
    argv: Sequence[str]
    env: Mapping[str, str]
    workdir: str
    hostname: str
    image: str | None = None
    uid: int | None = None
    gid: int | None = None
    gids: Sequence[int] = ()
    volumes: Sequence[Volume] = field(default_factory=tuple)
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: Sequence[str] = ()
    hosts: Sequence[tuple[str, str]] = ()
    network: str | None = None
    overlay: bool = False
    shm_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = None
    ulimits: Mapping[str, int] = field(default_factory=dict)
    credential: Credential | None = None
    pinned: str | None = None
    extended: Mapping[str, Side] = field(default_factory=dict)


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

    @property
    def trouble(self) -> str:
        """Why it takes no new tasks now; "" where it does."""

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        """Start the task; a task that was started before is left alone (nothing runs twice).

        Args:
            tell: told what it waits for, where that takes a while.
            consent: asked last, as often as it takes.

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

    def image(self, task_id: str) -> str:
        """Return the image of a task that was started: `name@digest`, its id where no registry has it, "" for none."""

    async def inside(self, task_id: str) -> int | None:
        """Return a process of the task, which sees what the task sees; None where none runs."""

    def reach(self, task_id: str) -> Mapping[str, str]:
        """Return what the watchdog reaches the task by, which works without this daemon."""

    def attach(self, task_id: str, program: Program) -> AbstractAsyncContextManager["Attached"]:
        """Run a program beside the task, as confined as the task, while the block runs; then all of it is killed.

        Raises:
            PfsError: NOT_FOUND, DENIED: it cannot be run; BUSY: the task is over.
            RuntimeAway
        """

    async def dial(self, task_id: str, port: int) -> "Connection":
        """Return a connection to a port of the task's own loopback.

        Raises:
            PfsError: UNREACHABLE: nothing listens there; BUSY: the task is over.
            RuntimeAway
        """

    async def remove(self, task_id: str) -> None:
        """End the task if it runs, and forget it with its output; unknown is no error."""


class Connection(Protocol):
    """A connection to a port of a running task, as trio has them (`trio.abc.HalfCloseableStream`)."""

    async def send_all(self, data: bytes) -> None:
        """Send bytes."""

    async def send_eof(self) -> None:
        """Send no more."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what comes next; nothing at the end."""

    async def aclose(self) -> None:
        """Let go of it."""


class Attached(Protocol):
    """A program that was let into a running task."""

    async def send(self, data: bytes) -> None:
        """Give it input; returns when it was taken.

        Raises:
            PfsError: BUSY when it reads no more.
        """

    async def send_eof(self) -> None:
        """Give it no more input; at a terminal, as by Ctrl-D."""

    async def receive(self) -> tuple[int, bytes] | None:
        """Return what it says next, with `STDOUT` or `STDERR`; None when it is over and all was said.

        Raises:
            RuntimeAway
        """

    async def resize(self, terminal: Terminal) -> None:
        """Tell it how large its terminal is; without one, nothing."""

    async def signal(self, number: int) -> None:
        """Send a signal to it and its children; over already is no error.

        Raises:
            PfsError: UNSUPPORTED where it runs on another machine.
            RuntimeAway
        """

    async def wait(self) -> int:
        """Return its exit code, 128 + n for signal n, once it is over."""


class Overlays(Protocol):
    """Networks across machines, for gangs; what an engine that is in a swarm can make."""

    @property
    def times_renewed(self) -> int:
        """How often what it can do may have become something else."""

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


class Files(Protocol):
    """How tasks get to the server's tree.

    Attributes:
        mark: what tells the tree from every other; None where the server is asked for each job.
    """

    mark: str | None

    def launch(self, assignment: Assignment) -> Launch:
        """Return what a runtime has to start once `bring` has returned.

        Raises:
            RuntimeFailure: it cannot be had, and why.
        """

    async def bring(self, assignment: Assignment) -> None:
        """Return when what the task shall see is there.

        Raises:
            RuntimeFailure: it cannot be had, and why.
        """

    async def leave(self, task_id: str) -> None:
        """A task is gone."""

    async def take_up(self, tasks: Sequence[str]) -> None:
        """Go on with what these tasks of a daemon before this one have, and end what all others had."""
