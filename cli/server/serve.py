"""Wires the server: database, data root, accounts, engine, tree and HTTP, and runs it until a signal ends it."""

import contextlib
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from cli.server.datacenter import Store, domain_of
from cli.server.knock import PATIENCE_S, knock, last_change
from cli.server.knock import listen as listen_for_knocks
from cli.server.restroutes import publishing_routes, rest_routes
from cli.server.treeroutes import tree_routes
from jobd.engine.assign import Place
from jobd.engine.belongings import belongs
from jobd.engine.engine import Engine
from jobd.engine.jobmounts import JobMounts
from jobd.engine.owners import Owners
from jobd.engine.retention import Retention, awaited_trees
from jobd.engine.sessions import Datacenter, NodeSessions
from jobd.engine.workshop import DiskWorkshop
from jobd.files.cluster import tree
from jobd.files.events import Recorder, line_of
from jobd.files.jobview import job_view
from jobd.files.sources import Sources
from jobd.life.life import ON_NODES
from jobd.rest.desk import Desk
from jobd.store.history import History
from jobd.store.logs import LogStore
from jobd.store.secrets import Secrets
from jobd.store.trees import TreeStore
from pfs import memory
from pfs.accounts.recognition import Recognition
from pfs.accounts.registration import Registration
from pfs.accounts.store import Identity, KeyKind
from pfs.disk import watch
from pfs.disk.attr import node_id
from pfs.disk.domains import Disk
from pfs.errors import PfsError
from pfs.leasing.hub import LeaseHub
from pfs.leasing.promises import Promises
from pfs.perm import Subject
from pfs.protocol.wire import AUTHORITY_PATH, CHANNEL_PATH, OPEN_PATH, RANGES_PATH
from pfs.quota import Limits
from pfs.server import localfd
from pfs.server.administering import Administering
from pfs.server.doors import JSON, NOTHING, OWN, TEXT, Door, Tells, application, json_response
from pfs.server.entrance import Entrance
from pfs.server.folders import Folders
from pfs.server.guard import Tls
from pfs.server.guard import serve as serve_guarded
from pfs.server.joining import Joining
from pfs.server.mounts import Mounts
from pfs.server.openapi import OPENAPI_PATH, OPENAPI_V2_PATH, document
from pfs.server.ranges import Ranges
from pfs.server.rest import REST
from pfs.server.routes import Gate
from pfs.server.takeover import Taker
from pfs.server.visits import Visits
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import group_home, home_of, make_home_now, top

RUN, SOCKET = "run", "files.sock"
SWEEP_EVERY_S = 60.0
LIMITS_EVERY_S = 1.0
RENEW_EVERY_S = 12 * 3600.0

log = logging.getLogger(__name__)

README = """\
This directory is the datacenter {dc}. A job is a file:

    echo 'command: echo hello from $PFS_JOB_NAME' > jobs/hello.yaml
    cat jobs/hello/log         its output, live, until it is over
    cat jobs/hello/exit_code   how it ended
    cat jobs/hello/why         why it waits, or failed
    echo kill > jobs/hello/ctl

home/<you> is yours, and jobs see it as /pfs/{dc}/home/<you>. If a spec is refused, jobs/<name>.yaml.error says why.
"""


async def serve(
    store: Store,
    host: str,
    port: int,
    tls: Tls | None,
    ready: Callable[[str], None],
    *,
    proxied: bool,
    keep_jobs_s: float | None,
) -> None:
    """Serve until TERM or INT.

    Args:
        proxied: as of `pfs.server.guard.serve`.
        keep_jobs_s: for how long what a job has on disk stays after its end; None for ever.
    """
    _set_up_process()
    store.make_group_directories()
    place = Place(store.setting("datacenter"), store.data_root_id, store.where, store.own_secret())
    trees = TreeStore(store.disk, lambda: awaited_trees(each.job for each in engine.ledger.active()), time.time)
    owners = Owners(store.accounts.user)
    reached = store.accounts.audit.reached
    workshop = DiskWorkshop(store.disk, owners, place, trees=trees, find_job=store.jobs.job, reached=reached)
    known = store.jobs.over_before, store.jobs.removed_of
    retention = Retention(workshop, trees, *known, keep_s=keep_jobs_s, clock=time.time_ns)
    logs = LogStore(os.path.join(store.data_root, "jobs"), store.disk.run)
    secrets = Secrets(store.database, store.private)
    engine = Engine(store.jobs, logs, workshop, user=owners, place=place, clock=time.time_ns, secret=secrets.find)
    history = History(os.path.join(store.private, "events"), line_of, time.time_ns)
    await history.open()
    recorder = Recorder(engine, history)
    sources = Sources(engine, store.jobs, store.disk, workshop, secrets, store.accounts.audit, history)
    mounts, gate = _doors(store, place, owners, sources)
    engine.ledger.unshared = gate.visits.end_where_lost
    engine.roster.revoked = partial(_tell_of_change, store)
    app = application(routes(store, gate, trees, Desk(sources, place.datacenter)))
    async with trio.open_nursery() as nursery:
        await nursery.start(localfd.serve, mounts.socket, mounts.bulk.named)
        nursery.start_soon(_watch_disk, store.disk, mounts.hub)
        nursery.start_soon(_sweep_orphans, store.disk)
        nursery.start_soon(retention.run)
        await nursery.start(_keep_limits, store, engine)
        nursery.start_soon(store.disk.counts.run)
        nursery.start_soon(store.disk.projects.run)
        nursery.start_soon(mounts.hub.run)
        nursery.start_soon(history.run)
        await nursery.start(engine.run)
        await recorder.catch_up(store.jobs, time.time_ns())
        await nursery.start(_follow_policy, store, owners, engine, gate.visits)
        nursery.start_soon(gate.visits.run)
        nursery.start_soon(_renew_certificate, store)
        ended = trio.Event()
        await nursery.start(_watch_signals, ended)

        async def shutdown() -> None:
            await ended.wait()
            await mounts.hub.end()
            await gate.hang_up()

        async def listen(task_status: trio.TaskStatus[list[str]]) -> None:
            took = takers(gate, mounts)
            listen_at = partial(serve_guarded, app, host=host, port=port, tls=tls, takers=took, proxied=proxied)
            await listen_at(shutdown=shutdown, task_status=task_status)
            nursery.cancel_scope.cancel()

        urls = await nursery.start(listen)
        ready(urls[0])


def _doors(store: Store, place: Place, owners: Owners, sources: Sources) -> tuple[Mounts, Gate]:
    """Return where mounts, programs and nodes come in."""
    there = Datacenter(place.datacenter, store.data_root_id)
    engine, audit = sources.engine, sources.audit
    nodes = NodeSessions(engine, there, is_bound=store.enrolment.is_bound)
    root = top(
        store.accounts,
        store.disk,
        README.format(dc=place.datacenter).encode(),
        tree(sources),
        time.time_ns(),
    )

    def stamp() -> object:
        return last_change(store.private)

    recognition = Recognition(store.accounts.identify, stamp, time.monotonic)
    jobs = JobMounts(engine.ledger, place, owners, recognition.identify)

    def filesystem(identity: Identity) -> TreeFileSystem:
        subject = identity.subject
        seen = root if subject.job is None else job_view(jobs, store.disk, owners, subject)
        return TreeFileSystem(seen, store.disk, subject, audit.reached)

    socket = os.path.join(make_run_directory(store.data_root), SOCKET)
    mounts = Mounts(filesystem, socket, Promises(os.path.join(store.private, "mounts")))
    conversations = {
        KeyKind.USER: engine.attaching.conversation(mounts.conversation, audit.about),
        KeyKind.JOB: jobs.conversation(mounts.conversation),
        KeyKind.NODE: nodes.conversation,
    }
    return mounts, Gate(jobs.identify, mounts.view, conversations, stamp)


def routes(store: Store, gate: Gate, trees: TreeStore, desk: Desk) -> list[Door]:
    """Return everything that is asked for with HTTP; tests/cli/doors.txt tells who may."""
    doors = [
        *gate.routes(),
        *Folders(gate).routes(),
        *Ranges(gate).routes(),
        *_entrances(store, gate),
        *_joining(store, gate).routes(),
        *tree_routes(gate, trees),
        *rest_routes(gate, desk),
        *publishing_routes(store, gate),
        *_plain_routes(store),
    ]
    return [*doors, *_described(gate, doors)]


def _described(gate: Gate, doors: list[Door]) -> list[Door]:
    """Return the doors at which all of them are told, themselves among them; each speaks as those beside it do."""

    async def tell(request: Request, identity: Identity) -> Response:
        return json_response(document([*doors, *described]))

    about, tells = "this document", [Tells(200, "OpenAPI", JSON, {"type": "object"})]
    faces = {OPENAPI_PATH: OWN, OPENAPI_V2_PATH: REST}
    described = [
        gate.door("GET", path, tell, about=about, body=NOTHING, tells=tells, face=face) for path, face in faces.items()
    ]
    return described


def takers(gate: Gate, mounts: Mounts) -> dict[str, Taker]:
    """Return who takes connections whole, by how the paths begin that are asked for."""
    opened = mounts.bulk.taker(gate.identity, gate.visits.during)
    return {CHANNEL_PATH: gate.channel, f"{OPEN_PATH}/": opened, f"{RANGES_PATH}/": Ranges(gate)}


def _entrances(store: Store, gate: Gate) -> list[Door]:
    """Return where people come in by themselves, and where administrators decide who may."""

    async def mode() -> Registration:
        return await trio.to_thread.run_sync(lambda: store.registration)

    async def settle(user: Subject) -> None:
        await trio.to_thread.run_sync(make_home_now, store.disk, user)

    async def where() -> str:
        return await trio.to_thread.run_sync(lambda: store.where)

    name = store.setting("datacenter")
    changed, taken_up = partial(_tell_of_change, store), partial(_tell_of_change, store, PATIENCE_S)
    entrance = Entrance(store.accounts, gate, datacenter=name, where=where, mode=mode, settle=settle, changed=changed)
    return [*entrance.routes(), *Administering(store, entrance, gate, taken_up).routes()]


async def _tell_of_change(store: Store, patience_s: float = 0.0) -> None:
    """Let everything that knows accounts and keys look at them anew, and wait that long until it has."""
    await trio.to_thread.run_sync(knock, store.private, patience_s)


def _joining(store: Store, gate: Gate) -> Joining:
    return Joining(store.enrolment, gate, partial(_tell_of_change, store))


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


async def _renew_certificate(store: Store) -> None:
    """Renew the server's own certificate in time; whoever connects then is shown it."""
    while True:
        await trio.sleep(RENEW_EVERY_S)
        try:
            if store.is_vouched and await trio.to_thread.run_sync(store.renew_certificate):
                log.info("the server's certificate was renewed")
        except PfsError as error:
            log.warning("the server's certificate is not renewed: %s", error)


async def _sweep_orphans(disk: Disk) -> None:
    while True:
        await disk.sweep_orphans(time.monotonic_ns())
        await trio.sleep(SWEEP_EVERY_S)


async def _follow_policy(
    store: Store, owners: Owners, engine: Engine, visits: Visits, task_status: trio.TaskStatus[None]
) -> None:
    """Let all who go by it know of what an administrator decides."""

    async def take_up() -> None:
        try:
            owners.forget()
            await visits.look_again()
            await engine.ledger.keep_shares(frozenset(await store.accounts.groups()))
            await _end_jobs_of_nobody(engine, owners)
            await engine.take_up_policy()
            await engine.roster.take_up_gone()
            await engine.roster.take_up_clusters()
        except PfsError as error:
            log.warning("reservations, aliases, groups and clusters stay as they are: %s", error)

    async with trio.open_nursery() as nursery:
        await nursery.start(listen_for_knocks, store.private, take_up)
        await take_up()  # what was decided since the engine began
        task_status.started()


async def _end_jobs_of_nobody(engine: Engine, owners: Owners) -> None:
    """End the jobs whose owners are gone."""
    for active in list(engine.ledger.active()):
        if await owners(active.job.user) is None:
            with contextlib.suppress(PfsError):  # it is over meanwhile
                await engine.kill(Subject("jobd", admin=True), active.job.id)


async def _keep_limits(store: Store, engine: Engine, task_status: trio.TaskStatus[None]) -> None:
    """Let the disk know of limits that an administrator sets, and of jobs that write past the service."""
    counts, first = store.disk.counts, True
    counts.belongs = belongs(lambda number: None if (found := engine.ledger.get(number)) is None else found.job.user)
    while True:
        try:
            limits = await store.accounts.limits()
            counts.limit({domain_of(holder): each for holder, each in limits.items()})
            if store.disk.projects.are_kept:
                await _limit_projects(store, limits)
        except PfsError as error:
            log.warning("limits stay as they are: %s", error)
        running = {active.job.user for active in engine.ledger.active() if active.job.life.state in ON_NODES}
        members = engine.fleet.policy.members
        groups = {group for user in running for group in members.get(user, ())}
        counts.doubt({*map(home_of, running), *map(group_home, groups)})
        if first:
            task_status.started()
            first = False
        await trio.sleep(LIMITS_EVERY_S)


async def _limit_projects(store: Store, limits: Mapping[str, Limits]) -> None:
    """Let the file system keep the same limits, for jobs that write past the service."""
    disk = store.disk
    for holder, each in limits.items():
        number = await store.accounts.number(holder)
        if number is not None:
            domains = partial(disk.counts.all_of, domain_of(holder))
            await trio.to_thread.run_sync(disk.projects.limit, number, each, domains)


async def _watch_signals(ended: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if ended.is_set():
                raise KeyboardInterrupt  # asked twice: at once
            ended.set()


def _plain_routes(store: Store) -> list[Door]:
    """Return what everybody is told: that the server is there, and which certificate its keys name."""
    authority = store.jobs.setting_now("authority") or ""

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def tell_authority(request: Request) -> Response:
        return PlainTextResponse(authority, 200 if authority else 404)

    pem, none = Tells(200, "a certificate, PEM", TEXT), Tells(404, "there is none", TEXT)
    about = "the certificate that keys name by its hash"
    return [
        Door("GET", AUTHORITY_PATH, tell_authority, about=about, body=NOTHING, tells=[pem, none]),
        Door("GET", "/health", health, about="that the server is there", body=NOTHING, tells=[Tells(200, "ok", TEXT)]),
    ]
