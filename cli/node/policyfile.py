"""The policy file of a node (`--policy`, else `/etc/pfs/node.yaml` where it is): read strictly, and only if it is safe.

    images: [python:3.11, "registry.example.org/team/*"]   # the only ones
    registries: ["*.example.org"]                          # and all that come from there
    sandbox: false                                         # no job without an image
    cpus: 16                                               # the most that one process gets
    memory: 64GiB
    shm: 8GiB
    processes: 512                                         # of one process: how many it may be
    disk: 20GiB                                            # what it writes outside its mounts
    ulimits: {nofile: 4096, stack: 16MiB, memlock: 64MiB}  # lower than what processes get otherwise
    mounts: [/srv/datasets]                                # where the node's own mounts may lie

A mistake is told with its line and column and ends the daemon: a policy that is half understood would allow what its
owner forbade. For the same reason a file that somebody else could have written is refused. A sandbox limits neither
CPUs nor memory nor processes, so a file that limits one of these has to say `sandbox: false`.
"""

import os
import stat
from pathlib import Path

from jobd.node.hostmounts import normal
from jobd.node.policy import DISK_BYTES, Policy
from jobd.node.ulimits import MEMLOCK, NOFILE, STACK
from jobd.spec import values
from jobd.spec.entries import Given, read_entries
from jobd.spec.text import Mapping, Node, Scalar, Sequence, read
from jobd.spec.values import Report
from pfs.errors import Kind, PfsError

DEFAULT_FILE = Path("/etc/pfs/node.yaml")
BYTES_MAX = 1 << 20
PROCESSES_MIN, PROCESSES_MAX = 16, 4096
NOFILE_MIN, NOFILE_MAX = 64, 1 << 20


def read_policy(path: Path | None, default: Path = DEFAULT_FILE) -> Policy:
    """Return the policy of this node; one that allows everything where no file was named and none is there.

    Raises:
        PfsError: INVALID, with all that is wrong.
    """
    try:
        data = _safe_bytes(path or default)
    except FileNotFoundError:
        if path is None:
            return Policy()
        raise PfsError(Kind.INVALID, f"--policy {path}: there is no such file") from None
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the policy {path or default} cannot be read: {error.strerror}") from None
    return parse_policy(data, str(path or default))


def _safe_bytes(path: Path) -> bytes:
    """Read a file that nobody but root and this daemon's user can have written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PfsError(Kind.INVALID, f"the policy {path} is no file")
        way = [(path, found), *((parent, parent.stat()) for parent in Path(os.path.realpath(path)).parents)]
        for each, its in way:
            is_sticky = stat.S_ISDIR(its.st_mode) and its.st_mode & stat.S_ISVTX
            if its.st_uid not in (0, os.geteuid()) or (its.st_mode & 0o022 and not is_sticky):
                raise PfsError(
                    Kind.INVALID,
                    f"others can write to {each}, so the policy {path} may not be yours: let it belong to root, and "
                    "take the right to write from group and others (chmod go-w)",
                )
        return file.read(BYTES_MAX + 1)


def parse_policy(data: bytes, name: str) -> Policy:
    """Return the policy that a text says.

    Args:
        name: of the file, for the words.

    Raises:
        PfsError: INVALID, with every problem, its line and its column.
    """
    document = read(data, whole=True)
    report = Report()
    policy = Policy()
    if isinstance(document.root, Mapping):
        policy = _policy(read_entries(document.root, _READERS, report), report)
    elif document.root is not None and not (isinstance(document.root, Scalar) and document.root.is_null):
        report.wrong(document.root, "keys, such as images: [python:3.11]")
    problems = sorted([*document.problems, *report.problems])
    if problems:
        raise PfsError(Kind.INVALID, f"the policy {name}: {'; '.join(map(str, problems))}")
    return policy


def _policy(given: Given, report: Report) -> Policy:
    sandbox = given.get("sandbox", True)
    for key in given.present(("cpus", "memory", "processes")):
        if sandbox:
            report.at(given.keys[key], f"a sandbox does not limit {key}: write sandbox: false as well")
            break
    return Policy(
        images=given.get("images"),
        registries=given.get("registries"),
        sandbox=sandbox is not False,
        cpus=given.get("cpus"),
        memory_bytes=given.get("memory"),
        shm_bytes=given.get("shm"),
        processes=given.get("processes"),
        disk_bytes=given.get("disk", DISK_BYTES),
        ulimits=given.get("ulimits", {}),
        mounts=given.get("mounts"),
    )


def _texts(node: Node, report: Report, expected: str) -> tuple[str, ...] | None:
    if not isinstance(node, Sequence):
        report.wrong(node, f"a list of {expected}")
        return None
    found = [values.text(item, report, expected) for item in node.items]
    return None if None in found else tuple(text for text in found if text is not None)


def _patterns(node: Node, report: Report) -> tuple[str, ...] | None:
    texts = _texts(node, report, "names of images, such as python:3.11 or registry.example.org/team/*")
    for text in texts or ():
        if any(sign.isspace() for sign in text) or "://" in text or text.startswith("/"):
            report.at(node, f"{text!r} is no image: write it like registry.example.org/team/name:tag")
    return texts


def _registries(node: Node, report: Report) -> tuple[str, ...] | None:
    texts = _texts(node, report, "registries, such as registry.example.org:5000")
    for text in texts or ():
        if any(sign.isspace() for sign in text) or "/" in text:
            report.at(node, f"{text!r} is no registry: write its name alone, such as docker.io; images name paths")
    return None if texts is None else tuple(text.lower() for text in texts)


def _directories(node: Node, report: Report) -> tuple[str, ...] | None:
    texts = _texts(node, report, "directories, such as /srv/datasets")
    for text in texts or ():
        if not text.startswith("/"):
            report.at(node, f"{text!r} is no directory of this machine: begin it with /")
    return None if texts is None else tuple(normal(text) for text in texts)


def _ulimits(node: Node, report: Report) -> dict[str, int] | None:
    if not isinstance(node, Mapping):
        report.wrong(node, "limits by their names, such as {nofile: 4096}")
        return None
    given = read_entries(node, _ULIMITS, report)
    return {name: given.get(name) for name in _ULIMITS if given.get(name) is not None}


_ULIMITS = {
    NOFILE: values.whole_number(NOFILE_MIN, NOFILE_MAX),
    STACK: values.size,
    MEMLOCK: values.size,
}
_READERS = {
    "images": _patterns,
    "registries": _registries,
    "sandbox": values.truth,
    "cpus": values.cpus,
    "memory": values.size,
    "shm": values.size,
    "processes": values.whole_number(PROCESSES_MIN, PROCESSES_MAX),
    "disk": values.size,
    "ulimits": _ulimits,
    "mounts": _directories,
}
KEYS = tuple(_READERS)
