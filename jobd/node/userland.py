"""What a sandbox shows of its machine: the programs and libraries, almost nothing of /etc, and the task's volumes.

As root, bubblewrap builds the mounts with root's rights (volumes lie below directories that their owners cannot
search) and setpriv then drops to the owner for good. As an ordinary user a user namespace does both. Nothing that
the task's owner chose reaches a program before that drop, above all no environment variable (`LD_PRELOAD`): the
shell that runs as the owner reads them from a script on its standard input.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobd.node.runtime import Launch, RuntimeFailure

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TOP = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
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
_DROP = "--clear-groups --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all --"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOGIN = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


def check(launch: Launch) -> None:
    """Refuse what no process could be given.

    Raises:
        RuntimeFailure: naming it.
    """
    for name in launch.env:
        if not _VARIABLE.fullmatch(name):
            raise RuntimeFailure(f"{name!r} cannot be the name of an environment variable")
    if not launch.argv:
        raise RuntimeFailure("there is no command to run")
    if any("\0" in text for text in (*launch.argv, *launch.env.values(), launch.workdir, launch.hostname)):
        raise RuntimeFailure("neither a command nor a variable can hold a NUL byte")


def script(launch: Launch) -> str:
    """Return what the sandbox's shell reads: it sets the variables and becomes the task's program.

    Descriptor 3 is told that the sandbox stands; from there on whatever happens is the task's own.
    """
    env = {"PATH": PATH, "HOME": home(launch), "HOSTNAME": launch.hostname, **launch.env}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    return "\n".join(["echo started >&3", "exec 3>&-", *exports, 'exec "$@" < /dev/null', ""])


def home(launch: Launch) -> str:
    """Return the owner's home directory as the task sees it."""
    return launch.env.get("HOME") or launch.workdir


def etc_files(launch: Launch, uid: int, gid: int) -> Mapping[str, str]:
    """Return the files of /etc that are the sandbox's own: the owner is the only person in it besides root."""
    login = launch.env.get("PFS_USER", "")
    if not _LOGIN.fullmatch(login) or login in ("root", "nobody"):
        login = "user"
    where = home(launch) if not set(":\n") & set(home(launch)) else "/"
    people = {0: f"root:x:0:0:root:{where if uid == 0 else '/'}:/bin/sh"}
    people.setdefault(uid, f"{login}:x:{uid}:{gid}::{where}:/bin/sh")
    people[65534] = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"
    groups = {0: "root:x:0:", gid: f"{login if gid else 'root'}:x:{gid}:", 65534: "nogroup:x:65534:"}
    return {
        "passwd": "".join(line + "\n" for line in people.values()),
        "group": "".join(line + "\n" for line in groups.values()),
        "hosts": f"127.0.0.1 localhost\n127.0.1.1 {launch.hostname}\n::1 localhost ip6-localhost\n{_hosts()}",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    }


def _hosts() -> str:
    """Return the machine's own entries, without those for itself."""
    try:
        lines = Path("/etc/hosts").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(line + "\n" for line in lines if line.strip() and not line.startswith(("#", "127.", "::1")))


def options(launch: Launch, etc: Path, sandbox_paths: Sequence[Path]) -> list[str]:
    """Return the options of bubblewrap that make the sandbox.

    Args:
        etc: directory with the files of `etc_files`.
        sandbox_paths: further paths of the machine that its owner lets tasks read.
    """
    words = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--clearenv"]
    words += ["--hostname", launch.hostname]
    if os.geteuid() != 0:
        words += ["--unshare-user"]
    words += [*_directories("/etc/hosts"), *_machine()]
    for name in sorted(path.name for path in etc.iterdir()):
        words += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--dir", "/run"]
    for own in ("/dev/shm", "/tmp", "/var/tmp"):
        words += ["--perms", "1777", "--tmpfs", own]
    for path in sandbox_paths:
        words += [*_directories(str(path)), "--ro-bind", str(path), str(path)]
    for volume in sorted(launch.volumes, key=lambda volume: volume.target):
        words += _directories(volume.target)
        words += ["--ro-bind" if volume.read_only else "--bind", volume.source, volume.target]
    return [*words, "--remount-ro", "/", "--chdir", launch.workdir]


def _directories(path: str) -> Iterator[str]:
    """Make what leads to `path`; left to itself, bubblewrap closes it to others when the source is closed to them."""
    for parent in reversed(Path(path).parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(parent))


def _machine() -> Iterator[str]:
    for name in _TOP:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for name in _ETC:
        path = Path("/etc", name)
        if path.exists():
            yield from ("--ro-bind", str(path), str(path))


def command(launch: Launch, uid: int, gid: int) -> list[str]:
    """Return the command that runs the task; bubblewrap reads its options from descriptor 8."""
    words = ["bwrap", "--args", "8", "--"]
    if os.geteuid() == 0:
        words += ["setpriv", f"--reuid={uid}", f"--regid={gid}", *_DROP.split()]
    return [*words, "sh", "-s", "--", *launch.argv]
