"""From what a machine told of itself to what the scheduler counts with."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jobd.job import Job
from jobd.scheduling.scheduler import NodeView

PROCESSES_MAX = 64


def node_view(
    node_id: str, name: str, attrs: Mapping[str, Any], runtimes: Iterable[str], *, online: bool, jobs: Iterable[Job]
) -> NodeView:
    """Return a node with what `jobs`, those that were given to it and are not over, use of it."""
    groups = [job.spec.groups[0] for job in jobs]
    return NodeView(
        node_id=node_id,
        name=name,
        online=online,
        runtimes=frozenset(runtimes),
        cpus=float(attrs.get("cpuCount", 0)),
        memory_bytes=_memory_bytes(str(attrs.get("cpuMem", ""))),
        max_processes=PROCESSES_MAX,
        used_cpus=sum(group.cpus or 0.0 for group in groups),
        used_memory_bytes=sum(group.memory_bytes or 0 for group in groups),
        used_processes=len(groups),
    )


def _memory_bytes(text: str) -> int:
    """Read the form of /proc/meminfo, which is that of the attribute: `8156872 kB`."""
    found = re.fullmatch(r"(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0
