"""What a node tells of its machine, in the form that users of gradient-node select nodes by."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import trio


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
        "kernelVersion": os.uname().release,
        "gradientNodeVersion": version,
    }


def offer(cpus: float | None, memory_bytes: int | None, max_processes: int) -> Mapping[str, object]:
    """Return what the node offers to jobs.

    Args:
        cpus, memory_bytes: None offers what the machine has.
    """
    if memory_bytes is None:
        found = parse_meminfo(Path("/proc/meminfo").read_text())
        memory_bytes = int(found.removesuffix(" kB") or 0) * 1024
    return {
        "offerCpus": float(len(os.sched_getaffinity(0))) if cpus is None else cpus,
        "offerMemory": memory_bytes,
        "maxProcesses": max_processes,
    }


async def own_address(url: str) -> str:
    """Return the address that this machine has on its way to a server; "" where there is no way now.

    Nothing is sent: the kernel is only asked which way it would go.

    Args:
        url: of the server.
    """
    server = urlsplit(url)
    try:
        found = await trio.socket.getaddrinfo(server.hostname, server.port or 443, type=trio.socket.SOCK_DGRAM)
        family, kind, _, _, place = found[0]
        with trio.socket.socket(family, kind) as probe:
            await probe.connect(place)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""


def parse_cpuinfo(text: str) -> Mapping[str, str]:
    """Return model and flags of the first processor in the text of /proc/cpuinfo; "" for what it does not tell."""
    found = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*?)\s*$", text.partition("\n\n")[0], re.MULTILINE))
    return {"cpuModel": found.get("model name", ""), "cpuFlags": found.get("flags", found.get("Features", ""))}


def parse_meminfo(text: str) -> str:
    """Return the memory in the text of /proc/meminfo, as written there: `8156872 kB`."""
    found = re.search(r"^MemTotal:\s*(\d+ kB)$", text, re.MULTILINE)
    return found[1] if found else ""
