"""What an engine is told of a container, and what is understood of what an engine tells of itself.

A container has no rights that no image needs, and every limit that the engine can keep.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import docker
import docker.types

from jobd.imagelists import beside_image
from jobd.node.gpus import device_requests
from jobd.node.networks import Joined, attachment
from jobd.node.runtime import Launch
from jobd.node.spool import OUTPUT_BYTES_MAX
from jobd.node.ulimits import limits

PROCESSES_MAX = 4096
SHM_BYTES = 1 << 30  # programs that load data in parallel end with a bus error in the engine's default of 64 MiB
# without these root in an image is none: where the server serves one person, who is root, or the image says who runs
ROOTS_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")


def log_options(output_bytes_max: int) -> dict[str, str]:
    """Return how the engine keeps a container's output.

    Args:
        output_bytes_max: so much of it is kept, as a `Spool` counts; for each 16 KiB of a longer line the engine writes
            down 100 bytes more.
    """
    return {"max-size": str(output_bytes_max + output_bytes_max // 64), "max-file": "2", "compress": "false"}


def container_configuration(
    client: docker.APIClient,
    launch: Launch,
    joined: Joined,
    info: Mapping[str, Any],
    output_bytes_max: int = OUTPUT_BYTES_MAX,
    *,
    has_quota: bool = False,
    most: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return what the engine is told of a container.

    Args:
        joined: how it is in its network.
        info: what the engine tells of itself.
        output_bytes_max: so much of its output is kept.
        has_quota: the engine keeps what it writes within `disk_bytes`.
        most: what the engine can give of limits of processes.
    """
    mounts = [
        docker.types.Mount(volume.target, volume.source, type="bind", read_only=volume.read_only)
        for volume in sorted(launch.volumes, key=lambda volume: volume.target)
    ]
    host = client.create_host_config(
        init=True,
        cap_drop=["ALL"],
        group_add=[str(gid) for gid in launch.gids] or None,
        cap_add=None if launch.uid else list(ROOTS_CAPABILITIES),
        security_opt=["no-new-privileges:true"],
        pids_limit=min(PROCESSES_MAX, launch.processes or PROCESSES_MAX),
        shm_size=SHM_BYTES if launch.shm_bytes is None else launch.shm_bytes,
        nano_cpus=None if launch.cpus is None else round(launch.cpus * 1e9),
        mem_limit=launch.memory_bytes,
        memswap_limit=launch.memory_bytes,
        mounts=mounts,
        ulimits=[
            docker.types.Ulimit(name=name, soft=limit.soft, hard=limit.hard)
            for name, limit in limits(launch, most or {}).items()
        ],
        log_config=docker.types.LogConfig(type="local", config=log_options(output_bytes_max)),
        network_mode=joined.name,
        extra_hosts={name: address for name, address in joined.addresses.items() if name != launch.hostname},
    )
    if has_quota:
        host["StorageOpt"] = {"size": str(launch.disk_bytes)}
    if requests := device_requests(info, launch.gpus):
        host["DeviceRequests"] = requests
    return {
        "image": launch.image,
        # the image's own entry point would take the command for its arguments
        "entrypoint": list(launch.argv[:1]),
        "command": list(launch.argv[1:]),
        "environment": dict(launch.env),
        "working_dir": launch.workdir,
        "hostname": launch.hostname,
        "user": "" if launch.uid is None else f"{launch.uid}:{launch.gid}",
        "healthcheck": {"test": ["NONE"]},
        "host_config": host,
        # older engines read this one, newer ones that of the network
        "mac_address": joined.hardware or None,
        "networking_config": attachment(launch, joined),
    }


def with_lists(launch: Launch, env: Iterable[str]) -> Launch:
    """Return a launch whose lists (`Launch.extended`) have beside them what the image says of them.

    Args:
        env: the variables of the image, each as `name=value`.
    """
    said = dict(each.split("=", 1) for each in env if "=" in each)
    return replace(launch, env=beside_image(launch.env, launch.extended, said))


def may_have_quotas(info: Mapping[str, Any]) -> bool:
    """Tell whether an engine may be able to limit what a container writes; it says so when it is asked to.

    Args:
        info: what it tells of itself.
    """
    status = {str(name): str(value) for name, value in info.get("DriverStatus") or ()}
    on_xfs = info.get("Driver") == "overlay2" and status.get("Backing Filesystem") == "xfs"
    return on_xfs or info.get("Driver") in ("btrfs", "zfs")


def written_at(told: Mapping[str, Any], mounts: str = "") -> list[str]:
    """Return the directories of a container's machine that hold what it writes outside its mounts.

    Args:
        told: what the engine tells of the container; one that keeps its images in containerd tells no layer.
        mounts: what the kernel tells of the container's mounts (`/proc/PID/mountinfo`).
    """
    layer = ((told.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or _layer_in(mounts)
    volumes = [str(mount["Source"]) for mount in told.get("Mounts") or () if mount.get("Type") == "volume"]
    return ([str(layer)] if layer else []) + volumes


def _layer_in(mounts: str) -> str:
    found = re.search(r"^\d+ \d+ \S+ / / .* - overlay \S+ \S*\bupperdir=([^,\s]+)", mounts, re.MULTILINE)
    return "" if found is None else found[1]


def swarm_of(info: Mapping[str, Any], networks: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return what is the same on all machines of the engine's swarm, or "", and whether the engine manages it.

    A worker is not told the swarm's own id; the network that every swarm has for what it publishes has one on all.

    Args:
        info: what the engine tells of itself.
        networks: those that it knows.
    """
    standing = info.get("Swarm") or {}
    if standing.get("LocalNodeState") != "active":
        return "", False
    ingress = [str(network["Id"]) for network in networks if network.get("Ingress")]
    return (ingress[0] if ingress else ""), bool(standing.get("ControlAvailable"))
