"""How a program opens a file: the bits of open(2) in the words of the tree.

They are translated once for each way of opening, of which programs know few: making flags costs as much as all else
that an opening needs.
"""

import functools
import os
from dataclasses import dataclass

from pfs.api import OpenFlags

READING = OpenFlags.READ
_KNOWN = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, slots=True)
class Asked:
    """One opening.

    Attributes:
        nonblocking: a read answers EAGAIN instead of waiting.
        opener: the thread that asks.
    """

    flags: OpenFlags
    nonblocking: bool
    opener: int

    @classmethod
    def of(cls, os_flags: int, opener: int) -> "Asked":
        """Return what was asked by open(2)."""
        return cls(_flags(os_flags & _KNOWN), bool(os_flags & os.O_NONBLOCK), opener)


@functools.cache
def _flags(os_flags: int) -> OpenFlags:
    access = {os.O_RDONLY: OpenFlags.READ, os.O_WRONLY: OpenFlags.WRITE}
    flags = access.get(os_flags & os.O_ACCMODE, OpenFlags.READ | OpenFlags.WRITE)
    for bit, flag in (
        (os.O_CREAT, OpenFlags.CREATE),
        (os.O_EXCL, OpenFlags.EXCLUSIVE),
        (os.O_TRUNC, OpenFlags.TRUNCATE),
        (os.O_APPEND, OpenFlags.APPEND),
    ):
        if os_flags & bit:
            flags |= flag
    return flags
