"""The spec of a job: what its owner wrote, checked and with the defaults filled in.

`parse_spec` turns the text of a file into a `JobSpec` or raises *all* its problems at once, each with line and
column. `prefix_problems` does the same for a text that is still being written, and reports only what nothing written
behind it could cure. The keys are one table: what a reader is given for is supported; `NOT_YET` names the keys of
the full form that this server knows and refuses. To support one of them is to give it a reader and move its line.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from jobd.spec import values
from jobd.spec.request import Request
from jobd.spec.text import TEXT_BYTES_MAX, Mapping, Node, Problem, Scalar, Sequence, SpecError, complete, read
from jobd.spec.values import Report

__all__ = ["GroupSpec", "JobSpec", "Problem", "SpecError", "is_complete", "parse_spec", "prefix_problems"]

GRACE_S = 30.0
PRIORITY = 50
PROCESSES_MAX = 1
PROBLEMS_MAX = 100
# what is still being written is read again at every write; large texts wait for their end
PREFIX_BYTES_MAX = 64 * 1024

_DEFAULT_ARGV = ("bash", ".compute")
_COUNT_MAX = 999_999


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """One group of equal processes.

    Attributes:
        argv: the program and its arguments.
        env: its own variables and those of the whole job.
        cpus, memory_bytes: what is reserved and the limit of each process; None is neither.
        gpus: pairs of a number and a model (None for any), of each process.
    """

    name: str
    count: int
    argv: tuple[str, ...]
    image: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: tuple[tuple[int, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A whole job, as one internal form for every way to submit.

    Attributes:
        src: folder to copy: `/pfs/<dc>/…`, or relative to the home of the owner.
        end: `all` waits for every process, `any` for the first.
        on_error: `stop` ends all processes when one fails, `continue` does not.
        private: whether automatic sharing is left out.
    """

    name: str
    title: str
    groups: tuple[GroupSpec, ...]
    src: str | None = None
    max_duration_s: float | None = None
    grace_s: float = GRACE_S
    priority: int = PRIORITY
    end: str = "all"
    on_error: str = "stop"
    private: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values, to be stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "JobSpec":
        """Return the spec that `to_json` returned as `value`."""
        groups = tuple(
            GroupSpec(**group | {"argv": tuple(group["argv"]), "gpus": tuple((n, model) for n, model in group["gpus"])})
            for group in value["groups"]
        )
        return cls(**value | {"groups": groups})


@dataclass(slots=True)
class _GroupDraft:
    """A group as far as it was written."""

    node: Mapping
    given: dict[str, Any]


Reader = Callable[[Node, Report], Any]


def parse_spec(text: bytes, stem: str) -> JobSpec:
    """Return the job that `text` describes.

    Args:
        text: the bytes of the file.
        stem: the name of the file without its ending; names the job unless the spec does.

    Raises:
        SpecError: the text has problems, all of which it holds.
    """
    document = read(text, whole=True)
    report = Report()
    report.problems.extend(document.problems)
    spec = None
    if isinstance(document.root, Mapping):
        given = _entries(document.root, SUPPORTED, NOT_YET, report)
        if not document.problems:
            spec = _assemble(document.root, given, stem, report)
    elif not document.problems:
        _refuse_root(document.root, report)
    if report.problems or spec is None:
        raise SpecError(_sorted(report))
    return spec


def prefix_problems(text: bytes) -> tuple[Problem, ...]:
    """Return the problems of a spec that is still being written which nothing behind it could cure.

    Of a text above 64 KiB only the size is judged.
    """
    if PREFIX_BYTES_MAX < len(text) <= TEXT_BYTES_MAX:
        return ()
    document = read(text, whole=False)
    report = Report()
    report.problems.extend(document.problems)
    if isinstance(document.root, Mapping):
        _entries(document.root, SUPPORTED, NOT_YET, report)
    elif document.root is not None and not document.problems:
        _refuse_root(document.root, report)
    return _sorted(report)


def is_complete(text: bytes) -> bool:
    """Whether the text looks finished: its last line is ended, or it is a whole JSON object."""
    if text.endswith(b"\n"):
        return True
    if len(text) > TEXT_BYTES_MAX or not text.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _sorted(report: Report) -> tuple[Problem, ...]:
    problems = sorted(set(report.problems))
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        last = replace(problems[PROBLEMS_MAX], message=f"{more} more problems from here on; mend those above first")
        problems = [*problems[:PROBLEMS_MAX], last]
    return tuple(problems)


def _refuse_root(root: Node | None, report: Report) -> None:
    if root is None or (isinstance(root, Scalar) and root.is_null):
        report.problems.append(Problem(1, 1, "the spec is empty; write at least command: and what to run"))
    else:
        report.wrong(root, "keys with values, such as command: python train.py")


# ---- the tables of keys


def _group_resources(node: Node, report: Report) -> dict[str, Any] | None:
    if not isinstance(node, Mapping):
        report.wrong(node, "what each process needs, such as {cpu: 4, memory: 16GiB}")
        return None
    return _entries(node, GROUP_RESOURCES, frozenset(), report)


def _group(node: Node, report: Report) -> _GroupDraft | None:
    if not isinstance(node, Mapping):
        report.wrong(node, "a group, such as {name: trainer, count: 1}")
        return None
    return _GroupDraft(node, _entries(node, GROUP_SUPPORTED, GROUP_NOT_YET, report))


def _groups(node: Node, report: Report) -> tuple[_GroupDraft, ...] | None:
    if not isinstance(node, Sequence) or not node.items:
        report.wrong(node, "a list with at least one group")
        return None
    drafts = [_group(item, report) for item in node.items]
    known = tuple(draft for draft in drafts if draft is not None)
    _refuse_many(node, sum(draft.given.get("count") or 1 for draft in known), report)
    return known if len(known) == len(drafts) else None


def _resources(node: Node, report: Report) -> Request | None:
    request = values.request(node, report)
    if request is not None:
        _refuse_many(node, sum(group.count for group in request.groups), report)
    return request


def _refuse_many(node: Node, processes: int, report: Report) -> None:
    if processes > PROCESSES_MAX:
        report.at(node, "jobs of several processes are not supported by this server yet; ask for one")


SUPPORTED: dict[str, Reader] = {
    "name": values.name,
    "title": values.title,
    "image": values.image,
    "src": values.src,
    "command": values.command,
    "resources": _resources,
    "groups": _groups,
    "env": values.env,
    "end": values.one_of("all", "any"),
    "on_error": values.one_of("stop", "continue"),
    "priority": values.whole_number(0, 100),
    "max_duration": values.duration,
    "grace": values.grace,
    "private": values.truth,
}
NOT_YET = frozenset(
    {
        *("mounts", "nodes", "require", "continue", "retry", "depends_on", "array", "git", "cluster", "shm", "ports"),
        *("secrets", "registry", "hold"),
        # PaddleCloud's own fields
        *("job_package", "jobPackage", "parallelism", "cpu", "gpu", "memory", "pservers", "pscpu", "psmemory"),
        *("entry", "topology", "datacenter", "passes", "faulttolerant"),
        *("max_instance", "min_instance", "maxInstance", "minInstance"),
    }
)
GROUP_SUPPORTED: dict[str, Reader] = {
    "name": values.name,
    "count": values.whole_number(1, _COUNT_MAX),
    "resources": _group_resources,
    "command": values.command,
    "image": values.image,
    "env": values.env,
}
GROUP_NOT_YET = frozenset({"nodes", "require", "service"})
GROUP_RESOURCES: dict[str, Reader] = {"cpu": values.cpus, "memory": values.size, "gpu": values.gpus}


def _entries(node: Mapping, readers: dict[str, Reader], not_yet: frozenset[str], report: Report) -> dict[str, Any]:
    """Read the entries of a mapping that are complete; a key counts as soon as it is there.

    Returns:
        The value of each key of `readers` that stands in the text, None where its value is wrong.
    """
    given: dict[str, Any] = {}
    for key, value in node.entries:
        if key.text in not_yet:
            report.at(key, f"{key.text} is not supported by this server yet; remove it")
        elif key.text not in readers:
            _refuse_key(key, list(readers), not_yet, report)
        elif key.text not in given:
            given[key.text] = None
            if value is not None and complete(value):
                given[key.text] = readers[key.text](value, report)
    if "resources" in given and "groups" in given:
        keys = [key for key, _ in node.entries if key.text in ("resources", "groups")]
        report.at(keys[1], "resources and groups both say what the job needs; keep one of them")
    return given


def _refuse_key(key: Scalar, keys: list[str], not_yet: frozenset[str], report: Report) -> None:
    near = get_close_matches(key.text.lower()[:80].replace("-", "_"), [*keys, *sorted(not_yet)], n=1)
    cure = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"
    report.at(key, f"there is no key {key.text[:80]!r}; {cure}")


# ---- from what was given to the job


def _assemble(root: Mapping, given: dict[str, Any], stem: str, report: Report) -> JobSpec | None:
    if "name" not in given:
        problem = values.name_problem(stem)
        if problem is not None:
            report.at(root, f"{problem} (it comes from the name of the file; or write name: and a name)")
        given["name"] = stem
    if not _has_command(given):
        cure = "write command: and what to run, or src: and a folder that holds .compute"
        report.at(root, f"the job has no command; {cure}")
    _check_group_names(given.get("groups") or (), report)
    if report.problems:
        return None
    optional = {"max_duration": "max_duration_s", "grace": "grace_s"}
    plain = ("src", "max_duration", "grace", "priority", "end", "on_error", "private")
    rest = {optional.get(key, key): given[key] for key in plain if key in given}
    return JobSpec(given["name"], given.get("title", given["name"]), _assemble_groups(given), **rest)


def _has_command(given: dict[str, Any]) -> bool:
    if "command" in given or "src" in given:
        return True
    if "groups" not in given:
        return False
    return given["groups"] is None or all("command" in draft.given for draft in given["groups"])


def _check_group_names(drafts: tuple[_GroupDraft, ...], report: Report) -> None:
    seen: set[str] = set()
    for draft in drafts:
        name = draft.given.get("name")
        if name in seen:
            report.at(draft.node, f"a group before this one is named {name} as well; rename one of them")
        elif name is not None:
            seen.add(name)


def _assemble_groups(given: dict[str, Any]) -> tuple[GroupSpec, ...]:
    common = GroupSpec("", 1, given.get("command", _DEFAULT_ARGV), given.get("image"), given.get("env", {}))
    if "groups" in given:
        drafts = given["groups"]
        return tuple(_from_draft(common, draft.given, index, len(drafts)) for index, draft in enumerate(drafts))
    requested = given["resources"].groups if "resources" in given else ()
    if not requested:
        return (replace(common, name=_group_name(0, 1)),)
    return tuple(
        replace(common, name=_group_name(index, len(requested)), count=group.count, gpus=group.items)
        for index, group in enumerate(requested)
    )


def _from_draft(common: GroupSpec, given: dict[str, Any], index: int, of: int) -> GroupSpec:
    needs = given.get("resources", {})
    return GroupSpec(
        name=given.get("name", _group_name(index, of)),
        count=given.get("count", 1),
        argv=given.get("command", common.argv),
        image=given.get("image", common.image),
        env=common.env | given.get("env", {}),
        cpus=needs.get("cpu"),
        memory_bytes=needs.get("memory"),
        gpus=needs.get("gpu", ()),
    )


def _group_name(index: int, of: int) -> str:
    return "worker" if of == 1 else f"worker{index}"
