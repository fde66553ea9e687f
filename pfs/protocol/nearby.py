"""The server's files on the server's own machine: descriptors instead of bytes, for whoever shows a proof.

The server listens on a Unix socket (`pfs.server.localfd`); its path is told over the channel. Where that socket can be
reached, the two are on one machine, and a file that is open there is handed over as a descriptor for reading.

    question  name of the session, 16 bytes | handle, 8 bytes | nonce, 16 bytes | proof of the asker, 32 bytes
    answer    proof of the giver, 32 bytes, with a descriptor; or nothing, and the connection ends

Both proofs are keyed with the session's secret, which is never sent: something else may listen at that path on a
machine which is not the server's, and must neither learn the secret nor give us a file for the server's.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import trio

TIMEOUT_S = 2.0
NAME_BYTES = NONCE_BYTES = 16
PROOF_BYTES = 32
QUESTION = struct.Struct(f">{NAME_BYTES}sQ{NONCE_BYTES}s{PROOF_BYTES}s")


async def descriptor(socket_path: str, secret: str, handle: int) -> int | None:
    """Return a descriptor, for reading, of the file that a session holds open; the caller closes it.

    None where there is no such socket, where something else listens there, or where the server does not give one: the
    file is no ordinary one, not open for reading, or not open any more. Takes at most `TIMEOUT_S`.
    """
    with trio.move_on_after(TIMEOUT_S):
        try:
            # in a thread that may be left behind: a path can lead to a disk that does not answer
            sock = await trio.to_thread.run_sync(_connected, socket_path, abandon_on_cancel=True)
        except (OSError, ValueError):
            return None
        with trio.socket.from_stdlib_socket(sock) as stream:
            try:
                return await _asked(stream, secret, handle)
            except OSError:
                return None
    return None


def name_of(secret: str) -> bytes:
    """Return the name under which a session's secret is asked for; it tells nothing of the secret."""
    return hashlib.blake2b(secret.encode(), digest_size=NAME_BYTES, person=b"pfs-name").digest()


def proof(role: str, secret: str, handle: int, nonce: bytes) -> bytes:
    """Return what only somebody who knows the secret can say about this question.

    Args:
        role: "ask" or "give", so that neither side's proof serves as the other's.
    """
    text = role.encode() + struct.pack(">Q", handle) + nonce
    return hmac.digest(secret.encode(), text, "sha256")


@contextmanager
def reachable(path: str) -> Iterator[str]:
    """Yield a name for `path` that fits into a socket's address, whose limit of 108 bytes many paths exceed."""
    folder, name = os.path.split(path)
    fd = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(TIMEOUT_S)
        with reachable(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _asked(stream: trio.socket.SocketType, secret: str, handle: int) -> int | None:
    nonce = secrets.token_bytes(NONCE_BYTES)
    question = QUESTION.pack(name_of(secret), handle, nonce, proof("ask", secret, handle, nonce))
    await trio.SocketStream(stream).send_all(question)
    answer, fds = await _received(stream)
    if len(fds) == 1 and hmac.compare_digest(answer, proof("give", secret, handle, nonce)) and for_reading(fds[0]):
        return fds[0]
    for fd in fds:
        os.close(fd)
    return None


async def _received(stream: trio.socket.SocketType) -> tuple[bytes, list[int]]:
    """Return one message, which is sent in one piece, and all descriptors that came with it."""
    space = socket.CMSG_SPACE(struct.calcsize("i"))
    data, ancillary, _, _ = await stream.recvmsg(PROOF_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, packed in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += struct.unpack(f"{len(packed) // 4}i", packed[: len(packed) // 4 * 4])
    return data, fds


def for_reading(fd: int) -> bool:
    """Tell whether a descriptor is that of an ordinary file, opened for reading and nothing else."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    return stat.S_ISREG(os.fstat(fd).st_mode) and flags & (os.O_ACCMODE | os.O_PATH) == os.O_RDONLY
