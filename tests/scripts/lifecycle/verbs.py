"""`life`: each line of the input is an event (`ended code=3`); shows what the job becomes by each.

`table` shows what every state makes of every event.
"""

from dataclasses import fields

from jobd.life.lifecycle import EVENTS, TRANSITIONS, Event, Life, State, decode_event, update
from pfs.errors import PfsError
from tests.golden import Handler, Step

NUMBERS = ("code", "time_ns")


def start() -> Handler:
    def handle(step: Step) -> str:
        if step.words == ("table",):
            return "\n".join(_row(state) for state in State)
        assert step.words == ("life",)
        return _life(step.text.splitlines())

    return handle


def _row(state: State) -> str:
    entries = []
    for name, kind in EVENTS.items():
        if kind in TRANSITIONS[state]:
            target = TRANSITIONS[state][kind]
            to = target if isinstance(target, State) else "—" if target is None else target.__name__.strip("_")
            entries.append(f"\n  {name} → {to}")
    return str(state) + "".join(entries)


def _life(lines: list[str]) -> str:
    life, answers = None, []
    for number, line in enumerate(lines, start=1):
        try:
            life = update(life, _event(line, number))
        except PfsError as error:
            answers.append(f"{line} → refused: {error}")
        else:
            answers.append(f"{line} → {life.state}" + (f" ({life.reason})" if life.reason else ""))
    return "\n".join([*answers, *_facts(life)])


def _event(line: str, number: int) -> Event:
    name, *pairs = line.split()
    given = dict(pair.split("=", 1) for pair in pairs)
    values = {key: int(text) if key in NUMBERS else text.replace("_", " ") for key, text in given.items()}
    return decode_event({"event": name, "time_ns": number, **values})


def _facts(life: Life | None) -> list[str]:
    hidden = ("state", "reason")
    shown = (
        [(field.name, getattr(life, field.name)) for field in fields(Life) if field.name not in hidden] if life else []
    )
    return ["  " + ", ".join(f"{name} {value}" for name, value in shown if value is not None)] if shown else []
