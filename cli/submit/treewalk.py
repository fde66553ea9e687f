"""Which files of a folder a job gets, and what they hold at the moment.

In a git work tree: what is tracked, and what is new and not ignored, with what the work tree holds now; submodules and
other work trees inside it likewise. Elsewhere: everything that .gitignore files leave. And where all of a folder is
meant, everything. What the folder's .pitignore names is left out of each, and so are `.git` and files with somebody's
token, always.
"""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from cli.submit.ignorerules import Rules
from jobd.manifest import DEPTH_MAX, Shipped, ShippedFile, ShippedFolder, ShippedLink, check_amount
from pfs.errors import Kind, PfsError
from pfs.path import split

NEVER = frozenset({".git", ".pituser.txt", ".paddle"})
READ_BYTES = 1024 * 1024
TRIES = 5


@dataclass(frozen=True, slots=True)
class Content:
    """A file with the content of a hash, and how to tell that it still has it."""

    path: str
    signature: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Scanned:
    """The nodes of a folder, sorted by their paths, and for each hash a file that has the content."""

    entries: tuple[Shipped, ...]
    contents: dict[str, Content]


class ChangingFileError(PfsError):
    """A file that is not as it was a moment ago."""

    def __init__(self, path: str) -> None:
        super().__init__(
            Kind.BUSY, f"{shown(path)} changes while it is read; wait until it is written, or name it in .pitignore"
        )


def scan(folder: Path, *, asks_git: bool = True) -> Scanned:
    """Return what a job gets of a folder.

    Args:
        asks_git: whether git says what of its work tree counts.

    Raises:
        PfsError: something cannot be shipped: a file that cannot be read or keeps changing, a link that leads out, too
            much altogether.
    """
    entries: list[Shipped] = []
    contents: dict[str, Content] = {}
    size_bytes = 0
    for path in sorted(set(listed(folder, asks_git=asks_git))):
        if len(entries) % 1000 == 0:
            check_amount(len(entries), size_bytes)
        full = os.path.join(folder, path)
        try:
            info = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):  # removed, and still in the index of git
            continue
        if len(split(path)) > DEPTH_MAX:
            raise PfsError(Kind.TOO_LARGE, f"{shown(path)} lies more than {DEPTH_MAX} directories deep")
        if stat.S_ISLNK(info.st_mode):
            entries.append(ShippedLink(path, _inside(path, os.readlink(full))))
        elif stat.S_ISDIR(info.st_mode):
            entries.append(ShippedFolder(path, stat.S_IMODE(info.st_mode) & 0o777))
        elif stat.S_ISREG(info.st_mode):
            hash_, size, signature = _hashed(full)
            size_bytes += size
            entries.append(ShippedFile(path, stat.S_IMODE(info.st_mode) & 0o777, size, hash_))
            contents[hash_] = Content(full, signature)
    check_amount(len(entries), size_bytes)
    return Scanned(tuple(entries), contents)


def shown(path: str) -> str:
    """Return a path as it can be printed."""
    return os.fsencode(path).decode(errors="replace")


def signature_of(info: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file is changed."""
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _hashed(path: str) -> tuple[str, int, tuple[int, int, int, int]]:
    for _ in range(TRIES):
        with _opened(path) as file:
            before = signature_of(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256")
            if signature_of(os.fstat(file.fileno())) == before:
                return digest.hexdigest(), before[1], before
    raise ChangingFileError(path)


def _opened(path: str) -> BufferedReader:
    try:
        return open(path, "rb")
    except PermissionError:
        raise PfsError(
            Kind.DENIED, f"{shown(path)} cannot be read; give yourself the right to, or name it in .pitignore"
        ) from None


def _inside(path: str, target: str) -> str:
    """Return where a link leads, if that is in the folder."""
    way = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or way == ".." or way.startswith("../"):
        raise PfsError(
            Kind.INVALID,
            f"the link {shown(path)} leads out of the folder, to {shown(target)}, which the job would not find; "
            "name it in .pitignore, or copy what it leads to into the folder",
        )
    return target


def git_environment() -> dict[str, str]:
    """Return the environment in which git tells of the folder that it is asked of, in English."""
    hidden = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")  # a hook that calls us has them set
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"LC_ALL": "C"}


# ---- which files


def listed(folder: Path, *, asks_git: bool = True) -> Iterator[str]:
    """Yield the paths in `folder` of the files, links and empty directories that a job gets of it."""
    own = Rules().below("", _texts(str(folder), (".pitignore",)))
    of_git = asks_git and _is_in_work_tree(folder)
    for path in _of_git(folder, "") if of_git else _of_disk(str(folder), "", own):
        if NEVER.isdisjoint(path.split("/")) and not own.leave_out_within(path):
            yield path


def everything(folder: Path) -> Iterator[str]:
    """Yield the same of a folder of which all counts but what its .pitignore names."""
    yield from _of_disk(str(folder), "", Rules().below("", _texts(str(folder), (".pitignore",))), ignores=())


def _is_in_work_tree(folder: Path) -> bool:
    """Tell whether git knows what of the folder counts; of a folder that it ignores as a whole it does not."""
    try:
        inside = _git(folder, "rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:  # there is no git here
        return False
    if inside.returncode != 0 or inside.stdout.strip() != b"true":
        if b"dubious ownership" in inside.stderr:
            raise PfsError(
                Kind.DENIED,
                f"git does not trust {folder}, which is somebody else's; "
                f"allow it with: git config --global --add safe.directory {folder}",
            )
        return False
    return _git(folder, "check-ignore", "-q", ".").returncode != 0


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False, env=git_environment())


def _of_git(folder: Path, base: str) -> Iterator[str]:
    found = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if found.returncode != 0:
        said = found.stderr.decode(errors="replace").strip().splitlines()
        raise PfsError(Kind.IO, f"git cannot list {folder}: {said[-1] if said else 'it ended without a word'}")
    for name in found.stdout.split(b"\0"):
        path = os.fsdecode(name).rstrip("/")
        if not path:
            continue
        inner = folder / path
        if inner.is_dir() and not inner.is_symlink():  # a submodule, or another repository
            if (inner / ".git").exists():
                yield from _of_git(inner, f"{base}{path}/")
            else:
                yield from _of_disk(str(inner), f"{base}{path}/", Rules())
        else:
            yield f"{base}{path}"


def _of_disk(folder: str, base: str, rules: Rules, ignores: tuple[str, ...] = (".gitignore",)) -> Iterator[str]:
    """Walk a directory.

    Args:
        base: its path in the whole, "" or ending in a slash.
        ignores: the names of files with rules of what is left out.
    """
    rules = rules.below(base.rstrip("/"), _texts(folder, ignores))
    empty = True
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        raise PfsError(Kind.DENIED, f"{shown(folder)} cannot be read; name it in .pitignore") from None
    for entry in entries:
        empty = False
        path = base + entry.name
        is_directory = entry.is_dir(follow_symlinks=False)
        if entry.name in NEVER or rules.leave_out(path, directory=is_directory):
            continue
        if is_directory:
            yield from _of_disk(entry.path, f"{path}/", rules, ignores)
        else:
            yield path
    if empty and base:
        yield base.rstrip("/")


def _texts(folder: str, names: tuple[str, ...]) -> list[str]:
    texts = []
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
                texts.append(file.read())
        except OSError:
            continue
    return texts
