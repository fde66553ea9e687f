"""What is kept of accounts in SQL.

user         an account; one that was removed stays, so that its name is not given to somebody else
key          the fingerprint of a key or token that was given out, and what ends it
membership   who is in which group            quota        how much users and groups may hold
usergroup    a group; it keeps its number      autoshare    with which groups new jobs of somebody are shared
invitation   who may make an account
"""

from sqlmodel import BigInteger, Field, SQLModel


class User(SQLModel, table=True):
    """An account; its number, from which its uid follows, is never given again.

    Attributes:
        fullname, email: of the person, as they say; "" where nobody said.
        password: its hash (`pfs.accounts.passwords`); None where nobody has set one.
        removed_at_ns: since when nobody comes in; None while it is there.
    """

    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    admin: bool = False
    fullname: str = ""
    email: str = ""
    created_at_ns: int = Field(sa_type=BigInteger)
    password: str | None = None
    removed_at_ns: int | None = Field(default=None, sa_type=BigInteger)


class Key(SQLModel, table=True):
    """A key that was given out; `user` is whose it is, for a node's key who made it.

    Attributes:
        label: the machine, or what it is for.
        scopes: what it may be used for, parted by spaces (`pfs.perm.Scope`).
        expires_at_ns: when it ends in any case; None is never.
        idle_ns: it ends when it was not used for so long; None is never.
        used_at_ns: when it was used last, to some minutes; None is not yet.
        machine: by what the machine is known to which a node's key is bound; "" for a key of any machine.
    """

    fingerprint: str = Field(primary_key=True)
    kind: str
    user: str = Field(foreign_key="user.name", index=True)
    created_at_ns: int = Field(sa_type=BigInteger)
    label: str
    scopes: str
    expires_at_ns: int | None = Field(default=None, sa_type=BigInteger)
    idle_ns: int | None = Field(default=None, sa_type=BigInteger)
    used_at_ns: int | None = Field(default=None, sa_type=BigInteger)
    machine: str = Field(default="", index=True)


class UserGroup(SQLModel, table=True):
    """A group that there is, or was; its number, from which its gid follows, stays its own.

    Attributes:
        title: what it is, for people.
        removed_at_ns: since when there is no such group; None while it is there.
    """

    __tablename__ = "usergroup"
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    title: str = ""
    removed_at_ns: int | None = Field(default=None, sa_type=BigInteger)


class AutoShare(SQLModel, table=True):
    """A group of somebody's with which their new jobs are shared."""

    __tablename__ = "autoshare"

    user: str = Field(foreign_key="user.name", primary_key=True)
    group: str = Field(primary_key=True)


class Membership(SQLModel, table=True):
    """An account that is in a group."""

    group: str = Field(primary_key=True)
    user: str = Field(foreign_key="user.name", primary_key=True, index=True)


class Quota(SQLModel, table=True):
    """How much a user (`ann`) or a group (`groups/vision`) may hold; None is no limit, and so is no row."""

    holder: str = Field(primary_key=True)
    size_bytes: int | None = Field(default=None, sa_type=BigInteger)
    files: int | None = Field(default=None, sa_type=BigInteger)


class Invitation(SQLModel, table=True):
    """Lets one person make an account, once; whoever made it knows its text."""

    fingerprint: str = Field(primary_key=True)
    admin: bool
    until_ns: int = Field(sa_type=BigInteger)
