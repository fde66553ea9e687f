"""What a server answers, as far as it makes sense.

A mount does not trust its server: each answer has the form, the ranges and the names of what was asked for, or it is
refused. Whoever asked has done nothing wrong then (INVALID would say so): an answer without sense is IO.
"""

import functools
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ParamSpec, TypeVar

from pfs.api import Attr, Content, Entry, Name, Space
from pfs.errors import Kind, PfsError
from pfs.path import check_name, check_target
from pfs.protocol import steps, wire
from pfs.protocol.listing import unpack_contents, unpack_entries
from pfs.protocol.wire import Json
from pfs.xattr import check_xattr

ENTRIES_MAX = 1_000_000  # of one directory: a server may find new names for ever
HANDLE_MAX = 2**63 - 1
_SECRET = re.compile("[0-9a-f]{32}")

P = ParamSpec("P")
R = TypeVar("R")


def _of_server(decode: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(decode)
    def understood(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return decode(*args, **kwargs)
        except PfsError as error:
            problem = error.message
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            problem = f"something without a proper {error}"
        raise PfsError(Kind.IO, f"the server's answer makes no sense: {problem[:200]}")

    return understood


decode_attr: Callable[[object], Attr] = _of_server(wire.decode_attr)
decode_contents: Callable[[bytes], list[Content]] = _of_server(unpack_contents)
decode_outcomes: Callable[[Json, int], Sequence[steps.Outcome]] = _of_server(steps.decode_outcomes)


@_of_server
def decode_page(result: Json, body: bytes, after: str, known: int) -> tuple[list[Entry], bool]:
    """Return one page of a listing, and whether there are more.

    Args:
        after: the last name of the page before, which these names come behind, in their order.
        known: how many entries there were before.
    """
    page = unpack_entries(body)
    names = [after, *(entry.name for entry in page)]
    if not all(one < other for one, other in pairwise(names)):
        raise ValueError("order of names")
    if known + len(page) > ENTRIES_MAX:
        raise ValueError(f"end: more than {ENTRIES_MAX} names")
    return page, bool(page) and result.get("more") is True


@_of_server
def decode_target(result: Json) -> str:
    """Return where a link leads."""
    target = result["target"]
    if not isinstance(target, str):
        raise TypeError("target")
    return check_target(target)


@_of_server
def decode_xattrs(result: Json) -> list[str]:
    """Return the names of extended attributes."""
    names = result["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("names")
    return [check_xattr(name) for name in names]


@_of_server
def decode_space(result: Json) -> Space:
    """Return the room."""
    return wire.decode_space(result)


@_of_server
def decode_opening(result: Json) -> tuple[int, Attr]:
    """Return the handle of what was opened, and its attributes."""
    handle = result["handle"]
    if isinstance(handle, bool) or not isinstance(handle, int) or not 0 <= handle <= HANDLE_MAX:
        raise ValueError(f"handle: {handle!r:.80}")
    return handle, wire.decode_attr(result["attr"])


@_of_server
def decode_piece(body: bytes, size: int) -> bytes:
    """Return what was read, which is at most as much as was asked for."""
    if len(body) > size:
        raise ValueError("end")
    return body


def decode_break(args: Json) -> tuple[list[int], list[Name]]:
    """Return the nodes and names whose leases the server wants back.

    Raises:
        PfsError: INVALID for a question without sense.
    """
    try:
        nodes, names = args["nodes"], [(node, name) for node, name in args["names"]]
        ids = [*nodes, *(node for node, _ in names)]
        if all(type(each) is int for each in ids) and all(isinstance(name, str) for _, name in names):
            return nodes, [(node, check_name(name)) for node, name in names]
    except (KeyError, TypeError, ValueError):
        pass
    raise PfsError(Kind.INVALID, "leases without proper nodes and names")


def decode_secret(result: Json) -> str:
    """Return under which secret bulk bytes are had; empty where the server offers none that could be one."""
    secret = result.get("bulk")
    return secret if isinstance(secret, str) and _SECRET.fullmatch(secret) else ""
