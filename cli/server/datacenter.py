"""A datacenter at rest: its data root, its database, its accounts; what `init`, `serve` and other commands share."""

import fcntl
import os
import secrets
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, delete

from cli.server.listening import Asked, Certificate, Site, certificate_for
from cli.server.ownauthority import OwnAuthority, own_names
from jobd.engine.belongings import further
from jobd.scheduling.quotas import JobLimits
from jobd.store.db import JobStore
from jobd.store.decisions import drop_group
from jobd.store.limits import drop_job_limits
from jobd.store.nodes import drop_machines
from jobd.store.schema import upgrade
from jobd.store.sharing import drop_shares
from jobd.store.tables import SecretRow
from jobd.store.trees import remove_trees_now
from pfs.accounts.enrolment import Enrolment
from pfs.accounts.limits import drop_limits
from pfs.accounts.person import Person
from pfs.accounts.registration import Registration
from pfs.accounts.store import Accounts, KeyKind, Terms
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.keys import address_of, where_of
from pfs.protocol.sockets import Tls
from pfs.quota import Amount, Limits
from pfs.sql import Database
from pfs.tree.top import (
    DOMAIN_DIRECTORIES,
    group_home,
    home_of,
    make_home_now,
    put_group_aside_now,
    put_home_aside_now,
)

if TYPE_CHECKING:
    from pfs.certificates import Issued

PRIVATE = "server"
ID_FILE = ".pfs-id"
OWN_SECRET = "own_secret"
REGISTRATION = "registration"
FIRST_INVITATION_DAYS = 1


def domain_of(holder: str) -> str:
    """Return the directory whose files a holder of limits is told of, in the data root and in the tree."""
    return holder if "/" in holder else home_of(holder)


def default_data_root() -> str:
    """Return where the data is when nobody says: for root the machine's, else one's own."""
    if os.geteuid() == 0:
        return "/var/lib/pfs"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "pfs")


def default_database(data_root: str) -> str:
    """Return the address of the database beside the data."""
    return f"sqlite:///{os.path.abspath(data_root)}/{PRIVATE}/pfs.sqlite"


class Store:
    """The opened data root and database: what `init`, `serve` and the account commands share.

    Raises:
        PfsError: NOT_FOUND when `jobd init` was not run here, BUSY when another server is running.
    """

    def __init__(self, data_root: str, database: str | None, *, exclusive: bool) -> None:
        self.data_root = data_root
        self.url = database or default_database(data_root)
        if not os.path.exists(os.path.join(data_root, ID_FILE)):
            raise PfsError(
                Kind.NOT_FOUND, f"{data_root} is no data root; make one with: jobd init --data-root {data_root}"
            )
        self._lock_fd = self._lock() if exclusive else None
        with open(os.path.join(data_root, ID_FILE), encoding="ascii") as file:
            self.data_root_id = file.read().strip()
        try:
            upgrade(self.url)
        except SQLAlchemyError as error:
            # the address may hold a password, and SQLAlchemy's own text is long: only what the driver said
            said = getattr(error, "orig", None) or error
            raise PfsError(Kind.INVALID, f"the database cannot be opened: {said}; see --database") from None
        except ModuleNotFoundError as error:
            text = f"the database cannot be opened: there is no {error.name} here; an address looks like sqlite:///FILE"
            raise PfsError(Kind.INVALID, text) from None
        self.database = Database(self.url)
        self.disk = Disk(data_root)
        if database is None:  # it lies in the data root
            self.database.run = self.disk.run
        self.accounts = Accounts(self.database, numbered=os.geteuid() == 0)
        self.enrolment = Enrolment(self.database)
        self.jobs = JobStore(self.database)
        self.disk.counts.further = further(self.jobs.numbers_now)
        self.authority = OwnAuthority(self.private)

    @property
    def private(self) -> str:
        """The folder of what is the server's own."""
        return os.path.join(self.data_root, PRIVATE)

    def _lock(self) -> int:
        lock_fd = os.open(os.path.join(self.private, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            raise PfsError(Kind.BUSY, f"another jobd serves {self.data_root} already") from None
        return lock_fd

    def setting(self, name: str) -> str:
        """Return what `jobd init` decided."""
        value = self.jobs.setting_now(name)
        if value is None:
            raise PfsError(Kind.NOT_FOUND, f"{self.url} has no datacenter in it; run jobd init")
        return value

    def own_secret(self) -> str:
        """Return what only this server knows, in hexadecimal digits: keys of jobs are made with it."""
        value = self.jobs.setting_now(OWN_SECRET)
        if value is None:
            value = secrets.token_hex(32)
            self.jobs.set_now(OWN_SECRET, value)
        return value

    def add_account(self, name: str, *, admin: bool, person: Person | None = None, password: str | None = None) -> None:
        """Make an account with its home; else as `Accounts.add_user_now`."""
        make_home_now(self.disk, self.accounts.add_user_now(name, admin=admin, person=person, password=password))

    def add_user(self, name: str, *, admin: bool) -> str:
        """Make an account with its home; return its token."""
        self.add_account(name, admin=admin)
        return self.accounts.make_key_now(KeyKind.USER, name, self.where)

    def remove_user(self, name: str) -> str:
        """Let an account be gone, with all that is kept under its name; return where its home is put aside.

        Raises:
            PfsError: NOT_FOUND when there is no such account, BUSY for the last administrator.
        """

        def also(session: Session) -> None:
            session.exec(delete(SecretRow).where(col(SecretRow.user) == name))
            drop_job_limits(session, name)
            drop_machines(session, name)

        number = self.accounts.remove_user_now(name, also)
        remove_trees_now(self.data_root, name, number)
        return put_home_aside_now(self.disk, name, number)

    @property
    def registration(self) -> Registration:
        """Who may make an account of their own."""
        return Registration(self.jobs.setting_now(REGISTRATION) or Registration.CLOSED)

    def set_registration(self, mode: Registration) -> None:
        """Say who may make an account of their own."""
        self.jobs.set_now(REGISTRATION, mode, shown=mode)

    def add_node_key(self, name: str | None) -> tuple[str, str]:
        """Return a new key for nodes, and the user for whom alone they will work; "" for everybody.

        Args:
            name: of the account that it is made for; None for the datacenter.
        """
        user, owner = self._owner_of_nodes(name)
        key = self.accounts.make_key_now(KeyKind.NODE, user, self.where)
        return key, owner

    def join_token(self, name: str | None, minutes: int, node: str = "") -> tuple[str, str]:
        """Return a new token with which one machine becomes a node, of that name if it says one; as `add_node_key`."""
        user, owner = self._owner_of_nodes(name)
        return self.enrolment.join_token_now(user, self.where, minutes, node), owner

    def _owner_of_nodes(self, name: str | None) -> tuple[str, str]:
        """Return whose keys of nodes are that are made for somebody, and for whom alone these will work."""
        admins = self.accounts.admins_now()
        if name is None and not admins:
            raise PfsError(Kind.NOT_FOUND, "nodes of the datacenter are an administrator's, and there is none yet")
        user = name or admins[0]
        return user, "" if user in admins else user

    def certify(self, user: str, terms: Terms) -> "Issued":
        """Return a new certificate of an account, and its key, which is kept nowhere.

        Raises:
            PfsError: NOT_FOUND when there is no such account, INVALID where no TLS is spoken.
        """
        from pfs.certificates import read_certificate

        if not address_of(self.setting("endpoint")).secure:
            cure = "jobd url https://NAME:8470 lets it speak that"
            raise PfsError(Kind.INVALID, f"certificates are shown over TLS, and keys say {self.where}: {cure}")
        assert terms.days is not None
        self.authority.make(self.setting("datacenter"), time.time_ns())
        made = self.authority.certify_user(user, time.time_ns(), terms.days)
        self.enrolment.certify_now(user, read_certificate(made.certificate).der, terms)
        # its authority behind it tells whom to trust, as a key does
        return replace(made, certificate=made.certificate + (self.authority.certificate() if self.is_vouched else b""))

    @property
    def where(self) -> str:
        """What keys say of where the server is."""
        authority = self.jobs.setting_now("authority")
        return where_of(self.setting("endpoint"), ssl.PEM_cert_to_DER_cert(authority) if authority else None)

    # ---- TLS

    @property
    def is_vouched(self) -> bool:
        """Whether keys name the datacenter's own authority."""
        named = self.jobs.setting_now("authority")
        return bool(named) and self.authority.is_there and named == self.authority.certificate().decode()

    def move(self, endpoint: str, authority: str | None, names: Sequence[str] = ()) -> None:
        """Say where clients and nodes find the server, and which certificate vouches for it there.

        Args:
            authority: PEM; "" for those that each system trusts; None for the datacenter's own, where there is TLS.
            names: further ones that the server's own certificate is for.

        Raises:
            PfsError: INVALID for what is no address, or no name.
        """
        there = address_of(endpoint)
        if authority is None:
            authority = self.make_authority() if there.secure else ""
        self.jobs.set_now("authority", authority)
        self.jobs.set_now("endpoint", endpoint)
        if self.is_vouched:
            self.authority.certify_server([there.host, *names], time.time_ns())

    def make_authority(self) -> str:
        """Make the datacenter's own authority, where it has none, and a certificate for its server; return its own."""
        self.authority.make(self.setting("datacenter"), time.time_ns())
        self.authority.certify_server(own_names(), time.time_ns())
        return self.authority.certificate().decode()

    def renew_certificate(self) -> bool:
        """Make another certificate for the server before it ends; return whether that was needed."""
        return self.authority.certify_server([address_of(self.setting("endpoint")).host], time.time_ns())

    def tls(self, asked: Asked, given: Tls | None) -> Tls | None:
        """Return what the server shows where it is asked to listen; None is no TLS.

        Args:
            given: the certificate that options name, if they do.

        Raises:
            PfsError: INVALID when it must not listen so.
        """
        found = certificate_for(asked, Site(self.setting("endpoint"), self.is_vouched, self.accounts.enterable_now()))
        if found is Certificate.NONE:
            return None
        if found is Certificate.OWN:
            self.renew_certificate()
            given = Tls(self.authority.server_file, self.authority.server_file)
        assert given is not None
        self.authority.make(self.setting("datacenter"), time.time_ns())  # users' certificates are of it in any case
        return replace(given, client_ca=self.authority.certificate_file)

    def make_group_directories(self) -> None:
        """Make sure that every group has its folder, and that it is the group's."""
        for name, gid in self.accounts.numbers_now():
            self.disk.make_group_directory_now(group_home(name), gid)

    def join_group(self, name: str, user: str) -> None:
        """Let an account be in a group, whose folder jobs of its members see."""
        self.disk.make_group_directory_now(group_home(name), self.accounts.join_now(name, user))

    def add_group(self, name: str, title: str) -> None:
        """Make a group that nobody is in yet, with its folder."""
        self.disk.make_group_directory_now(group_home(name), self.accounts.add_group_now(name, title))

    def remove_group(self, name: str) -> str:
        """Let a group be gone, with all that is kept under its name; return where its files are put aside."""

        def also(session: Session) -> None:
            drop_limits(session, group_home(name))
            drop_job_limits(session, group_home(name))
            drop_group(session, name)
            drop_shares(session, name)

        self.accounts.remove_group_now(name, also)
        return put_group_aside_now(self.disk, name, time.time_ns())

    def limit(self, holder: str, changed: Mapping[str, int | None]) -> Limits:
        """Change some limits of what a user or a group (`groups/vision`) may hold; return all of them."""
        limits = replace(self.accounts.limits_now(holder), **changed)
        if changed:
            self.accounts.set_limits_now(holder, limits)
        return limits

    def limit_jobs(self, holder: str, changed: Mapping[str, int | None]) -> JobLimits:
        """Change some limits of what a holder's jobs may have at once; return all of them."""
        self.accounts.check_holder_now(holder)
        limits = replace(self.jobs.job_limits_now(holder), **changed)
        if changed:
            self.jobs.set_job_limits_now(holder, limits)
        return limits

    def used(self, holder: str) -> Amount:
        """Count what a user or a group holds."""
        return self.disk.counts.count_now(domain_of(holder))

    def close(self) -> None:
        """Let go of everything."""
        self.disk.close()
        self.database.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)


def make_data_root(data_root: str) -> None:
    """Make the directories of a data root, and its mark.

    Raises:
        PfsError: EXISTS when there is one already.
    """
    mark = os.path.join(data_root, ID_FILE)
    if os.path.exists(mark):
        raise PfsError(
            Kind.EXISTS, f"{data_root} is a data root already; serve it with: jobd serve --data-root {data_root}"
        )
    os.makedirs(os.path.join(data_root, PRIVATE), exist_ok=True)
    os.chmod(os.path.join(data_root, PRIVATE), 0o700)
    for name in DOMAIN_DIRECTORIES:
        os.makedirs(os.path.join(data_root, name), mode=0o755, exist_ok=True)
    with open(mark, "x", encoding="ascii") as file:
        file.write(secrets.token_hex(16) + "\n")


@dataclass(frozen=True, slots=True)
class Made:
    """What a new datacenter lets people in with; each is told once.

    Attributes:
        authority: the certificate (PEM) that keys name; "" for none.
        token: the first administrator's; None where that one is invited.
        node_key: a key for nodes; None likewise.
        invitation: with which the first administrator makes an account; None where that one has a token.
    """

    authority: str = ""
    token: str | None = None
    node_key: str | None = None
    invitation: str | None = None


def make_datacenter(
    data_root: str,
    database: str | None,
    *,
    datacenter: str,
    endpoint: str,
    admin: str | None,
    authority: str | None = None,
    names: Sequence[str] = (),
) -> Made:
    """Make a datacenter with its first administrator.

    Args:
        admin: the administrator's name; None where they register by an invitation.
        authority: the certificate (PEM) that vouches for the server, for keys to name; None for one of its own.
        names: further ones that the server's own certificate is for.
    """
    make_data_root(data_root)
    try:
        with closing(Store(data_root, database, exclusive=True)) as store:
            store.jobs.set_now("datacenter", datacenter)
            store.make_authority()
            store.move(endpoint, authority, names)
            named = store.jobs.setting_now("authority") or ""
            if admin is None:
                invitation = store.accounts.invite_now(store.where, admin=True, days=FIRST_INVITATION_DAYS)
                made = Made(named, invitation=invitation)
            else:
                token = store.add_user(admin, admin=True)
                made = Made(named, token, store.accounts.make_key_now(KeyKind.NODE, admin, store.where))
    except BaseException:
        os.unlink(os.path.join(data_root, ID_FILE))  # so that it can be tried again
        raise
    return made
