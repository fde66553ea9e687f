"""A job service on a temporary data root with a real SQLite file, a clock that the test holds, and nodes that obey."""

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from jobd.engine.assign import Place
from jobd.engine.engine import Engine
from jobd.engine.workshop import DiskWorkshop
from jobd.files.cluster import tree
from jobd.files.dated import Dates
from jobd.files.events import Recorder, line_of
from jobd.files.sources import Sources
from jobd.identity import FIRST_CLUSTER, Cluster
from jobd.store.db import JobStore
from jobd.store.history import History
from jobd.store.logs import LogStore
from jobd.store.schema import upgrade
from jobd.store.secrets import Secrets
from jobd.store.tables import ClusterRow, NodeRow
from jobd.store.trees import TreeStore
from jobd.wire import Assignment
from pfs.accounts.store import Accounts
from pfs.disk.domains import Disk
from pfs.perm import Subject
from pfs.sql import Database
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import DOMAIN_DIRECTORIES, GroupsDirectory, HomesDirectory, make_home_now
from pfs.tree.virtual import StaticDirectory

SECOND_NS = 1_000_000_000
CLUSTER = Cluster("cl1", "", FIRST_CLUSTER, is_default=True)
PEOPLE = (Subject("ann", admin=False), Subject("bob", admin=False), Subject("root", admin=True))


@dataclass
class Link:
    """A node that notes what it is asked."""

    started: list[Assignment] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    signals: list[tuple[str, int]] = field(default_factory=list)
    let_go_tasks: list[str] = field(default_factory=list)
    networks: list[tuple[str, str]] = field(default_factory=list)
    heard: trio.Event = field(default_factory=trio.Event)

    async def start(self, task: Assignment) -> None:
        self.started.append(task)
        self._hear()

    async def stop(self, task_id: str, grace_s: float) -> None:
        self.stopped.append(task_id)
        self._hear()

    async def let_go(self, task_id: str) -> None:
        self.let_go_tasks.append(task_id)
        self._hear()

    async def signal(self, task_id: str, number: int) -> None:
        self.signals.append((task_id, number))
        self._hear()

    async def attach(self, op: str, args: Mapping[str, object], body: bytes) -> None:
        raise NotImplementedError(op)

    async def make_network(self, network: str) -> None:
        self.networks.append(("make", network))
        self._hear()

    async def drop_network(self, network: str) -> None:
        self.networks.append(("drop", network))
        self._hear()

    def _hear(self) -> None:
        self.heard.set()
        self.heard = trio.Event()


class Service:
    """Everything of the server but HTTP, on one directory: may be started again, as after a crash."""

    opened: ClassVar[list["Service"]] = []

    def __init__(self, root: Path) -> None:
        self.opened.append(self)
        self.root = root
        self._now_ns = 1_700_000_000 * SECOND_NS
        self._moved = trio.Event()
        for name in (*DOMAIN_DIRECTORIES, "server"):
            (root / name).mkdir(exist_ok=True)
        file = root / "server/pfs.sqlite"
        is_new = not file.exists()
        if is_new:
            shutil.copy(furnished_database(), file)
        self.database = Database(f"sqlite:///{file}")
        self.disk = Disk(str(root))
        self.accounts = Accounts(self.database, numbered=False)
        self.audit = self.accounts.audit
        self.store = JobStore(self.database)
        self.secrets = Secrets(self.database, str(root / "server"))
        self.history = History(str(root / "server/events"), line_of, lambda: self.now_ns)
        self.dates = Dates(lambda: self.now_ns)
        self.place = Place("dc1")
        self.trees = TreeStore(self.disk, lambda: (), lambda: self.now_ns / SECOND_NS)
        self.workshop = DiskWorkshop(
            self.disk,
            self.accounts.user,
            self.place,
            trees=self.trees,
            find_job=self.store.job,
            reached=self.audit.reached,
        )
        self.ann, self.bob, self.admin = PEOPLE
        if is_new:
            for subject in PEOPLE:
                make_home_now(self.disk, subject)

    @property
    def now_ns(self) -> int:
        """What the clock says; it stands still until it is set."""
        return self._now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._moved.set()
        self._moved = trio.Event()

    async def sleep_until(self, at_ns: int) -> None:
        while self._now_ns < at_ns:
            await self._moved.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        engine = Engine(
            self.store,
            LogStore(str(self.root / "jobs")),
            self.workshop,
            user=self.accounts.user,
            place=self.place,
            clock=lambda: self.now_ns,
            secret=self.secrets.find,
            sleep_until=self.sleep_until,
        )
        await self.history.open()
        self.recorder = Recorder(engine, self.history)
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            yield engine
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        self.opened.remove(self)
        self.disk.close()
        self.database.close()

    def sources(self, engine: Engine) -> Sources:
        kept = self.store, self.disk, self.workshop, self.secrets, self.audit, self.history
        return Sources(engine, *kept, self.dates)

    def files(self, engine: Engine, subject: Subject) -> TreeFileSystem:
        nodes = {
            "home": HomesDirectory(self.accounts, self.disk),
            "groups": GroupsDirectory(self.accounts, self.disk),
            **tree(self.sources(engine)),
        }
        return TreeFileSystem(StaticDirectory("", nodes), self.disk, subject, self.audit.reached)

    def node(self, name: str = "n0", *, runtimes: tuple[str, ...] = ("sandbox",), cpus: int = 4) -> NodeRow:
        return NodeRow(
            id=f"cm{name}",
            entry_id=f"cm{name}",
            name=name,
            cluster_id=CLUSTER.id,
            attrs={
                "cpuCount": cpus,
                "offerCpus": cpus,
                "offerMemory": 8_000_000 * 1024,
                "maxProcesses": 64,
                "address": f"10.0.0.{len(name)}",
                "swarm": "",
                "swarmManager": False,
            },
            runtimes=list(runtimes),
            boot_id="boot",
            registered_at_ns=self.now_ns,
            seen_at_ns=self.now_ns,
        )


@cache
def migrated_database() -> Path:
    """Return a database with the schema in it: making one takes longer than most tests."""
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    file = Path(directory.name, "pfs.sqlite")
    upgrade(f"sqlite:///{file}")
    return file


@cache
def furnished_database() -> Path:
    """Return such a database with a cluster and accounts, which nearly every test wants."""
    file = migrated_database().with_name("furnished.sqlite")
    shutil.copy(migrated_database(), file)
    database = Database(f"sqlite:///{file}")
    database.write_now(lambda session: session.add(ClusterRow(**asdict(CLUSTER))))
    for subject in PEOPLE:
        Accounts(database, numbered=False).add_user_now(subject.user, admin=subject.admin)
    database.close()
    return file


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    yield Service(tmp_path)
    while Service.opened:
        Service.opened[-1].close()
