"""What a node tells of its machine, in the form that users of gradient-node select nodes by."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path


def machine_attrs(version: str) -> Mapping[str, object]:
    """Return the attributes of this machine.

    Args:
        version: of the daemon.
    """
    return {
        "cpuHostname": socket.gethostname(),
        "cpuCount": len(os.sched_getaffinity(0)),
        **parse_cpuinfo(Path("/proc/cpuinfo").read_text(errors="replace")),
        "cpuMem": parse_meminfo(Path("/proc/meminfo").read_text()),
        "gradientNodeVersion": version,
    }


def parse_cpuinfo(text: str) -> Mapping[str, str]:
    """Return model and flags of the first processor in the text of /proc/cpuinfo; "" for what it does not tell."""
    found = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*?)\s*$", text.partition("\n\n")[0], re.MULTILINE))
    return {"cpuModel": found.get("model name", ""), "cpuFlags": found.get("flags", found.get("Features", ""))}


def parse_meminfo(text: str) -> str:
    """Return the memory in the text of /proc/meminfo, as written there: `8156872 kB`."""
    found = re.search(r"^MemTotal:\s*(\d+ kB)$", text, re.MULTILINE)
    return found[1] if found else ""
