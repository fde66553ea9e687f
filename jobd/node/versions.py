"""Which versions of what runs containers have known ways out of them.

Images are whatever users say, so that the engine is what stands between them and the machine. Its parts tell their
versions; those below the ones here are warned of when the daemon starts, and are attributes of the node for whoever
looks after many. A distribution may have closed a hole without another number, so that nothing is refused.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# of each line of releases the first without holes that are known: CVE-2024-41110; CVE-2024-25621 and CVE-2025-64329;
# CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
CLOSED_IN = {
    "docker": ((26, 1, 5), (27, 1, 1)),
    "containerd": ((1, 7, 29), (2, 0, 7), (2, 1, 5)),
    "runc": ((1, 2, 8), (1, 3, 3)),
}
ATTRIBUTES = {"docker": "dockerVersion", "containerd": "containerdVersion", "runc": "runcVersion"}


def versions_in(answer: Any) -> Mapping[str, str]:
    """Return the versions in what a container engine answers to the question for them, by the names of ATTRIBUTES."""
    found = answer.get("Components") if isinstance(answer, dict) else None
    parts = [part for part in found or () if isinstance(part, dict)]
    named = {str(part.get("Name")).lower(): str(part.get("Version") or "") for part in parts}
    named["docker"] = named.get("engine", "")
    return {attribute: named[name] for name, attribute in ATTRIBUTES.items() if named.get(name)}


def warnings(versions: Mapping[str, str]) -> Iterable[str]:
    """Yield a sentence for each of these versions that has known holes."""
    for name, attribute in ATTRIBUTES.items():
        said = versions.get(attribute, "")
        wanted = _closed_in(name, said)
        if wanted is not None:
            better = ".".join(map(str, wanted))
            yield (
                f"{name} {said} has known ways out of containers, which {better} has not: update it,"
                " unless your distribution has closed them in it"
            )


def _closed_in(name: str, said: str) -> tuple[int, ...] | None:
    """Return the first version without known holes where `said` is older, and None where it is not or tells nothing."""
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", said)
    if numbers is None:
        return None
    found = tuple(int(number or 0) for number in numbers.groups())
    for closed in CLOSED_IN[name]:
        if found[:2] <= closed[:2]:
            return None if found >= closed else closed
    return None
