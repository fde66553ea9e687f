"""The processes of a job: `groups`, a cluster request, or one process where neither stands.

What stands at the top of a spec (`command`, `image`, `env`, `nodes`, `require`, `service`) holds for every group that
does not say its own; variables of both are given, those of the group win. A service runs as long as the others do, so
a job of services alone would have nothing to wait for, and is refused.
"""

from dataclasses import replace
from typing import Any

from jobd.spec import placing, sources, values
from jobd.spec.entries import Given, Reader, read_entries
from jobd.spec.model import GroupSpec
from jobd.spec.request import Request
from jobd.spec.text import Mapping, Node, Sequence
from jobd.spec.values import Report

PROCESSES_MAX = 1024

# keys of the whole job, which are looked for in a group
JOB_KEYS = (
    *(
        "title",
        "src",
        "git",
        "mounts",
        "cluster",
        "registry",
        "secrets",
        "shm",
        "end",
        "on_error",
        "priority",
        "max_duration",
        "grace",
        "private",
        "hold",
    ),
    *("continue", "retry", "depends_on", "array", "groups"),
)

_DEFAULT_ARGV = ("bash", ".compute")


def request(node: Node, report: Report) -> Request | None:
    """Read a cluster request."""
    if isinstance(node, Mapping):
        report.at(node, 'at the top this is a cluster request such as "2:[8:gtx1070]"; put the mapping into groups:')
        return None
    value = values.request(node, report)
    if value is not None and refuse_many(node, sum(group.count for group in value.groups), report):
        return None
    return value


def groups(node: Node, report: Report) -> tuple[Given, ...] | None:
    """Read the groups of a job."""
    if not isinstance(node, Sequence) or not node.items:
        report.wrong(node, "a list with at least one group")
        return None
    drafts = [_group(item, report) for item in node.items]
    known = tuple(draft for draft in drafts if draft is not None)
    refuse_many(node, sum(draft.get("count") or 1 for draft in known), report)
    return known if len(known) == len(drafts) else None


def refuse_many(node: Node, processes: int, report: Report) -> bool:
    """Report a number of processes that no job has, and tell whether it is one."""
    if processes > PROCESSES_MAX:
        report.at(node, f"a job has at most {PROCESSES_MAX} processes, and these are {processes}; use an array")
    return processes > PROCESSES_MAX


def _group(node: Node, report: Report) -> Given | None:
    if not isinstance(node, Mapping):
        report.wrong(node, "a group, such as {name: trainer, count: 1}")
        return None
    return read_entries(node, GROUP_KEYS, report, elsewhere=_NOT_IN_A_GROUP)


def _resources(node: Node, report: Report) -> dict[str, Any] | None:
    if not isinstance(node, Mapping):
        report.wrong(node, "what each process needs, such as {cpu: 4, memory: 16GiB}")
        return None
    return read_entries(node, RESOURCE_KEYS, report).values


RESOURCE_KEYS: dict[str, Reader] = {"cpu": values.cpus, "memory": values.size, "gpu": values.gpus}
GROUP_KEYS: dict[str, Reader] = {
    "name": values.name,
    "count": values.whole_number(1, PROCESSES_MAX),
    "resources": _resources,
    "command": values.command,
    "image": sources.image,
    "env": values.env,
    "nodes": placing.nodes,
    "require": placing.require,
    "service": values.truth,
}


_NOT_IN_A_GROUP = {
    **dict.fromkeys(JOB_KEYS, "it is of the whole job; write it at the top"),
    **{key: f"write resources: {{{key}: …}}" for key in RESOURCE_KEYS},
}
NOT_AT_THE_TOP = {"count": "it is of a group; write groups: [{count: …}]"}


def refuse_unfit(given: Given, report: Report) -> None:
    """Report what is wrong between the groups of a job, `given` being the whole spec."""
    drafts: tuple[Given, ...] = given.get("groups") or ()
    seen: set[str] = set()
    for draft, name in zip(drafts, _names(drafts), strict=True):
        if name in seen:
            report.at(draft.node, f"a group before this one is named {name} as well; rename one of them")
        elif name is not None:
            seen.add(name)
    services = [draft.get("service", given.get("service", False)) for draft in drafts or (Given(given.node),)]
    if all(services):
        place = next(draft.keys["service"] for draft in (given, *drafts) if "service" in draft)
        report.at(place, "a service only runs as long as others do; write service: false for the group that matters")


def assemble(given: Given) -> tuple[GroupSpec, ...]:
    """Return the groups of a spec in which nothing is wrong."""
    common = common_group(given)
    drafts: tuple[Given, ...] = given.get("groups") or ()
    if drafts:
        return tuple(_assembled(common, draft, name) for draft, name in zip(drafts, _names(drafts), strict=True))
    requested = given.values["resources"].groups if "resources" in given else ()
    if not requested:
        return (replace(common, name=_default_name(0, 1)),)
    return tuple(
        replace(common, name=_default_name(index, len(requested)), count=group.count, gpus=group.items)
        for index, group in enumerate(requested)
    )


def common_group(given: Given) -> GroupSpec:
    """Return what every group has that says nothing of its own; without a name."""
    return GroupSpec(
        name="",
        count=1,
        argv=given.get("command", _DEFAULT_ARGV),
        image=given.get("image") or None,
        env=given.get("env", {}),
        nodes=given.get("nodes", ()),
        require=given.get("require", ()),
        service=given.get("service", False),
    )


def _assembled(common: GroupSpec, draft: Given, name: str) -> GroupSpec:
    needs = draft.get("resources", {})
    return GroupSpec(
        name=name,
        count=draft.get("count", 1),
        argv=draft.get("command", common.argv),
        image=draft.get("image", common.image),
        env=common.env | draft.get("env", {}),
        cpus=needs.get("cpu"),
        memory_bytes=needs.get("memory"),
        gpus=needs.get("gpu", ()),
        nodes=draft.get("nodes", common.nodes),
        require=draft.get("require", common.require),
        service=draft.get("service", common.service),
    )


def _names(drafts: tuple[Given, ...]) -> tuple[Any, ...]:
    return tuple(draft.get("name", _default_name(index, len(drafts))) for index, draft in enumerate(drafts))


def _default_name(index: int, of: int) -> str:
    return "worker" if of == 1 else f"worker{index}"
