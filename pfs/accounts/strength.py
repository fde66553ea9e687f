"""Which passwords are good enough: long, and not what everybody tries first.

What makes a password hard to guess is its length; digits and signs that one is forced to use make it hard to remember
(NIST SP 800-63B-4). So 15 characters are asked for, and refused are only those that are long without being hard: one
piece again and again, runs of the keyboard or the alphabet, the user's own name with little around it.
"""

import unicodedata

from pfs.errors import Kind, PfsError

CHARACTERS_MIN = 15
CHARACTERS_MAX = 128
DIFFERENT_MIN = 6
OWN_MIN = 8  # characters that are neither the user's name nor a well-known run

_RUNS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "password",
    "passwort",
    "letmein",
    "iloveyou",
    "welcome",
    "changeme",
    "administrator",
)
_PIECE_MIN = 4  # of a run, to count as such


def normal(password: str) -> str:
    """Return a password as it is kept, whatever keyboard and system it was typed on."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, user: str) -> str:
    """Return the password, as it is kept, if it is good enough.

    Raises:
        PfsError: INVALID, with what to do; never with the password.
    """
    password = normal(password)
    if len(password) < CHARACTERS_MIN:
        raise PfsError(
            Kind.INVALID, f"a password has at least {CHARACTERS_MIN} characters; four words are easy to keep"
        )
    if len(password) > CHARACTERS_MAX:
        raise PfsError(Kind.INVALID, f"a password has at most {CHARACTERS_MAX} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise PfsError(Kind.INVALID, "a password has no control characters; was it pasted with a line end?")
    if _is_easy(password.casefold(), user):
        raise PfsError(Kind.INVALID, "this password is among the first that are tried; take words of your own")
    return password


def _is_easy(password: str, user: str) -> bool:
    if len(set(password)) < DIFFERENT_MIN or _repeats(password):
        return True
    return len(_without_runs(password.replace(user, "").replace(user.partition("@")[0], ""))) < OWN_MIN


def _repeats(password: str) -> bool:
    """Tell whether it is one piece, of at most half its length, again and again."""
    length = len(password)
    return any(password == (password[:size] * length)[:length] for size in range(1, length // 2 + 1))


def _without_runs(password: str) -> str:
    """Return what is left of a password without pieces of well-known runs, forwards and backwards."""
    left, at = [], 0
    while at < len(password):
        size = max(_length_in(run, password, at) for each in _RUNS for run in (each, each[::-1]))
        if size < _PIECE_MIN:
            left.append(password[at])
            size = 1
        at += size
    return "".join(left)


def _length_in(run: str, password: str, at: int) -> int:
    """Return how many characters of the password, from `at` on, stand in a run together."""
    size = 0
    while at + size < len(password) and password[at : at + size + 1] in run:
        size += 1
    return size
