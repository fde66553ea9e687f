"""The spec of a job: what its owner wrote, checked and with the defaults filled in.

`parse_spec` turns the text of a file into a `JobSpec` or raises *all* its problems at once, each with line and
column. `prefix_problems` does the same for a text that is still being written, and reports only what nothing written
behind it could cure. The keys are one table with a reader for each; `NOT_YET` names the keys of the full form that
this server knows and refuses. To support one of them is to give it a reader and move its line.

A spec is read in three steps: each value by its reader, then what is wrong between keys, then the job is put together
from what was given. PaddleCloud's fields are read beside the keys, and make the groups in their own way.
"""

import json
from dataclasses import replace
from typing import Any

from jobd.spec import array, chain, groups, paddle, placing, sources, values
from jobd.spec.entries import Given, Reader, read_entries
from jobd.spec.groups import GROUP_KEYS
from jobd.spec.model import PRIORITY_MAX, JobSpec
from jobd.spec.paddle import PADDLE_FIELDS
from jobd.spec.text import TEXT_BYTES_MAX, Mapping, Node, Problem, Scalar, SpecError, read
from jobd.spec.values import Report

__all__ = [
    "GROUP_KEYS",
    "NOT_YET",
    "PADDLE_FIELDS",
    "SUPPORTED",
    "Problem",
    "SpecError",
    "is_complete",
    "parse_spec",
    "prefix_problems",
]

PROBLEMS_MAX = 100
# what is still being written is read again at every write; large texts wait for their end
PREFIX_BYTES_MAX = 64 * 1024


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
        given = _given(document.root, report)
        if not document.problems:
            _refuse_unfit(given, stem, report)
        if not report.problems:
            spec = _assemble(given, stem)
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
        _given(document.root, report)
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


def _root_image(node: Node, report: Report) -> str | None:
    # clients of PaddleCloud send an empty one
    if isinstance(node, Scalar) and not node.plain and not node.text:
        return ""
    return sources.image(node, report)


SUPPORTED: dict[str, Reader] = {
    "name": values.name,
    "title": values.title,
    "image": _root_image,
    "src": sources.src,
    "git": sources.git,
    "command": values.command,
    "resources": groups.request,
    "groups": groups.groups,
    "nodes": placing.nodes,
    "require": placing.require,
    "cluster": placing.cluster,
    "registry": sources.registry,
    "secrets": sources.secrets,
    "service": values.truth,
    "env": values.env,
    "mounts": sources.mounts,
    "shm": values.size,
    "end": values.one_of("all", "any"),
    "on_error": values.one_of("stop", "continue"),
    "priority": values.whole_number(0, PRIORITY_MAX),
    "max_duration": values.duration,
    "grace": values.grace,
    "private": values.truth,
    "hold": values.truth,
    "continue": chain.continue_from,
    "retry": chain.retry,
    "depends_on": chain.depends_on,
    "array": array.array,
}
NOT_YET = frozenset({"ports"})

# the fields of a job that are what a key says, by the key
_FIELDS = {
    **{
        key: key for key in ("src", "git", "mounts", "end", "on_error", "priority", "private", "hold", "retry", "array")
    },
    "depends_on": "depends_on",
    "cluster": "cluster",
    "registry": "registry",
    "secrets": "secrets",
    "shm": "shm_bytes",
    "max_duration": "max_duration_s",
    "grace": "grace_s",
    "continue": "continue_from",
}


def _given(root: Mapping, report: Report) -> Given:
    """Read the entries of a spec, and report which of them nothing can bring together."""
    given = read_entries(
        root, SUPPORTED, report, not_yet=NOT_YET, foreign=PADDLE_FIELDS, elsewhere=groups.NOT_AT_THE_TOP
    )
    given.refuse_both("resources", "groups", "what the job needs", report)
    given.refuse_both("src", "git", "which files the job has", report)
    return given


def _refuse_unfit(given: Given, stem: str, report: Report) -> None:
    """Report what is wrong between the keys of a whole spec, and what is missing."""
    problem = values.name_problem(stem) if "name" not in given else None
    if problem is not None:
        report.at(given.node, f"{problem} (it comes from the name of the file; or write name: and a name)")
    if paddle.fields_in(given):
        paddle.refuse_unfit(given, report)
        return
    groups.refuse_unfit(given, report)
    if given.get("image") == "":
        report.at(given.keys["image"], "expected the name of an image such as python:3.11-slim, found nothing")
    if not _has_command(given):
        cure = "write command: and what to run, or src: and a folder that holds .compute"
        report.at(given.node, f"the job has no command; {cure}")


def _has_command(given: Given) -> bool:
    if given.present(("command", "src", "git")):
        return True
    if "groups" not in given:
        return False
    return given.get("groups") is None or all("command" in draft for draft in given.get("groups"))


def _assemble(given: Given, stem: str) -> JobSpec:
    name = given.get("name", stem)
    fields: dict[str, Any] = {field: given.get(key) for key, field in _FIELDS.items() if key in given}
    if not paddle.fields_in(given):
        return JobSpec(name, given.get("title", name), groups.assemble(given), **fields)
    processes, kept = paddle.assemble(given)
    return JobSpec(name, given.get("title", name), processes, paddle=kept, **fields)
