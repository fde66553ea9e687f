"""The key that a machine made for itself, in the daemon's own directory: which join token let it be known, and whether.

    key         the key that the server knows
    key.asked   the one that it was, or is about to be, told of: should its answer be lost, it is asked again

Both are for root's eyes alone, and hold the fingerprint of the join token as well: with the same one nothing is to do.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, key_beside

NAME, ASKED = "key", "key.asked"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key, and the fingerprint of the join token that it came with."""

    key: str
    joined_with: str

    def is_of(self, token: str) -> bool:
        """Tell whether it came with this join token."""
        return self.joined_with == fingerprint(token)


def read_own_key(directory: Path, name: str = NAME) -> OwnKey | None:
    """Return the key in a daemon's directory, if there is one that may be read.

    Raises:
        PfsError: INVALID when it is there and makes no sense.
    """
    try:
        found = json.loads((directory / name).read_text())
        return OwnKey(str(found["key"]), str(found["joined_with"]))
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        cure = "remove it, and start the node with a new join token"
        raise PfsError(Kind.INVALID, f"{directory / name} cannot be read: {cure}") from None


def asked_key(directory: Path, token: str) -> OwnKey:
    """Return the key with which to join by a token: the one that was asked about before, or a new one."""
    before = read_own_key(directory, ASKED)
    if before is not None and before.is_of(token):
        return before
    fresh = OwnKey(key_beside(token, secrets.token_urlsafe(32)), fingerprint(token))
    part = directory / f"{ASKED}.new"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump({"key": fresh.key, "joined_with": fresh.joined_with}, file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(directory / ASKED)
    return fresh


def keep_asked_key(directory: Path) -> None:
    """The server knows the key that it was asked about: it is this machine's from now on."""
    (directory / ASKED).rename(directory / NAME)
