"""The doors for jobs as clients of PaddleCloud ask for them (`pfs.server.rest`).

    GET    /api/v1/jobs             "msg": one's jobs, newest first, "terminating": the names of those being stopped
    POST   /api/v1/jobs             a job in PaddleCloud's fields, and in all that specs have
    DELETE /api/v1/jobs             {"jobname", "rm"}: kill it; `rm`: remove it, once it is over
    DELETE /api/v1/jobs/<name>      the same
           /api/v1/trainingjobs     the same
    POST   /api/v1/restore          {"jobname"}: bring back a job that was removed
    POST   /api/v1/specs/<name>     a spec: what it would be refused for, but for its files; nothing is submitted
    GET    /api/v1/pservers         how many parameter servers of one's jobs there are, and run
    GET    /api/v1/workers?jobname=…        the processes of a job, or of all that are not over
    GET    /api/v1/logs?jobname=…&n=…&w=…   the last lines of each process, or of one; without a name of the newest job
    GET    /api/v1/quota            what one has and may have
    GET    /api/v1/registry         one's credentials for registries of images; their names and times
    POST   /api/v1/registry         {"name", "username", "password", "server"}
    DELETE /api/v1/registry         {"name"}
    GET    /healthz                 that the server is there

What is listed stands in `msg` as the design of PaddleCloud's client has it, and in `items` as the shipped one reads it.
A job is told by its number, or by its name, which is the newest one's. What changes something is done through the tree,
with the rights and the record that it has there.
"""

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable

import trio
from starlette.requests import Request
from starlette.responses import Response

from cli.server.datacenter import Store
from cli.server.listschemas import JOB_ITEMS, POD_ITEMS, QUOTA_ITEMS, REGISTRY_ITEMS, SERVER_ITEMS
from cli.server.surveyroutes import SurveyRoutes
from jobd.engine.credentials import KEYS, parse_credential
from jobd.job import Job
from jobd.rest.answers import (
    Pod,
    job_row,
    log_heading,
    pods_of,
    servers_row,
    terminating,
    time_of,
    worker_rows,
)
from jobd.rest.desk import Desk, tail
from jobd.rest.lists import job_items, pod_items, quota_item, registry_item, server_items
from jobd.rest.posted import Posted, registry_name, spec_of
from jobd.spec.text import TEXT_BYTES_MAX
from pfs.accounts.store import Identity
from pfs.api import OpenFlags
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.path import from_absolute
from pfs.perm import Subject
from pfs.server.bodies import text_in, whole_body, whole_object
from pfs.server.doors import NOTHING, Asks, Body, Door, Tells, an_object
from pfs.server.pfsfiles import PfsFiles
from pfs.server.published import Published
from pfs.server.publishing import Publishing
from pfs.server.rest import NUMBER, REST, TEXT, an_array, done, number, takes, tells
from pfs.server.routes import Gate
from pfs.server.simplefiles import SimpleFiles

JOBS_PATH = "/api/v1/jobs"
TRAINING_PATH = "/api/v1/trainingjobs"
SPECS_PATH = "/api/v1/specs"
SERVERS_PATH = "/api/v1/pservers"
WORKERS_PATH = "/api/v1/workers"
LOGS_PATH = "/api/v1/logs"
RESTORE_PATH = "/api/v1/restore"
QUOTA_PATH = "/api/v1/quota"
REGISTRY_PATH = "/api/v1/registry"
HEALTH_PATH = "/healthz"
LINES, LINES_MAX = 10, 100_000
LOGS_BYTES_MAX = 16 * 1024 * 1024  # of all processes together
END_AWAITED_S = 60.0

_OBJECTS = an_array({"type": "object"})
_NAMED = an_object({}, {"jobname": TEXT, "rm": {"type": "boolean"}})
_CREDENTIAL = an_object(dict.fromkeys(("name", *KEYS), TEXT))

Answer = Callable[[Request, Subject, LeasedTree], Awaitable[Response]]


def rest_routes(gate: Gate, desk: Desk) -> list[Door]:
    """Return all that clients of PaddleCloud find."""
    jobs = RestRoutes(gate, desk), SurveyRoutes(gate, desk)
    faces = *jobs, PfsFiles(gate, desk.datacenter), SimpleFiles(gate, desk.datacenter)
    return [door for face in faces for door in face.routes()]


def publishing_routes(store: Store, gate: Gate) -> list[Door]:
    """Return where files are published that lie in the data root of `store`."""

    async def endpoint() -> str:
        return await trio.to_thread.run_sync(store.setting, "endpoint")

    name, accounts = store.setting("datacenter"), store.accounts
    published = Published(os.path.join(store.private, "published"), store.disk)
    about = accounts.audit.about
    faces = Publishing(gate, published, datacenter=name, user=accounts.user, endpoint=endpoint, about=about)
    return faces.routes()


class RestRoutes:
    """Answers the routes of this module's docstring."""

    def __init__(self, gate: Gate, desk: Desk) -> None:
        self._gate = gate
        self._desk = desk

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        door, jobname = self._door, {"jobname": "name or number of a job"}
        logs = Asks({**jobname, "n": f"lines of each process: {LINES}", "w": "one process alone"})
        back = takes(an_object({"jobname": TEXT}))
        named, row = an_object({"name": TEXT}), an_object({"id": NUMBER, "name": TEXT, "data": TEXT})
        servers, workers = tells(_OBJECTS, items=SERVER_ITEMS), tells(_OBJECTS, items=POD_ITEMS)
        registries = {"anyOf": [an_array(row), an_object({"items": REGISTRY_ITEMS})]}
        quota, kept = tells(_OBJECTS, items=QUOTA_ITEMS), tells(registries, items=REGISTRY_ITEMS)
        return [
            *(each for path in (JOBS_PATH, TRAINING_PATH) for each in self._of_jobs(path)),
            door("POST", SPECS_PATH + "/{name}", self._check, "check a spec", tells=tells(), body=Body(TEXT_BYTES_MAX)),
            door("POST", RESTORE_PATH, self._restore, "bring a job back", tells=tells(id=NUMBER), body=back),
            door("GET", SERVERS_PATH, self._servers, "parameter servers", tells=servers),
            door("GET", WORKERS_PATH, self._workers, "processes", tells=workers, asks=Asks(jobname)),
            door("GET", LOGS_PATH, self._logs, "the ends of logs", tells=tells(), asks=logs),
            door("GET", QUOTA_PATH, self._quota, "use and limits", tells=quota),
            door("GET", REGISTRY_PATH, self._registries, "one's registries", tells=kept),
            door(
                "POST", REGISTRY_PATH, self._keep_registry, "keep a credential", tells=tells(), body=takes(_CREDENTIAL)
            ),
            door("DELETE", REGISTRY_PATH, self._forget_registry, "forget it", tells=tells(), body=takes(named)),
            Door("GET", HEALTH_PATH, _health, about="that the server is there", body=NOTHING, tells=tells(), face=REST),
        ]

    def _of_jobs(self, path: str) -> list[Door]:
        door, posted = self._door, Body(TEXT_BYTES_MAX, an_object({}, {"name": TEXT, "entry": TEXT, "topology": TEXT}))
        key = Asks(headers={"idempotency-key": "the same for each attempt at one job"})
        listed, made = tells(_OBJECTS, items=JOB_ITEMS, terminating=an_array(TEXT)), tells(id=NUMBER, name=TEXT)
        return [
            door("GET", path, self._list, "one's jobs", tells=listed),
            door("POST", path, self._submit, "submit a job", tells=made, body=posted, asks=key),
            door("DELETE", path, self._kill, "kill a job, or remove it", tells=tells(), body=takes(_NAMED)),
            door("DELETE", path + "/{name}", self._kill_named, "kill a job", tells=tells()),
        ]

    def _door(
        self,
        method: str,
        path: str,
        answer: Answer,
        about: str,
        *,
        tells: list[Tells],
        body: Body = NOTHING,
        asks: Asks | None = None,
    ) -> Door:
        async def with_tree(request: Request, identity: Identity) -> Response:
            return await answer(request, identity.subject, self._gate.files(identity))

        return self._gate.door(method, path, with_tree, about=about, body=body, tells=tells, asks=asks, face=REST)

    # ---- jobs

    async def _list(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        jobs = await self._desk.jobs(subject)
        return done([job_row(job) for job in jobs], items=job_items(jobs), terminating=terminating(jobs))

    async def _submit(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        posted = spec_of(await whole_object(request), subject.user, self._desk.datacenter)
        await self._check_package(tree, posted)
        try:
            await self._desk.check_gpus(subject, posted.text, posted.name)
            made = await tree.put(f"jobs/{posted.name}.json", posted.text, request.headers.get("idempotency-key"))
        except PfsError as error:
            raise error.saying(posted.plainly(error.message)) from None
        assert made is not None
        return done(id=int(made.removeprefix("jobs/")), name=posted.name)

    async def _check(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        await self._desk.check(subject, await whole_body(request, TEXT_BYTES_MAX), request.path_params["name"])
        return done()

    async def _check_package(self, tree: LeasedTree, posted: Posted) -> None:
        if not posted.package:
            return
        try:
            await tree.getattr(await tree.follow(from_absolute(posted.package, self._desk.datacenter)))
        except PfsError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.INVALID, Kind.NAME_TOO_LONG):
                raise
            raise PfsError(Kind.INVALID, f"package not exist in cloud: {posted.package[:500]}") from None

    async def _kill(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        said = await whole_object(request)
        name, removes = text_in(said, "jobname", ""), said.get("rm", False)
        if not name or not isinstance(removes, bool):
            raise PfsError(Kind.INVALID, "must specify jobname, and rm as true or false if at all")
        job = await self._desk.find(subject, name)
        if not (removes and job.life.state.over):
            await _kill(tree, job)
        if removes:
            await self._remove(tree, job)
        return done()

    async def _kill_named(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        await _kill(tree, await self._desk.find(subject, request.path_params["name"]))
        return done()

    async def _remove(self, tree: LeasedTree, job: Job) -> None:
        """Throw a job to the trash; one that was only just killed may take a while to end."""
        with trio.move_on_after(END_AWAITED_S):
            await self._desk.ended(job)
        await tree.rmdir(f"jobs/{job.id}")

    async def _restore(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        return done(id=await self._desk.restore(subject, text_in(await whole_object(request), "jobname")))

    # ---- processes

    async def _servers(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        jobs = await self._desk.jobs(subject)
        rows = [servers_row(job) for job in jobs]
        return done([row for row in rows if row["total"]], items=server_items(jobs))

    async def _workers(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        if name := request.query_params.get("jobname", ""):
            jobs = [await self._desk.find(subject, name)]
        else:
            jobs = [job for job in await self._desk.jobs(subject) if not job.life.state.over]
        nodes = self._desk.nodes()
        rows = [row for job in jobs for row in worker_rows(job, nodes)]
        return done(rows, items=[item for job in jobs for item in pod_items(job, nodes)])

    async def _logs(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        query = request.query_params
        lines = number(query.get("n", str(LINES)), "n", 0, LINES_MAX)
        job = await self._desk.find(subject, query.get("jobname", ""))
        pods = pods_of(job)
        if only := query.get("w", ""):
            pods = [pod for pod in pods if only in (pod.name, pod.number)]
            if not pods:
                raise PfsError(Kind.NOT_FOUND, f"job {job.id} has no worker {only[:80]}")
        elif not pods:
            raise PfsError(Kind.INVALID, f"job {job.id} is an array; ask for the log of a task, by its number")
        return done("\n".join([text async for text in _texts(tree, job, pods, lines, headed=not only)]))

    # ---- quotas and registries

    async def _quota(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        rows = self._desk.quota(subject)
        return done(rows, items=[quota_item(subject.user, rows, self._desk.active(subject))])

    async def _registries(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        found = sorted((await self._desk.registries(subject)).items())
        rows = [{"id": row, "name": name, "data": time_of(at_ns)} for row, (name, at_ns) in enumerate(found)]
        items = [registry_item(subject.user, name, at_ns) for name, at_ns in found]
        return done(rows, shipped={"items": items}, items=items)

    async def _keep_registry(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        said = await whole_object(request)
        name = registry_name(text_in(said, "name"))
        credential = json.dumps({key: text_in(said, key) for key in KEYS}).encode()
        parse_credential(name, credential)
        await tree.put(f"secrets/{name}", credential, None)
        return done()

    async def _forget_registry(self, request: Request, subject: Subject, tree: LeasedTree) -> Response:
        name = registry_name(text_in(await whole_object(request), "name"))
        if name not in await self._desk.registries(subject):
            raise PfsError(Kind.NOT_FOUND, f"there is no registry {name[:80]}")
        await tree.unlink(f"secrets/{name}")
        return done(f"registry: [{name}] is deleted", shipped="")


async def _kill(tree: LeasedTree, job: Job) -> None:
    file = await tree.open(f"jobs/{job.id}/ctl", OpenFlags.WRITE, 0)
    try:
        await file.write(0, b"kill\n")
    finally:
        with trio.CancelScope(shield=True):
            await file.release()


async def _texts(tree: LeasedTree, job: Job, pods: list[Pod], lines: int, *, headed: bool) -> AsyncGenerator[str, None]:
    left = LOGS_BYTES_MAX
    for pod in pods:
        if headed:
            yield log_heading(pod.name)
        text = await _text(tree, job, pod, lines) if left > 0 else "this is not shown any more; say w=<worker>"
        left -= len(text)
        if text:
            yield text


async def _text(tree: LeasedTree, job: Job, pod: Pod, lines: int) -> str:
    """Return the last lines of a process; what keeps us from it stands in the place of its text."""
    try:
        file = await tree.open(f"jobs/{job.id}/processes/{pod.number}/log.txt", OpenFlags.READ, 0)
        try:
            return await tail(file, lines)
        finally:
            with trio.CancelScope(shield=True):
                await file.release()
    except PfsError as error:
        if error.kind is not Kind.NOT_FOUND:
            raise
        return "its log is gone"


async def _health(request: Request) -> Response:
    return done()
