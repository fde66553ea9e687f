"""Jobs of all kinds at once over two hosts with GPUs of two models, and what their histories say of who had which GPU.

The nodes are `n1`, which has two of `BIG`, and `n2`, which has four of `SMALL`; the models have aliases. The proof
reads the file `events` of each job and nothing else: neither what the scheduler believes nor what nodes tell of now.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path

BIG, SMALL = "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce GTX 1070"
ALIASES = {"a100": BIG, "gtx1070": SMALL}
GPUS = {"n1": [BIG] * 2, "n2": [SMALL] * 4}

ENDED, FAILED, KILLED = "SUCCEEDED", "FAILED", "CANCELLED"
SHORT, SLEEPY, WRONG, LONG = "exit 0", "sleep 0.2", "exit 3", "exec sleep 600"


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        end: the state in which it ends.
        jobs: how many it makes: an array is one for each task, too.
    """

    name: str
    end: str
    spec: dict[str, object]
    jobs: int = 1


def kinds(image: str) -> list[Kind]:
    """Return jobs as different as they come, one of each kind; those that are killed are among the first."""

    def contained(command: str, **more: object) -> dict[str, object]:
        return {"image": image, "command": command, **more}

    return [
        Kind("killed", KILLED, {"resources": "[2:gtx1070]", "command": LONG}),
        Kind("killed-gang", KILLED, {"resources": "[a100],[gtx1070]", "command": LONG}),
        Kind("alias", ENDED, {"resources": "[gtx1070]", "command": SLEEPY}),
        Kind("model", ENDED, {"groups": [{"resources": {"gpu": {BIG: 1}}}], "command": SHORT}),
        Kind("models", ENDED, {"groups": [{"resources": {"gpu": {SMALL: 3}}}], "command": SLEEPY}),
        Kind("any", ENDED, {"groups": [{"resources": {"gpu": 1}}], "command": SHORT}),
        Kind("any-two", ENDED, {"groups": [{"resources": {"gpu": 2}}], "command": SLEEPY}),
        Kind("any-fails", FAILED, {"groups": [{"resources": {"gpu": 2}}], "command": WRONG}),
        Kind("none", ENDED, {"resources": "[]", "command": SLEEPY}),
        Kind("none-fails", FAILED, {"command": WRONG}),
        Kind("pair", ENDED, {"resources": "2:[gtx1070]", "command": SHORT}),
        Kind("both", ENDED, {"resources": "[a100],[2:gtx1070]", "command": SLEEPY}),
        Kind(
            "both-fails",
            FAILED,
            {
                "groups": [
                    {"resources": {"gpu": {"a100": 1}}, "command": WRONG},
                    {"resources": {"gpu": {"gtx1070": 1}}, "command": LONG},
                ]
            },
        ),
        Kind("array", ENDED, {"resources": "[gtx1070]", "command": SHORT, "array": "0-3%2"}, jobs=5),
        Kind("contained", ENDED, contained(SHORT)),
        Kind("contained-any", ENDED, contained(SLEEPY, groups=[{"resources": {"gpu": 1}}])),
        Kind("contained-fails", FAILED, contained(WRONG, resources="[a100]")),
        Kind("contained-both", ENDED, contained(SHORT, resources="[a100],[gtx1070]")),
        # what follows makes most of many: it costs the machine little
        *(Kind(f"alias{number}", ENDED, {"resources": "[gtx1070]", "command": SHORT}) for number in range(8)),
        *(Kind(f"big{number}", ENDED, {"resources": "[a100]", "command": SHORT}) for number in range(4)),
        *(Kind(f"none{number}", ENDED, {"command": SHORT}) for number in range(6)),
    ]


def workload(jobs: int, image: str) -> Iterator[tuple[str, Kind]]:
    """Go through `jobs` jobs, by their names; each kind is there where they are enough."""
    made = 0
    for number, kind in zip(count(), cycle(kinds(image))):
        if made >= jobs:
            return
        made += kind.jobs
        yield f"{kind.name}-{number}", kind


@dataclass(frozen=True, order=True)
class Hold:
    """A GPU that a job had, from its placement to the end of the last of its processes."""

    gpu: tuple[str, int]
    begins: str
    ends: str
    job: str


@dataclass
class History:
    """What the histories of jobs say.

    Attributes:
        nodes: where each job was.
        holds: what of which GPU each had.
        both: the jobs that were on several nodes at once.
    """

    nodes: dict[str, set[str]] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    both: set[str] = field(default_factory=set)

    def twice(self) -> list[tuple[Hold, Hold]]:
        """Return what contradicts that nobody has what somebody else has."""
        held = sorted(self.holds)
        return [
            (one, other)
            for index, one in enumerate(held)
            for other in held[index + 1 :]
            if one.gpu == other.gpu and other.begins < one.ends
        ]


def read_history(jobs: Iterable[Path]) -> History:
    """Read `events` of jobs, by their directories, and of all tasks of arrays."""
    found = History()
    for job in jobs:
        tasks = [job / "tasks" / name for name in os.listdir(job / "tasks")] if (job / "tasks").is_dir() else []
        for each in (job, *tasks):
            _read(str(each), (each / "events").read_text().splitlines(), found)
    return found


def _read(job: str, lines: list[str], found: History) -> None:
    placed, ended = "", ""
    gpus: list[tuple[str, int]] = []
    nodes: set[str] = set()
    for line in lines:
        time, event, *_ = line.split(" ", 2)
        if event == "placed":
            assert not placed, f"{job} was placed twice"
            placed = time
            for node, numbers in re.findall(r"([^\s=]+)\[(?:cuda ([\d,-]+))?\]", line):
                nodes.add(node)
                gpus += [(node, gpu) for gpu in _numbers(numbers)]
        elif event in ("ended", "start-failed"):
            ended = max(ended, time)
    if not placed:
        return
    assert ended, f"{job} was placed, and has no end: {lines}"
    found.nodes[job] = nodes
    found.holds += [Hold(gpu, placed, ended, job) for gpu in gpus]
    if len(nodes) > 1:
        found.both.add(job)


def _numbers(text: str) -> list[int]:
    """Return the numbers in `0-2,5`."""
    parts = [part.partition("-") for part in text.split(",") if part]
    return [number for first, _, last in parts for number in range(int(first), int(last or first) + 1)]
