"""Hashes of passwords: Argon2id, which costs whoever guesses as much memory and time as it costs us.

A hash says by what parameters it was made (PHC form), so that they can rise: one of before is made anew when its
password is shown. Two hashes at a time are made in threads, some wait for them, and more are refused: whoever asks for
thousands has no more of our memory than that. An account that is not there costs as much time as one that is.
"""

import os
from base64 import b64encode

import trio
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from pfs.errors import Kind, PfsError

MEMORY_KIB = 64 * 1024
PASSES = 3
LANES = 1
HASH_BYTES = 32
SALT_BYTES = 16
AT_ONCE_MAX = 2
WAITING_MAX = 32


def parameters() -> str:
    """Return how a hash of now begins."""
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"


def hash_now(password: str) -> str:
    """Return a new hash of a password."""
    kdf = Argon2id(
        salt=os.urandom(SALT_BYTES), length=HASH_BYTES, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB
    )
    return kdf.derive_phc_encoded(password.encode())


def verify_now(password: str, hashed: str | None) -> bool:
    """Tell whether a password is the one that was hashed; None is nobody's, and takes as long."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), hashed if hashed is not None else _nobodys())
    except InvalidKey:
        return False
    return hashed is not None


def _nobodys() -> str:
    """Return what looks like a hash, and takes as long to compare, but was made of no password."""
    return parameters() + "$".join(_in_64(os.urandom(size)) for size in (SALT_BYTES, HASH_BYTES))


def _in_64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


class Passwords:
    """Makes and compares hashes beside the event loop, few at a time."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(AT_ONCE_MAX)

    async def hash(self, password: str) -> str:
        """Return a new hash of a password.

        Raises:
            PfsError: TOO_MANY when too many wait.
        """
        self._check_room()
        return await trio.to_thread.run_sync(hash_now, password, limiter=self._threads)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Tell whether a password is the one that was hashed, as `verify_now`.

        Raises:
            PfsError: TOO_MANY when too many wait.
        """
        self._check_room()
        return await trio.to_thread.run_sync(verify_now, password, hashed, limiter=self._threads)

    def _check_room(self) -> None:
        if self._threads.statistics().tasks_waiting >= WAITING_MAX:
            raise PfsError(Kind.TOO_MANY, "too many people log in at this moment; try again in some seconds")
