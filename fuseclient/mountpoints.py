"""What is mounted where on this machine, who uses it, and how it is taken away.

Nothing here opens or looks at anything below a mount point: a mount whose daemon is gone answers with an error, one
whose daemon hangs would not answer at all. What /proc says is enough.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

from pfs.errors import Kind, PfsError

FILESYSTEM_TYPE = "fuse.pfs"
USERS_NAMED = 5
LINKS_MAX = 40

_MOUNTINFO = Path("/proc/self/mountinfo")
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_TIMEOUT_S = 10


def canonical(path: str) -> str:
    """Return the path as the kernel lists it, without looking at what is mounted there."""
    place = os.path.abspath(os.path.expanduser(path))
    for _ in range(LINKS_MAX):
        directory, name = os.path.split(place)
        place = os.path.join(os.path.realpath(directory), name)
        try:
            place = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
        except OSError:  # no link; of a mount the kernel says so by itself
            break
    return place


def mounted_type(point: str) -> str | None:
    """Return the type of file system that is seen at a canonical path, None when nothing is mounted there."""
    return _seen().get(point)


def mounted() -> list[str]:
    """Return where one of ours is seen."""
    return sorted(point for point, kind in _seen().items() if kind == FILESYSTEM_TYPE)


def below(point: str) -> list[str]:
    """Return where something is mounted in a mount, of whatever type."""
    return sorted(place for place in _seen() if place.startswith(point.rstrip("/") + "/"))


def _seen() -> dict[str, str]:
    """Return the type of the uppermost mount at each place: the last that is listed."""
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.partition(" - ") for line in file]
    return {_unescape(place.split(" ")[4]): source.split(" ")[0] for place, _, source in lines}


def device(point: str) -> str | None:
    """Return the number of the file system that is seen at a canonical path, None when nothing is mounted there."""
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return {_unescape(words[4]): words[2] for words in map(str.split, file)}.get(point)


def unmount(point: str, *, lazy: bool) -> None:
    """Take the mount away.

    Args:
        lazy: also while it is in use: it vanishes from the tree at once, and ends with its last user.

    Raises:
        PfsError: BUSY when it is in use, NOT_FOUND when nothing is mounted there, or what else prevents it.
    """
    if os.geteuid() == 0:
        _unmount_as_root(point, lazy=lazy)
    else:
        _unmount_as_user(point, lazy=lazy)


def users(point: str) -> list[str]:
    """Return who has a file or its working directory in the mount, one phrase for each of the first few.

    Who asks is named only where there is nobody else: a program stands where the shell does that started it.
    """
    found: list[str] = []
    own: list[str] = []
    for process in _numbers(Path("/proc")):
        links = {"cwd": "has its working directory there", "root": "has its root there"}
        what = next((text for link, text in links.items() if _leads_below(process / link, point)), None)
        if what is None and any(_leads_below(link, point) for link in _numbers(process / "fd")):
            what = "has a file open there"
        if what is not None and process.name == str(os.getpid()):
            own.append(f"this command itself {what}")
        elif what is not None:
            found.append(f"{_command(process)} (process {process.name}) {what}")
        if len(found) == USERS_NAMED:
            break
    return found or own


def keepers(device: str) -> list[str]:
    """Return who still has a file system in mounts of their own, where unmounting it here changed nothing.

    Args:
        device: its number, as `device` says.

    Returns:
        A phrase for one process of each of the first few such namespaces, of those that this user may look at.
    """
    found: dict[str, str] = {}
    for process in _numbers(Path("/proc")):
        with contextlib.suppress(OSError):
            namespace = os.readlink(process / "ns/mnt")
            if namespace not in found and device in _devices(process / "mountinfo"):
                found[namespace] = f"{_command(process)} (process {process.name}) has it in mounts of its own"
        if len(found) == USERS_NAMED:
            break
    return list(found.values())


def _devices(mountinfo: Path) -> set[str]:
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        return {line.split(" ", 3)[2] for line in file}


def _unmount_as_root(point: str, *, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(point), flags) != 0:
        code = ctypes.get_errno()
        kinds = {errno.EBUSY: Kind.BUSY, errno.EINVAL: Kind.NOT_FOUND, errno.ENOENT: Kind.NOT_FOUND}
        raise PfsError(kinds.get(code, Kind.DENIED), f"cannot unmount {point}: {os.strerror(code)}")


def _unmount_as_user(point: str, *, lazy: bool) -> None:
    helper = shutil.which("fusermount3")
    if helper is None:
        raise PfsError(Kind.UNSUPPORTED, "fusermount3 is not installed: install the package fuse3")
    command = [helper, "-u", *(["-z"] if lazy else []), "--", point]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise PfsError(Kind.TIMED_OUT, f"cannot unmount {point}: fusermount3 does not end") from None
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["fusermount3 failed"]
        busy, missing = "busy" in reason[0].lower(), "not found" in reason[0].lower()
        kind = Kind.BUSY if busy else Kind.NOT_FOUND if missing else Kind.DENIED
        raise PfsError(kind, f"cannot unmount {point}: {reason[0]}")


def _leads_below(link: Path, point: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == point or target.startswith(point.rstrip("/") + "/")


def _numbers(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [directory / name for name in os.listdir(directory) if name.isdecimal()]
    return []


def _command(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "comm").read_text(errors="replace").strip()
    return "a program"


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
