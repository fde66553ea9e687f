"""The bits of open(2) in the words of the tree."""

import os

import pytest

from fuseclient.kernel.asked import READING, Asked
from pfs.api import OpenFlags


@pytest.mark.parametrize(
    ("bits", "flags"),
    [
        (os.O_RDONLY, OpenFlags.READ),
        (os.O_WRONLY, OpenFlags.WRITE),
        (os.O_RDWR, OpenFlags.READ | OpenFlags.WRITE),
        (os.O_WRONLY | os.O_CREAT | os.O_EXCL, OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE),
        (os.O_WRONLY | os.O_TRUNC | os.O_APPEND, OpenFlags.WRITE | OpenFlags.TRUNCATE | OpenFlags.APPEND),
    ],
)
def test_each_bit_has_its_word(bits: int, flags: OpenFlags) -> None:
    assert Asked.of(bits, 5) == Asked(flags, False, 5)


def test_bits_that_the_tree_does_not_know_are_left_out() -> None:
    asked = Asked.of(os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 5)
    assert asked.flags is READING
    assert asked.nonblocking
