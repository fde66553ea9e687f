"""What a sandbox shows of its machine: the programs and libraries, almost nothing of /etc, and the task's volumes.

As root, bubblewrap builds the mounts with root's rights (volumes lie below directories that their owners cannot
search) and setpriv then drops to the owner for good. As an ordinary user a user namespace does both. Nothing that
the task's owner chose reaches a program before that drop, above all no environment variable (`LD_PRELOAD`): the
shell that runs as the owner reads them from a script on its standard input.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jobd.node import etc, ownlimits, ulimits
from jobd.node.runtime import Launch, RuntimeFailure

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TOP = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DROP = "--no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all --"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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
    env = {"PATH": PATH, "HOME": etc.home(launch), "HOSTNAME": launch.hostname, **launch.env}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    limited = ulimits.script(ulimits.limits(launch, ownlimits.of_daemon()))
    return "\n".join([*limited, "echo started >&3", "exec 3>&-", *exports, 'exec "$@" < /dev/null', ""])


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a sandbox is made of besides its task.

    Attributes:
        machine: options that show the machine's programs and libraries (`machine`).
        shared_etc: directory that becomes /etc (`etc.SharedEtc`).
        files: the sandbox's own files, and the descriptor that each is read from.
        sandbox_paths: further paths of the machine that its owner lets tasks read.
        devices: files below /dev that the task may use.
        system_calls: descriptor of the filter of system calls; None where there is none for this machine.
    """

    machine: Sequence[str]
    shared_etc: str
    files: Mapping[str, int]
    sandbox_paths: Sequence[Path] = ()
    devices: Sequence[str] = ()
    system_calls: int | None = None


def options(launch: Launch, sandbox: Sandbox) -> list[str]:
    """Return the options of bubblewrap that make the sandbox, with as few mounts as it takes."""
    words = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--clearenv"]
    words += ["--hostname", launch.hostname]
    if os.geteuid() != 0:
        words += ["--unshare-user"]
    if sandbox.system_calls is not None:
        words += ["--seccomp", str(sandbox.system_calls)]
    words += [*sandbox.machine, "--ro-bind", sandbox.shared_etc, "/etc"]
    made: set[str] = set()
    for path, descriptor in sandbox.files.items():
        words += [*_directories(path, made), "--perms", "0444", "--file", str(descriptor), path]
    words += ["--proc", "/proc", "--dev", "/dev", *_in_memory("/dev/shm", launch.shm_bytes)]
    words += [*_in_memory("/tmp", launch.disk_bytes), "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]
    for device in sandbox.devices:
        words += ["--dev-bind", device, device]
    for shown in sandbox.sandbox_paths:
        words += [*_directories(str(shown), made), "--ro-bind", str(shown), str(shown)]
    for volume in sorted(launch.volumes, key=lambda volume: volume.target):
        words += _directories(volume.target, made)
        words += ["--ro-bind" if volume.read_only else "--bind", volume.source, volume.target]
        # what lies in a volume is not what was made before it
        made = {path for path in made if not path.startswith(f"{volume.target}/")}
    return [*words, "--remount-ro", "/", "--chdir", launch.workdir]


def _in_memory(path: str, most_bytes: int | None) -> list[str]:
    """Make a place that everybody may write to; without a limit of its own it is one of half the machine's memory."""
    if most_bytes is None or not can_size():
        return ["--chmod", "1777", path] if path == "/dev/shm" else ["--perms", "1777", "--tmpfs", path]
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ["--perms", "1777", "--size", str(min(most_bytes, memory_bytes // 2)), "--tmpfs", path]


@cache
def can_size() -> bool:
    """Tell whether this machine's bubblewrap can limit what it makes in memory."""
    try:
        told = subprocess.run(["bwrap", "--help"], capture_output=True, check=False, env={"PATH": PATH}, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--size" in told.stdout + told.stderr


def _directories(path: str, made: set[str]) -> Iterator[str]:
    """Make what leads to `path`; left to itself, bubblewrap closes it to others when the source is closed to them."""
    end = path.find("/", 1)
    while end > 0:
        parent = path[:end]
        if parent not in made:
            made.add(parent)
            yield from ("--perms", "0755", "--dir", parent)
        end = path.find("/", end + 1)


def machine() -> list[str]:
    """Return the options that show the machine's programs and libraries."""
    words: list[str] = []
    for name in _TOP:
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return words


def command(uid: int, gid: int, gids: Sequence[int], options_descriptor: int) -> list[str]:
    """Return the command that runs a task's program, which follows with its arguments, in the sandbox."""
    words = ["bwrap", "--args", str(options_descriptor), "--"]
    if os.geteuid() == 0:
        groups = f"--groups={','.join(map(str, gids))}" if gids else "--clear-groups"
        words += ["setpriv", f"--reuid={uid}", f"--regid={gid}", groups, *_DROP.split()]
    return [*words, "sh", "-s", "--"]
