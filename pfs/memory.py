"""Memory for pieces of files: what a process keeps of it, and what it gives back to the system.

Left to itself, the C library changes its mind: at first it asks the kernel for each large piece anew and returns it at
once, later on it keeps whatever was freed. What is right depends on who we are, and does not change:

    a mount    has one user's few pieces on their way at a time. Finding and clearing their pages anew each time is a
               third of what reading costs, and half of it where the server's files are read directly: it keeps them
    a server   has many clients, each of which may want much for a moment. It gives back what is large, and holds as
               much as it needs
"""

import ctypes
import logging

log = logging.getLogger(__name__)

KEPT_PIECE_BYTES_MAX = 8 * 1024 * 1024  # larger ones are rare, and returned as ever
RETURNED_PIECE_BYTES_MIN = 1024 * 1024
KEPT_BYTES_MAX = 32 * 1024 * 1024  # of what is free at the end of a heap
HEAPS_MAX = 2  # else there would be one for nearly each thread, and as much kept in each

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # numbers of mallopt(3)


def keep_pieces() -> bool:
    """Keep freed pieces from now on; tells whether that can be: other C libraries than that of GNU go on as ever."""
    return _set((_MMAP_THRESHOLD, KEPT_PIECE_BYTES_MAX), (_TRIM_THRESHOLD, KEPT_BYTES_MAX), (_ARENA_MAX, HEAPS_MAX))


def return_pieces() -> bool:
    """Give freed pieces back from now on; tells whether that can be, as `keep_pieces` does."""
    return _set((_MMAP_THRESHOLD, RETURNED_PIECE_BYTES_MIN), (_ARENA_MAX, HEAPS_MAX))


def _set(*wanted: tuple[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        log.debug("this C library keeps memory in its own way")
        return False
    return all(mallopt(number, value) == 1 for number, value in wanted)
