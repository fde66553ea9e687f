"""How the scheduler says numbers, requests and times."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from jobd.imagename import image_of
from jobd.scheduling.model import DOCKER, SANDBOX, Need, NodeView
from jobd.scheduling.room import NANO, Ask
from jobd.spec.units import format_size

RUNTIME_TITLES = {DOCKER: "Docker", SANDBOX: "a sandbox"}
NAMED_MAX = 3


def counted(count: float, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:g} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def joined(parts: Iterable[str], last: str = "and") -> str:
    """Return parts as people list them."""
    *most, final = parts
    return f"{', '.join(most)} {last} {final}" if most else final


def some(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    found = list(names)
    more = len(found) - NAMED_MAX
    return joined([*found[:NAMED_MAX], f"{more} more"]) if more > 0 else joined(found)


def owned(views: Iterable[NodeView]) -> str:
    """Return whose own nodes are."""
    return some(f"node {view.name} is {view.owner}'s own" for view in views)


def barred(ask: Ask, views: Iterable[NodeView]) -> str:
    """Say of nodes that do not let the image of a process run what they allow instead."""
    names: dict[str, list[str]] = {}
    for view in views:
        names.setdefault(view.images.allowed, []).append(view.name)
    said = (f"{some(nodes)} {'allows' if len(nodes) == 1 else 'allow'} {allowed}" for allowed, nodes in names.items())
    return f"the image {image_of(ask.image)}: {'; '.join(list(said)[:NAMED_MAX])}"


def numbers_of(models: Mapping[str, int]) -> str:
    """Return how many of each model."""
    return joined(f"{count} {model}" for model, count in sorted(models.items()))


def process_of(ask: Ask) -> str:
    """Return what one process asks; "" for nothing."""
    parts = [f"{count} {model}" for model, count in ask.models]
    if ask.any_gpus:
        parts.append(counted(ask.any_gpus, "GPU") + (" of any model" if not ask.models else " more"))
    if ask.nano_cpus:
        parts.append(counted(ask.nano_cpus / NANO, "CPU"))
    if ask.memory_bytes:
        parts.append(f"{format_size(ask.memory_bytes)} of memory")
    if ask.shm_bytes:
        parts.append(f"{format_size(ask.shm_bytes)} of shared memory")
    return joined(parts) if parts else ""


def request_of(needs: tuple[Need, ...]) -> str:
    """Return a request in the form of a cluster request; what that cannot say stands between the brackets as well."""
    return ",".join(_times(need.count, f"[{_process(need)}]") for need in needs)


def _process(need: Need) -> str:
    parts = [_times(count, model or "GPU") for count, model in need.gpus]
    if need.cpus:
        parts.append(counted(need.cpus, "CPU"))
    if need.memory_bytes:
        parts.append(f"{format_size(need.memory_bytes)} of memory")
    return ", ".join(parts)


def _times(count: int, what: str) -> str:
    return what if count == 1 else f"{count}:{what}"


def time_of(time_s: float) -> str:
    """Return a time in UTC, to the next second."""
    return datetime.fromtimestamp(math.ceil(time_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
