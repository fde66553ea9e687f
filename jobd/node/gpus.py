"""The machine's GPUs, asked of NVIDIA's own library, and how tasks get theirs.

A machine without the library or without its driver has none, and that is not worth a word. A GPU that is divided into
instances (MIG) is not used as a whole: its instances are GPUs of their own, that share what ails it.

The library is let go of after each look: while somebody holds it, a GPU cannot be reset, and a driver that was loaded
anew is not seen. A container gets its GPUs from the engine; a process in a sandbox gets the files below /dev that lead
to them. Both name them by UUID, which stays the same whatever is plugged in or fails.
"""

import _ctypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

from jobd.node.health import LOST, RESET_NEEDED, Signs, ailment
from jobd.wire import GpuReading, NodeGpu

# what all GPUs of a machine are used through, where it has it
_COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_NONE_HERE = (
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_NOT_FOUND,
)
# what a GPU may not know of itself, or only tell others
_UNTOLD = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_NO_DATA,
)
_WORDS = {pynvml.NVML_ERROR_GPU_IS_LOST: LOST, pynvml.NVML_ERROR_RESET_REQUIRED: RESET_NEEDED}
_CDI_KIND = "nvidia.com/gpu="
_RUNTIME = "nvidia"
_MIG_MINORS = Path("/proc/driver/nvidia-caps/mig-minors")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        files: those below /dev that are its own.
    """

    told: NodeGpu
    files: tuple[str, ...]
    serial: str = ""
    reading: GpuReading = field(default_factory=GpuReading)


@dataclass(frozen=True, slots=True)
class Look:
    """What there is at some moment.

    Attributes:
        silent: GPUs of which nothing is told but why, by their numbers.
        failure: why nothing is told of any GPU; "" where something is.
        absent: there is no driver, and maybe never was.
    """

    gpus: tuple[Gpu, ...] = ()
    silent: Mapping[int, str] = field(default_factory=dict)
    driver: str = ""
    failure: str = ""
    absent: bool = False


def look() -> Look:
    """Ask for the GPUs of this machine, in the order of the PCI bus. It may take seconds: drivers wake up for it."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            _let_go_of_the_library()
        return Look(failure=f"the driver does not work: {error}", absent=error.value in _NONE_HERE)
    try:
        return _look_at_all()
    except pynvml.NVMLError as error:
        return Look(failure=f"the driver does not work: {error}")
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _let_go_of_the_library() -> None:
    """Have the next look load the library from disk: one that was updated with its driver fits again."""
    _ctypes.dlclose(pynvml.nvmlLib._handle)
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()


def _look_at_all() -> Look:
    found: list[Gpu] = []
    silent: dict[int, str] = {}
    for index in range(int(pynvml.nvmlDeviceGetCount())):
        try:
            found += _look_at(index)
        except pynvml.NVMLError as error:
            silent[index] = _words(error)
    return Look(tuple(found), silent, _text(_told(pynvml.nvmlSystemGetDriverVersion) or ""))


def _words(error: pynvml.NVMLError) -> str:
    return _WORDS.get(error.value, f"its driver does not tell of it: {error}")


def _look_at(index: int) -> Iterator[Gpu]:
    """Give a GPU, or its instances where it is divided.

    Raises:
        NVMLError: it does not even say which it is.
    """
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    whole = _told_of(device, index)
    minor = _told(pynvml.nvmlDeviceGetMinorNumber, device)
    files = () if minor is None else (f"nvidia{int(minor)}",)
    serial = _text(_told(pynvml.nvmlDeviceGetSerial, device) or "")
    ill = _ill(device)
    if not _is_divided(device):
        yield Gpu(_with(whole, ill=ill), files, serial, _reading(device, device))
        return
    caps = _caps(_MIG_MINORS)
    for number in range(int(_told(pynvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0)):
        part = _told(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device, number)
        if part is None:
            continue
        told = _told_of(part, index)
        # a part is never mistaken for the whole, whatever the driver calls it
        model = told.model if "MIG" in told.model else f"{whole.model} MIG {round(told.memory_bytes / 2**30)}gb"
        own = _cap_files(caps, index, part)
        yield Gpu(
            NodeGpu(told.uuid, index, model, told.memory_bytes, number, whole.uuid, ill),
            (*files, *own),
            serial,
            _reading(part, device),
        )


def _told_of(device: Any, index: int) -> NodeGpu:
    return NodeGpu(
        uuid=_text(pynvml.nvmlDeviceGetUUID(device)),
        index=index,
        model=_text(pynvml.nvmlDeviceGetName(device)),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(device).total),
    )


def _with(gpu: NodeGpu, *, ill: str) -> NodeGpu:
    return NodeGpu(gpu.uuid, gpu.index, gpu.model, gpu.memory_bytes, gpu.instance, gpu.parent, ill)


def _is_divided(device: Any) -> bool:
    mode = _told(pynvml.nvmlDeviceGetMigMode, device)
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _told(ask: Callable[..., Any], *args: Any) -> Any | None:
    """Return what is told; None where this GPU, driver or library does not tell that.

    Raises:
        NVMLError: the GPU does not answer at all.
    """
    try:
        return ask(*args)
    except pynvml.NVMLError as error:
        if error.value in _UNTOLD:
            return None
        raise


def _ill(device: Any) -> str:
    """Say why a GPU is not well; "" while it is."""
    try:
        remapped = _told(pynvml.nvmlDeviceGetRemappedRows, device) or (0, 0, 0, 0)
        wrong, since_load = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        signs = Signs(
            uncorrected=int(_told(pynvml.nvmlDeviceGetTotalEccErrors, device, wrong, since_load) or 0),
            remap_pending=bool(remapped[2]),
            remap_failed=bool(remapped[3]),
            retirement_pending=bool(_told(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, device)),
            recovery=_recovery(device),
        )
    except pynvml.NVMLError as error:
        return _words(error)
    return ailment(signs)


def _recovery(device: Any) -> int:
    values = _told(pynvml.nvmlDeviceGetFieldValues, device, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    return 0 if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS else int(values[0].value.uiVal)


def _reading(device: Any, whole: Any) -> GpuReading:
    """Return what a GPU does; an instance has the temperature of the whole."""
    try:
        util = _told(pynvml.nvmlDeviceGetUtilizationRates, device)
        temperature = _told(pynvml.nvmlDeviceGetTemperature, whole, pynvml.NVML_TEMPERATURE_GPU)
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        computing = _told(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, device) or []
        drawing = _told(pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, device) or []
    except pynvml.NVMLError:
        return GpuReading()  # why is told by its health
    return GpuReading(
        None if util is None else int(util.gpu),
        None if temperature is None else int(temperature),
        int(memory.used),
        {int(each.pid): _number(each.usedGpuMemory) for each in [*drawing, *computing]},
    )


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _caps(path: Path) -> dict[str, str]:
    """Return the numbers of the files through which instances are reached: `gpu0/gi1/ci0/access` → `12`."""
    try:
        return dict(re.findall(r"^(gpu\S+) (\d+)$", path.read_text(), re.MULTILINE))
    except OSError:
        return {}


def _cap_files(caps: Mapping[str, str], index: int, part: Any) -> list[str]:
    outer = _told(pynvml.nvmlDeviceGetGpuInstanceId, part)
    inner = _told(pynvml.nvmlDeviceGetComputeInstanceId, part)
    names = (f"gpu{index}/gi{outer}/access", f"gpu{index}/gi{outer}/ci{inner}/access")
    return [f"nvidia-caps/nvidia-cap{caps[name]}" for name in names if name in caps]


def _text(value: str | bytes) -> str:
    """Return a text of the library, which some versions of its binding give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def gpu_attrs(gpus: Sequence[Gpu], driver: str) -> Mapping[str, str]:
    """Return what users of gradient-node select nodes with GPUs by; nothing where there are none.

    `gpuMem` is that of the smallest, in the form of `cpuMem`.
    """
    if not gpus:
        return {}
    return {
        "gpuCount": str(len(gpus)),
        "gpuDevice": _each(f"/dev/{file}" for gpu in gpus for file in gpu.files[:1]),
        "gpuDriver": driver,
        "gpuMem": f"{min(gpu.told.memory_bytes for gpu in gpus) // 1024} kB",
        "gpuModel": _each(gpu.told.model for gpu in gpus),
        "gpuName": _each(gpu.told.model for gpu in gpus),
        "gpuSerial": _each(gpu.serial for gpu in gpus),
    }


def _each(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, texts)))


def device_files(own: Mapping[str, Sequence[str]], uuids: Sequence[str], devices: Path = Path("/dev")) -> list[str]:
    """Return the files that a process needs for its GPUs.

    Args:
        own: the files below `devices` of each GPU, by UUID.
        uuids: of the process's GPUs.
    """
    if not uuids:
        return []
    names = dict.fromkeys([name for uuid in uuids for name in own.get(uuid, ())] + list(_COMMON))
    return [str(path) for path in (devices / name for name in names) if path.exists()]


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
