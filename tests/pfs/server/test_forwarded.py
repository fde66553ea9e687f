"""Who asks where a proxy stands in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.server.forwarded import HEADER, sender

PROXY = "127.0.0.1"


@pytest.mark.parametrize("peer", [PROXY, "127.8.9.10", "::1", None], ids=str)
@pytest.mark.parametrize(
    ("said", "found"),
    [
        ([b"203.0.113.7"], "203.0.113.7"),
        ([b" 2001:db8::7\t"], "2001:db8::7"),
        ([b"2001:DB8:0::7"], "2001:db8::7"),
        ([b"fe80::7%eth0"], "fe80::7"),
        ([b"198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ([b"198.51.100.1,203.0.113.7"], "203.0.113.7"),
        ([b"garbage, 203.0.113.7"], "203.0.113.7"),
        ([b"198.51.100.1", b"203.0.113.7"], "203.0.113.7"),
        ([b"198.51.100.1, 198.51.100.2", b"198.51.100.3, 203.0.113.7"], "203.0.113.7"),
    ],
)
def test_it_is_the_last_address_that_a_proxy_on_this_machine_says(
    peer: str | None, said: list[bytes], found: str
) -> None:
    headers = [(b"host", b"x"), *((HEADER, each) for each in said), (b"forwarded", b"for=198.51.100.9")]
    assert sender(peer, headers) == found


@pytest.mark.parametrize("peer", [PROXY, None], ids=str)
@pytest.mark.parametrize(
    "said",
    [
        [],
        [b""],
        [b","],
        [b"203.0.113.7,"],
        [b"203.0.113.7", b""],
        [b"unknown"],
        [b"203.0.113.7:4711"],
        [b"203.0.113"],
        [b"0x7f000001"],
        [b"203.0.113.7 198.51.100.1"],
        [b"203.0.113.7\x00"],
        [b"\xff\xfe"],
        ["٢٠٣.0.113.7".encode()],
        [b"ann#3fa9"],
        [b"local"],
    ],
)
def test_what_is_no_address_counts_for_nothing(peer: str | None, said: list[bytes]) -> None:
    assert sender(peer, [(HEADER, each) for each in said]) == peer


@pytest.mark.parametrize("peer", ["203.0.113.9", "10.0.0.1", "2001:db8::9", "fe80::1%eth0", "128.0.0.1", "::2", ""])
def test_nobody_elsewhere_is_believed(peer: str) -> None:
    assert sender(peer, [(HEADER, b"198.51.100.1"), (HEADER, b"127.0.0.1")]) == peer


@given(st.lists(st.binary()), st.sampled_from([PROXY, "203.0.113.9", None]))
def test_whatever_is_said_what_comes_of_it_is_an_address(said: list[bytes], peer: str | None) -> None:
    found = sender(peer, [(HEADER, each) for each in said])
    assert found == peer or not set(found or "") - set("0123456789abcdef.:")
