"""Wires the server: database, data root, accounts, engine, tree and HTTP, and runs it until a signal ends it."""

import fcntl
import logging
import os
import resource
import secrets
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import trio
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cli.knock import listen as listen_for_knocks
from cli.treeroutes import tree_routes
from jobd.engine.assign import Place
from jobd.engine.engine import Engine
from jobd.engine.owners import Owners
from jobd.engine.retention import Retention, awaited_trees
from jobd.engine.sessions import Datacenter, NodeSessions, new_cluster_id
from jobd.engine.workshop import DiskWorkshop
from jobd.files.cluster import tree
from jobd.files.sources import Sources
from jobd.life.life import ON_NODES
from jobd.store.db import JobStore
from jobd.store.logs import LogStore
from jobd.store.schema import upgrade
from jobd.store.trees import TreeStore
from pfs import memory
from pfs.accounts import Accounts, Identity, KeyKind
from pfs.disk import watch
from pfs.disk.attr import node_id
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.leasing.hub import LeaseHub
from pfs.leasing.promises import Promises
from pfs.perm import DomainKind
from pfs.protocol.wire import CHANNEL_PATH, OPEN_PATH
from pfs.quota import Amount, Limits
from pfs.server import localfd
from pfs.server.guard import Tls
from pfs.server.guard import serve as serve_guarded
from pfs.server.mounts import Mounts
from pfs.server.routes import Gate
from pfs.sql import Database
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import DOMAIN_DIRECTORIES, home_of, make_home_now, top

FIRST_CLUSTER = "GradientNode Cluster"
PRIVATE = "server"
RUN = "run"
SWEEP_EVERY_S = 60.0
LIMITS_EVERY_S = 1.0
ID_FILE = ".pfs-id"

log = logging.getLogger(__name__)

README = """\
This directory is the datacenter {dc}. A job is a file:

    echo 'command: echo hello from $PFS_JOB_NAME' > jobs/hello.yaml
    cat jobs/hello/log         its output, live, until it is over
    cat jobs/hello/exit_code   how it ended
    cat jobs/hello/why         why it waits, or failed
    echo kill > jobs/hello/ctl

home/<you> is yours, and jobs see it as /pfs/{dc}/home/<you>. If a spec is refused, jobs/<name>.error says why.
"""


def default_data_root() -> str:
    """Return where the data is when nobody says: for root the machine's, else one's own."""
    if os.geteuid() == 0:
        return "/var/lib/pfs"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "pfs")


def default_database(data_root: str) -> str:
    """Return the address of the database beside the data."""
    return f"sqlite:///{os.path.abspath(data_root)}/{PRIVATE}/pfs.sqlite"


class Store:
    """The opened data root and database: what `init`, `serve` and the account commands share.

    Raises:
        PfsError: NOT_FOUND when `jobd init` was not run here, BUSY when another server is running.
    """

    def __init__(self, data_root: str, database: str | None, *, exclusive: bool) -> None:
        self.data_root = data_root
        self.url = database or default_database(data_root)
        if not os.path.exists(os.path.join(data_root, ID_FILE)):
            raise PfsError(
                Kind.NOT_FOUND, f"{data_root} is no data root; make one with: jobd init --data-root {data_root}"
            )
        self._lock_fd = self._lock() if exclusive else None
        with open(os.path.join(data_root, ID_FILE), encoding="ascii") as file:
            self.data_root_id = file.read().strip()
        try:
            upgrade(self.url)
        except SQLAlchemyError as error:
            # the address may hold a password, and SQLAlchemy's own text is long: only what the driver said
            said = getattr(error, "orig", None) or error
            raise PfsError(Kind.INVALID, f"the database cannot be opened: {said}; see --database") from None
        except ModuleNotFoundError as error:
            text = f"the database cannot be opened: there is no {error.name} here; an address looks like sqlite:///FILE"
            raise PfsError(Kind.INVALID, text) from None
        self.database = Database(self.url)
        self.disk = Disk(data_root)
        self.accounts = Accounts(self.database, numbered=os.geteuid() == 0)
        self.jobs = JobStore(self.database)

    @property
    def private(self) -> str:
        """The folder of what is the server's own."""
        return os.path.join(self.data_root, PRIVATE)

    def _lock(self) -> int:
        lock_fd = os.open(os.path.join(self.private, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            raise PfsError(Kind.BUSY, f"another jobd serves {self.data_root} already") from None
        return lock_fd

    def setting(self, name: str) -> str:
        """Return what `jobd init` decided."""
        value = self.jobs.setting_now(name)
        if value is None:
            raise PfsError(Kind.NOT_FOUND, f"{self.url} has no datacenter in it; run jobd init")
        return value

    def add_user(self, name: str, *, admin: bool) -> str:
        """Make an account with its home; return its token."""
        user = self.accounts.add_user_now(name, admin=admin)
        make_home_now(self.disk, user)
        return self.accounts.make_key_now(KeyKind.USER, name, self.setting("endpoint"))

    def join_group(self, name: str, user: str) -> None:
        """Let an account be in a group, whose folder jobs of its members see."""
        self.accounts.join_now(name, user)
        self.disk.make_directory_now(f"{DomainKind.GROUP}/{name}", 0o2770, None)

    def limit(self, name: str, changed: Mapping[str, int | None]) -> Limits:
        """Change some limits of an account's home, by their names; return all that it has."""
        limits = replace(self.accounts.limits_now(name), **changed)
        if changed:
            self.accounts.set_limits_now(name, limits)
        return limits

    def used(self, name: str) -> Amount:
        """Count what an account's home holds."""
        return self.disk.counts.count_now(home_of(name))

    def close(self) -> None:
        """Let go of everything."""
        self.disk.close()
        self.database.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)


def make_data_root(data_root: str) -> None:
    """Make the directories of a data root, and its mark.

    Raises:
        PfsError: EXISTS when there is one already.
    """
    mark = os.path.join(data_root, ID_FILE)
    if os.path.exists(mark):
        raise PfsError(
            Kind.EXISTS, f"{data_root} is a data root already; serve it with: jobd serve --data-root {data_root}"
        )
    os.makedirs(os.path.join(data_root, PRIVATE), exist_ok=True)
    os.chmod(os.path.join(data_root, PRIVATE), 0o700)
    for name in DOMAIN_DIRECTORIES:
        os.makedirs(os.path.join(data_root, name), mode=0o755, exist_ok=True)
    with open(mark, "x", encoding="ascii") as file:
        file.write(secrets.token_hex(16) + "\n")


def init(data_root: str, database: str | None, *, datacenter: str, endpoint: str, admin: str) -> tuple[str, str]:
    """Make a datacenter with its first administrator; return their token and a node's key."""
    make_data_root(data_root)
    try:
        store = Store(data_root, database, exclusive=True)
        store.jobs.set_now("datacenter", datacenter)
        store.jobs.set_now("endpoint", endpoint)
        store.jobs.set_now("cluster_id", new_cluster_id())
        token = store.add_user(admin, admin=True)
        node_key = store.accounts.make_key_now(KeyKind.NODE, admin, endpoint)
        store.close()
    except BaseException:
        os.unlink(os.path.join(data_root, ID_FILE))  # so that it can be tried again
        raise
    return token, node_key


async def serve(
    store: Store, host: str, port: int, tls: Tls | None, ready: Callable[[str], None], *, keep_jobs_s: float | None
) -> None:
    """Serve until TERM or INT.

    Args:
        keep_jobs_s: for how long what a job has on disk stays after its end; None for ever.
    """
    _set_up_process()
    name = store.setting("datacenter")
    place = Place(name, store.data_root_id)
    trees = TreeStore(store.disk, lambda: awaited_trees(each.job for each in engine.ledger.active()), time.time)
    owners = Owners(store.accounts.user)
    workshop = DiskWorkshop(store.disk, owners, place, trees=trees, find_job=store.jobs.job)
    known = store.jobs.over_before, store.jobs.removed_of
    retention = Retention(workshop, trees, *known, keep_s=keep_jobs_s, clock=time.time_ns)
    logs = LogStore(os.path.join(store.data_root, "jobs"))
    engine = Engine(store.jobs, logs, workshop, user=owners, place=place, clock=time.time_ns)
    nodes = NodeSessions(engine, Datacenter(name, store.data_root_id, FIRST_CLUSTER, store.setting("cluster_id")))
    root = top(
        store.accounts,
        store.disk,
        README.format(dc=name).encode(),
        tree(Sources(engine, store.jobs, store.disk, workshop)),
        time.time_ns(),
    )

    def filesystem(identity: Identity) -> TreeFileSystem:
        return TreeFileSystem(root, store.disk, identity.subject)

    socket = os.path.join(make_run_directory(store.data_root), "files.sock")
    mounts = Mounts(filesystem, socket, Promises(os.path.join(store.data_root, PRIVATE, "mounts")))
    gate = Gate(
        store.accounts.identify,
        mounts.view,
        {KeyKind.USER: mounts.conversation, KeyKind.NODE: nodes.conversation},
    )
    app = Starlette(routes=[*gate.routes(), *tree_routes(gate, trees), Route("/health", _health)])
    async with trio.open_nursery() as nursery:
        await nursery.start(localfd.serve, socket, mounts.bulk.named)
        nursery.start_soon(_watch_disk, store.disk, mounts.hub)
        nursery.start_soon(_sweep_orphans, store.disk)
        nursery.start_soon(retention.run)
        await nursery.start(_keep_limits, store, engine)
        nursery.start_soon(store.disk.counts.run)
        nursery.start_soon(mounts.hub.run)
        await nursery.start(engine.run)
        await nursery.start(_follow_policy, store, owners, engine)
        ended = trio.Event()
        await nursery.start(_watch_signals, ended)

        async def shutdown() -> None:
            await ended.wait()
            await mounts.hub.end()
            await gate.hang_up()

        async def listen(task_status: trio.TaskStatus[list[str]]) -> None:
            takers = {CHANNEL_PATH: gate.channel, f"{OPEN_PATH}/": mounts.bulk.taker(gate.identity)}
            await serve_guarded(
                app, host=host, port=port, tls=tls, takers=takers, shutdown=shutdown, task_status=task_status
            )
            nursery.cancel_scope.cancel()

        urls = await nursery.start(listen)
        ready(urls[0])


def _set_up_process() -> None:
    os.umask(0)  # what clients make has the mode that they say; what is the server's own says its mode itself
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    memory.return_pieces()


def make_run_directory(data_root: str) -> str:
    """Make the directory of what exists only while the server runs; everybody may reach what is in it."""
    path = os.path.join(os.path.abspath(data_root), RUN)
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o755)
    return path


async def _watch_disk(disk: Disk, hub: LeaseHub) -> None:
    """Tell mounts what is changed in the data root behind the service's back."""

    async def changed_by_us(nodes: Collection[int]) -> None:
        await hub.changed_outside(nodes, ())

    disk.changed = changed_by_us
    async with trio.open_nursery() as nursery:

        def changed(nodes: set[watch.Node], names: set[watch.Name]) -> None:
            disk.counts.doubt()
            ids = [node_id(*node) for node in nodes]
            nursery.start_soon(hub.changed_outside, ids, [(node_id(*node), name) for node, name in names])

        def lost() -> None:
            disk.counts.doubt()
            nursery.start_soon(hub.all_changed_outside)

        watching = watch.Watch(changed, lost)
        disk.watch = watching.add
        await watching.run()


async def _sweep_orphans(disk: Disk) -> None:
    while True:
        await disk.sweep_orphans(time.monotonic_ns())
        await trio.sleep(SWEEP_EVERY_S)


async def _follow_policy(store: Store, owners: Owners, engine: Engine, task_status: trio.TaskStatus[None]) -> None:
    """Let the engine know of what an administrator decides."""

    async def take_up() -> None:
        try:
            owners.forget()
            await engine.set_policy(await store.jobs.policy())
        except PfsError as error:
            log.warning("reservations, aliases and groups stay as they are: %s", error)

    async with trio.open_nursery() as nursery:
        await nursery.start(listen_for_knocks, store.private, take_up)
        await take_up()  # what was decided since the engine began
        task_status.started()


async def _keep_limits(store: Store, engine: Engine, task_status: trio.TaskStatus[None]) -> None:
    """Let the disk know of limits that an administrator sets, and of jobs that write to homes."""
    counts, first = store.disk.counts, True
    while True:
        try:
            limits = await store.accounts.limits()
            counts.limit({home_of(user): each for user, each in limits.items()})
        except PfsError as error:
            log.warning("limits stay as they are: %s", error)
        counts.doubt(
            {home_of(active.job.user) for active in engine.ledger.active() if active.job.life.state in ON_NODES}
        )
        if first:
            task_status.started()
            first = False
        await trio.sleep(LIMITS_EVERY_S)


async def _watch_signals(ended: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if ended.is_set():
                raise KeyboardInterrupt  # asked twice: at once
            ended.set()


async def _health(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")
