"""The table of a life as text, drawn from the rules themselves: for the golden scripts and for README."""

from collections.abc import Mapping

from jobd.life.events import Event, event_name
from jobd.life.life import ENDS, Rule, State

NEVER_MORE = "—"


def table(rules: Mapping[State, Mapping[type[Event], Rule]]) -> str:
    """Return a Markdown table: for each state, what events may lead to what; all ends are alike."""
    lines = ["| state | what happens | what it becomes |", "|---|---|---|"]
    over = {tuple(_rows(rules[state])) for state in ENDS}
    assert len(over) == 1
    for state in State:
        if state.over:
            continue
        lines += [f"| {state} | {events} | {to} |" for events, to in _rows(rules[state], state)]
    lines += [f"| an end | {events} | {to} |" for events, to in over.pop()]
    return "\n".join(lines)


def _rows(rules: Mapping[type[Event], Rule], state: State | None = None) -> list[tuple[str, str]]:
    """Return the events of a state, those together that lead to the same."""
    grouped: dict[str, list[str]] = {}
    for kind, rule in rules.items():
        grouped.setdefault(_targets(rule, state), []).append(event_name(kind))
    return [(", ".join(names), to) for to, names in grouped.items()]


def _targets(rule: Rule, state: State | None) -> str:
    if not rule.to:
        return NEVER_MORE
    ends = ["any end"] if set(rule.to) >= ENDS else [each.value for each in rule.to if each.over]
    stays = ["as it is"] if state in rule.to else []
    return ", ".join([*stays, *(each.value for each in rule.to if each is not state and not each.over), *ends])
