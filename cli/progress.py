"""How far something is that takes a while: a bar on a terminal, and nothing where stderr goes into a file."""

import sys
import time

BAR_BYTES_MIN = 4 * 1024 * 1024  # less is there before anybody has seen how far it is
BAR_COLUMNS = 30
BAR_EVERY_S = 0.1


class Transfer:
    """How far some bytes are; on a terminal a bar shows it where that takes a while.

    Args:
        name: as it is shown.
        size: in bytes, None where that is not known.
        done: bytes that are there already.
        is_shown: also where there is a terminal; it is not where the bytes themselves go there.
    """

    def __init__(self, name: str, size: int | None, done: int = 0, *, is_shown: bool = True) -> None:
        self._name = name.rpartition("/")[2]
        self._begun = done
        self.size = size
        self.done = done
        self._is_shown = is_shown
        self._shown_s = 0.0

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown_s:
            self._show()
            sys.stderr.write("\n")

    def moved(self, count: int) -> None:
        """Count bytes."""
        self.reach(self.done + count, self.size)

    def reach(self, done: int, size: int | None) -> None:
        """Tell how many bytes there are now, and how many there will be."""
        self.done, self.size = done, size
        takes_long = (done if size is None else size) - self._begun >= BAR_BYTES_MIN
        if self._is_shown and takes_long and sys.stderr.isatty() and time.monotonic() - self._shown_s >= BAR_EVERY_S:
            self._show()

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        sys.stderr.write(f"\r{bar(self._name, self.done, self.size)}")
        sys.stderr.flush()


def bar(name: str, done: int, size: int | None) -> str:
    """Return how far something is, as one line."""
    text = f"{name[:30]:<30} {done / 2**20:.1f}"
    if not size:
        return f"{text} MiB"
    filled = min(BAR_COLUMNS, BAR_COLUMNS * done // size)
    return f"{text} of {size / 2**20:.1f} MiB [{'#' * filled:<{BAR_COLUMNS}}] {100 * done // size:3}%"
