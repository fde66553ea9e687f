"""Listings that the server makes, and gives again as they are while they are right: they are sent once.

A mount that has such a listing says its tag when it asks again, and hears that it is the same.
"""

from collections.abc import Iterable

from pfs.api import Entry


class Tagged(list[Entry]):
    """A listing that comes again, this very object, for as long as it is right.

    Attributes:
        tag: names it; no other listing of any server is called the same.
    """

    __slots__ = ("tag",)

    def __init__(self, entries: Iterable[Entry], tag: str) -> None:
        super().__init__(entries)
        self.tag = tag
