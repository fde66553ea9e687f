"""Accounts: who there is, in which groups they are, how they come in, and what they may hold.

Every account has a number, the same on every machine (uid = gid = 200000 and up), as which its files lie on disk and
its jobs run. Its keys are kept in `pfs.accounts.keyring`, how much it may hold in `pfs.accounts.limits`.

An account that is removed loses its keys, its groups, its rights and its password at once. Its name stays taken while
anything of the service tells of it, such as its jobs; whoever has it after that gets another number.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from pfs.accounts.groups import autoshare_of, drop_groups, groups_of, setting_autoshare
from pfs.accounts.keyring import DAY_NS, FILE_KINDS, FIRST_UID, Identity, KeyKind, Terms, drop_keys, key_name, there
from pfs.accounts.limits import FileLimits, drop_limits
from pfs.accounts.person import Person, check_email, check_fullname
from pfs.accounts.registration import Invited, Registration, may_register
from pfs.accounts.tables import Invitation, Key, Membership, Quota, User
from pfs.audit.log import audited
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, make_key
from pfs.names import check_user_name
from pfs.perm import Subject

__all__ = [
    "FILE_KINDS",
    "FIRST_UID",
    "Account",
    "Accounts",
    "Identity",
    "Invitation",
    "Key",
    "KeyKind",
    "Membership",
    "Quota",
    "Terms",
    "User",
]

PRESENT = col(User.removed_at_ns).is_(None)


@dataclass(frozen=True, slots=True)
class Account:
    """What its user and administrators are told of an account.

    Attributes:
        autoshare: the groups with which its new jobs are shared.
        keys: how many it has.
    """

    name: str
    person: Person
    admin: bool
    groups: frozenset[str]
    autoshare: frozenset[str]
    has_password: bool
    keys: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What shall be otherwise with an account; None stays as it is.

    Attributes:
        password: the hash of another one; all tokens of the account are taken back.
        kept: the token that stays nevertheless; "" for none.
    """

    fullname: str | None = None
    email: str | None = None
    admin: bool | None = None
    autoshare: frozenset[str] | None = None
    password: str | None = None
    kept: str = ""


class Accounts(FileLimits):
    """Everything about accounts, in SQL."""

    # ---- users

    def add_user_now(
        self, name: str, *, admin: bool, person: Person | None = None, password: str | None = None
    ) -> Subject:
        """Make an account.

        Args:
            password: its hash; None for an account that nobody comes into with a password.

        Raises:
            PfsError: INVALID for a name that cannot be one, or what nobody is called; EXISTS for a name that is taken.
        """
        check_user_name(name)
        who = person or Person()

        def make(session: Session) -> User:
            return self._add(session, name, admin, who, password)

        return self._subject(self._database.write_now(audited("user.add", f"users/{name}", make, admin=_yes(admin))))

    def _add(self, session: Session, name: str, admin: bool, person: Person, password: str | None) -> User:
        fullname, email = check_fullname(person.fullname), check_email(person.email)
        before = session.exec(select(User).where(User.name == name)).first()
        if before is not None:
            if before.removed_at_ns is None:
                raise PfsError(Kind.EXISTS, f"there is a user {name!r} already")
            _forget(session, before)
        user = User(
            name=name, admin=admin, fullname=fullname, email=email, created_at_ns=self._clock(), password=password
        )
        session.add(user)
        session.flush()
        return user

    def remove_user_now(self, name: str, also: Callable[[Session], None] = lambda session: None) -> int:
        """Let an account be gone: nobody comes in as it any more; return its number.

        Args:
            also: takes away at the same moment what others keep of it under its name.

        Raises:
            PfsError: NOT_FOUND when there is no such account, BUSY for the last administrator.
        """

        def work(session: Session) -> int:
            user = there(session, name)
            _check_not_last(session, user)
            drop_keys(session, name, list(KeyKind))
            drop_groups(session, name)
            drop_limits(session, name)
            also(session)
            user.removed_at_ns, user.admin, user.password = self._clock(), False, None
            user.fullname = user.email = ""
            assert user.id is not None
            return FIRST_UID + user.id

        return self._database.write_now(audited("user.remove", f"users/{name}", work))

    def change_now(self, name: str, changed: Changed) -> None:
        """Let an account be otherwise: all of it, or nothing.

        Raises:
            PfsError: NOT_FOUND when there is no such account, INVALID for what cannot be, BUSY for the last
                administrator.
        """
        works = _changing(name, changed)

        def work(session: Session) -> None:
            there(session, name)
            for each in works:
                each(session)

        self._database.write_now(work)

    def set_admin_now(self, name: str, *, admin: bool) -> None:
        """Say whether an account is an administrator's, as `change_now`."""
        self.change_now(name, Changed(admin=admin))

    def accounts_now(self) -> list[Account]:
        """Return every account, the first one first."""

        def work(session: Session) -> list[Account]:
            users = session.exec(select(User).where(PRESENT).order_by(col(User.id))).all()
            return [self._account(session, user) for user in users]

        return self._database.read_now(work)

    def account_now(self, name: str) -> Account:
        """Return one account.

        Raises:
            PfsError: NOT_FOUND when there is no such account.
        """
        return self._database.read_now(lambda session: self._account(session, there(session, name)))

    def _account(self, session: Session, user: User) -> Account:
        groups, shares = groups_of(session, user.name), autoshare_of(session, user.name)
        keys = len(self._keys(session, user.name))
        person = Person(user.fullname, user.email)
        return Account(user.name, person, user.admin, groups, shares, user.password is not None, keys)

    async def users(self) -> list[Subject]:
        """Return every account, without its groups."""
        query = select(User).where(PRESENT)
        return [self._subject(user) for user in await self._database.read(lambda s: list(s.exec(query).all()))]

    async def user(self, name: str) -> Subject | None:
        """Return the account of that name, if there is one."""

        def work(session: Session) -> Subject | None:
            found = session.exec(select(User).where(User.name == name, PRESENT)).first()
            if found is None:
                return None
            return replace(self._subject(found, groups_of(session, name)), gids=self._numbers(session, name))

        return await self._database.read(work)

    def admins_now(self) -> list[str]:
        """Return the names of the administrators, the first one first."""
        query = select(User.name).where(col(User.admin), PRESENT).order_by(col(User.id))
        return self._database.read_now(lambda session: list(session.exec(query)))

    def enterable_now(self) -> bool:
        """Tell whether anybody could come in: there is an account, or an invitation for an administrator."""
        invited = select(Invitation).where(col(Invitation.admin), col(Invitation.until_ns) > self._clock())

        def work(session: Session) -> bool:
            return any(session.exec(query.limit(1)).first() for query in (select(User).where(PRESENT), invited))

        return self._database.read_now(work)

    # ---- passwords and invitations

    async def password(self, name: str) -> tuple[str | None, bool]:
        """Return the hash of an account's password, and whether there is such an account."""
        query = select(User).where(User.name == name, PRESENT)
        user = await self._database.read(lambda session: session.exec(query).first())
        return (None, False) if user is None else (user.password, True)

    async def set_password(self, name: str, password: str, *, before: str | None, kept: str = "") -> None:
        """Give an account another password, and take all its tokens back.

        Args:
            password: its hash.
            before: the hash of the one that was shown; None where there was none.
            kept: the token that stays; "" for none.

        Raises:
            PfsError: NOT_FOUND when there is no such account, BUSY when its password was changed meanwhile.
        """

        def work(session: Session) -> None:
            user = there(session, name)
            if user.password != before:
                raise PfsError(Kind.BUSY, "this password was changed at the same moment; look which one holds")
            user.password = password
            drop_keys(session, name, [KeyKind.USER], fingerprint(kept))

        await self._database.write(audited("password.set", f"users/{name}", work))

    def set_password_now(self, name: str, password: str) -> None:
        """Give an account another password, whatever it had, and take all its tokens back, as `change_now`."""
        self.change_now(name, Changed(password=password))

    async def rehash(self, name: str, password: str, *, before: str) -> None:
        """Keep another hash of the same password, unless it was changed meanwhile."""

        def work(session: Session) -> None:
            user = session.exec(select(User).where(User.name == name, PRESENT, User.password == before)).first()
            if user is not None:
                user.password = password

        await self._database.write(work)

    def invite_now(self, where: str, *, admin: bool, days: int) -> str:
        """Return a new invitation; its text is not kept anywhere.

        Args:
            where: what it says of where the server is (`pfs.keys.where_of`), so that who has it needs nothing else.
        """
        code = make_key(where, secrets.token_urlsafe(24))
        row = Invitation(fingerprint=fingerprint(code), admin=admin, until_ns=self._clock() + days * DAY_NS)

        def work(session: Session) -> None:
            session.add(Invitation(**row.model_dump()))

        on = f"invitations/{key_name(code)}"
        self._database.write_now(audited("invitation.make", on, work, admin=_yes(admin), days=days))
        return code

    async def check_may_register(self, mode: Registration, shown: str) -> None:
        """Look whether somebody may make an account, before it costs anything.

        Raises:
            PfsError: DENIED.
        """
        await self._database.read(lambda session: self._may_register(session, mode, shown))

    async def register(
        self, mode: Registration, shown: str, name: str, password: str, person: Person | None = None
    ) -> Subject:
        """Make an account for somebody who came by themselves; their invitation is used up.

        Args:
            shown: what they show as an invitation; "" for none.
            password: its hash.

        Raises:
            PfsError: DENIED when they may not, INVALID or EXISTS for the name.
        """
        who = person or Person()

        def work(session: Session) -> User:
            admin = self._may_register(session, mode, shown)
            user = self._add(session, check_user_name(name), admin, who, password)
            row = session.get(Invitation, fingerprint(shown))
            if row is not None:
                session.delete(row)
            return user

        more = {"by": "register", "invitation": key_name(shown) if shown else ""}
        return self._subject(await self._database.write(audited("user.add", f"users/{name}", work, **more)))

    def _may_register(self, session: Session, mode: Registration, shown: str) -> bool:
        row = session.get(Invitation, fingerprint(shown)) if shown else None
        invited = None if row is None else Invited(row.admin, row.until_ns)
        return may_register(mode, shown, invited, self._clock())


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _changing(name: str, changed: Changed) -> list[Callable[[Session], None]]:
    """Return what changes an account, each with its own record."""
    on, works = f"users/{name}", []
    if changed.fullname is not None or changed.email is not None:
        told = {"fullname": changed.fullname, "email": changed.email}
        fields = ",".join(field for field, value in told.items() if value is not None)
        works.append(audited("user.set", on, lambda session: _describe(there(session, name), changed), fields=fields))
    if changed.admin is not None:
        admin = changed.admin
        works.append(audited("user.admin", on, lambda session: _promote(session, name, admin), admin=_yes(admin)))
    if changed.autoshare is not None:
        works.append(setting_autoshare(name, changed.autoshare))
    if changed.password is not None:
        works.append(audited("password.set", on, lambda session: _reopen(session, name, changed)))
    return works


def _describe(user: User, changed: Changed) -> None:
    if changed.fullname is not None:
        user.fullname = check_fullname(changed.fullname)
    if changed.email is not None:
        user.email = check_email(changed.email)


def _promote(session: Session, name: str, admin: bool) -> None:
    user = there(session, name)
    if not admin:
        _check_not_last(session, user)
    user.admin = admin


def _reopen(session: Session, name: str, changed: Changed) -> None:
    """Let an account have another password, and no tokens of before."""
    there(session, name).password = changed.password
    drop_keys(session, name, [KeyKind.USER], fingerprint(changed.kept))


def _check_not_last(session: Session, user: User) -> None:
    admins = session.exec(select(User.name).where(col(User.admin), PRESENT)).all()
    if list(admins) == [user.name]:
        raise PfsError(Kind.BUSY, f"{user.name} is the only administrator; make another one first")


def _forget(session: Session, user: User) -> None:
    """Let the name of an account that was removed be free.

    Raises:
        PfsError: EXISTS while something tells of it.
    """
    name = user.name
    try:
        with session.begin_nested():
            session.delete(user)
    except IntegrityError:
        raise PfsError(
            Kind.EXISTS, f"{name!r} was somebody who is gone, and jobs tell of them; take another name"
        ) from None
