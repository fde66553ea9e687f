"""Groups of accounts: who is in them, their numbers, and with which ones somebody shares new jobs.

A group is made by its first member, or by an administrator, and is there until an administrator removes it: who is the
first one in it again finds its files, and administrators see them meanwhile. One that is removed is left by all, and
its files are put aside; its number stays its own.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import bindparam
from sqlalchemy import select as columns
from sqlmodel import Session, col, delete, select

from pfs.accounts.keyring import Keyring, there
from pfs.accounts.person import check_line
from pfs.accounts.tables import AutoShare, Membership, UserGroup
from pfs.audit.log import audited
from pfs.errors import Kind, PfsError
from pfs.names import FIRST_GID, check_group_name

# every submission asks for these
_SHARES = columns(col(AutoShare.group)).where(col(AutoShare.user) == bindparam("owner"))


PRESENT = col(UserGroup.removed_at_ns).is_(None)


@dataclass(frozen=True, slots=True)
class Group:
    """What is told of a group."""

    name: str
    title: str
    members: tuple[str, ...]


class Groups(Keyring):
    """Everything about groups, in SQL."""

    def members_now(self, group: str) -> list[str]:
        """Return who is in a group, by name."""
        return self._database.read_now(lambda session: list(_members(session, group)))

    def groups_now(self) -> list[str]:
        """Return the names of all groups, in order."""
        return self._database.read_now(_names)

    def group_now(self, name: str) -> Group:
        """Return what is told of a group.

        Raises:
            PfsError: NOT_FOUND when there is none of that name.
        """

        def work(session: Session) -> Group:
            return Group(name, group_there(session, name).title, tuple(_members(session, name)))

        return self._database.read_now(work)

    def numbers_now(self) -> list[tuple[str, int | None]]:
        """Return all groups, with their gids (None where everything is one person's)."""
        rows = self._database.read_now(lambda session: list(session.exec(select(UserGroup).where(PRESENT))))
        return [(row.name, self.group_number(row.id)) for row in rows]

    async def groups(self) -> list[str]:
        """Do what `groups_now` does."""
        return await self._database.read(_names)

    def group_number(self, id_: int | None) -> int | None:
        """Return the gid of a group; None where everything is one person's."""
        assert id_ is not None
        return FIRST_GID + id_ if self._numbered else None

    async def group(self, name: str) -> tuple[bool, int | None]:
        """Tell whether there is a group, and its gid (None where everything is one person's)."""
        query = select(UserGroup).where(UserGroup.name == name, PRESENT)
        row = await self._database.read(lambda session: session.exec(query).first())
        return (False, None) if row is None else (True, self.group_number(row.id))

    def _numbers(self, session: Session, user: str) -> tuple[tuple[str, int], ...]:
        """Return the groups that an account is in, with their gids, in order."""
        query = select(UserGroup).join(Membership, col(Membership.group) == col(UserGroup.name))
        rows = session.exec(query.where(Membership.user == user).order_by(UserGroup.name))
        found = [(row.name, self.group_number(row.id)) for row in rows]
        return tuple((name, gid) for name, gid in found if gid is not None)

    def add_group_now(self, name: str, title: str) -> int | None:
        """Make a group that nobody is in yet; return its gid, if it has one.

        Raises:
            PfsError: INVALID for a name that no group can have, or a title that cannot be one; EXISTS when there is
                one.
        """
        check_group_name(name)

        def work(session: Session) -> int | None:
            if session.exec(select(UserGroup).where(UserGroup.name == name, PRESENT)).first() is not None:
                raise PfsError(Kind.EXISTS, f"there is a group {name!r} already")
            row = _made(session, name)
            row.title = check_title(title)
            return self.group_number(row.id)

        return self._database.write_now(audited("group.add", f"groups/{name}", work))

    def set_title_now(self, name: str, title: str) -> None:
        """Give a group another title.

        Raises:
            PfsError: NOT_FOUND, INVALID.
        """

        def work(session: Session) -> None:
            group_there(session, name).title = check_title(title)

        self._database.write_now(audited("group.set", f"groups/{name}", work))

    def remove_group_now(self, name: str, also: Callable[[Session], None] = lambda session: None) -> None:
        """Let a group be gone: nobody is in it any more.

        Args:
            also: takes away at the same moment what others keep of it under its name.

        Raises:
            PfsError: NOT_FOUND when there is none of that name.
        """

        def work(session: Session) -> None:
            row = group_there(session, name)
            row.title, row.removed_at_ns = "", self._clock()
            session.exec(delete(Membership).where(col(Membership.group) == name))
            session.exec(delete(AutoShare).where(col(AutoShare.group) == name))
            also(session)

        self._database.write_now(audited("group.remove", f"groups/{name}", work))

    def join_now(self, group: str, user: str) -> int | None:
        """Let an account be in a group, which is made by its first member; return the group's gid, if it has one.

        Raises:
            PfsError: INVALID for a name that no group can have, NOT_FOUND when there is no such account.
        """
        check_group_name(group)

        def work(session: Session) -> int | None:
            there(session, user)
            session.merge(Membership(group=group, user=user))
            return self.group_number(_made(session, group).id)

        return self._database.write_now(audited("group.join", f"groups/{group}/{user}", work))

    def leave_now(self, group: str, user: str) -> None:
        """Let an account be in a group no more; its new jobs are not shared with it any more, either.

        Raises:
            PfsError: NOT_FOUND when it is not.
        """

        def work(session: Session) -> None:
            row = session.get(Membership, (group, user))
            if row is None:
                raise PfsError(Kind.NOT_FOUND, f"{user!r} is not in the group {group!r}")
            session.delete(row)
            session.exec(delete(AutoShare).where(col(AutoShare.user) == user, col(AutoShare.group) == group))

        self._database.write_now(audited("group.leave", f"groups/{group}/{user}", work))

    # ---- with whom new jobs are shared

    def autoshare_now(self, user: str) -> frozenset[str]:
        """Return the groups with which an account's new jobs are shared."""
        return self._database.read_now(lambda session: autoshare_of(session, user))

    def set_autoshare_now(self, user: str, groups: Collection[str]) -> None:
        """Say with which groups an account's new jobs are shared.

        Raises:
            PfsError: INVALID for a group that it is not in, NOT_FOUND when there is no such account.
        """
        self._database.write_now(setting_autoshare(user, groups))


def groups_of(session: Session, user: str) -> frozenset[str]:
    """Return the groups that an account is in."""
    return frozenset(session.exec(select(Membership.group).where(Membership.user == user)))


def drop_groups(session: Session, user: str) -> None:
    """Let an account be in no group."""
    session.exec(delete(Membership).where(col(Membership.user) == user))
    session.exec(delete(AutoShare).where(col(AutoShare.user) == user))


def check_title(text: str) -> str:
    """Return the title of a group, as it is kept.

    Raises:
        PfsError: INVALID.
    """
    return check_line("a title", text)


def _names(session: Session) -> list[str]:
    return list(session.exec(select(UserGroup.name).where(PRESENT).order_by(UserGroup.name)))


def _members(session: Session, group: str) -> list[str]:
    return list(session.exec(select(Membership.user).where(Membership.group == group).order_by(Membership.user)))


def group_there(session: Session, name: str) -> UserGroup:
    """Return a group.

    Raises:
        PfsError: NOT_FOUND when there is none of that name.
    """
    row = session.exec(select(UserGroup).where(UserGroup.name == name, PRESENT)).first()
    if row is None:
        made = f"make it with: jobd group add {name[:80]} USER"
        raise PfsError(Kind.NOT_FOUND, f"there is no group {name[:80]!r}; {made}")
    return row


def _made(session: Session, name: str) -> UserGroup:
    """Return a group, which is there from now on if it was not, under the number that it had."""
    row = session.exec(select(UserGroup).where(UserGroup.name == name)).first()
    if row is None:
        row = UserGroup(name=name)
        session.add(row)
        session.flush()
    row.removed_at_ns = None
    return row


def autoshare_of(session: Session, user: str) -> frozenset[str]:
    """Return the groups with which an account's new jobs are shared."""
    return frozenset(session.connection().execute(_SHARES, {"owner": user}).scalars())


def setting_autoshare(user: str, groups: Collection[str]) -> Callable[[Session], None]:
    """Return what says with which groups they are, in a transaction of somebody else's; see `Groups`."""

    def work(session: Session) -> None:
        _set_autoshare(session, user, groups)

    return audited("autoshare.set", f"users/{user}", work, groups=",".join(sorted(groups)) or "none")


def _set_autoshare(session: Session, user: str, groups: Collection[str]) -> None:
    there(session, user)
    if foreign := sorted(set(groups) - groups_of(session, user)):
        raise PfsError(Kind.INVALID, f"{user} is in no group {foreign[0][:80]!r}")
    session.exec(delete(AutoShare).where(col(AutoShare.user) == user))
    session.add_all(AutoShare(user=user, group=group) for group in groups)
