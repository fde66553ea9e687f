"""Where a job's image, its files and its folders come from.

    image    [host[:port]/]path[:tag][@digest]
    registry the name of a secret: what the registry of the image wants to know
    secrets  the names of secrets that processes get
    src      a folder of a data domain, or `tree:<id>`, which a client has shipped
    mounts   source:target[:ro], the source a folder of a data domain
    git      a repository that the node clones, inside the job's sandbox

A folder is written `/pfs/<dc>/home/ann/digits`, or relative to its owner's home. What is read here has the right shape
and can harm nobody who passes it on: no `..`, no word that a program could take for an option. Whether it is there,
and whether the owner may read it, is asked by those who use it.
"""

import re

from jobd.spec.entries import read_entries
from jobd.spec.model import Git, Mount
from jobd.spec.text import Mapping, Node, Scalar, Sequence
from jobd.spec.values import Report, text
from pfs.errors import PfsError
from pfs.path import split

MOUNTS_MAX = 64
SECRETS_MAX = 16
SECRET_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}"
_IMAGE = re.compile(rf"(?P<name>(?:(?P<host>{_HOST})/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::{_TAG})?(?:@{_DIGEST})?")
_IMAGE_MAX = 1024
_IMAGE_NAME_MAX = 255
# what programs find there is the runtime's to say
_KEPT_TARGETS = ("/pfs", "/proc", "/sys", "/dev")
_SECRET = re.compile(SECRET_NAME)
_TREE = re.compile(r"tree:[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_SCHEMES = ("https", "http", "ssh", "git", "file")
_URL_MAX = 2048
_USER = r"[A-Za-z0-9_.~%!$&'()*+,;=][A-Za-z0-9_.~%!$&'()*+,;=:-]*@"
_AUTHORITY = rf"(?:{_USER})?(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?"
_URL = re.compile(rf"(?:(?:https?|ssh|git)://{_AUTHORITY}|file://)(?:/[^\s\x00-\x20\x7f/-][^\s\x00-\x20\x7f/]*)+/?")
_SCP = re.compile(rf"(?P<host>(?:{_USER})?{_LABEL}(?:\.{_LABEL})*):(?P<path>[^/\s-]\S*)")
_REF = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]{0,254}")


def image(node: Node, report: Report) -> str | None:
    """Read the name of a container image: `[host[:port]/]path[:tag][@digest]`."""
    value = text(node, report, "the name of an image such as python:3.11-slim")
    problem = image_problem(value) if value is not None else None
    if problem is not None:
        report.at(node, problem)
        return None
    return value


def image_problem(value: str) -> str | None:
    """Say why a text cannot be the name of an image; None where it can."""
    match = _IMAGE.fullmatch(value) if len(value) <= _IMAGE_MAX else None
    if match is not None and len(match["name"]) <= _IMAGE_NAME_MAX and _is_host(match["host"]):
        return None
    what = f"{value[:100]!r} is no image name"
    if "://" in value:
        return f"{what}; write it without {value[: value.index('://') + 3]}"
    if any(sign.isspace() for sign in value):
        return f"{what}; remove the white space"
    lower = _IMAGE.fullmatch(value.lower()) if len(value) <= _IMAGE_MAX else None
    if lower is not None and value != value.lower():
        return f"{what}; names of images are lower case, such as {value.lower()[:100]}"
    return f"{what}; write it like python:3.11-slim or registry.example.com:5000/team/name:tag"


def _is_host(host: str | None) -> bool:
    return host is None or host == host.lower() or "." in host or ":" in host


def registry(node: Node, report: Report) -> str | None:
    """Read the name of a secret with a credential."""
    if isinstance(node, Scalar) and not node.plain and not node.text:
        return None  # clients of PaddleCloud send an empty one
    return _secret(node, report)


def secrets(node: Node, report: Report) -> tuple[str, ...] | None:
    """Read the names of the secrets that processes get: a list, or one."""
    items = node.items if isinstance(node, Sequence) else [node]
    if not items or len(items) > SECRETS_MAX:
        report.wrong(node, f"the names of 1 to {SECRETS_MAX} secrets, such as [wandb]")
        return None
    read = [_secret(item, report) for item in items]
    known = tuple(dict.fromkeys(name for name in read if name is not None))
    return known if None not in read else None


def _secret(node: Node, report: Report) -> str | None:
    value = text(node, report, "the name of a secret, as secrets/ lists them")
    if value is not None and not _SECRET.fullmatch(value):
        report.at(node, f"{value[:80]!r} is no name of a secret; write one that secrets/ lists")
        return None
    return value


def src(node: Node, report: Report) -> str | None:
    """Read where the files of a job are: a folder, or `tree:<id>`."""
    value = text(node, report, "a folder, such as /pfs/<datacenter>/home/<you>/digits")
    if value is None or not value.startswith("tree:"):
        return folder(node, report) if value is not None else None
    if not _TREE.fullmatch(value):
        report.at(node, f"{value[:80]!r} is no tree; write tree: and the id that the server gave, or a folder")
        return None
    return value


def folder(node: Node, report: Report) -> str | None:
    """Read a folder: `/pfs/<dc>/…`, or relative to the home of its owner."""
    value = text(node, report, "a folder, such as /pfs/<datacenter>/home/<you>/digits")
    problem = _folder_problem(value) if value is not None else None
    if value is None or problem is not None:
        if problem is not None:
            report.at(node, problem)
        return None
    return value.rstrip("/")


def _folder_problem(value: str) -> str | None:
    cure = "write /pfs/<datacenter>/home/<you>/folder, or a path relative to your home"
    if value.startswith("~"):
        return f"'~' means nothing on the server; {cure}"
    try:
        parts = split(value.rstrip("/").removeprefix("/"))
    except PfsError as error:
        return f"{value[:200]!r} is no folder: {error.message}; {cure}"
    if not parts or (value.startswith("/") and (parts[0] != "pfs" or len(parts) < 3)):
        return f"{value[:200]!r} is in no datacenter; {cure}"
    return None


def mounts(node: Node, report: Report) -> tuple[Mount, ...] | None:
    """Read the folders that processes see somewhere else as well."""
    if not isinstance(node, Sequence) or not node.items or len(node.items) > MOUNTS_MAX:
        report.wrong(node, f'a list of 1 to {MOUNTS_MAX} mounts, such as ["data/imagenet:/data:ro"]')
        return None
    read = [_mount(item, report) for item in node.items]
    targets: set[str] = set()
    for item, mount in zip(node.items, read, strict=True):
        if mount is not None and mount.target in targets:
            report.at(item, f"something is mounted at {mount.target} already; choose another target")
        elif mount is not None:
            targets.add(mount.target)
    known = tuple(mount for mount in read if mount is not None)
    return known if len(known) == len(read) else None


def _mount(node: Node, report: Report) -> Mount | None:
    value = text(node, report, "source:target, such as data/imagenet:/data:ro")
    if value is None:
        return None
    source, *rest = value.split(":")
    read_only = rest[1:] == ["ro"]
    if not rest or (rest[1:] and not read_only):
        report.at(node, f"{value[:200]!r} is no mount; write source:target, or source:target:ro for read-only")
        return None
    problem = _folder_problem(source) or _target_problem(rest[0])
    if problem is not None:
        report.at(node, problem)
        return None
    return Mount(source.rstrip("/"), rest[0].rstrip("/"), read_only)


def _target_problem(target: str) -> str | None:
    cure = "write an absolute path such as /data"
    if not target.startswith("/"):
        return f"the target {target[:200]!r} is not absolute; {cure}"
    try:
        parts = split(target.rstrip("/").removeprefix("/"))
    except PfsError as error:
        return f"the target {target[:200]!r} is no path: {error.message}; {cure}"
    if not parts:
        return f"nothing can be mounted at /; {cure}"
    if f"/{parts[0]}" in _KEPT_TARGETS:
        return f"nothing can be mounted in /{parts[0]}; {cure}"
    return None


def git(node: Node, report: Report) -> Git | None:
    """Read a repository, and which branch, tag or commit of it."""
    if not isinstance(node, Mapping):
        report.wrong(node, "a repository, such as {url: https://example.org/ann/digits.git, ref: main}")
        return None
    given = read_entries(node, GIT_KEYS, report)
    if "url" not in given:
        report.at(node, "the address of the repository is missing; write url: https://…")
    url, ref = given.get("url"), given.get("ref", "")
    return None if url is None or ref is None else Git(url, ref or None)


def _url(node: Node, report: Report) -> str | None:
    value = text(node, report, "the address of a repository")
    problem = _url_problem(value) if value is not None else None
    if problem is not None:
        report.at(node, problem)
        return None
    return value


def _url_problem(value: str) -> str | None:
    if len(value) <= _URL_MAX and _URL.fullmatch(value):
        return None
    scp = _SCP.fullmatch(value) if len(value) <= _URL_MAX else None
    if scp is not None and "://" not in value:
        return f"this form is ssh's own; write ssh://{scp['host']}/{scp['path']}"
    schemes = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
    return f"this is no address of a repository; write one of {schemes} with a host and a path, no part with '-' first"


def _ref(node: Node, report: Report) -> str | None:
    value = text(node, report, "a branch, a tag or a commit")
    if value is None:
        return None
    if not _REF.fullmatch(value) or ".." in value or "@{" in value or value.endswith(("/", ".", ".lock")):
        report.at(node, f"{value[:80]!r} is no branch, tag or commit; write its name as `git branch` shows it")
        return None
    return value


GIT_KEYS = {"url": _url, "ref": _ref}
