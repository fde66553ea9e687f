"""A datacenter for tests of `paddle`: a tree of texts, what REST v1 tells of its jobs, and what is done to them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jobd.engine.demands import needs_of
from jobd.rest.posted import check_gpus, spec_of
from jobd.scheduling.quotas import JobLimits, JobUse, Quotas, gpus_of
from jobd.spec.spec import parse_spec
from pfs.errors import Kind, PfsError
from pfs.protocol.parcels import Row, Unpacker, pack_row
from pfs.protocol.wire import BELOW_PATH

USER = "ann@example.org"
GPUS, GPUS_MAX = JobUse(jobs=1, gpus=2), 4  # what the user's running jobs have, and may have at once
QUEUE = """\
PLACE  JOB  USER  PRIORITY  REQUEST      EARLIEST START        TITLE   WHY
1      19   ann   50        2:[gtx1070]  2026-01-01T01:00:00Z  later   2 GPUs of gtx1070 are free, 4 are needed
2      20   bob   50        []           -                     others  it is held\x1b[2J; release it
"""
QUOTA = """\
OF   WHAT          USED    LIMIT
ann  bytes         1.5GiB  10GiB
ann  jobs running  2       none
"""


def job(number: int, name: str, state: str, **more: Any) -> dict[str, Any]:
    """Return a job as REST v1 tells it."""
    times = {"submitTime": "2025-12-31T23:00:00Z", "startTime": None, "completionTime": None}
    counts = {"active": 0, "succeeded": 0, "failed": 0}
    status = {**counts, **times, **more.pop("status", {})}
    package = f"/pfs/dc1/home/{USER}/jobs/{name}"
    told = {"id": number, "name": name, "job_package": package, "state": state, "parallelism": 1}
    return {**told, **more, "status": status}


def worker(number: int, name: str, process: str, status: str, **more: Any) -> dict[str, Any]:
    """Return a process as REST v1 tells it."""
    address = {"n0": "10.1.9.3", "n1": ""}.get(more.get("node", ""), "")
    known = {"node": "", "address": address, "start": None, "exit_code": None, "msg": "", **more}
    return {"name": name, "job": number, "process": process, "role": name.split("-")[-2], "status": status, **known}


STARTED = "2026-01-01T00:00:00Z"
JOBS = [
    job(19, "later", "WAITING", parallelism=2),
    job(18, "digits", "STOPPING", status={"active": 1, "startTime": STARTED}),
    job(17, "word-emb", "RUNNING", parallelism=2, status={"active": 1, "succeeded": 1, "startTime": STARTED}),
    job(16, "digits", "FAILED", status={"failed": 1, "startTime": STARTED, "completionTime": "2026-01-01T00:00:09Z"}),
]
WORKERS = [
    worker(19, "later-trainer-0", "0.0", "Pending"),
    worker(18, "digits-trainer-0", "0.0", "Running", node="n0", start=STARTED),
    worker(17, "word-emb-trainer-0", "0.0", "Running", node="n0", start=STARTED),
    worker(17, "word-emb-trainer-1", "0.1", "Succeeded", node="n1", start=STARTED, exit_code=0),
    worker(17, "word-emb-pserver-0", "1.0", "Running", node="n1", start=STARTED),
    worker(16, "digits-trainer-0", "0.0", "Failed", node="n0", start=STARTED, exit_code=137),
    worker(16, "digits-trainer-1", "0.1", "Failed", node="n0", start=STARTED, exit_code=3),
    worker(16, "digits-trainer-2", "0.2", "Failed", node="n0", start=STARTED, exit_code=1, msg="disk: 2 GiB written"),
    worker(16, "digits-trainer-3", "0.3", "Failed", node="n0", start=STARTED, exit_code=255),
]
NAMES = {"digits": "18", "word-emb": "17", "later": "19"}
CODES = {16: 3, 17: 0, 18: 130, 19: 0, 15: 0, 20: 7}
NEW = 20  # what is submitted
HEADING = "=" * 26

Rows = list[dict[str, Any]]


def status(number: int, name: str, state: str, user: str = "ann", place: str = "") -> str:
    facts = {"id": number, "name": name, "user": user, "state": state, "request": "[]", "place": place}
    text = "".join(f"{key} {value}".rstrip() + "\n" for key, value in facts.items())
    return f"{text}submitted 2025-12-31T23:00:00Z\n"


def files() -> dict[str, str]:
    """Return the texts of the tree."""
    jobs = {f"jobs/{each['id']}/status": status(each["id"], each["name"], each["state"]) for each in JOBS}
    logs = {
        f"jobs/{each['job']}/processes/{each['process']}/log{end}": f"{each['name']} says this\n"
        for each in WORKERS
        for end in ("", ".txt")
    }
    node = "state ONLINE\ngpus 2\ngpus_free 1\nprocesses 1\ncpus 8\nmemory 16GiB\nruntimes docker\n"
    return {
        "me": f"name {USER}\n",
        "queue": QUEUE,
        "quota": QUOTA,
        "jobs/15/status": status(15, "bobs", "SUCCEEDED", "bob", "n0[cuda 0]"),
        **jobs,
        **logs,
        "jobs/17/log": "all of it\n",
        f"jobs/{NEW}/log": "all of the new one\n",
        "jobs/17/log.txt": "all so far\n",
        "jobs/16/why": "process 0.0 ended with 3\n\x1b[31mits last line: Killed\n",
        **{f"jobs/{number}/wait": f"{code}\n" for number, code in CODES.items()},
        "nodes/n0/status": f"name n0\n{node}",
        "nodes/n1/status": f"name n1\n{node}",
        "home/ann/notes.txt": "1\n2\n",
    }


class Cloud:
    """What `pfs.client.web.WebClient` is to commands.

    Attributes:
        done: what was changed, a line each.
    """

    def __init__(self) -> None:
        self.files = files()
        self.jobs = list(JOBS)
        self.done: list[str] = []
        self.name = ""  # as which it was asked for
        self.left_out: tuple[tuple[str, str], ...] = ()  # what of it is not brought
        self.failed: list[PfsError] = []  # what is wrong with a package that is brought
        self.secrets = {"corp": "2026-01-01T00:00:00Z"}

    # ---- the tree

    def read(self, path: str) -> bytes:
        path = self._known(path)
        if path not in self.files:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        return self.files[path].encode()

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        yield iter([self.read(path)[start:]])

    def write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        if path.endswith("/ctl"):
            self.read(path.replace("/ctl", "/status"))
        self.done.append(f"{path} <- {data if isinstance(data, bytes) else b''.join(data)!r}")

    def put(self, path: str, data: bytes, _key: str) -> str | None:
        self.done.append(f"{path} <- {data!r}")
        return f"jobs/{NEW}" if path.startswith("jobs/") else None

    def list(self, path: str, each: str | None = None) -> Rows:
        below = [name.removeprefix(f"{path}/") for name in self.files if name.startswith(f"{path}/")]
        if not below:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        names = dict.fromkeys(name.split("/")[0] for name in below)
        kinds = {name: "file" if f"{path}/{name}" in self.files else "directory" for name in names}
        return [
            {
                "name": name,
                "type": kind,
                "size": len(self.files.get(f"{path}/{name}", "")),
                "mtime_ns": 10**18,
                "each": self.files.get(f"{path}/{name}/{each}"),
            }
            for name, kind in kinds.items()
        ]

    def is_directory(self, path: str) -> bool:
        return any(name.startswith(f"{path}/") for name in self.files)

    def mkdir(self, path: str) -> None:
        self.done.append(f"mkdir {path}")

    def rename(self, source: str, target: str) -> None:
        self.done.append(f"{source} -> {target}")

    def remove(self, path: str) -> None:
        self.done.append(f"remove {path}")

    def _known(self, path: str) -> str:
        top, _, rest = path.partition("/")
        name, _, rest = rest.partition("/")
        return f"{top}/{NAMES[name]}/{rest}" if top == "jobs" and name in NAMES else path

    # ---- whole folders

    @contextmanager
    def answered(self, _method: str, url: str, *_: object, **__: object) -> Iterator[Iterator[bytes]]:
        path = urlsplit(url).path.removeprefix(f"{BELOW_PATH}/")
        if path not in self.files and not self.is_directory(path):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        kind = "f" if path in self.files else "d"
        yield iter([pack_row(Row("", kind, len(self.files.get(path, "")), 10**18, 0o644))])

    def take(self, path: str, content: Iterable[bytes]) -> Any:
        """Take parcels for what is below a path."""
        failed = []
        for parcel, data in Unpacker().feed(b"".join(content)):
            if path.startswith("home/"):
                self.done.append(" ".join(filter(None, (parcel.verb, path, parcel.path, repr(data) if data else ""))))
            else:
                failed.append({"kind": "unsupported", "message": "files of the server", "path": parcel.path})
        return {"taken": 1, "refused": len(failed), "failed": failed}

    # ---- REST v1

    def call(self, method: str, url: str, content: bytes, key: str | None = None) -> Any:
        parts = urlsplit(url)
        if parts.path.startswith(f"{BELOW_PATH}/"):
            return self.take(parts.path.removeprefix(f"{BELOW_PATH}/"), content)  # type: ignore[arg-type]
        asked: Mapping[str, str] = dict(parse_qsl(parts.query))
        if parts.path.startswith("/api/v1/trees/"):
            return {"missing": {}}
        if parts.path.startswith("/api/v1/specs/"):
            self._check(content)
            return {"msg": "OK"}
        told = json.loads(content) if content else {}
        match method, parts.path.removeprefix("/api/v1/"):
            case "GET", "jobs":
                return {"msg": self.jobs}
            case "POST", "jobs":
                return self._submitted(told)
            case "POST", "restore":
                return self._restored(told["jobname"])
            case "GET", "pservers":
                return {"msg": [{"id": 17, "name": "word-emb", "ready": 1, "total": 1}]}
            case "GET", "workers":
                return {"msg": self._workers(asked)}
            case "GET", "logs":
                return {"msg": self._logs(asked)}
            case "GET", "publish":
                url = "https://dc1.example.org:8470/filepub/?uuid=0123"
                return {"msg": "OK", "files": ["/pfs/dc1/home/ann/notes.txt"], "urls": [url]}
            case "POST", "publish":
                return {"msg": "OK", "url": f"https://dc1.example.org:8470/filepub/?uuid={len(told['path'])}"}
            case "DELETE", "publish":
                self.done.append(f"no link to {told['path']}")
                return {"msg": "OK"}
            case "GET", "registry":
                rows = enumerate(sorted(self.secrets.items()))
                return {"msg": [{"id": row, "name": name, "data": data} for row, (name, data) in rows]}
            case "POST", "registry":
                self.done.append(f"kept {told}")
                return {"msg": "OK"}
            case "DELETE", "registry":
                if told["name"] not in self.secrets:
                    raise PfsError(Kind.NOT_FOUND, f"there is no registry {told['name']}")
                return {"msg": f"registry: [{told['name']}] is deleted"}
        raise AssertionError(url)

    def _submitted(self, told: dict[str, Any]) -> Any:
        self.done.append(f"posted {json.dumps(told)}")
        posted = spec_of(told, USER, self.name)
        check_gpus(gpus_of(needs_of(parse_spec(posted.text, posted.name))), GPUS.gpus, GPUS_MAX)
        self._check(posted.text)
        return {"msg": "OK", "id": NEW, "name": posted.name}

    def _check(self, text: bytes) -> None:
        """Refuse a spec, with the quota and the words of the real server."""
        gpus = gpus_of(needs_of(parse_spec(text, "x")))
        quotas = Quotas()
        quotas.set({USER: JobLimits(gpus=GPUS_MAX)}, {})
        quotas.add(USER, GPUS)
        if (obstacle := quotas.forbids(USER, gpus)) is not None:
            raise PfsError(Kind.QUOTA, obstacle.refused)
        if b"never:1" in text:
            raise PfsError(Kind.INVALID, "image: no node may run never:1")

    def _restored(self, name: str) -> Any:
        number = int(NAMES.get(name, name))
        if number not in CODES:
            raise PfsError(Kind.NOT_FOUND, f"there is no job {name!r}, and none in the trash")
        self.done.append(f"restore {number}")
        return {"msg": "OK", "id": number}

    def _workers(self, asked: Mapping[str, str]) -> Rows:
        if "jobname" in asked:
            return [each for each in WORKERS if each["job"] == int(asked["jobname"])]
        return [each for each in WORKERS if each["job"] != 16]

    def _logs(self, asked: Mapping[str, str]) -> str:
        found = self._workers(asked)
        if (only := asked.get("w")) is not None:
            if only not in [each["name"] for each in found]:
                raise PfsError(Kind.NOT_FOUND, f"job {asked['jobname']} has no worker {only}")
            return f"the last {asked['n']} lines"
        return "\n".join(f"{HEADING}{each['name']}{HEADING}\nthe last {asked['n']} lines" for each in found)
