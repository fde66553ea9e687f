"""What a job did with its GPUs while it had them: how much they computed, and how much of their memory was in use.

Nodes tell of a GPU when it does something else than before, so a reading counts for as long as it stood. A mean is over
all GPUs of all processes of all attempts; time of which nothing was told is no part of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class GpuUse:
    """Sums over GPUs and time, in GPU-seconds.

    Attributes:
        busy_s: they computed; a GPU that does for half of a second counts half a second.
        busy_told_s: it was told how much they compute.
        full_s: their memory was in use; a GPU of whose memory half is counts half a second in each.
        full_told_s: it was told how much of their memory is in use.
    """

    busy_s: float = 0.0
    busy_told_s: float = 0.0
    full_s: float = 0.0
    full_told_s: float = 0.0

    def __add__(self, other: "GpuUse") -> "GpuUse":
        """Return what both are together."""
        return GpuUse(
            self.busy_s + other.busy_s,
            self.busy_told_s + other.busy_told_s,
            self.full_s + other.full_s,
            self.full_told_s + other.full_told_s,
        )

    @property
    def util_percent(self) -> int | None:
        """How much they computed, on average; None where nothing was told."""
        return _percent(self.busy_s, self.busy_told_s)

    @property
    def memory_percent(self) -> int | None:
        """How much of their memory was in use, on average; None where nothing was told."""
        return _percent(self.full_s, self.full_told_s)


NO_USE = GpuUse()


def _percent(part_s: float, whole_s: float) -> int | None:
    return round(100 * part_s / whole_s) if whole_s else None


def encode_use(use: GpuUse) -> dict[str, float]:
    """Return the sums as JSON values, to be stored."""
    return asdict(use)


def decode_use(value: Mapping[str, float] | None) -> GpuUse:
    """Return the sums that were stored; none where nothing was."""
    return NO_USE if value is None else GpuUse(**value)
