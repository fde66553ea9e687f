"""`parse STEM` shows the job that the input describes, without defaults.

`prefix` shows the problems that nothing behind the input could cure.

`array`: each line of the input names the tasks of an array; shows them.

An input whose first line is `noeol` has no newline at its end.
"""

from dataclasses import MISSING, fields

from jobd.spec.array import ArrayError, parse_array
from jobd.spec.model import GroupSpec, JobSpec
from jobd.spec.spec import parse_spec, prefix_problems
from tests.golden import Handler, Step


def start() -> Handler:
    def handle(step: Step) -> str:
        text = step.text
        if text.startswith("noeol\n"):
            text = text.removeprefix("noeol\n").removesuffix("\n")
        if step.words == ("prefix",):
            return "\n".join(str(problem) for problem in prefix_problems(text.encode())) or "none"
        if step.words == ("array",):
            return "\n".join(f"{line} → {_tasks(line)}" for line in step.text.splitlines())
        verb, stem = step.words
        assert verb == "parse"
        return _shown(parse_spec(text.encode(), stem))

    return handle


def _shown(spec: JobSpec) -> str:
    lines = [f"job {spec.name}", *_fields(spec, "name", "groups")]
    for group in spec.groups:
        lines += [f"group {group.name} × {group.count}", *_fields(group, "name", "count")]
    return "\n".join(lines)


def _tasks(line: str) -> str:
    try:
        array = parse_array(line)
    except ArrayError as error:
        return str(error)
    shown = [str(index) for index in array.indices]
    if len(shown) > 8:
        shown[3:-2] = ["…"]
    at_once = "" if array.at_once is None else f", {array.at_once} at once"
    return f"{len(array.indices)} tasks: {' '.join(shown)}{at_once}"


def _fields(value: JobSpec | GroupSpec, *without: str) -> list[str]:
    shown = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in without}
    defaults = {field.name: field.default for field in fields(value) if field.default is not MISSING}
    return [f"  {name} {value!r}" for name, value in shown.items() if value not in (defaults.get(name), {})]
