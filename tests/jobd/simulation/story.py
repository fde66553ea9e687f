"""What happens in a simulated world, drawn from its seed: machines, and what people and misfortune do, and when.

A story is decided before it is played, so that it can be cut short: the shortest beginning that still goes wrong says
most about why.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

TROUBLE_S = 40.0
USERS = ("ann", "bob")
# how much of what happens does so at a moment of its own, and how close together the rest is
ALONE, CLOSE_S = 0.7, 0.1

PADDLE: Mapping[str, Any] = {"image": "busybox", "pservers": 1, "cpu": 0.5, "memory": "64Mi"}
# what jobs are like; the last word of a command says how its processes behave (`machines.Task`)
SHAPES: tuple[tuple[int, Mapping[str, Any]], ...] = (
    (6, {"command": "work"}),
    (3, {"command": "work", "resources": "[a]"}),
    (2, {"command": "work", "resources": "2:[a]", "image": "busybox"}),
    (2, {"command": "work", "resources": "[2:a]"}),
    (2, {"command": "work", "resources": "[2:a]", "priority": 40}),
    (2, {"command": "work", "resources": "2:[a]"}),
    (1, {"command": "work", "resources": "4:[]"}),
    (2, {"command": "fail", "retry": {"max": 2, "on": ["error"]}}),
    (2, {"command": "work", "resources": "[b]", "retry": {"max": 2, "on": ["node", "error"]}}),
    (2, {"command": "work", "resources": "2:[]", "retry": {"max": 1, "on": ["node"]}, "on_error": "continue"}),
    (2, {"command": "long", "max_duration": "20s", "grace": "4s"}),
    (1, {"command": "deaf", "max_duration": "10s", "grace": "2s"}),
    (2, {"command": "work", "resources": "3:[]", "end": "any"}),
    (1, {"command": "work", "src": "code"}),
    (1, {"command": "work", "git": {"url": "https://example.org/x.git"}, "resources": "2:[]"}),
    (2, {"entry": "work", "parallelism": 2, **PADDLE}),
    (2, {"entry": "work", "parallelism": 2, "faulttolerant": True, **PADDLE}),
    (1, {"entry": "fail", "parallelism": 3, "faulttolerant": True, **PADDLE}),
    (2, {"entry": "work", "min_instance": 1, "max_instance": 4, "gpu": 1, "faulttolerant": True, **PADDLE}),
    (1, {"entry": "work", "min_instance": 1, "max_instance": 3, **PADDLE}),
    (1, {"command": "work", "hold": True}),
    (1, {"command": "work", "priority": 40}),
    (2, {"command": "work", "array": "0-3%2"}),
    (1, {"command": "fail", "array": "0-2", "resources": "[a]"}),
    (
        3,
        {
            "groups": [
                {"name": "server", "count": 1, "command": "serve", "service": True},
                {"name": "worker", "count": 2, "command": "work", "resources": {"gpu": 1}},
            ]
        },
    ),
    (
        2,
        {
            "groups": [
                {"name": "first", "count": 1, "command": "work", "resources": {"gpu": {"a": 1}}},
                {"name": "rest", "count": 1, "command": "work", "resources": {"gpu": 1}},
            ]
        },
    ),
)
AFTERWARDS = ("afterok", "afterany", "afternotok")


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that somebody does, or that goes wrong.

    Attributes:
        what: its kind.
        which: chooses among the jobs or machines that there are then.
        spec: of a job that is submitted.
    """

    at_s: float
    what: str
    which: float = 0.0
    spec: Mapping[str, Any] | None = None
    amount: float = 0.0

    def __str__(self) -> str:
        spec = "" if self.spec is None else f" {json.dumps(self.spec)}"
        return f"{self.at_s:7.3f} {self.what} {self.which:.2f}{spec}"


@dataclass(frozen=True, slots=True)
class Story:
    """A world and what happens in it.

    Attributes:
        machines: for each its GPUs, as UUID and model, and how many processes it takes.
        peaceful: nothing goes wrong that is no deed.
    """

    machines: tuple[tuple[tuple[tuple[str, str], ...], int], ...]
    deeds: tuple[Deed, ...]
    peaceful: bool = False


_WISHES = {
    "kill": 5,
    "hold": 2,
    "release": 2,
    "requeue": 3,
    "priority": 1,
    "extend": 1,
    "look": 1,
    "reserve": 1,
    "drain": 1,
    "limit": 2,
}
_MISFORTUNE = {
    "crash": 4,
    "crash-in-call": 4,
    "crash-again": 1,
    "break": 5,
    "restart-daemon": 2,
    "away": 3,
    "reboot": 2,
    "lose-task": 1,
    "give-up": 2,
    "lose-gpu": 3,
}


def draw(seed: int) -> Story:
    """Return the story of a seed."""
    dice = Random(f"{seed}/story")
    machines = tuple(_machine(dice, f"n{i}") for i in range(dice.randint(2, 3)))
    deeds = [_submission(dice) for _ in range(dice.randint(4, 9))]
    deeds += [_deed(dice, _WISHES) for _ in range(dice.randint(1, 8))]
    deeds += [_deed(dice, _MISFORTUNE) for _ in range(dice.randint(0, 8))]
    deeds = [_beside(dice, deed, deeds) for deed in deeds]
    return Story(machines, tuple(sorted(deeds, key=lambda deed: deed.at_s)))


def _beside(dice: Random, deed: Deed, others: Sequence[Deed]) -> Deed:
    """Have some of what happens happen while something else is being done."""
    if dice.random() < ALONE:
        return deed
    return replace(deed, at_s=dice.choice(others).at_s + dice.random() * CLOSE_S)


def crowd(seed: int, users: int = 1) -> Story:
    """Return a story in which small jobs never cease to come, and one wants all that there is."""
    dice = Random(f"{seed}/crowd")
    machines = tuple((tuple((f"GPU-n{i}-{k}", "a") for k in range(2)), 6) for i in range(2))
    small = {"command": "work", "resources": "[a]", "max_duration": "10s"}
    deeds = [Deed(number * 1.3, "submit", number % users / len(USERS), small) for number in range(60)]
    deeds.append(Deed(10.0 + dice.random() * 10.0, "submit", 0.0, {"command": "work", "resources": "2:[2:a]"}))
    return Story(machines, tuple(sorted(deeds, key=lambda deed: deed.at_s)), peaceful=True)


def rationed(seed: int) -> Story:
    """Return a story in which small jobs never cease to come, and may have one GPU at once for a while."""
    story = crowd(seed)
    return replace(
        story, deeds=tuple(sorted((*story.deeds, Deed(5.0, "limit", amount=0.9)), key=lambda each: each.at_s))
    )


def silence(seed: int) -> Story:
    """Return a story in which a machine is not heard of for so long that its job begins anew elsewhere."""
    dice = Random(f"{seed}/silence")
    spec = {"command": "long", "max_duration": "130s", "retry": {"max": 1, "on": ["node"]}}
    away = [Deed(20.0, "away", which, amount=0.9 + dice.random() * 0.4) for which in (0.0, 0.5)]
    return Story((_machine(dice, "n0"), _machine(dice, "n1")), (Deed(0.0, "submit", 0.0, spec), *away), peaceful=True)


def _machine(dice: Random, name: str) -> tuple[tuple[tuple[str, str], ...], int]:
    model = "a" if name == "n0" else dice.choice("ab")
    gpus = tuple((f"GPU-{name}-{i}", model) for i in range(dice.randint(1, 3)))
    return gpus, dice.randint(3, 6)


def _submission(dice: Random) -> Deed:
    [spec] = dice.choices([spec for _, spec in SHAPES], [weight for weight, _ in SHAPES])
    what = "submit-after" if dice.random() < 0.2 else "submit"
    return Deed(dice.random() * TROUBLE_S * 0.6, what, dice.random(), spec, dice.randrange(3))


def _deed(dice: Random, weights: Mapping[str, int]) -> Deed:
    [what] = dice.choices(list(weights), list(weights.values()))
    return Deed(dice.random() * TROUBLE_S, what, dice.random(), amount=dice.random())
