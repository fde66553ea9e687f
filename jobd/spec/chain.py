"""What a job comes after, and what comes after it: dependencies, the job that it continues, and further attempts.

    depends_on: [16, "afterany:15"]     afterok where no word stands, as `sbatch --dependency` has them
    continue: 17                        that job's keep/ is copied into this one's
    retry: {max: 2, on: [node, error]}  after a lost node, after a failure; both where `on` is not written

Whether a job of that number exists, and may be read, is known to the engine only.
"""

import re

from jobd.spec.entries import nearest, read_entries
from jobd.spec.model import AFTER_ANY, AFTER_NOT_OK, AFTER_OK, Dependency, Retry
from jobd.spec.text import Mapping, Node, Scalar, Sequence
from jobd.spec.values import Report, text, whole_number

RETRIES_MAX = 100
DEPENDENCIES_MAX = 1000
JOB_ID_MAX = 2**63 - 1

_KINDS = (AFTER_OK, AFTER_ANY, AFTER_NOT_OK)
_CAUSES = ("node", "error")
_DEPENDENCY = re.compile(r"(?:([A-Za-z]+):)?([0-9]{1,19})")

continue_from = whole_number(1, JOB_ID_MAX)


def depends_on(node: Node, report: Report) -> tuple[Dependency, ...] | None:
    """Read the jobs that have to be over before: a list, or one."""
    items = node.items if isinstance(node, Sequence) else [node]
    if not items or len(items) > DEPENDENCIES_MAX:
        report.wrong(node, f'1 to {DEPENDENCIES_MAX} jobs, such as [16, "afterany:15"]')
        return None
    read = [_dependency(item, report) for item in items]
    seen: set[int] = set()
    for item, dependency in zip(items, read, strict=True):
        if dependency is not None and dependency.job_id in seen:
            report.at(item, f"the job {dependency.job_id} stands here twice; keep one of them")
        elif dependency is not None:
            seen.add(dependency.job_id)
    known = tuple(dependency for dependency in read if dependency is not None)
    return known if len(known) == len(read) else None


def _dependency(node: Node, report: Report) -> Dependency | None:
    value = text(node, report, "the number of a job, or afterany: and its number")
    if value is None:
        return None
    match = _DEPENDENCY.fullmatch(value.strip())
    if match is None or not 1 <= int(match[2]) <= JOB_ID_MAX:
        report.at(node, f"{value[:80]!r} is no job; write its number, or {', '.join(_KINDS)} with ':' and its number")
        return None
    kind = match[1] or AFTER_OK
    if kind not in _KINDS:
        near = nearest(kind, _KINDS)
        cure = f"did you mean {near}:{match[2]}?" if near else f"write one of {', '.join(_KINDS)}"
        report.at(node, f"there is no dependency {kind[:80]!r}; {cure}")
        return None
    return Dependency(int(match[2]), kind)


def retry(node: Node, report: Report) -> Retry | None:
    """Read how often a job is tried again, and after what."""
    if not isinstance(node, Mapping):
        report.wrong(node, "how often and after what, such as {max: 2, on: [node, error]}")
        return None
    given = read_entries(node, RETRY_KEYS, report)
    if "max" not in given:
        report.at(node, f"how often is missing; write max: and a number from 1 to {RETRIES_MAX}")
    most, on = given.get("max"), given.get("on", _CAUSES)
    return None if most is None or on is None else Retry(most, on)


def _causes(node: Node, report: Report) -> tuple[str, ...] | None:
    items = node.items if isinstance(node, Sequence) else [node]
    words = {item.text for item in items if isinstance(item, Scalar) and item.text in _CAUSES}
    wrong = [item for item in items if not isinstance(item, Scalar) or item.text not in _CAUSES]
    for item in wrong:
        report.wrong(item, " or ".join(_CAUSES))
    if not items:
        report.wrong(node, "a list of node and error, or one of them")
    return None if wrong or not items else tuple(cause for cause in _CAUSES if cause in words)


RETRY_KEYS = {"max": whole_number(1, RETRIES_MAX), "on": _causes}
