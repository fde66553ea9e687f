"""Secrets that users keep for their jobs: names in SQL, contents sealed with a key that is not there.

The key lies in a file of its own beside the database, which nobody but the server's account may read; a copy of the
database alone opens nothing. Each text is sealed together with whose it is and its name (AES-GCM), so that a row that
was put under another name opens nothing either. Without its file, what was kept is lost, and has to be written anew.
"""

import os
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Session, select

from jobd.store.tables import SecretRow
from pfs.audit.log import AuditLog, add, audited, record_now
from pfs.audit.record import DONE
from pfs.errors import Kind, PfsError
from pfs.sql import Database

KEY_FILE = "secrets.key"
KEY_BYTES = 32
SECRETS_MAX = 1000
_NONCE_BYTES = 12


class Secrets:
    """What users keep.

    Args:
        directory: the server's own, where the key lies; it is made when it is needed first.
    """

    def __init__(self, database: Database, directory: str) -> None:
        self._audit = AuditLog(database)
        self._database = database
        self._file = Path(directory, KEY_FILE)

    async def names(self, user: str) -> dict[str, int]:
        """Return what a user keeps, and when each was written last, in nanoseconds since the epoch."""
        query = select(SecretRow.name, SecretRow.changed_at_ns).where(SecretRow.user == user)
        return await self._database.read(lambda session: dict(session.exec(query).all()))

    async def find(self, user: str, name: str) -> bytes | None:
        """Return what a user keeps under a name; None for nothing.

        Raises:
            PfsError: INVALID when it cannot be opened any more.
        """

        def work(session: Session) -> bytes | None:
            row = session.get(SecretRow, (user, name))
            if row is None:
                return None
            nonce, sealed = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
            try:
                return self._key().decrypt(nonce, sealed, _bound(user, name))
            except (FileNotFoundError, InvalidTag):
                text = f"the secret {name} cannot be opened: the server's key is another since; write it once more"
                raise PfsError(Kind.INVALID, text) from None

        return await self._database.read(work)

    async def keep(self, user: str, name: str, text: bytes) -> None:
        """Keep a text under a name, instead of what was there.

        Raises:
            PfsError: QUOTA when the user keeps too many.
        """

        def work(session: Session) -> None:
            nonce = os.urandom(_NONCE_BYTES)
            if not self._file.exists():
                self._make_key()
            sealed = nonce + self._key().encrypt(nonce, text, _bound(user, name))
            if session.get(SecretRow, (user, name)) is None:
                count = len(session.exec(select(SecretRow.name).where(SecretRow.user == user)).all())
                if count >= SECRETS_MAX:
                    raise PfsError(Kind.QUOTA, f"there are {count} secrets already; remove some")
            session.merge(SecretRow(user=user, name=name, sealed=sealed, changed_at_ns=time.time_ns()))

        async with self.refusing(user, name):
            await self._database.write(audited("secret.keep", _on(user, name), work))

    def refusing(self, user: str, name: str) -> AbstractAsyncContextManager[None]:
        """Record it where the block refuses a text."""
        return self._audit.refusing("secret.keep", _on(user, name))

    async def forget(self, user: str, name: str) -> bool:
        """Forget what a user keeps under a name; tells whether there was anything."""

        def work(session: Session) -> bool:
            row = session.get(SecretRow, (user, name))
            if row is not None:
                session.delete(row)
                add(session, record)
            return row is not None

        record = record_now("secret.forget", _on(user, name), DONE)
        return await self._database.write(work)

    def _key(self) -> AESGCM:
        key = self._file.read_bytes()
        if len(key) != KEY_BYTES:
            text = f"the server's key for secrets ({KEY_FILE}) is damaged; restore it, or remove it"
            raise PfsError(Kind.INVALID, text)
        return AESGCM(key)

    def _make_key(self) -> None:
        """Make a key: on the disk for good before anything is sealed with it."""
        fresh = self._file.with_name(f"{self._file.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        fresh.rename(self._file)
        _settle(self._file.parent)


def _settle(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _on(user: str, name: str) -> str:
    return f"users/{user}/secrets/{name}"


def _bound(user: str, name: str) -> bytes:
    return f"{user}\0{name}".encode()
