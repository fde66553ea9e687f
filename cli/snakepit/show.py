"""What `pit show` prints: entities as Snakepit's client shows them, read from the tree.

me   user:<name>   node:<name>[:<index>]   job:<number>, <number>   group:<name>   alias:<name>
users   nodes   jobs   groups   aliases

What is read becomes an object first, which `--json` prints; lines with their labels are made of that.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from cli.output import printable
from cli.snakepit.entities import Entity, parse
from cli.snakepit.gpuuse import Tree, uses_of
from cli.snakepit.jobquery import url_of_job
from cli.snakepit.states import DONE, letters_of
from pfs.errors import Kind, PfsError

LISTS = {"users": "user", "groups": "group", "nodes": "node", "aliases": "alias"}
FOLDERS = {"node": "nodes", "alias": "aliases", "job": "jobs"}
URLS = {"user": "/api/v1/accounts", "group": "/api/v1/groups"}
RESULT_CHARACTERS = 200
# what an event of a job makes of it; FIN and NEW are told by its status
BECOMES = {
    "preparation-started": "PRE",
    "prepared": "WAI",
    "placed": "STA",
    "started": "RUN",
    "kill-requested": "STO",
    "requeue-requested": "STO",
    "time-limit-reached": "STO",
}

Object = dict[str, Any]
_GPU = ("model", "alias", "groups")


class Server(Tree, Protocol):
    """Who asks the server for more than the tree."""

    def call(self, method: str, url: str, content: bytes) -> Any: ...


def names(tree: Server, kind: str) -> list[str]:
    """Return the names of all entities of a kind, one of `LISTS`, that one may see."""
    match LISTS[kind]:
        case "user":
            return [str(account["id"]) for account in tree.call("GET", URLS["user"], b"")["accounts"]]
        case "group":
            return [str(name) for name in tree.call("GET", URLS["group"], b"")["groups"]]
        case each:
            return [str(entry["name"]) for entry in tree.list(FOLDERS[each])]


def url_of(entity: Entity) -> str:
    """Return where the server tells of a user or a group."""
    return f"{URLS[entity.kind]}/{quote(entity.name, safe='~')}"


def read(tree: Server, text: str) -> tuple[Entity, Object]:
    """Return an entity, and what is told of it.

    Raises:
        PfsError: INVALID for what is no entity, NOT_FOUND for one that is not there.
    """
    entity = parse(text)
    readers = {"user": _told, "group": _told, "node": _node, "job": _job, "alias": _alias}
    if entity.kind not in readers:
        raise PfsError(Kind.INVALID, f'Unsupported entity type "{entity.kind}"')
    return entity, readers[entity.kind](tree, entity)


def as_text(entity: Entity, told: Mapping[str, Any]) -> str:
    """Return what is told of an entity as lines, without the end of the last one."""
    makers = {"user": _user_lines, "group": _group_lines, "node": _node_lines, "job": _job_lines, "alias": _alias_lines}
    return _lines(makers[entity.kind](told))


# ---- what is read


def _text(tree: Tree, path: str, kind: str) -> str:
    try:
        return tree.read(path).decode(errors="replace")
    except PfsError as error:
        if error.kind in (Kind.NOT_FOUND, Kind.NOT_DIR):
            raise missing(kind) from None
        raise


def missing(kind: str) -> PfsError:
    """Return the refusal of an entity that is not there."""
    return PfsError(Kind.NOT_FOUND, f"{kind.capitalize()} not found")


def _facts(tree: Tree, path: str, kind: str) -> Mapping[str, str]:
    from pfs.client.web import facts

    return facts(_text(tree, path, kind))


def _told(tree: Server, entity: Entity) -> Object:
    """Return what the server tells of a user or a group."""
    try:
        found: Object = tree.call("GET", url_of(entity), b"")
    except PfsError as error:
        if error.kind is Kind.NOT_FOUND:
            raise missing(entity.kind) from None
        raise
    return found


def _node(tree: Tree, entity: Entity) -> Object:
    path = f"nodes/{entity.name}"
    status = _facts(tree, f"{path}/status", "node")
    gpus = _gpus(tree, path) if status.get("gpus", "0") != "0" else []
    if entity.index is not None:
        gpus = [gpu for gpu in gpus if gpu["index"] == entity.index]
        if not gpus:
            raise missing("resource")
    is_online = status["state"] not in ("UNKNOWN", "OFFLINE")
    return {
        "id": entity.name,
        "online": is_online,
        "state": status["state"],
        "since": _since(status),
        "resources": gpus,
    }


def _since(status: Mapping[str, str]) -> str | None:
    return status.get("heard") or status.get("closed_since")


def _gpus(tree: Tree, path: str) -> list[Object]:
    texts = {
        name: {str(entry["name"]): entry.get("each") or "" for entry in tree.list(f"{path}/gpus", each=name)}
        for name in _GPU
    }
    return [
        {
            "index": number,
            "type": "cuda",
            "name": model.strip(),
            "alias": next(iter(texts["alias"].get(number, "").split()), None),
            "groups": texts["groups"].get(number, "").split(),
        }
        for number, model in texts["model"].items()
    ]


def _alias(tree: Tree, entity: Entity) -> Object:
    return {"id": entity.name, "name": _text(tree, f"aliases/{entity.name}", "alias").strip()}


def _job(tree: Server, entity: Entity) -> Object:
    """Return what is told of a job: of one that is not ours to read, what everybody may know."""
    path = f"jobs/{entity.name}"
    try:
        status = _facts(tree, f"{path}/status", "job")
    except PfsError as error:
        if error.kind not in _HIDDEN:
            raise
        known = tree.call("GET", url_of_job(entity.name), b"")["msg"]
        if not known:
            raise
        return _job_object(tree, entity, known[0], [], [])
    found = _job_object(tree, entity, status, _processes(tree, path), _changes(tree, path, status))
    return found if found["provisioning"] else {**found, "provisioning": _from_spec(tree, path)}


def _job_object(
    tree: Tree, entity: Entity, status: Mapping[str, str], processes: list[Object], changes: list[Object]
) -> Object:
    letters = letters_of(status["state"])
    compute, memory = uses_of(tree, [{**status, "id": entity.name}]).get(entity.name, (0, 0))
    place = status.get("queue_place")
    return {
        "id": int(entity.name),
        "continueJob": int(status["continue"]) if status.get("continue") else None,
        "description": status.get("title"),
        "user": status.get("user"),
        "groups": status.get("groups", "").split(),
        "error": status.get("why") if letters == DONE and status["state"] != "SUCCEEDED" else None,
        "provisioning": _provisioning(status),
        "request": status.get("request", ""),
        "resources": status.get("place") or status.get("request", ""),
        "utilComp": compute / 100,
        "utilMem": memory / 100,
        "state": letters,
        "schedulePosition": int(place) if place else None,
        "processes": processes,
        "stateChanges": changes,
    }


def _provisioning(status: Mapping[str, str]) -> str | None:
    """Return where the files of a job come from, if from a repository."""
    remote, found = status.get("remote", "").partition(" ")[2], status.get("hash")
    if not found and not remote:
        return None
    text = f"Git commit {found}" if found else "Git clone"
    text += f" {'from' if found else 'of'} {remote}" if remote else ""
    lines = status.get("diff_lines", "0")
    return text if lines in ("", "0") else f"{text} with {lines} LoC diff"


def _from_spec(tree: Tree, path: str) -> str | None:
    """Return where a job's files come from as its spec says it; None of a folder, for which there is no word."""
    try:
        lines = tree.read(f"{path}/resolved.yaml").decode(errors="replace").splitlines()
    except PfsError as error:
        if error.kind in _HIDDEN:
            return None
        raise
    said = dict(line.split(": ", 1) for line in lines if line.startswith(("src: ", "git: ")))  # values in JSON
    if "git" not in said:
        return None if "src" in said else "Script"
    from cli.submit.provenance import public_url

    git = json.loads(said["git"])
    url, ref = public_url(git["url"]), git.get("ref") or ""
    return f"Git commit {ref} from {url}" if re.fullmatch("[0-9a-f]{40,64}", ref) else f"Git clone of {url}"


def _processes(tree: Tree, path: str) -> list[Object]:
    """Return the processes of a job, where one may see them: codes and results."""
    try:
        codes, results = (
            {entry["name"]: entry.get("each") for entry in tree.list(f"{path}/processes", each=name)}
            for name in ("exit_code", "result")
        )
    except PfsError as error:
        if error.kind in _HIDDEN:  # an array has tasks in their place
            return []
        raise
    found = []
    for name, code in codes.items():
        group, _, process = name.partition(".")
        text = (code or "").strip()
        told = {"groupIndex": int(group), "processIndex": int(process), "status": int(text) if text else None}
        found.append({**told, "result": " ".join((results.get(name) or "").split())})
    return found


_HIDDEN = (Kind.NOT_FOUND, Kind.DENIED, Kind.FORBIDDEN)


def _changes(tree: Tree, path: str, status: Mapping[str, str]) -> list[Object]:
    """Return the states that a job has been in, each with the moment when it came there."""
    found: list[Object] = [{"state": "NEW", "since": status.get("submitted", ""), "reason": None}]
    for line in _events(tree, path):
        words = line.split()
        letters = BECOMES.get(words[1]) if len(words) > 1 else None
        if letters is not None and letters != found[-1]["state"]:
            since = f"{words[0].partition('.')[0]}Z"
            found.append({"state": letters, "since": since, "reason": _stopped_by(words)})
    if len(found) == 1 and status.get("started"):
        found.append({"state": "RUN", "since": status["started"], "reason": None})
    if status.get("ended"):
        why = None if status["state"] == "SUCCEEDED" else status.get("why")
        found.append({"state": DONE, "since": status["ended"], "reason": why})
    return found


def _stopped_by(words: Sequence[str]) -> str | None:
    """Return who stopped a job, of the words of an event; None where nobody did."""
    by = next((word.removeprefix("by=") for word in words if word.startswith("by=")), None)
    return f"Stopped by user {by}" if by is not None and words[1] == "kill-requested" else None


def _events(tree: Tree, path: str) -> list[str]:
    try:
        return tree.read(f"{path}/events").decode(errors="replace").splitlines()
    except PfsError as error:
        if error.kind in _HIDDEN:
            return []
        raise


# ---- how it is shown


def _lines(rows: Sequence[tuple[str, object]]) -> str:
    """Return `Name:   value` lines; what has no value is left out."""
    width = max(len(label) for label, _ in rows) + 2
    return "\n".join(f"{f'{label}:':<{width}}{_shown(value)}" for label, value in rows if value is not None)


def _shown(value: object) -> str:
    """Return a value as text; the further lines of one that has several begin below it."""
    first, *more = ["", *value] if isinstance(value, list) else [str(value)]
    return "\n".join([printable(first), *(f"  {printable(line)}" for line in more)])


def _user_lines(told: Mapping[str, Any]) -> list[tuple[str, object]]:
    return [
        ("Username", told["id"]),
        ("Full name", told["fullname"]),
        ("E-Mail address", told["email"]),
        ("Groups", " ".join(told["groups"]) or None),
        ("Auto share", " ".join(told["autoshare"]) or None),
        ("Is administrator", "yes" if told["admin"] else "no"),
    ]


def _group_lines(told: Mapping[str, Any]) -> list[tuple[str, object]]:
    return [("Name", told["id"]), ("Title", told["title"])]


def _alias_lines(told: Mapping[str, Any]) -> list[tuple[str, object]]:
    return [("Alias", told["id"]), ("For", told["name"])]


def _node_lines(told: Mapping[str, Any]) -> list[tuple[str, object]]:
    gpus = []
    for gpu in told["resources"]:
        aka = f' aka "{gpu["alias"]}"' if gpu["alias"] else ""
        shared = f" - Groups: {' '.join(gpu['groups'])}" if gpu["groups"] else ""
        gpus.append(f'{gpu["index"]}: "{gpu["name"]}"{aka} (cuda {gpu["index"]}){shared}')
    state = told["state"] if told["online"] else "OFFLINE"
    return [("Node name", told["id"]), ("State", state), ("Since", told["since"]), ("Resources", gpus)]


def _job_lines(told: Mapping[str, Any]) -> list[tuple[str, object]]:
    letters, place = told["state"], told["schedulePosition"]
    changes = told["stateChanges"]
    # of others' jobs nobody tells how they came where they are, only that they have a place
    has_begun = any(each["state"] == "RUN" for each in changes) if changes else told["resources"] != told["request"]
    return [
        ("Job number", told["id"]),
        ("Continued job", told["continueJob"]),
        ("Title", told["description"]),
        ("Owner", told["user"]),
        ("Groups", " ".join(told["groups"]) or None),
        ("Error", None if told["error"] is None else f'"{told["error"]}"'),
        ("Provisioning", told["provisioning"]),
        ("Resources", f'"{told["resources"]}"'),
        ("Util. GPU", f"{told['utilComp']:.0%}" if has_begun else None),
        ("Util. memory", f"{told['utilMem']:.0%}" if has_begun else None),
        ("State", letters if place is None else f"{letters} (position {place})"),
        ("Processes", [_process_line(process) for process in told["processes"]] or None),
        ("State changes", [_change_line(change) for change in changes] or None),
    ]


def _process_line(process: Mapping[str, Any]) -> str:
    code, text = process["status"], process["result"][:RESULT_CHARACTERS]
    line = f"[{process['groupIndex']}, {process['processIndex']}]: Status code: {'?' if code is None else code}"
    return f"{line} - {text}" if text else line


def _change_line(change: Mapping[str, Any]) -> str:
    line = f"{change['state']}: {change['since']}"
    return f"{line} - {change['reason']}" if change["reason"] else line
