"""One file, there or here, as one in a folder that is copied: with its time and the right to run; a large one goes on.

Whether it has to travel at all, who asks decides.
"""

import os

from cli.files import large, local, remote
from cli.files.copied import Counter, Done, Progress
from cli.files.plan import Node
from cli.files.remote import Client
from pfs.errors import PfsError
from pfs.path import parent_and_name
from pfs.protocol.parcels import Parcel, Verb


class RefusedError(PfsError):
    """The server does not take a file; UNSUPPORTED where it would make something of it, such as a job of a spec."""

    def __init__(self, error: PfsError) -> None:
        super().__init__(error.kind, error.message)


def send(client: Client, source: str, path: str, progress: Progress) -> int:
    """Let a file of the datacenter be as one of this machine; return how many bytes travelled.

    Args:
        source: a regular file.
        progress: is told how many bytes of a large file, of how many, are there.

    Raises:
        RefusedError: the server does not take it.
        OSError: it cannot be read.
        ChangedError: somebody writes to it.
    """
    parent, name = parent_and_name(path)
    size, done, data = os.stat(source).st_size, Done(), b""
    if size >= large.LARGE_BYTES:
        part = local.part_of(path)
        there = remote.look(client, part)
        node, _ = large.send(
            client, source, part, there.size if there is not None else 0, Counter(done, size, progress)
        )
        parcel = Parcel(Verb.PART, name, node.size, node.mode, node.mtime_ns, parent_and_name(part)[1])
    else:
        data, node = local.read_whole(source)
        parcel = Parcel(Verb.FILE, name, len(data), node.mode, node.mtime_ns)
    for error in remote.send(client, parent, [(parcel, data)]):
        raise RefusedError(error)
    return done.copied_bytes + len(data)


def fetch(client: Client, path: str, target: str, node: Node, progress: Progress) -> int:
    """Let a file of this machine be as one of the datacenter; return how many bytes travelled.

    Args:
        node: what is told of that one.
        progress: is told how many bytes of a large file, of how many, are here.

    Raises:
        OSError: it cannot be written.
    """
    if node.size >= large.LARGE_BYTES:
        done = Done()
        large.fetch(client, path, target, node, Counter(done, node.size, progress))
        return done.copied_bytes
    parent, name = parent_and_name(path)
    small = ((found, data) for _, found, data in remote.fetch(client, parent, [name]))
    found, data = next(small, None) or (node, client.read(path))  # or it is told why not
    local.write_whole(target, data, found)
    return len(data)
