"""Keys and tokens: made once, known by their fingerprints alone, and good until they end or are taken back.

    user    a token of somebody on one machine: for programs of theirs. One that a password gave ends after 30 days
            without use; one for a script may end on a day, and may do less than its owner (`pfs.perm.Scope`)
    node    lets a machine run jobs; it ends after 90 days without use. One that a machine made for itself is bound to
            that machine. Whose owner was no administrator when it was made is for nodes of that owner, for good
    join    lets one machine become a node, once, and soon (`pfs.accounts.enrolment`)
    job     a running job's own; it is not kept here (`jobd.engine.jobkeys`)

A key is named by the beginning of its fingerprint, which tells nobody the key.
"""

import logging
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sqlalchemy import bindparam
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from pfs.accounts.tables import Key, Membership, User
from pfs.audit.log import AuditLog, add, audited, record_now
from pfs.audit.record import DONE
from pfs.errors import Kind, PfsError
from pfs.keys import CERTIFICATE, fingerprint, make_key
from pfs.perm import EVERYTHING, Scope, Subject
from pfs.sql import Database

FIRST_UID = 200_000
DAY_NS = 24 * 3600 * 10**9
USED_EVERY_NS = 5 * 60 * 10**9
NAME_CHARACTERS = 12
LABEL_CHARACTERS_MAX = 64
TOKENS_MAX = 200  # of one account

log = logging.getLogger(__name__)

# whatever somebody does begins with this question; rows as objects would cost several times as much
_ENDS = ("created_at_ns", "used_at_ns", "expires_at_ns", "idle_ns")
_KNOWN = (
    columns(
        *(getattr(Key, name) for name in ("kind", "scopes", "machine", *_ENDS)),
        *(getattr(User, name) for name in ("id", "name", "admin", "removed_at_ns")),
        col(Membership.group),
    )
    .join(User, col(Key.user) == col(User.name))
    .outerjoin(Membership, col(Membership.user) == col(User.name))
    .where(col(Key.fingerprint) == bindparam("name"))
)


class KeyKind(StrEnum):
    """What a key opens."""

    USER = "user"
    NODE = "node"
    JOIN = "join"
    JOB = "job"


# whoever shows one of these has files
FILE_KINDS = frozenset((KeyKind.USER, KeyKind.JOB))
IDLE_DAYS = {KeyKind.USER: 30, KeyKind.NODE: 90}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a key proved.

    Attributes:
        machine: to which a node's key is bound; "" for any.
    """

    kind: KeyKind
    subject: Subject
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a new key is for.

    Attributes:
        label: the machine it is for, or the purpose.
        scopes: what it may be used for.
        days: after which it ends in any case; None where it ends only when it is not used.
    """

    label: str = ""
    scopes: frozenset[Scope] = EVERYTHING
    days: int | None = None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What may be told of a key.

    Attributes:
        ends_at_ns: when it ends if it is not used again; None is never.
        expires_at_ns: when it ends in any case; None is never.
    """

    name: str
    kind: KeyKind
    label: str
    scopes: frozenset[Scope]
    created_at_ns: int
    used_at_ns: int | None
    ends_at_ns: int | None
    expires_at_ns: int | None


class Keyring:
    """Makes keys, tells whose one is, and takes them back.

    Args:
        numbered: accounts act under their own numbers (the server is root); else everything is one person's.
        clock: nanoseconds since the epoch.
    """

    def __init__(self, database: Database, *, numbered: bool, clock: Callable[[], int] = time.time_ns) -> None:
        self.audit = AuditLog(database)
        self._database = database
        self._numbered = numbered
        self._clock = clock

    def make_key_now(self, kind: KeyKind, user: str, url: str, terms: Terms | None = None) -> str:
        """Return a new key of `user`; its text is not kept anywhere.

        Raises:
            PfsError: NOT_FOUND when there is no such account, TOO_MANY when it has too many tokens.
        """
        key, work = self._making(kind, user, url, terms or Terms())
        self._database.write_now(work)
        return key

    async def make_key(self, kind: KeyKind, user: str, url: str, terms: Terms) -> str:
        """Do what `make_key_now` does."""
        key, work = self._making(kind, user, url, terms)
        await self._database.write(work)
        return key

    def _making(self, kind: KeyKind, user: str, url: str, terms: Terms) -> tuple[str, Callable[[Session], None]]:
        key, now_ns = make_key(url, secrets.token_urlsafe(32)), self._clock()
        row = Key(
            fingerprint=fingerprint(key),
            kind=kind,
            user=user,
            created_at_ns=now_ns,
            label=plain(terms.label),
            scopes=" ".join(sorted(terms.scopes)),
            expires_at_ns=None if terms.days is None else now_ns + terms.days * DAY_NS,
            idle_ns=None if terms.days is not None else IDLE_DAYS[kind] * DAY_NS,
        )

        def work(session: Session) -> None:
            owner = there(session, user)
            make_room(session, row, now_ns)
            scopes = node_scopes(of_datacenter=owner.admin) if kind is KeyKind.NODE else row.scopes
            session.add(Key(**row.model_dump() | {"scopes": scopes}))

        told = "" if kind is KeyKind.NODE else row.scopes.replace(" ", ",")
        more = {"kind": kind, "label": row.label, "scopes": told, "days": terms.days}
        return key, audited("token.make", f"users/{user}/keys/{key_name(key)}", work, **more)

    async def identify(self, key: str) -> Identity:
        """Return whom `key` proves.

        Raises:
            PfsError: UNAUTHENTICATED when it proves nobody, or has ended.
        """
        now_ns, name, what = (
            self._clock(),
            fingerprint(key),
            CERTIFICATE if key.startswith(f"{CERTIFICATE} ") else "token",
        )
        found = await self._database.read(lambda session: session.connection().execute(_KNOWN, {"name": name}).all())
        if not found or found[0].removed_at_ns is not None:
            raise PfsError(Kind.UNAUTHENTICATED, f"the server does not know this {what}; ask its administrator for one")
        row = found[0]
        if has_ended(row, now_ns):
            raise PfsError(Kind.UNAUTHENTICATED, f"this {what} has ended; log in again, as with `paddle login`")
        if row.used_at_ns is None or now_ns - row.used_at_ns >= USED_EVERY_NS:
            await self._note_use(name, now_ns)
        groups = frozenset(each.group for each in found if each.group is not None)
        subject = self._acting(row.id, row.name, row.admin, groups, _scopes(row.scopes))
        return Identity(KeyKind(row.kind), subject, row.machine)

    async def _note_use(self, name: str, now_ns: int) -> None:
        def work(session: Session) -> None:
            row = session.get(Key, name)
            if row is not None:
                row.used_at_ns = now_ns

        try:
            await self._database.write(work)
        except PfsError as error:  # a disk that is full keeps nobody out
            log.warning("when a key was used is not kept: %s", error)

    def keys_now(self, user: str) -> list[KnownKey]:
        """Return the keys of an account that have not ended, the newest first.

        Raises:
            PfsError: NOT_FOUND when there is no such account.
        """
        return self._database.read_now(lambda session: self._keys(session, user))

    async def keys(self, user: str) -> list[KnownKey]:
        """Do what `keys_now` does."""
        return await self._database.read(lambda session: self._keys(session, user))

    def _keys(self, session: Session, user: str) -> list[KnownKey]:
        there(session, user)
        now_ns = self._clock()
        rows = session.exec(select(Key).where(Key.user == user).order_by(col(Key.created_at_ns).desc())).all()
        return [_known(row) for row in rows if not has_ended(row, now_ns)]

    def revoke_now(self, user: str, name: str | None) -> int:
        """Take back the key of an account that has a name, or all its keys (None); return how many.

        Raises:
            PfsError: NOT_FOUND when there is no such account or key.
        """
        return self._database.write_now(_revoking(user, name))

    async def revoke(self, user: str, name: str) -> None:
        """Take back one key, as `revoke_now`."""
        await self._database.write(_revoking(user, name))

    def _subject(self, user: User, groups: frozenset[str] = frozenset()) -> Subject:
        assert user.id is not None
        return self._acting(user.id, user.name, user.admin, groups, EVERYTHING)

    def _acting(self, number: int, name: str, admin: bool, groups: frozenset[str], scopes: frozenset[Scope]) -> Subject:
        uid = FIRST_UID + number if self._numbered else None
        return Subject(name, admin and Scope.ADMIN in scopes, groups, uid, scopes=scopes)


def there(session: Session, name: str) -> User:
    """Return an account.

    Raises:
        PfsError: NOT_FOUND when there is none of that name.
    """
    user = session.exec(select(User).where(User.name == name, col(User.removed_at_ns).is_(None))).first()
    if user is None:
        raise PfsError(Kind.NOT_FOUND, f"there is no user {name!r}")
    return user


def node_scopes(*, of_datacenter: bool) -> str:
    """Return what a key of nodes is for: those of the datacenter, or its owner's own whatever becomes of that owner."""
    return " ".join(sorted(EVERYTHING if of_datacenter else EVERYTHING - {Scope.ADMIN}))


def key_name(key: str) -> str:
    """Return what a key is called."""
    return fingerprint(key)[:NAME_CHARACTERS]


def drop_keys(session: Session, user: str, kinds: Collection[KeyKind], but: str = "") -> None:
    """Take back the keys of an account that are of these kinds, but for the one with the fingerprint `but`."""
    for row in session.exec(select(Key).where(Key.user == user, col(Key.kind).in_(kinds))).all():
        if row.fingerprint != but:
            session.delete(row)


def make_room(session: Session, new: Key, now_ns: int) -> None:
    """Let go of what an account has that has ended; of too many tokens, of that which was used least lately.

    Raises:
        PfsError: TOO_MANY when all tokens are for scripts: those do not go by themselves.
    """
    mine = session.exec(select(Key).where(Key.user == new.user)).all()
    ended = [row for row in mine if has_ended(row, now_ns)]
    tokens = [row for row in mine if row.kind == KeyKind.USER and row not in ended]
    if new.kind == KeyKind.USER and len(tokens) >= TOKENS_MAX:
        machines = [row for row in tokens if row.expires_at_ns is None]
        if not machines:
            raise PfsError(Kind.TOO_MANY, f"{new.user} has {TOKENS_MAX} tokens already; take some back")
        longest = min(machines, key=lambda row: row.used_at_ns or row.created_at_ns)
        gone = f"users/{new.user}/keys/{longest.fingerprint[:NAME_CHARACTERS]}"
        add(session, record_now("token.revoke", gone, DONE, why="room"))
        ended.append(longest)
    for row in ended:
        session.delete(row)


def _revoking(user: str, name: str | None) -> Callable[[Session], int]:
    """Return what takes back the key of that name, or all (None)."""
    on = f"users/{user}/keys/{name or '*'}"
    return audited("token.revoke", on, lambda session: _revoke(session, user, name))


def _revoke(session: Session, user: str, name: str | None) -> int:
    there(session, user)
    rows = session.exec(select(Key).where(Key.user == user)).all()
    taken = [row for row in rows if name is None or row.fingerprint[:NAME_CHARACTERS] == name]
    if name is not None and not taken:
        raise PfsError(Kind.NOT_FOUND, f"{user} has no key of that name")  # which may be the key itself
    for row in taken:
        session.delete(row)
    return len(taken)


class _Ending(Protocol):
    """What ends a key, as in `Key`."""

    created_at_ns: int
    used_at_ns: int | None
    expires_at_ns: int | None
    idle_ns: int | None


def _ends_at_ns(row: _Ending) -> int | None:
    if row.expires_at_ns is not None or row.idle_ns is None:
        return row.expires_at_ns
    return (row.used_at_ns or row.created_at_ns) + row.idle_ns


def has_ended(row: _Ending, now_ns: int) -> bool:
    """Tell whether a key opens nothing any more."""
    ends_at_ns = _ends_at_ns(row)
    return ends_at_ns is not None and now_ns >= ends_at_ns


def _known(row: Key) -> KnownKey:
    name, ends_at_ns = row.fingerprint[:NAME_CHARACTERS], _ends_at_ns(row)
    times = row.created_at_ns, row.used_at_ns, ends_at_ns, row.expires_at_ns
    return KnownKey(name, KeyKind(row.kind), row.label, _scopes(row.scopes), *times)


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(Scope(word) for word in text.split())


def plain(label: str) -> str:
    """Return a label of one line that is no longer than it may be."""
    return "".join(character for character in label if character.isprintable())[:LABEL_CHARACTERS_MAX]
