"""Who acts, and from where: known at the door where somebody comes in, and asked for where something is written down.

It is handed on to every task that is begun for them, and to worker threads, without being an argument of all that lies
in between. Nothing is decided by it: rights follow from a `pfs.perm.Subject` alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Origin:
    """Somebody, and where they are.

    Attributes:
        who: an account, or whoever sits at the server's terminal; "" while nobody is known.
        source: an address and, behind a `#`, the name of the key that was shown; or `local`.
    """

    who: str
    source: str


SERVICE = Origin("jobd", LOCAL)  # what the service does by itself
_origin: ContextVar[Origin] = ContextVar("origin", default=SERVICE)


def origin() -> Origin:
    """Return who acts."""
    return _origin.get()


@contextmanager
def acting(who: str, source: str, key: str = "") -> Iterator[None]:
    """Let somebody act in the block, and in all tasks that are begun there.

    Args:
        key: the name of the key that they showed.
    """
    token = _origin.set(Origin(who, f"{source}#{key}" if key else source))
    try:
        yield
    finally:
        _origin.reset(token)
