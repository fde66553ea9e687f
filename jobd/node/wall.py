"""The wall between containers: why jobs may share a bridge with one another and with everybody else's containers.

Each container of ours on the bridge of an engine has a hardware address that begins with three bytes of ours, and the
kernel's firewall drops every frame that the bridge would pass on from or to such an address, whatever it carries. So
they reach the gateway, which is the machine itself, and by it the world, and no other container; that is one rule for
all of them, where an engine makes a dozen for each container in a network that keeps containers apart. The wall
stands before a container starts. No task can get out of it: to have another address or to make up frames takes
capabilities that tasks do not have. What a container of somebody else calls to all on the bridge is heard by all, and
one that may make up frames may take another's address there; answers to it are dropped.

The rules are in a table of their own, which is one for all nodes on the machine. Somebody may clear it away with the
whole firewall: the kernel tells of every change, and it is looked at before each start besides. It stays when a node
ends, since tasks may, and costs nobody else's containers anything.
"""

import errno
import os
import socket
from collections.abc import Container
from pathlib import Path
from types import TracebackType
from zlib import crc32

import trio

from jobd.node import nftables

TABLE, CHAIN = "pfs", "wall"
ADDRESSES = bytes.fromhex("027066")
ANSWER_S = 5.0

_WORDS = "containers of pfs jobs reach no other container"
_SETTINGS = Path("/proc/sys/net/ipv4/conf")
_RECEIVER, _SENDER = 0, 6
_RULES = [nftables.drop_where(place, ADDRESSES, _WORDS) for place in (_SENDER, _RECEIVER)]


def hold(bridge: str) -> bool:
    """See to it that the wall stands on the network of this process; return whether it had to be put up.

    Args:
        bridge: where the containers are that it shall keep apart.

    Raises:
        OSError: it cannot be, for this process or on this kernel; or there is a way round it.
    """
    if (_SETTINGS / bridge / "proxy_arp_pvlan").read_text().strip() != "0":
        raise OSError(errno.ENOTSUP, f"the machine itself passes on what comes by {bridge} (proxy_arp_pvlan)")
    with _netlink() as kernel:
        kernel.settimeout(ANSWER_S)
        if _stands(kernel):
            return False
        _ask(kernel, nftables.replace(TABLE, CHAIN, _RULES))
        if not _stands(kernel):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        return True


def _stands(kernel: socket.socket) -> bool:
    return _ask(kernel, nftables.rules_of(TABLE, CHAIN)) == [_WORDS] * len(_RULES)


def _ask(kernel: socket.socket, question: bytes) -> list[str]:
    kernel.send(question)
    found, is_last = [], False
    while not is_last:
        try:
            more, is_last = nftables.comments(kernel.recv(nftables.ANSWER_BYTES))
        except nftables.Refused as refused:
            raise OSError(refused.errno, os.strerror(refused.errno)) from None
        found += more
    return found


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, nftables.NETFILTER)


def interfaces() -> set[str]:
    """Return the names of the interfaces on the network of this process."""
    return {name for _, name in socket.if_nameindex()}


class Changes:
    """Tells of changes to the firewall on the network of this process.

    Raises:
        OSError: this process is not told.
    """

    def __init__(self) -> None:
        self._kernel = _netlink()
        try:
            self._kernel.bind((0, nftables.CHANGES))
            self._kernel.setblocking(False)
        except OSError:
            self._kernel.close()
            raise

    def __enter__(self) -> "Changes":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._kernel.close()

    async def next(self) -> None:
        """Return once there was one since this was called last.

        Raises:
            OSError
        """
        await trio.lowlevel.wait_readable(self._kernel)
        while True:
            try:
                self._kernel.recv(nftables.ANSWER_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more of them than the kernel keeps: there were some
                    raise


def address(container: str, taken: Container[str]) -> str:
    """Return a hardware address behind the wall that none of those that are taken is; the same for the same."""
    number = crc32(container.encode())
    while True:
        found = (ADDRESSES + (number & 0xFFFFFF).to_bytes(3, "big")).hex(":")
        if found not in taken:
            return found
        number += 1
