"""Accounts: who there is, and which key is whose.

Only fingerprints of keys are stored. Every account has a number, the same on every machine (uid = gid = 200000 and
up), as which its files lie on disk and its jobs run. How much its home may hold is kept here; `pfs.disk` sees to it.
"""

import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlmodel import BigInteger, Field, Session, SQLModel, col, select

from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, make_key
from pfs.perm import Subject
from pfs.quota import Limits
from pfs.sql import Database

FIRST_UID = 200_000
USER_NAME = re.compile(r"[a-z][a-z0-9._@-]{0,63}")
GROUP_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class KeyKind(StrEnum):
    """What a key opens."""

    USER = "user"
    NODE = "node"


class User(SQLModel, table=True):
    """An account; its number, from which its uid follows, is never given again."""

    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    admin: bool = False
    created_at_ns: int = Field(sa_type=BigInteger)


class Key(SQLModel, table=True):
    """A key that was given out; `user` is whose it is, for a node's key who made it."""

    fingerprint: str = Field(primary_key=True)
    kind: str
    user: str = Field(foreign_key="user.name", index=True)
    created_at_ns: int = Field(sa_type=BigInteger)


class Membership(SQLModel, table=True):
    """An account that is in a group; a group is there as long as somebody is in it."""

    group: str = Field(primary_key=True)
    user: str = Field(foreign_key="user.name", primary_key=True, index=True)


class Quota(SQLModel, table=True):
    """How much an account's home may hold; None is no limit, and so is no row."""

    user: str = Field(foreign_key="user.name", primary_key=True)
    size_bytes: int | None = Field(default=None, sa_type=BigInteger)
    files: int | None = Field(default=None, sa_type=BigInteger)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a key proved."""

    kind: KeyKind
    subject: Subject


class Accounts:
    """Makes accounts and keys, and tells whose a key is.

    Args:
        numbered: accounts act under their own numbers (the server is root); else everything is one person's.
    """

    def __init__(self, database: Database, *, numbered: bool) -> None:
        self._database = database
        self._numbered = numbered

    def add_user_now(self, name: str, *, admin: bool) -> Subject:
        """Make an account.

        Raises:
            PfsError: INVALID for a name that cannot be one, EXISTS for one that is taken.
        """
        if not USER_NAME.fullmatch(name):
            raise PfsError(
                Kind.INVALID,
                f"{name!r} cannot be a user name: a small letter, then small letters, digits or ._@-, 64 at most",
            )

        def work(session: Session) -> User:
            if session.exec(select(User).where(User.name == name)).first() is not None:
                raise PfsError(Kind.EXISTS, f"there is a user {name!r} already")
            user = User(name=name, admin=admin, created_at_ns=time.time_ns())
            session.add(user)
            session.flush()
            return user

        return self._subject(self._database.write_now(work))

    def make_key_now(self, kind: KeyKind, user: str, url: str) -> str:
        """Return a new key of `user`; its text is not kept anywhere.

        Raises:
            PfsError: NOT_FOUND when there is no such account.
        """
        key = make_key(url, secrets.token_urlsafe(32))

        def work(session: Session) -> None:
            _check_there(session, user)
            session.add(Key(fingerprint=fingerprint(key), kind=kind, user=user, created_at_ns=time.time_ns()))

        self._database.write_now(work)
        return key

    async def identify(self, key: str) -> Identity:
        """Return whom `key` proves.

        Raises:
            PfsError: UNAUTHENTICATED when it proves nobody.
        """

        known = select(Key, User, Membership.group).where(Key.fingerprint == fingerprint(key))
        joined = known.join(User, col(Key.user) == col(User.name)).outerjoin(
            Membership, col(Membership.user) == col(User.name)
        )

        def work(session: Session) -> Identity | None:
            found = session.exec(joined).all()
            if not found:
                return None
            row, user, _ = found[0]
            groups = frozenset(group for *_, group in found if group is not None)
            return Identity(KeyKind(row.kind), self._subject(user, groups))

        identity = await self._database.read(work)
        if identity is None:
            raise PfsError(Kind.UNAUTHENTICATED, "the server does not know this token; ask its administrator for one")
        return identity

    async def users(self) -> list[Subject]:
        """Return every account, without its groups."""
        return [self._subject(user) for user in await self._database.read(lambda s: list(s.exec(select(User)).all()))]

    async def user(self, name: str) -> Subject | None:
        """Return the account of that name, if there is one."""

        def work(session: Session) -> Subject | None:
            found = session.exec(select(User).where(User.name == name)).first()
            return None if found is None else self._subject(found, _groups(session, name))

        return await self._database.read(work)

    def members_now(self, group: str) -> list[str]:
        """Return who is in a group, by name."""
        query = select(Membership.user).where(Membership.group == group).order_by(Membership.user)
        return self._database.read_now(lambda session: list(session.exec(query)))

    def join_now(self, group: str, user: str) -> None:
        """Let an account be in a group, which is made by its first member.

        Raises:
            PfsError: INVALID for a name that no group can have, NOT_FOUND when there is no such account.
        """
        if not GROUP_NAME.fullmatch(group):
            raise PfsError(
                Kind.INVALID,
                f"{group!r} cannot be a group: a small letter, then small letters, digits or _, 32 at most",
            )

        def work(session: Session) -> None:
            _check_there(session, user)
            session.merge(Membership(group=group, user=user))

        self._database.write_now(work)

    def leave_now(self, group: str, user: str) -> None:
        """Let an account be in a group no more.

        Raises:
            PfsError: NOT_FOUND when it is not.
        """

        def work(session: Session) -> None:
            row = session.get(Membership, (group, user))
            if row is None:
                raise PfsError(Kind.NOT_FOUND, f"{user!r} is not in the group {group!r}")
            session.delete(row)

        self._database.write_now(work)

    def set_limits_now(self, name: str, limits: Limits) -> None:
        """Say how much an account's home may hold.

        Raises:
            PfsError: NOT_FOUND when there is no such account.
        """

        def work(session: Session) -> None:
            _check_there(session, name)
            session.merge(Quota(user=name, size_bytes=limits.size_bytes, files=limits.files))

        self._database.write_now(work)

    def limits_now(self, name: str) -> Limits:
        """Return how much an account's home may hold.

        Raises:
            PfsError: NOT_FOUND when there is no such account.
        """

        def work(session: Session) -> Limits:
            _check_there(session, name)
            row = session.get(Quota, name)
            return Limits() if row is None else Limits(row.size_bytes, row.files)

        return self._database.read_now(work)

    async def limits(self) -> dict[str, Limits]:
        """Return how much homes may hold, by account; who is not named has no limits."""
        rows = await self._database.read(lambda s: list(s.exec(select(Quota)).all()))
        return {row.user: Limits(row.size_bytes, row.files) for row in rows}

    def _subject(self, user: User, groups: frozenset[str] = frozenset()) -> Subject:
        assert user.id is not None
        return Subject(user.name, user.admin, groups, FIRST_UID + user.id if self._numbered else None)


def _groups(session: Session, user: str) -> frozenset[str]:
    return frozenset(session.exec(select(Membership.group).where(Membership.user == user)))


def _check_there(session: Session, user: str) -> None:
    if session.exec(select(User).where(User.name == user)).first() is None:
        raise PfsError(Kind.NOT_FOUND, f"there is no user {user!r}")
