"""Whether a container finds its fellows by their names, in a network that spans machines.

The engines of a swarm tell one another who has come into such a network, and that takes them a moment after a container
runs: until then a name of another machine is not known here. So the engine's own resolver is asked, in the network of
the container, where it answers as it answers the container.
"""

import secrets
import socket
import struct
from collections.abc import Iterable

import trio

from jobd.node.dialing import socket_of

RESOLVER = ("127.0.0.11", 53)
AGAIN_S, ANSWER_S, PATIENCE_S = 0.05, 2.0, 30.0

_HEADER = struct.Struct("!6H")
_ASKS, _FAILURE = 0x0100, 0x000F  # of the flags: it wants an answer however that is found; what went wrong
_ADDRESS, _INTERNET = 1, 1
_ANSWER_BYTES = 512


async def until_found(pid: int, names: Iterable[str]) -> None:
    """Return when all these names are known in the network of a process, when that cannot be asked, or after 30 s."""
    try:
        made = await trio.to_thread.run_sync(socket_of, pid, socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return  # this node may not go there, or the process is over
    with trio.socket.from_stdlib_socket(made) as asking, trio.move_on_after(PATIENCE_S):
        for name in names:
            await _until_known(asking, name)


async def _until_known(asking: trio.socket.SocketType, name: str) -> None:
    while True:
        if await _is_known(asking, name):
            return
        await trio.sleep(AGAIN_S)


async def _is_known(asking: trio.socket.SocketType, name: str) -> bool:
    number = secrets.randbits(16)
    try:
        await asking.sendto(question(name, number), RESOLVER)
        with trio.move_on_after(ANSWER_S):
            while True:
                told = is_found(await asking.recv(_ANSWER_BYTES), number)
                if told is not None:
                    return told
    except OSError:
        pass  # the resolver is just coming
    return False


def question(name: str, number: int) -> bytes:
    """Return what asks a resolver for the address of a host."""
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return _HEADER.pack(number, _ASKS, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, _ADDRESS, _INTERNET)


def is_found(answer: bytes, number: int) -> bool | None:
    """Tell whether an answer has an address; None where it is none to this question."""
    if len(answer) < _HEADER.size:
        return None
    to, flags, _, answers, _, _ = _HEADER.unpack_from(answer)
    return (not flags & _FAILURE and answers > 0) if to == number else None
