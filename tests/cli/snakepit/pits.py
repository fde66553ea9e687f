"""A pit for tests: a tree of texts, whose commands and specs are kept."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cli.snakepit.asking import ask
from cli.snakepit.connection import Where, Who
from pfs.errors import Kind, PfsError
from tests.cli.snakepit import joblist
from tests.cli.snakepit.people import People

STATUS = """\
id {id}
title {title}
user {user}
state {state}
why {why}
request [2:gtx1070]
{more}submitted 2026-01-01T00:00:00Z
changed {changed}
"""


def job(number: int, state: str, changed: str, more: str = "", **facts: str) -> dict[str, str]:
    """Return the files of a job."""
    said = {"title": "First light", "user": "tilman", "why": "it ended", **facts}
    return {f"jobs/{number}/status": STATUS.format(id=number, state=state, changed=changed, more=more, **said)}


def own(path: str) -> str:
    """Follow the link to one's own home."""
    return f"home/tilman{path.removeprefix('home/me')}" if path.startswith("home/me") else path


class Tree:
    """A tree of these files."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        self.made: set[str] = set()
        self.written: list[tuple[str, bytes]] = []
        self.people = People()
        self.where = Where("https://pit.example.org", None)
        self.who = Who("tilman", "pfs1.token", ".pituser.txt")

    def again(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def own_password(self) -> str:
        return ask("Please enter password: ", hidden=True)

    def read(self, path: str) -> bytes:
        path = own(path)
        if path not in self.files:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return self.files[path].encode()

    def mkdir(self, path: str) -> None:
        parent, _, name = own(path).rpartition("/")
        if parent in self.files:
            raise PfsError(Kind.NOT_DIR, "not a directory")
        if parent not in self.made and name in (entry["name"] for entry in self.list(parent)):
            raise PfsError(Kind.EXISTS, "there is such a file already")
        self.made.add(own(path))
        self.written.append((path, b"mkdir\n"))

    def remove(self, path: str) -> None:
        if path.count("/") == 1:  # a node, an alias or a job
            if path not in self.files:
                self.list(path)
            if "state RUNNING" in self.files.get(f"{path}/status", ""):
                raise PfsError(Kind.BUSY, "it is not over; `echo kill` into its ctl ends it")
        self.written.append((path, b"remove\n"))

    def call(self, method: str, url: str, content: Any) -> Any:
        if url.startswith(joblist.PATH):
            return joblist.answer(url, self.files)
        answer, asked = self.people.call(method, url, content)
        if asked:
            self.written.append((url, f"{asked}\n".encode()))
        return answer

    def write(self, path: str, data: bytes) -> None:
        folder = path.rpartition("/")[0]
        self.list(folder)
        if "\nended " in self.files.get(f"{folder}/status", ""):
            raise PfsError(
                Kind.BUSY, f"job {folder.removeprefix('jobs/')} is over: FAILED; submit it again to run it again"
            )
        self.written.append((path, data))

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        data = self.read(path)[start:]
        yield iter([data[:10], data[10:]])

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        path = own(path)
        below = [name.removeprefix(f"{path}/") for name in self.files if name.startswith(f"{path}/")]
        names = dict.fromkeys(name.split("/")[0] for name in below)
        if not names:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        entries: list[dict[str, Any]] = []
        for name in names:
            text = self.files.get(f"{path}/{name}")
            kind, size = ("directory", 0) if text is None else ("file", len(text.encode()))
            entry = {"name": name, "type": kind, "size": size, "mode": 0o644 if text else 0o755, "mtime_ns": 10**18}
            entry["flags"] = ["stream"] if name == "log" else []
            entries.append({**entry, "each": self.files.get(f"{path}/{name}/{each}")})
        return entries


def gpu(node: str, number: int, alias: str = "", groups: str = "", util: str = "", used: str = "") -> dict[str, str]:
    """Return the files of a GPU."""
    texts = {"model": "GeForce GTX 1070\n", "alias": alias, "groups": groups, "util": util, "memory_used": used}
    return {f"nodes/{node}/gpus/{number}/{name}": text for name, text in {**texts, "memory": "8GiB\n"}.items()}


OVERVIEW = """\
nodes 2 of 2 online
gpus 0 of 2 free
jobs 2 running, 3 waiting

Nodes:
NODE  STATE   GPUS  FREE  PROCESSES  CPUS  MEMORY  RUNTIMES
n0    ONLINE  2     0     1          8     16GiB   docker

Running:
JOB  STATE    CHANGED               USER    REQUEST      PLACE            TITLE
191  RUNNING  2026-01-01T00:00:01Z  tilman  [2:gtx1070]  n0[cuda 0-1]     a title that is longer than it may be
188  STOPPING 2025-09-01T00:00:00Z  ann     2:[]         n0[] + n1[]      Strange job

Waiting:
JOB  STATE      CHANGED               USER    REQUEST              TITLE
193  WAITING    2026-01-01T00:00:01Z  tilman  [2:gtx1070]          First light
192  WAITING    2026-01-01T00:00:02Z  bob     2:[],4:[gtx1070]     Second light
195  PENDING    2026-01-01T00:00:03Z  bob     []                   Later
194  PREPARING  2026-01-01T00:00:04Z  bob     []                   Soon

Done:
JOB  STATE      CHANGED               USER    UTIL  MEMORY  REQUEST      PLACE         TITLE
190  SUCCEEDED  2026-01-01T00:00:01Z  tilman  -     -       [2:gtx1070]  n0[cuda 0-1]  First light
187  FAILED     2026-01-01T00:00:31Z  tilman  97%   43%     [gtx1070]    n0[cuda 0]    Zeroth light
""".replace("188  STOPPING ", "188  STOPPING  ").replace("191  RUNNING  ", "191  RUNNING   ")

FILES: dict[str, str] = {
    "status": OVERVIEW,
    "home/ann/x": "",
    "home/tilman/notes.txt": "1\n2\n",
    "home/tilman/data/a": "A" * 30,
    "shared/imagenet/a": "",
    "groups/a/x": "",
    "groups/b/x": "",
    "aliases/gtx1070": "GeForce GTX 1070\n",
    "nodes/n0/status": "name n0\nstate ONLINE\ngpus 2\n",
    **gpu("n0", 0, alias="gtx1070\n", util="90%\n", used="2GiB\n"),
    **gpu("n0", 1, groups="a\nb\n", util="50%\n", used="512 bytes\n"),
    "nodes/n1/status": "name n1\nstate UNKNOWN\nheard 2026-01-01T00:00:00Z\ngpus 0\n",
    **job(193, "WAITING", "2026-01-01T00:00:01Z", "queue_place 1\ncontinue 12\n"),
    **job(
        191,
        "RUNNING",
        "2026-01-01T00:00:01Z",
        "groups a b\nplace n0[cuda 0-1]\nstarted 2026-01-01T00:00:01Z\n",
        title="a title that is longer than it may be",
    ),
    "jobs/191/log": "[2018-12-14 17:04:58] [daemon] Pit daemon started\n",
    **job(
        187,
        "FAILED",
        "2026-01-01T00:00:31Z",
        "place n0[cuda 0]\nstarted 2026-01-01T00:00:02Z\nended 2026-01-01T00:00:31Z\n"
        "remote origin https://example.org/x\nhash abc\ndiff_lines 3\ngpu_util_mean 97%\ngpu_memory_mean 43%\n",
        title="Zeroth light",
        why="process 0.0 ended with 3",
    ),
    "jobs/187/events": (
        "2026-01-01T00:00:00.000000Z submitted\n2026-01-01T00:00:00.500000Z preparation-started\n"
        "2026-01-01T00:00:01.000000Z prepared\n2026-01-01T00:00:01.100000Z placed on=n0[cuda 0]\n"
        "2026-01-01T00:00:02.000000Z started worker=0\n2026-01-01T00:00:02.000000Z started worker=1\n"
        "2026-01-01T00:00:30.000000Z ended worker=0 code=3\n"
    ),
    **job(
        186,
        "CANCELLED",
        "2026-01-01T00:00:09Z",
        "started 2026-01-01T00:00:02Z\nended 2026-01-01T00:00:09Z\n",
        why="killed by ann",
    ),
    "jobs/186/events": (
        "2026-01-01T00:00:00.000000Z submitted\n2026-01-01T00:00:02.000000Z started worker=0\n"
        "2026-01-01T00:00:08.000000Z kill-requested by=ann\n"
    ),
    "jobs/186/resolved.yaml": 'name: "x"\nend: "all"\n',
    "jobs/191/resolved.yaml": 'src: "/pfs/dc1/home/tilman/digits"\n',
    "jobs/193/resolved.yaml": 'git: {"url": "https://tilman:secret@example.org/x.git", "ref": "main"}\n',
    "jobs/150/resolved.yaml": 'git: {"url": "https://example.org/x.git", "ref": "' + "ab12" * 10 + '"}\n',
    "jobs/187/processes/0.0/exit_code": "3\n",
    "jobs/187/processes/0.0/result": "0.97\n\x1b[31m\n",
    "jobs/187/processes/1.2/state": "CANCELLED\n",
    **job(150, "SUCCEEDED", "2025-06-01T00:00:00Z", user="ann", title="Old"),
    "jobs/150/src/train.py": "print(1)\n",
    "jobs/150/src/lib/a.py": "",
}
