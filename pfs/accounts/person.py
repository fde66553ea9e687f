"""Who somebody is, for people: a full name and an e-mail address, as they say; nothing is decided by them."""

import re
from dataclasses import dataclass

from pfs.errors import Kind, PfsError

CHARACTERS_MAX = 200

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class Person:
    """What somebody says of themselves; "" is nothing."""

    fullname: str = ""
    email: str = ""


def check_line(what: str, text: str) -> str:
    """Return a text for people without blanks around it.

    Args:
        what: it is called in a refusal.

    Raises:
        PfsError: INVALID for one of several lines, or that is too long.
    """
    line = text.strip()
    if len(line) > CHARACTERS_MAX:
        raise PfsError(Kind.INVALID, f"{what} has at most {CHARACTERS_MAX} characters")
    if not line.isprintable():
        raise PfsError(Kind.INVALID, f"{what} has characters that cannot be shown")
    return line


def check_fullname(text: str) -> str:
    """Return a full name, as it is kept.

    Raises:
        PfsError: INVALID.
    """
    return check_line("a full name", text)


def check_email(text: str) -> str:
    """Return an e-mail address, as it is kept; whether it is one, only a letter there would show.

    Raises:
        PfsError: INVALID.
    """
    line = check_line("an e-mail address", text)
    if line and not _EMAIL.fullmatch(line):
        raise PfsError(Kind.INVALID, f"{line[:80]!r} is no e-mail address: one looks like ann@example.org")
    return line
