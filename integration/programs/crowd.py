"""Reads a stream by many threads at once, each with an opening of its own: crowd.py PATH THREADS.

Prints a line as each is let go: what it read, or by which errno it was refused.
"""

import errno
import os
import resource
import sys
import threading

STACK_BYTES = 64 * 1024


def read(path: str) -> None:
    """Read once, and say what came of it."""
    try:
        came = os.read(os.open(path, os.O_RDONLY), 64).decode().strip()
    except OSError as error:
        came = errno.errorcode[error.errno or 0]
    os.write(1, f"{came}\n".encode())


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.stack_size(STACK_BYTES)
    threads = [threading.Thread(target=read, args=(sys.argv[1],)) for _ in range(int(sys.argv[2]))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
