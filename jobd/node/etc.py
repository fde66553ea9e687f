"""/etc of a sandbox: what is every task's, copied from the machine once, and what is one task's own.

Each mount of a sandbox costs about as much as starting a program does, so the machine's files are not bound one by
one: they are copied into one directory, again when they have changed. What differs from task to task lies in a second
directory, which the first leads to.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jobd.node.runtime import Launch
from jobd.node.state import boot_id

# where the sandbox has the files that are the task's own
OWN = "/run/etc"

_SHARED = (
    "alternatives",
    "debian_version",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
_OWN_NAMES = ("group", "hosts", "passwd")
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
_LOGIN = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


class SharedEtc:
    """The part of /etc that all sandboxes see.

    Args:
        directory: where the copies are kept.
        machine: the machine's own /etc.
        sandbox_paths: paths of the machine that are mounted into it; what is mounted needs a place.
    """

    def __init__(self, directory: Path, machine: Path = Path("/etc"), sandbox_paths: Sequence[Path] = ()) -> None:
        self._directory = directory
        self._machine = machine
        self._places = [str(path) for path in sandbox_paths if machine in path.parents]
        self._sources = [str(machine / name) for name in _SHARED]
        self._looks = ""
        self._path = directory
        # a machine that lost its power may have names without their content
        self._boot = boot_id()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self) -> Path:
        """Return a directory with what the machine's files are now."""
        looks = "\n".join([self._boot, *self._places, *map(_look, self._sources)])
        if looks != self._looks:
            self._path = self._directory / hashlib.sha256(looks.encode()).hexdigest()[:16]
            if not self._path.exists():
                self._make(self._path)
            self._looks = looks
        return self._path

    def forget_unless(self, is_used: Callable[[str], bool]) -> None:
        """Remove what was copied earlier, but for those directories whose names `is_used` affirms."""
        for path in self._directory.iterdir():
            if not is_used(path.name):
                shutil.rmtree(path)

    def _make(self, path: Path) -> None:
        fresh = path.with_name(path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o755)
        for name in _SHARED:
            source, target = self._machine / name, fresh / name
            if source.exists():
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _copy(source, target)
        (fresh / "nsswitch.conf").write_text(_NSSWITCH)
        for name in _OWN_NAMES:
            (fresh / name).symlink_to(f"{OWN}/{name}")
        for place in self._places:
            _make_place(Path(place), fresh / Path(place).relative_to(self._machine))
        for below in (fresh, *fresh.rglob("*")):
            if not below.is_symlink():
                below.chmod(0o755 if below.is_dir() else 0o444)
        fresh.rename(path)


def _look(path: str) -> str:
    """Return what is another when the file was changed or replaced, or an entry of the directory was."""
    try:
        found = os.stat(path)
    except OSError:
        return f"{path} -"
    return f"{path} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(mode=0o755)
        for entry in sorted(source.iterdir()):
            _copy_entry(entry, target / entry.name)
    else:
        _copy_entry(source, target)


def _copy_entry(source: Path, target: Path) -> None:
    """Copy a file or directory; a link stays one where the sandbox has what it leads to."""
    leads_to = os.path.realpath(source)
    if source.is_symlink() and leads_to.startswith("/usr/"):
        target.symlink_to(os.readlink(source))
    elif os.path.isdir(leads_to):
        _copy(source, target)
    elif os.access(leads_to, os.R_OK):
        # what a daemon without root may not read, its tasks could not read either
        shutil.copyfile(leads_to, target)


def _make_place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()


def own_files(launch: Launch, uid: int, gid: int) -> Mapping[str, str]:
    """Return the files that are the task's own: the owner is the only person in them besides root and nobody."""
    login = launch.env.get("PFS_USER", "")
    if not _LOGIN.fullmatch(login) or login in ("root", "nobody"):
        login = "user"
    where = home(launch) if not set(":\n") & set(home(launch)) else "/"
    people = {0: f"root:x:0:0:root:{where if uid == 0 else '/'}:/bin/sh"}
    people.setdefault(uid, f"{login}:x:{uid}:{gid}::{where}:/bin/sh")
    people[65534] = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"
    groups = {0: "root:x:0:", gid: f"{login if gid else 'root'}:x:{gid}:", 65534: "nogroup:x:65534:"}
    return {
        "passwd": _lines(people.values()),
        "group": _lines(groups.values()),
        "hosts": _lines([*_hosts(launch), *_machines()]),
    }


def home(launch: Launch) -> str:
    """Return the owner's home directory as the task sees it."""
    return launch.env.get("HOME") or launch.workdir


def _hosts(launch: Launch) -> Iterator[str]:
    """Tell the addresses of the task and of its fellows; one that is alone has a name all the same."""
    yield "127.0.0.1 localhost"
    yield "::1 localhost ip6-localhost"
    fellows = [(address, name) for name, address in launch.hosts if address]
    if all(name != launch.hostname for _, name in fellows):
        yield f"127.0.1.1 {launch.hostname}"
    for address, name in fellows:
        yield f"{address} {name}"


def _machines() -> Iterator[str]:
    """Tell the machine's own entries, without those for itself."""
    for line in _text("/etc/hosts").splitlines():
        if line.strip() and not line.startswith(("#", "127.", "::1")):
            yield line


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
