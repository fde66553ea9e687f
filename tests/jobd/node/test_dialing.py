"""Connections to ports of a process: the kernel's tables are understood, and what listens is reached where it does."""

import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from jobd.node import namespaces
from jobd.node.dialing import Listener, dial, listeners
from pfs.errors import Kind, PfsError

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENS = (
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7001 1 0 100 0 0 10 0\n"
)
CONNECTED = "   1: 0100007F:1F91 0100007F:9C40 01 00000000:00000000 02:00000000 00000000     0        0 7002 1\n"

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.mark.skipif(sys.byteorder == "big", reason="the tables were written down on a small-endian machine")
def test_who_listens_is_told_by_the_table_and_who_is_connected_does_not() -> None:
    assert listeners(HEAD + LISTENS + CONNECTED, socket.AF_INET) == [Listener("127.0.0.1", 8080, 7001)]


@pytest.mark.skipif(sys.byteorder == "big", reason="the tables were written down on a small-endian machine")
@pytest.mark.parametrize(
    ("digits", "address"),
    [
        ("0" * 32, "::"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_new_addresses_and_old_ones_among_them_are_understood(digits: str, address: str) -> None:
    (found,) = listeners(HEAD + LISTENS.replace("0100007F", digits), socket.AF_INET6)
    assert found.address == address


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "127.0.0.9"])
def test_what_listens_is_reached_wherever_it_does(run: Run, address: str) -> None:
    async def main() -> None:
        with socket.create_server((address, 0)) as server:
            async with await dial(os.getpid(), server.getsockname()[1], own=True):
                server.accept()[0].close()

    run(main)


def test_what_has_gone_is_not_reached(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(PfsError, match="nothing listens there") as caught:
            await dial(os.getpid(), port, own=False)
        assert caught.value.kind is Kind.UNREACHABLE

    run(main)


def test_nothing_is_reached_in_a_process_that_is_gone(run: Run) -> None:
    over = subprocess.Popen(["true"])
    over.wait()

    async def main() -> None:
        with pytest.raises(PfsError, match="nothing listens there"):
            await dial(over.pid, 80, own=True)

    run(main)


def test_a_process_shares_all_namespaces_with_itself() -> None:
    assert namespaces.apart(os.getpid()) == 0
