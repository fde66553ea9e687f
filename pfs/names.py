"""Names of users and groups: which there can be, and which mean somebody else.

A user may be called as people write their e-mail addresses; whoever asks says `me` or `~` for themselves, so that
nobody can be called that. Names end up in paths (`home/<user>`, `groups/<group>`) and in lists parted by spaces.
"""

import re

from pfs.errors import Kind, PfsError

OWN_NAMES = ("me", "~")
FIRST_GID = 2_000_000_000  # of groups of accounts, on every machine: no account's, and none that containers are given

_USER = re.compile(r"[a-z][a-z0-9._@-]{0,63}")
_GROUP = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def check_user_name(name: str) -> str:
    """Return `name` if an account can be called that.

    Raises:
        PfsError: INVALID.
    """
    if name in OWN_NAMES:
        raise PfsError(Kind.INVALID, f"{name!r} cannot be a user name: it means whoever says it")
    if not _USER.fullmatch(name):
        rule = "a small letter, then small letters, digits or ._@-, 64 at most"
        raise PfsError(Kind.INVALID, f"{name[:80]!r} cannot be a user name: {rule}")
    return name


def check_group_name(name: str) -> str:
    """Return `name` if a group can be called that.

    Raises:
        PfsError: INVALID.
    """
    if not _GROUP.fullmatch(name):
        rule = "a small letter, then small letters, digits, _ or -, 32 at most"
        raise PfsError(Kind.INVALID, f"{name[:80]!r} cannot be a group: {rule}")
    return name
