"""Counts what each job does with its GPUs, from the start of each of its processes to its end.

Meters are kept for jobs that run, and rates for nodes that are connected: whatever a node tells, there is no more of it
than the node has jobs and GPUs. Nothing here knows the time; it is told with everything that happens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobd.gpuuse import NO_USE, GpuUse
from jobd.job import Job
from jobd.wire import GpuReading, NodeGpu

Share = float | None


@dataclass(frozen=True, slots=True)
class Rate:
    """What a GPU does at present: which part of the time it computes, which part of its memory is in use."""

    busy: Share = None
    full: Share = None

    def over(self, seconds: float) -> GpuUse:
        """Return what it does in so many seconds."""
        return GpuUse(*_counted(self.busy, seconds), *_counted(self.full, seconds))


def _counted(share: Share, seconds: float) -> tuple[float, float]:
    return (0.0, 0.0) if share is None else (share * seconds, seconds)


def rates(gpus: Iterable[NodeGpu], readings: Mapping[str, GpuReading]) -> dict[str, Rate]:
    """Return what the GPUs of a node do, by UUID; a node may tell any number."""
    found = {}
    for gpu in gpus:
        reading = readings.get(gpu.uuid, GpuReading())
        found[gpu.uuid] = Rate(_share(reading.util_percent, 100), _share(reading.used_bytes, gpu.memory_bytes))
    return found


def _share(part: int | None, whole: int) -> Share:
    return None if part is None or whole <= 0 else min(max(part, 0), whole) / whole


@dataclass(slots=True)
class _Meter:
    """What one process did with its GPUs until a moment."""

    node: str
    gpus: tuple[str, ...]
    until_ns: int
    use: GpuUse = NO_USE

    def now(self, present: Mapping[str, Rate], now_ns: int) -> GpuUse:
        """Return what it did until now, where the GPUs did the same since."""
        seconds = max(0, now_ns - self.until_ns) / 1e9
        return sum((present.get(uuid, Rate()).over(seconds) for uuid in self.gpus), self.use)


@dataclass(slots=True)
class _Account:
    """What one job did: by processes that are gone, and by those that run, by attempt and worker."""

    past: GpuUse
    meters: dict[tuple[int, int], _Meter] = field(default_factory=dict)
    kept: GpuUse = NO_USE


class Meters:
    """All meters of a datacenter. All times are in nanoseconds since the epoch."""

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}
        self._on_node: dict[str, dict[tuple[int, int, int], _Meter]] = {}
        self._rates: dict[str, Mapping[str, Rate]] = {}

    def read(self, node_id: str, present: Mapping[str, Rate], now_ns: int) -> None:
        """A node tells what its GPUs do from now on; without any, nothing is known of them from now on."""
        for meter in self._on_node.get(node_id, {}).values():
            self._settle(meter, now_ns)
        self._rates[node_id] = present
        if not present:
            del self._rates[node_id]

    def follow(self, job: Job, now_ns: int) -> None:
        """A job may have other processes that run than before."""
        account = self._accounts.get(job.id)
        running = {
            (job.life.run(worker), worker): process
            for worker, process in enumerate(job.life.processes)
            if process.gpus and process.started_at_ns is not None and not process.over
        }
        if account is None:
            if not running:
                return
            account = self._accounts[job.id] = _Account(job.gpu_use, kept=job.gpu_use)
        for key in account.meters.keys() - running.keys():
            self._stop(job.id, account, key, now_ns)
        for key in running.keys() - account.meters.keys():
            meter = _Meter(running[key].node, running[key].gpus, now_ns)
            account.meters[key] = self._on_node.setdefault(meter.node, {})[job.id, *key] = meter
        if job.life.state.over:
            del self._accounts[job.id]

    def of(self, job: Job, now_ns: int) -> GpuUse:
        """Return what a job did until now."""
        account = self._accounts.get(job.id)
        return job.gpu_use if account is None else self._sum(account, now_ns)

    def to_keep(self, now_ns: int) -> dict[int, GpuUse]:
        """Return for each job that runs what it did, where that is other than it was the last time."""
        found = {}
        for job_id, account in self._accounts.items():
            use = self._sum(account, now_ns)
            if use != account.kept:
                found[job_id] = account.kept = use
        return found

    def _sum(self, account: _Account, now_ns: int) -> GpuUse:
        meters = account.meters.values()
        return sum((meter.now(self._rates.get(meter.node, {}), now_ns) for meter in meters), account.past)

    def _settle(self, meter: _Meter, now_ns: int) -> None:
        meter.use, meter.until_ns = meter.now(self._rates.get(meter.node, {}), now_ns), now_ns

    def _stop(self, job_id: int, account: _Account, key: tuple[int, int], now_ns: int) -> None:
        meter = account.meters.pop(key)
        self._settle(meter, now_ns)
        account.past += meter.use
        here = self._on_node[meter.node]
        del here[job_id, *key]
        if not here:
            del self._on_node[meter.node]
