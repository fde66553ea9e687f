"""An ordinary user of this machine, who is nobody else's business: seen only in a mount namespace of its own.

There the user has an account, may open /dev/fuse, and reaches Python and the programs, wherever root keeps them. The
machine's own fuse.conf is not read: in an empty one there is no user_allow_other.
"""

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.box import BIN, Box, with_own_mounts

UID, NAME = 4242, "pfs-tester"
_SPARE = "/mnt"  # covered in that namespace
_PITS = (".pitconnect.txt", ".pituser.txt")


def check_machine() -> None:
    """Skip where an ordinary user cannot mount at all."""
    helper = shutil.which("fusermount3")
    if helper is None or not os.stat(helper).st_mode & stat.S_ISUID:
        pytest.skip("ordinary users mount by a fusermount3 with the setuid bit, and there is none")


@dataclass(frozen=True)
class Ordinary:
    """The user.

    Attributes:
        home: a directory of the user's own, with what `pit` is told.
        env: the user's environment.
    """

    home: Path
    env: Mapping[str, str]

    def command(self, words: Sequence[str], cwd: Path) -> list[str]:
        """Return what runs a command as the user, in a namespace that begins with it."""
        own = {name: f"{_SPARE}/{Path(name).name}" for name in ("/etc/passwd", "/etc/fuse.conf", "/dev/fuse")}
        passwd, conf, device = own.values()
        seen = [
            f"mount -t tmpfs -o mode=755 none {_SPARE}",
            f"(cat /etc/passwd; echo {NAME}:x:{UID}:{UID}::{self.home}:/bin/sh) > {passwd}",
            f"touch {conf} /etc/fuse.conf",
            f"mknod -m 666 {device} c 10 229",
            *(f"mount --bind {spare} {place}" for place, spare in own.items()),
            *_opened(sorted({Path(sys.base_prefix), BIN.parent, BIN.parent.parent, self.home})),
        ]
        script = " &&\n".join([*seen, f"cd {cwd}", shlex.join(["exec", *_as_user(), *words])])
        return with_own_mounts(script)

    def beside(self, pid: int, script: str) -> list[str]:
        """Return what runs a shell's script as the user, where a process is that `command` began."""
        return ["nsenter", "-m", "-t", str(pid), *_as_user(), "sh", "-c", script]


def ordinary(box: Box, home: Path) -> Ordinary:
    """Give the user a home, and `pit` there what `box` has for it."""
    check_machine()
    home.mkdir(mode=0o700)
    for name in _PITS:
        shutil.copy(box.root / name, home / name)
    for path in (home, *home.iterdir()):
        os.chown(path, UID, UID)
    env = {name: text for name, text in box.env.items() if not name.startswith(("PADDLE_", "PIT_", "XDG_"))}
    return Ordinary(home, env | {"HOME": str(home), "TMPDIR": str(home), "SHELL": "/bin/sh"})


def _as_user() -> list[str]:
    return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]


def _opened(paths: Sequence[Path]) -> Iterator[str]:
    """Have everybody reach these directories, where one above them is closed: it is covered, all but for them."""
    covers = {path: cover for path in paths if (cover := _closed_above(path)) is not None}
    for number, path in enumerate(covers):
        yield f"mkdir {_SPARE}/{number} && mount --bind {path} {_SPARE}/{number}"
    for cover in sorted(set(covers.values())):
        yield f"mount -t tmpfs -o mode=755 none {cover}"
    for number, path in enumerate(covers):
        yield f"mkdir -p {path} && mount --move {_SPARE}/{number} {path}"


def _closed_above(path: Path) -> Path | None:
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & stat.S_IXOTH), None)
