"""On which nodes processes may run: by name, and by what the attributes of a node must be.

    require: {gpuModel: Tesla K80, cpuCount: ">=4"}
    cluster: The lab

A value alone stands for equality, as users of gradient-node know it; `>=`, `<=`, `>` and `<` compare numbers. Whether
any node has such an attribute, or a cluster such a name, is not asked here: one may come that has.
"""

import re

from jobd.spec.model import Requirement
from jobd.spec.text import Mapping, Node, Scalar, Sequence
from jobd.spec.values import CONTROL, Report

NAMES_MAX = 1000
VALUE_MAX = 255

_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_CONDITION = re.compile(r"(>=|<=|==|>|<|=)?\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?")


def nodes(node: Node, report: Report) -> tuple[str, ...] | None:
    """Read the names of nodes: a list, or one."""
    items = node.items if isinstance(node, Sequence) else [node]
    if not items or len(items) > NAMES_MAX:
        report.wrong(node, f"the names of 1 to {NAMES_MAX} nodes, such as [n0, n1]")
        return None
    names = [_node_name(item, report) for item in items]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            report.at(items[index], f"the node {name} stands here twice; keep one of them")
    known = tuple(name for name in names if name is not None)
    return known if len(known) == len(names) else None


def _node_name(node: Node, report: Report) -> str | None:
    if not isinstance(node, Scalar) or node.is_null or not node.text.strip() or "/" in node.text:
        report.wrong(node, "the name of a node, as nodes/ lists it")
        return None
    return _text(node, report)


def cluster(node: Node, report: Report) -> str | None:
    """Read the name or the id of a cluster."""
    if not isinstance(node, Scalar) or node.is_null or not node.text.strip():
        report.wrong(node, "the name or the id of a cluster, as clusters/ lists them")
        return None
    return _text(node, report)


def require(node: Node, report: Report) -> tuple[Requirement, ...] | None:
    """Read what the attributes of a node must be."""
    if not isinstance(node, Mapping):
        report.wrong(node, 'attributes of nodes, such as {cpuCount: ">=4"}')
        return None
    read = [_requirement(key, value, report) for key, value in node.entries if value is not None]
    known = tuple(requirement for requirement in read if requirement is not None)
    return known if len(known) == len(read) else None


def _requirement(key: Scalar, node: Node, report: Report) -> Requirement | None:
    if not _ATTRIBUTE.fullmatch(key.text):
        report.at(key, f"{key.text[:80]!r} is no attribute; nodes/<node>/attrs shows them")
        return None
    if not isinstance(node, Scalar) or node.is_null or not node.text.strip():
        report.wrong(node, f'what {key.text} must be, such as 4 or ">=4"')
        return None
    value = _text(node, report)
    match = _CONDITION.fullmatch(value.strip()) if value is not None else None
    if match is None:
        return None
    operator, wanted = (match[1] or "=").replace("==", "="), match[2]
    if not wanted or wanted[0] in "=<>!":
        report.at(node, f"{node.text!r} is no condition; write a value, or one of = >= <= > < and a value")
        return None
    if operator != "=" and not _NUMBER.fullmatch(wanted):
        report.at(node, f"{operator} compares numbers, and {wanted!r} is none; write it like {operator}4")
        return None
    return Requirement(key.text, operator, wanted)


def _text(node: Scalar, report: Report) -> str | None:
    if len(node.text) > VALUE_MAX or CONTROL.search(node.text):
        report.at(node, f"this is one line of at most {VALUE_MAX} characters; shorten it")
        return None
    return node.text
