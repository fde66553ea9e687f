"""Connections to the ports that a task listens on, in whatever network the task is.

Who listens is read from the kernel's tables, for two reasons. A sandbox shares the network of its machine, and what
others serve there is none of the task's. And an address that is listened on is connected to as it is, be it one of
the loopback or the task's own.

A socket belongs to the network that its maker was in. So it is made by a thread that goes there, and ends; the
network of a thread is nobody else's.
"""

import os
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from jobd.node.namespaces import NETWORK, apart, enter
from pfs.errors import Kind, PfsError

_LISTENS = "0A"
_FAMILIES = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}
# what is listened on at all addresses is reached by the loopback, and by the old one where there is no new one
_EVERYWHERE = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that is listened on.

    Attributes:
        inode: its number, which tells whose it is.
    """

    address: str
    port: int
    inode: int


def listeners(table: str, family: int) -> Sequence[Listener]:
    """Return who listens by a table of the kernel's (`/proc/<pid>/net/tcp`). Pure."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTENS:
            address, _, port = words[1].partition(":")
            found.append(Listener(_address(address, family), int(port, 16), int(words[9])))
    return found


def _address(digits: str, family: int) -> str:
    words = [int(digits[place : place + 8], 16) for place in range(0, len(digits), 8)]
    text = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
    return text.removeprefix("::ffff:") if "." in text else text


async def dial(pid: int, port: int, *, own: bool) -> trio.SocketStream:
    """Return a connection to a port that is listened on in the network of a process.

    Args:
        own: what listens has to be in the sandbox of the process: others are in that network, too.

    Raises:
        PfsError: UNREACHABLE when nothing listens there.
        PermissionError: this process may not look, or enter that network.
    """
    for address in await trio.to_thread.run_sync(_addresses, pid, port, own):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            return await connected(await trio.to_thread.run_sync(socket_of, pid, family), address, port)
        except PermissionError:
            raise
        except OSError:
            continue  # it has gone meanwhile
    raise nothing_listens()


async def connected(made: socket.socket, address: str, port: int) -> trio.SocketStream:
    """Return a socket as a stream, once it is connected; closed where it cannot be.

    Raises:
        OSError
    """
    ready = trio.socket.from_stdlib_socket(made)
    try:
        await ready.connect((address, port))
    except BaseException:
        ready.close()
        raise
    return trio.SocketStream(ready)


def nothing_listens() -> PfsError:
    """Return what is said where a port is closed."""
    return PfsError(Kind.UNREACHABLE, "nothing listens there")


def _addresses(pid: int, port: int, own: bool) -> list[str]:
    """Return by which addresses a port can be reached from inside; none when nothing listens."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for name, family in _FAMILIES.items():
            table = Path(f"/proc/{pid}/net/{name}")
            if table.exists():
                found += [each for each in listeners(table.read_text(), family) if each.port == port]
        if found and own:
            inodes = _sockets(pid)
            found = [each for each in found if each.inode in inodes]
    return [address for each in found for address in _EVERYWHERE.get(each.address, (each.address,))]


def _sockets(pid: int) -> set[int]:
    """Return the numbers of all sockets that are open in the sandbox of a process."""
    sandbox = os.stat(f"/proc/{pid}/ns/pid").st_ino
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.stat(f"/proc/{name}/ns/pid").st_ino == sandbox:
                found |= _sockets_of(f"/proc/{name}/fd")
    return found


def _sockets_of(folder: str) -> set[int]:
    found = set()
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # it was closed meanwhile
            kind, _, number = os.readlink(f"{folder}/{name}").partition(":")
            if kind == "socket":
                found.add(int(number.strip("[]")))
    return found


def socket_of(pid: int, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket of the network that a process is in.

    Raises:
        OSError
    """
    if not apart(pid) & NETWORK:
        return socket.socket(family, kind)
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as network:
                enter(network.fileno(), NETWORK)
            made.append(socket.socket(family, kind))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
