"""What `pit show` prints: entities as Snakepit's client shows them, read from the tree.

me   nodes   node:<name>   jobs   job:<number>, <number>   aliases   alias:<name>
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cli.output import printable
from pfs.errors import Kind, PfsError

LETTERS = {
    "PENDING": "NEW",
    "PREPARING": "PRE",
    "WAITING": "WAI",
    "STARTING": "STA",
    "RUNNING": "RUN",
    "STOPPING": "STO",
}
DONE = "FIN"
USER = ("Username", "Groups", "Is administrator")
NODE = ("Node name", "State", "Since", "Resources")
JOB = (
    *("Job number", "Continued job", "Title", "Owner", "Error", "Remote", "Hash", "Diff LoC", "Resources"),
    *("Allocation", "State", "Processes", "State changes"),
)
ALIAS = ("Alias", "For")


class Tree(Protocol):
    """Who reads the tree (`pfs.client.web.WebClient`)."""

    def read(self, path: str) -> bytes: ...

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]: ...


def letters_of(state: str) -> str:
    """Return Snakepit's letters for the state of a job."""
    return LETTERS.get(state, DONE)


def show(tree: Tree, entity: str) -> str:
    """Return what is printed of an entity, without the end of the last line.

    Raises:
        PfsError: INVALID for what is no entity, NOT_FOUND for one that is not there.
    """
    kind, _, name = ("job", ":", entity) if entity.isdigit() else entity.partition(":")
    match kind, name:
        case "me", "":
            return _user(tree)
        case "user", "~":
            return _user(tree)
        case (("nodes" | "aliases"), ""):
            return "\n".join(_names(tree, kind))
        case "jobs", "":
            return "\n".join(sorted(filter(str.isdigit, _names(tree, "jobs")), key=int))
        case "node", str() if name:
            return _node(tree, name)
        case "job", str() if name.isdigit():
            return _job(tree, name)
        case "alias", str() if name:
            model = _text(tree, f"aliases/{name}", entity)
            return _lines(ALIAS, {"Alias": name, "For": model})
    there = "me, nodes, node:<name>, jobs, job:<number>, aliases, alias:<name>"
    raise PfsError(Kind.INVALID, f'Unsupported entity type "{kind}"; there are {there}')


def _names(tree: Tree, path: str) -> list[str]:
    return [str(entry["name"]) for entry in tree.list(path)]


def _text(tree: Tree, path: str, entity: str) -> str:
    try:
        return printable(" ".join(tree.read(path).decode(errors="replace").split()))
    except PfsError as error:
        if error.kind is Kind.NOT_FOUND:
            raise PfsError(Kind.NOT_FOUND, f"there is no {entity}") from None
        raise


def _facts(tree: Tree, path: str, entity: str) -> Mapping[str, str]:
    from pfs.client.web import facts

    try:
        text = tree.read(path).decode(errors="replace")
    except PfsError as error:
        if error.kind is Kind.NOT_FOUND:
            raise PfsError(Kind.NOT_FOUND, f"there is no {entity}") from None
        raise
    return {key: printable(value) for key, value in facts(text).items()}


def _lines(labels: Sequence[str], values: Mapping[str, str | None]) -> str:
    """Return `Name:   value` lines in the order of the labels; what has no value is left out."""
    width = max(len(label) for label in labels) + 2
    return "\n".join(f"{f'{label}:':<{width}}{values[label]}" for label in labels if values.get(label) is not None)


def _user(tree: Tree) -> str:
    me = _facts(tree, "me", "me")
    admin = "yes" if me.get("admin") == "yes" else "no"
    return _lines(USER, {"Username": me["name"], "Groups": me.get("groups") or None, "Is administrator": admin})


def _node(tree: Tree, name: str) -> str:
    status = _facts(tree, f"nodes/{name}/status", f"node:{name}")
    resources = ""
    for number in sorted(_names(tree, f"nodes/{name}/gpus"), key=int) if status.get("gpus", "0") != "0" else ():
        model, alias, groups = (_text(tree, f"nodes/{name}/gpus/{number}/{each}", "GPU") for each in _GPU)
        aka = f' aka "{alias.split()[0]}"' if alias else ""
        shared = f" - Groups: {groups}" if groups else ""
        resources += f'\n  {number}: "{model}"{aka} (cuda {number}){shared}'
    state = "OFFLINE" if status["state"] == "UNKNOWN" else status["state"]
    values = {"Node name": status["name"], "State": state, "Since": status.get("heard"), "Resources": resources}
    return _lines(NODE, values)


_GPU = ("model", "alias", "groups")


def _job(tree: Tree, number: str) -> str:
    status = _facts(tree, f"jobs/{number}/status", f"job:{number}")
    letters = letters_of(status["state"])
    place = status.get("queue_place")
    failed = letters == DONE and status["state"] != "SUCCEEDED"
    changes = [("NEW", "submitted"), ("RUN", "started"), (DONE, "ended")]
    times = [f"\n  {word}: {status[key]}" for word, key in changes if status.get(key)]
    return _lines(
        JOB,
        {
            "Job number": number,
            "Continued job": status.get("continue"),
            "Title": status.get("title"),
            "Owner": status.get("user"),
            "Error": f'"{status.get("why")}"' if failed else None,
            "Remote": status.get("remote"),
            "Hash": status.get("hash"),
            "Diff LoC": status.get("diff_lines"),
            "Resources": f'"{status.get("request", "")}"',
            "Allocation": status.get("place") or None,
            "State": f"{letters} (position {place})" if place else letters,
            "Processes": _processes(tree, number),
            "State changes": "".join(times),
        },
    )


def _processes(tree: Tree, number: str) -> str | None:
    """Return a line for each process: its exit code, and the beginning of what it left as its result."""
    try:
        codes, results = (tree.list(f"jobs/{number}/processes", each=name) for name in ("exit_code", "result"))
    except PfsError as error:
        if error.kind is Kind.NOT_FOUND:  # an array has tasks in their place
            return None
        raise
    lines = []
    for code, result in zip(codes, results, strict=True):
        group, _, process = code["name"].partition(".")
        text = printable(" ".join((result.get("each") or "").split()))
        said = f" - {text[:200]}" if text else ""
        lines.append(f"\n  [{group}, {process}]: Status code: {(code.get('each') or '?').strip()}{said}")
    return "".join(lines)
