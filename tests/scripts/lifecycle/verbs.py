"""The life of jobs, told line by line.

`life KEY=VALUE…` submits a job: `services=-+` (a mark for each process, + for a service), `from=RUNNING` (it came to
that state by the straight way, all processes on n0), the other keys are those of its terms. Each line of the input is
an event, `ended 1 code=3` that of worker 1; shown is what the job becomes, and in a gang how each process stands:
`-` not started, `run`, `told` to stop, its exit code, or `.` where its place is empty.
`? connected=n0 known=0 denied=1` shows what is to be done.

`table` and `array-table` show what every state makes of every event.
"""

from dataclasses import fields
from typing import Any

from jobd.life.actions import FETCH, Facts, actions
from jobd.life.events import (
    EVENTS,
    Event,
    Fetched,
    Place,
    Placed,
    Prepared,
    Started,
    Submitted,
    Terms,
    decode_event,
)
from jobd.life.life import ARRAY_RULES, RULES, Life, Process, State, told, update
from pfs.errors import PfsError
from tests.golden import Handler, Step
from tests.lifetable import table

NUMBERS = ("code", "time_ns", "worker", "attempt", "priority", "retries", "by_s", "max_duration_s", "replaces", "least")
SHOWN = (
    "attempt",
    "failures",
    "losses",
    "replaced",
    "held_by",
    "priority",
    "max_duration_s",
    "started_at_ns",
    "ended_at_ns",
    "exit_code",
)


def start() -> Handler:
    def handle(step: Step) -> str:
        match step.words:
            case ["table"]:
                return table(RULES)
            case ["array-table"]:
                return table(ARRAY_RULES)
        assert step.words[0] == "life"
        return _life(_pairs(step.words[1:]), step.text.splitlines())

    return handle


def _pairs(words: tuple[str, ...] | list[str]) -> dict[str, Any]:
    given = dict(word.split("=", 1) for word in words)
    return {key: int(text) if key in NUMBERS else text.replace("_", " ") for key, text in given.items()}


def _life(given: dict[str, Any], lines: list[str]) -> str:
    state = State(given.pop("from", "PENDING"))
    held_by = given.pop("held_by", "")
    given["services"] = tuple(mark == "+" for mark in given.get("services", "-"))
    given["retry_on"] = tuple(given.get("retry_on", "node,error").split(","))
    for key in ("fetches", "together", "is_array"):
        given[key] = given.get(key) == "yes"
    life = update(None, Submitted(time_ns=0, terms=Terms(**given), held_by=held_by))
    for event in _straight(life, state):
        life = update(life, event)
    answers = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("?"):
            answers.append(line)
            answers.extend(f"    {action}" for action in actions(life, _facts(line)))
            continue
        try:
            life = update(life, _event(line, number, len(life.terms.services)))
        except PfsError as error:
            answers.append(f"{line} → refused: {error}")
        else:
            answers.append(f"{line} → {life.state}{_reason(life)}{_processes(life)}")
    shown = {name: getattr(life, name) for name in SHOWN if getattr(life, name) != _default(name)}
    return "\n".join([*answers, "  " + ", ".join(f"{name} {value}" for name, value in shown.items())])


def _straight(life: Life, state: State) -> list[Event]:
    count = len(life.terms.services)
    way: list[Event] = [Prepared(time_ns=0), Placed(time_ns=0, places=(Place("n0"),) * count)]
    way += [Fetched(time_ns=0), *(Started(time_ns=0, worker=worker) for worker in range(count))]
    return way[: {State.PENDING: 0, State.WAITING: 1, State.STARTING: 2, State.RUNNING: len(way)}[state]]


def _event(line: str, number: int, count: int) -> Event:
    name, *words = line.split()
    bare = [word for word in words if "=" not in word]
    values: dict[str, Any] = {"event": name, "time_ns": number, **_pairs([word for word in words if "=" in word])}
    if name == "placed":
        nodes = bare if len(bare) > 1 else (bare or ["n0"]) * count
        values["places"] = [{"node": node.strip("."), "gpus": ()} for node in nodes]
    elif name == "filled":
        values |= {"worker": int(bare[0]), "place": {"node": bare[1], "gpus": ()}}
    elif bare:
        values["worker"] = int(bare[0])
    elif EVENTS[name].__dataclass_fields__.keys() >= {"by"}:
        values.setdefault("by", "ann")
    return decode_event(values)


def _facts(line: str) -> Facts:
    given = dict(word.split("=", 1) for word in line.split()[1:])
    workers = {
        key: frozenset(FETCH if text == "FETCH" else int(text) for text in given.get(key, "").split(",") if text)
        for key in ("known", "denied", "begun")
    }
    return Facts(frozenset(given.get("connected", "").split(",")), **workers)


def _reason(life: Life) -> str:
    return f" ({life.reason})" if life.reason else ""


def _processes(life: Life) -> str:
    marks = [_mark(life, worker, process) for worker, process in enumerate(life.processes)]
    return f" [{' '.join(marks)}]" if len(marks) > 1 else ""


def _mark(life: Life, worker: int, process: Process) -> str:
    if process.over:
        return "." if process.code is None else str(process.code)
    return "told" if told(life, worker) else "-" if process.started_at_ns is None else "run"


def _default(name: str) -> Any:
    return {"attempt": 1, "priority": 50}.get(name, next(f.default for f in fields(Life) if f.name == name))
