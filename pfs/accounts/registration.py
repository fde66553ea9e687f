"""Who may make an account of their own: the server's administrator says so once, and an invitation says so for one.

                  without an invitation   with one                   with one for an administrator
    closed        no                      no                         yes
    invitation    no                      yes                        yes
    open          yes                     yes                        yes

Only who sits at the server's terminal makes an invitation for an administrator: the first one comes in that way.
An invitation is good once, for a while; only its SHA-256 is kept.
"""

from dataclasses import dataclass
from enum import StrEnum

from pfs.errors import Kind, PfsError


class Registration(StrEnum):
    """What the administrator decided."""

    CLOSED = "closed"
    INVITATION = "invitation"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation that somebody shows.

    Attributes:
        admin: whoever uses it becomes an administrator.
        until_ns: when it ends, since the epoch.
    """

    admin: bool
    until_ns: int


def may_register(mode: Registration, shown: str, invited: Invited | None, now_ns: int) -> bool:
    """Tell whether somebody may make an account; they become an administrator where their invitation says so.

    Args:
        shown: the text that they show as an invitation; "" for none.
        invited: what that text is, if it is one.

    Raises:
        PfsError: DENIED, with the same words for every invitation that is not good (any more).
    """
    if invited is not None and now_ns < invited.until_ns and (invited.admin or mode is not Registration.CLOSED):
        return invited.admin
    if shown and mode is not Registration.CLOSED:
        raise PfsError(Kind.DENIED, "this invitation is not good, or not any more; ask the administrator for another")
    if mode is Registration.CLOSED:
        raise PfsError(Kind.DENIED, "nobody can register here; ask the administrator for an account")
    if mode is Registration.INVITATION:
        raise PfsError(Kind.DENIED, "an invitation is needed to register here; ask the administrator for one")
    return False
