"""The machine's GPUs, asked of NVIDIA's own library, and how tasks get theirs.

A machine without the library or without its driver has none, and that is not worth a word; one that has both and does
not work is. A GPU that cannot tell of itself is left out: the others are as good as before.

A container gets its GPUs from the engine; a process in a sandbox gets the files below /dev that lead to them. Both
name them by UUID, which stays the same whatever is plugged in or fails.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from jobd.wire import NodeGpu

log = logging.getLogger(__name__)

# what all GPUs of a machine are used through, where it has it
_COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_NONE_HERE = (
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_NOT_FOUND,
)
_CDI_KIND = "nvidia.com/gpu="
_RUNTIME = "nvidia"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        minor: the number of its file: `/dev/nvidia<minor>`.
    """

    told: NodeGpu
    minor: int


def find() -> list[Gpu]:
    """Return the GPUs of this machine, in the order of the PCI bus. It may take seconds: drivers wake up for it."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value not in _NONE_HERE:
            log.warning("the GPUs of this machine cannot be used: %s", error)
        return []
    try:
        count = int(pynvml.nvmlDeviceGetCount())
        return [gpu for index in range(count) if (gpu := _look(index)) is not None]
    except pynvml.NVMLError as error:
        log.warning("the GPUs of this machine cannot be used: %s", error)
        return []
    finally:
        pynvml.nvmlShutdown()


def _look(index: int) -> Gpu | None:
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
        told = NodeGpu(
            uuid=_text(pynvml.nvmlDeviceGetUUID(device)),
            index=index,
            model=_text(pynvml.nvmlDeviceGetName(device)),
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(device).total),
        )
        return Gpu(told, int(pynvml.nvmlDeviceGetMinorNumber(device)))
    except pynvml.NVMLError as error:
        log.warning("GPU %d of this machine cannot be used: %s", index, error)
        return None


def _text(value: str | bytes) -> str:
    """Return a text of the library, which some versions of its binding give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def device_files(minors: Mapping[str, int], uuids: Sequence[str], devices: Path = Path("/dev")) -> list[str]:
    """Return the files that a process needs for its GPUs.

    Args:
        minors: number of each GPU's file, by UUID.
        uuids: of the process's GPUs.
    """
    if not uuids:
        return []
    wanted = [devices / f"nvidia{minors[uuid]}" for uuid in uuids if uuid in minors]
    return [str(path) for path in (*wanted, *(devices / name for name in _COMMON)) if path.exists()]


def device_requests(info: Mapping[str, Any], uuids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what an engine is asked for a container's GPUs; nothing where it knows no way to give them.

    Args:
        info: what the engine tells of itself (`GET /info`).
    """
    if not uuids:
        return []
    offered = {str(device.get("ID")) for device in info.get("DiscoveredDevices") or ()}
    by_cdi = [f"{_CDI_KIND}{uuid}" for uuid in uuids]
    if offered.issuperset(by_cdi):
        return [{"Driver": "cdi", "DeviceIDs": by_cdi}]
    if _RUNTIME in (info.get("Runtimes") or ()):
        return [{"DeviceIDs": list(uuids), "Capabilities": [["gpu"]]}]
    return []
