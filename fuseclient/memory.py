"""Memory that a mount keeps: what is freed is used again, and not given back to the system each time.

Bytes of files pass through here in pieces of up to some megabytes. Left to itself, the C library asks the kernel for
most of these anew and returns them at once, and each time the kernel finds and clears every page: a third of the time
that reading costs, and half of it where the server's files are read directly.
"""

import ctypes
import logging

log = logging.getLogger(__name__)

PIECE_BYTES_MAX = 8 * 1024 * 1024  # larger ones are rare, and returned as ever
KEPT_BYTES_MAX = 32 * 1024 * 1024  # of what is free at the end of a heap
HEAPS_MAX = 2  # else there would be one for nearly each thread, and as much kept in each

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # numbers of mallopt(3)


def keep() -> bool:
    """Keep memory from now on; tells whether that can be: it is for the C library of GNU, others go on as ever."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        log.debug("this C library keeps memory in its own way")
        return False
    wanted = ((_MMAP_THRESHOLD, PIECE_BYTES_MAX), (_TRIM_THRESHOLD, KEPT_BYTES_MAX), (_ARENA_MAX, HEAPS_MAX))
    return all(mallopt(number, value) == 1 for number, value in wanted)
