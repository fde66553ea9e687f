"""One large file, there or here: it comes to a name beside its own, and goes on where it was cut.

What is there of it already is compared chunk by chunk, by checksums, and the first one that differs is where it goes
on: so nothing but the rest travels, and a part of another file, or one that a crash has torn, does no harm.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress

from cli.files import remote
from cli.files.copied import Counter
from cli.files.local import READ_BYTES, ChangedError, finish_part, node_of, part_of
from cli.files.plan import Node
from cli.files.remote import Client
from pfs.errors import Kind, PfsError

LARGE_BYTES = 8 * 1024 * 1024  # from there on a file travels alone
CHUNK_BYTES = 16 * 1024 * 1024
CHUNKS_AT_ONCE = 64


def send(client: Client, source: str, part: str, there: int, counter: Counter) -> tuple[Node, int]:
    """Let a part be all of a file of this machine; return what is told of that, and how many bytes were sent.

    Args:
        part: the path in the datacenter.
        there: how many bytes it has already.

    Raises:
        OSError: it cannot be read.
        ChangedError: somebody writes to it.
    """
    with open(source, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        done = _agreeing(client, part, file.fileno(), min(there, before.st_size), counter)
        size = before.st_size - done
        if size or there > before.st_size:
            remote.send_rest(client, part, done, size, _pieces(file.fileno(), source, done, size, counter))
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ChangedError(source)
        return node_of(after), size


def _pieces(fd: int, path: str, offset: int, size: int, counter: Counter) -> Iterator[bytes]:
    while size > 0:
        data = os.pread(fd, min(size, READ_BYTES), offset)
        if not data:
            raise ChangedError(path)
        offset, size = offset + len(data), size - len(data)
        yield data
        counter.travelled(len(data))


def fetch(client: Client, path: str, target: str, node: Node, counter: Counter) -> int:
    """Let a file of this machine be as one of the datacenter; return how many bytes came.

    Args:
        node: what is told of that one; if it is another by the time that all has come, nothing gets its name.

    Raises:
        OSError: it cannot be written.
    """
    part = part_of(target)
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, node.mode & 0o777)
    try:
        had = os.fstat(fd).st_size
        done = _agreeing(client, path, fd, min(had, node.size), counter)
        if had > done:  # a file that was cut to nothing is written to the disk when it is closed, however large
            os.ftruncate(fd, done)
        came = 0
        if done < node.size:
            with remote.fetch_rest(client, path, done) as pieces:
                for piece in pieces:
                    _write(fd, piece, done + came)
                    came += len(piece)
                    counter.travelled(len(piece))
        now = remote.look(client, path)
        if now is None or (now.size, now.mtime_ns) != (node.size, node.mtime_ns) or done + came != node.size:
            raise PfsError(Kind.BUSY, "it changes while it is read; copy it when it is written", path)
    except OSError as error:
        if error.errno == errno.ENOSPC:  # what came would only be in the way
            with suppress(OSError):
                os.unlink(part)
        raise
    finally:
        os.close(fd)
    finish_part(part, target, node)
    return came


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _agreeing(client: Client, path: str, fd: int, size: int, counter: Counter) -> int:
    """Return how many of the first bytes are the same in a file here and one there, by whole chunks."""
    done = 0
    while done < size:
        asked = min(size - done, CHUNKS_AT_ONCE * CHUNK_BYTES)
        told = remote.sums(client, path, done, asked, CHUNK_BYTES)
        if not told:
            return done
        for theirs in told:
            chunk = min(CHUNK_BYTES, size - done)
            if chunk <= 0 or _sum(fd, done, chunk) != theirs:
                return done
            done += chunk
            counter.there(chunk)
    return done


def _sum(fd: int, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0 and (data := os.pread(fd, min(size, READ_BYTES), offset)):
        digest.update(data)
        offset, size = offset + len(data), size - len(data)
    return digest.hexdigest()
