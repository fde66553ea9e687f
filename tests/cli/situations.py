"""Folders in which `pit run` is typed: each a real repository, or none, and what is to be said of it.

SITUATIONS[name](room) -> Situation         makes its folder, and the remotes of that, below `room`
"""

import base64
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.cli.repository import Repository

CREDENTIALS = "ann:s3cret"
HUGE_LINES = 1_500_000
Tree = dict[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Situation:
    """A folder, and what `pit run` says of it.

    Attributes:
        remote: as it stands behind `Remote:`; "" where that line is left out.
        hash: likewise.
        lines: that differ; None without a hash.
        left_out: paths of the folder that are not shipped.
    """

    folder: Path
    remote: str = ""
    hash: str = ""
    lines: int | None = None
    left_out: frozenset[str] = frozenset()

    def report(self, number: str, resources: str) -> list[str]:
        """Return what `pit run` prints."""
        lines = [f"Job number: {number}"]
        lines += [f"Remote:     {self.remote}"] if self.remote else []
        lines += [f"Hash:       {self.hash}", f"Diff LoC:   {self.lines}"] if self.hash else []
        return [*lines, f'Resources:  "{resources}"']

    def work_tree(self) -> Tree:
        """Return what is in the folder and to be shipped."""
        return {path: found for path, found in tree_of(self.folder).items() if path not in self.left_out}


def tree_of(folder: Path) -> Tree:
    """Return the files below a folder, with their permissions, but for what git keeps there."""
    found: Tree = {}
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = Path(above, name)
            if name != ".git":
                found[str(path.relative_to(folder))] = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
    return found


class Pushed:
    """A work tree whose branch is pushed to a bare repository, its upstream."""

    def __init__(self, room: Path, branch: str = "main", **files: str) -> None:
        self.origin = room / "origin.git"
        self.work = Repository(room / "work")
        self.work.git("init", "-q", "--bare", str(self.origin))
        self.work.git("checkout", "-q", "-b", branch) if branch != "main" else None
        self.hash = self.work.commit(a="1\n", _compute="true\n", **files)
        self.work.git("remote", "add", "origin", str(self.origin))
        self.work.git("push", "-q", "-u", "origin", branch)

    def situation(self, lines: int, left_out: frozenset[str] = frozenset(), url: str | None = None) -> Situation:
        """Return what holds now."""
        return Situation(self.work.path, f"origin <{url or self.origin}>", self.hash, lines, left_out)


def no_upstream(room: Path) -> Situation:
    """A branch that nobody has pushed, with a commit of its own."""
    pushed = Pushed(room)
    pushed.work.git("checkout", "-q", "-b", "mine", "--no-track")
    pushed.work.commit(a="1\n2\n")
    return pushed.situation(7)


def detached(room: Path) -> Situation:
    """No branch at all: an older commit."""
    pushed = Pushed(room)
    pushed.hash = pushed.work.commit(a="1\n2\n")
    pushed.work.git("push", "-q")
    pushed.work.git("checkout", "-q", "--detach", "HEAD~")
    return pushed.situation(7)


def dirty(room: Path) -> Situation:
    """A tracked file that is changed, and one that is removed."""
    pushed = Pushed(room, gone="x\n")
    pushed.work.write(a="1\n2\n")
    (pushed.work.path / "gone").unlink()
    return pushed.situation(7 + 7)


def staged(room: Path) -> Situation:
    """A change and a new file that are added; and one of them is changed again."""
    pushed = Pushed(room)
    pushed.work.write(a="1\nstaged\n", fresh="new\n")
    pushed.work.git("add", "-A")
    pushed.work.write(a="1\n2\n")
    return pushed.situation(7 + 7)


def untracked(room: Path) -> Situation:
    """New files, of which an ignored one is left."""
    pushed = Pushed(room, _gitignore="*.log\n")
    pushed.work.write(fresh="new\n", sub__deep="new\n", x_log="ignored\n")
    (pushed.work.path / "fresh").chmod(0o755)
    return pushed.situation(0, frozenset({"x.log"}))


def binary(room: Path) -> Situation:
    """Bytes that are no text: pushed, changed since, and new."""
    pushed = Pushed(room)
    (pushed.work.path / "model").write_bytes(bytes(range(256)))
    pushed.hash = pushed.work.commit()
    pushed.work.git("push", "-q")
    (pushed.work.path / "model").write_bytes(bytes(range(255, -1, -1)))
    (pushed.work.path / "fresh").write_bytes(b"\0\xff" * 1000)
    return pushed.situation(3)


def submodule(room: Path) -> Situation:
    """A submodule at another commit, with a change and a new file in it."""
    library = Repository(room / "library")
    library.commit(b="1\n")
    pushed = Pushed(room)
    pushed.work.git("submodule", "--quiet", "add", str(library.path), "lib")
    pushed.hash = pushed.work.commit()
    pushed.work.git("push", "-q")
    inner = Repository(pushed.work.path / "lib")
    inner.commit(b="1\n2\n")
    inner.write(fresh="new\n", sub__deep="new\n")
    return pushed.situation(7)


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 4\n"


def lfs(room: Path) -> Situation:
    """Files that git keeps as pointers: one is there as it is, one as its pointer."""
    return _with_lfs(room).situation(7)


def lfs_is_gone(room: Path) -> Situation:
    """The same where git-lfs is not installed, so that git takes what is there for a change."""
    pushed = _with_lfs(room)
    pushed.work.git("config", "filter.lfs.clean", "git-lfs-is-not-installed clean -- %f")
    return pushed.situation(7 + 3)


def _with_lfs(room: Path) -> Pushed:
    pushed = Pushed(room, _gitattributes="*.bin filter=lfs diff=lfs merge=lfs -text\n", z="1\n")
    pushed.work.git("config", "filter.lfs.clean", f"printf '{POINTER}' #")
    pushed.work.git("config", "filter.lfs.required", "true")
    real = pushed.work.path / "real.bin"
    real.write_bytes(b"\0\1\2\3")
    (pushed.work.path / "pointer.bin").write_text(POINTER)
    pushed.hash = pushed.work.commit()
    pushed.work.git("push", "-q")
    os.utime(real, (1, 1))  # so git has to look into it
    pushed.work.write(z="1\n2\n")
    return pushed


def slash(room: Path) -> Situation:
    """A branch with slashes in its name."""
    pushed = Pushed(room, "feature/a/b")
    pushed.work.write(a="1\n2\n")
    return pushed.situation(7)


def huge(room: Path) -> Situation:
    """A difference of tens of megabytes."""
    pushed = Pushed(room)
    pushed.work.write(a="".join(f"a line, number {number}\n" for number in range(HUGE_LINES)))
    return pushed.situation(6 + HUGE_LINES)


def no_git(room: Path) -> Situation:
    """A folder of which no git knows."""
    folder = room / "work"
    (folder / "sub").mkdir(parents=True)
    for name, text in {"a": "1\n", ".compute": "true\n", "sub/b": "2\n", "x.log": "-", ".gitignore": "*.log\n"}.items():
        (folder / name).write_text(text)
    return Situation(folder, left_out=frozenset({"x.log"}))


def private(room: Path) -> Situation:
    """A clone of a repository behind a password, which stands in the address; its server is not there any more."""
    pushed = Pushed(room)
    pushed.work.git("update-server-info")
    Repository.git(pushed.work, "--git-dir", str(pushed.origin), "update-server-info")
    clone = Repository(room / "clone")
    with guarded(room) as port:
        clone.git("remote", "add", "origin", f"http://{CREDENTIALS}@127.0.0.1:{port}/origin.git")
        clone.git("fetch", "-q", "origin")
    clone.git("checkout", "-q", "main")
    clone.write(a="1\n2\n")
    return Situation(clone.path, f"origin <http://***@127.0.0.1:{port}/origin.git>", pushed.hash, 7)


@contextmanager
def guarded(folder: Path) -> Iterator[int]:
    """Serve a folder to who knows the password; gives the port."""
    known = f"Basic {base64.b64encode(CREDENTIALS.encode()).decode()}"

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["authorization"] == known:
                super().do_GET()
                return
            self.send_response(401)
            self.send_header("www-authenticate", "Basic")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


SITUATIONS: dict[str, Callable[[Path], Situation]] = {
    each.__name__: each
    for each in (
        no_upstream,
        detached,
        dirty,
        staged,
        untracked,
        binary,
        submodule,
        lfs,
        lfs_is_gone,
        slash,
        huge,
        no_git,
        private,
    )
}
