"""Specs as clients write them: made of what a command line says, or somebody's file with another `src` in it.

A file stays as it was written, but for the place where its `src` stands or is added.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from jobd.spec.values import name_problem
from pfs.errors import Kind, PfsError

NAME_CHARACTERS = 40
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_Place = tuple[int, int]


def written(fields: Mapping[str, Any]) -> bytes:
    """Return a spec of these keys, in YAML; those without a value are left out.

    Raises:
        PfsError: INVALID for text that is no UTF-8.
    """
    lines = [f"{key}: {_quoted(value)}\n" for key, value in fields.items() if value is not None]
    try:
        return "".join(lines).encode()
    except UnicodeEncodeError:
        raise PfsError(Kind.INVALID, "what a job is called and runs has to be text in UTF-8") from None


def _quoted(value: Any) -> str:
    """Return a value as JSON that is YAML as well: that wants some characters escaped which JSON does not."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value, ensure_ascii=False))


def src_of(text: bytes) -> str | None:
    """Return the `src` of a spec; None where there is none, or where the text is no spec: the server tells why."""
    found = _find(text)
    return None if found is None or found[0] is None else found[0]


def with_src(text: bytes, src: str) -> bytes:
    """Return a spec with `src` in the place of the one that it has; without one it comes first.

    Raises:
        PfsError: INVALID when the text is no spec.
    """
    found = _find(text)
    if found is None:
        raise PfsError(Kind.INVALID, "the spec is no YAML with keys and values")
    value, (start, end), flow = found
    whole = text.decode()
    if value is not None:
        return (whole[:start] + (f'"{src}"' if flow else src) + whole[end:]).encode()
    added = f'"src": "{src}", ' if flow else f"src: {src}\n"
    return (whole[:start] + added + whole[start:]).encode()


def _find(text: bytes) -> tuple[str | None, _Place, bool] | None:
    """Return the value of `src`, where it stands, or where one can be put, and whether the keys are in braces."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    yaml = YAML(pure=True)
    yaml.composer.warn_double_anchors = False  # what the server takes needs no warning here
    try:
        whole = text.decode()
        root = yaml.compose(whole)
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        return None
    if not isinstance(root, MappingNode) or not root.value:
        return None
    for key, value in root.value:
        if isinstance(key, ScalarNode) and key.value == "src" and isinstance(value, ScalarNode):
            start, end = value.start_mark.index, value.end_mark.index
            end = start + len(whole[start:end].rstrip())  # a block of text ends behind its line
            return value.value, (start, end), bool(root.flow_style)
    start = root.value[0][0].start_mark.index
    return None, (start, start), bool(root.flow_style)


def name_of(title: str) -> str:
    """Return a name for a job that has only a title: what of it may stand in a name."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", title).strip("-_.")[:NAME_CHARACTERS].rstrip("-_.")
    return name if name_problem(name) is None else f"job-{name}".rstrip("-")
