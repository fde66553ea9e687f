"""What the kernel says of a container that ran out of memory.

An engine learns of that by an event beside the one that a process ended; where both come at once, or the machine is
busy, the first may be late or lost. The kernel writes it into its own log before it ends the process: who died, and in
which container. Where that log may not be read (another machine's engine, a node without the rights) the engine's word
is all there is.
"""

import errno
import logging
import os
import re
from collections.abc import Iterator

log = logging.getLogger(__name__)

KERNEL_LOG = "/dev/kmsg"
RECORD_BYTES = 8192  # the kernel gives no longer one
_DIED = re.compile(rb"^[^;]*;oom-kill:\S*?,task_memcg=(\S+?),task=")


def ran_out_of_memory(container_id: str, path: str = KERNEL_LOG) -> bool:
    """Tell whether the kernel ended a process of a container for want of memory, as far as its log goes back.

    Args:
        container_id: the engine's 64 digits for it.
        path: of the kernel's log.
    """
    try:
        return any(container_id.encode() in group for group in _groups_that_lost(path))
    except OSError as error:
        log.debug("%s does not say why %s ended: %s", path, container_id, error.strerror)
        return False


def _groups_that_lost(path: str) -> Iterator[bytes]:
    """Go through the control groups of the processes that the kernel ended for want of memory."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while record := _next_record(fd):
            died = _DIED.match(record)
            if died:
                yield died[1]
    finally:
        os.close(fd)


def _next_record(fd: int) -> bytes:
    """Return the next record; nothing at the end."""
    while True:
        try:
            return os.read(fd, RECORD_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EPIPE:  # the kernel has let go of what came next: there is later
                raise
