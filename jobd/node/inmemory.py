"""Files in memory, by which a program is handed what is nobody else's to read."""

import os


def in_memory(data: bytes) -> int:
    """Return a file without a name that holds `data`, to be read from its start."""
    descriptor = os.memfd_create("pfs", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
