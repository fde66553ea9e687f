"""What this daemon, and an engine on this machine, can give their tasks of the limits of `jobd.node.ulimits`.

Only who has the right of it gives more than it has itself, which root in a container, or an engine without root, has
not: it would fail to start anything. Nobody gives more open files than the kernel knows.
"""

import re
import resource
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from jobd.node.ulimits import CORE, MEMLOCK, NOFILE, STACK

DOOR_TIMEOUT_S = 5.0

_KINDS = {
    NOFILE: resource.RLIMIT_NOFILE,
    STACK: resource.RLIMIT_STACK,
    MEMLOCK: resource.RLIMIT_MEMLOCK,
    CORE: resource.RLIMIT_CORE,
}
_CAP_SYS_RESOURCE = 24
# of a process that is in no user namespace of its own
_ALL_USERS = ["0", "0", "4294967295"]


def of_daemon() -> Mapping[str, int]:
    """Return what this process may have at the most."""
    return {name: resource.getrlimit(kind)[1] for name, kind in _KINDS.items()}


def of_engine(engine_url: str) -> Mapping[str, int]:
    """Return what the engine that listens at a Unix socket can give; nothing of what has no end, or is not known."""
    try:
        pid = peer(engine_url)
        rights = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        users = Path(f"/proc/{pid}/uid_map").read_text().split()
        if rights is not None and int(rights[1], 16) >> _CAP_SYS_RESOURCE & 1 and users == _ALL_USERS:
            return {NOFILE: int(Path("/proc/sys/fs/nr_open").read_text())}
        return {name: resource.prlimit(pid, kind)[1] for name, kind in _KINDS.items()}
    except (OSError, ValueError):
        return {}


def peer(engine_url: str) -> int:
    """Return which process listens at a Unix socket.

    Raises:
        OSError: none does.
    """
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(DOOR_TIMEOUT_S)
        door.connect(engine_url.removeprefix("unix://"))
        found: tuple[int, int, int] = struct.unpack("iII", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return found[0]
