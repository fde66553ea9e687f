"""How facts about jobs and machines are written: flat-keyed texts, tables, times, places.

A text of facts has one "key value" a line, and no value for what is not known. A table has two blanks or more between
its columns, and none within a cell, so that people and programs can read it. No text contains a running clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jobd.gpuuse import NO_USE
from jobd.job import Job
from jobd.life.model import Process
from jobd.scheduling.model import Need
from jobd.scheduling.words import request_of
from jobd.spec.model import JobSpec

NOTHING = "-"


def time_text(time_ns: int | None) -> str:
    """Return a moment as `2026-01-31T12:00:00Z`; "" for None."""
    if time_ns is None:
        return ""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_text(time_ns: int) -> str:
    """Return a moment to the microsecond, so that what happened one after the other can be told apart."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06}Z"


def one_line(value: object) -> str:
    """Return a value without ends of lines and with single blanks."""
    return " ".join(str(value).split())


def flat(facts: Mapping[str, object]) -> str:
    """Return facts as text; a fact that is None is left out."""
    known = {key: one_line(value) for key, value in facts.items() if value is not None}
    return "".join(f"{key} {value}".rstrip() + "\n" for key, value in known.items())


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows in columns, under their header; the last column is as wide as it needs."""
    lines = [list(header), *([one_line(cell) or NOTHING for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) + "\n"
        for line in lines
    )


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers in order with those that follow one another together: `0-2,5`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def request_text(spec: JobSpec) -> str:
    """Return what a job asks for as a cluster request, with what such a one cannot say."""
    needs = [Need(group.count, group.cpus, group.memory_bytes, group.gpus, group.image or "") for group in spec.groups]
    return request_of(tuple(needs)).replace(", ", ",")


def gpu_number(gpu: Mapping[str, Any]) -> str:
    """Return the number of a GPU on its node, of an instance of one that is divided with the number of that: `0.2`."""
    instance = gpu.get("instance")
    return str(gpu["index"]) if instance is None else f"{gpu['index']}.{instance}"


def place_text(processes: Sequence[Process], names: Mapping[str, str], numbers: Mapping[str, str]) -> str:
    """Return where processes run: `n0[cuda 0-3] + n1[]`.

    Args:
        names: of nodes, by id.
        numbers: of GPUs on their nodes, by UUID.
    """
    gpus: dict[str, list[str]] = {}
    for process in processes:
        if process.node:
            gpus.setdefault(process.node, []).extend(process.gpus)
    parts = []
    for node, uuids in gpus.items():
        there = [numbers[uuid] for uuid in uuids if uuid in numbers]
        whole = ranges(int(number) for number in there if number.isdigit())
        known = ",".join(filter(None, [whole, *sorted(number for number in there if not number.isdigit())]))
        parts.append(f"{names.get(node, node)}[{f'cuda {known}' if known else ''}]")
    return " + ".join(parts)


def mean_texts(job: Job) -> tuple[str, str]:
    """Return how much a job that is over computed on its GPUs, and had of their memory, on average; "" for unknown."""
    use = job.gpu_use if job.life.state.over else NO_USE
    return _percent(use.util_percent), _percent(use.memory_percent)


def _percent(percent: int | None) -> str:
    return "" if percent is None else f"{percent}%"
