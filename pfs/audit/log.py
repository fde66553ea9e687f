"""The audit log in SQL: who did what, from where, and what came of it; only ever added to.

What is done to the database is recorded in the same transaction (`audited`): one is never there without the other,
whatever happens to the server. What was refused, or is no change of the database, is recorded when it is over and
before whoever asked hears of it (`AuditLog.about`). The chain (`pfs.audit.record`) goes on from the last row, which
whoever writes holds still: the database has one writer at a time, and two records can never have one number.

Nothing is ever removed: a record takes some 250 bytes. Whoever reads the log sees the lines as one file.
"""

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sqlalchemy import bindparam, func, insert
from sqlalchemy import select as columns
from sqlmodel import BigInteger, Field, Session, SQLModel, col

from pfs.audit.origin import origin
from pfs.audit.record import DONE, FIRST_HASH, LINE_BYTES_MIN, Record, hash_in, line_of, record_in
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Domain, Subject, Verb, allowed
from pfs.sql import Database

T = TypeVar("T")

# every word that says what was done
WORDS = {
    "login": "somebody came in with a password",
    "register": "somebody was refused an account",
    "user.add": "an account was made",
    "user.remove": "an account is gone",
    "user.set": "an account has another full name or e-mail address",
    "user.admin": "somebody is an administrator, or not any more",
    "password.set": "an account has another password",
    "token.make": "a token or a key was given out",
    "token.revoke": "a token or a key was taken back",
    "invitation.make": "an invitation was given out",
    "group.add": "a group was made",
    "group.set": "a group has another title",
    "group.remove": "a group is gone",
    "group.join": "somebody is in a group",
    "group.leave": "somebody is in a group no more",
    "autoshare.set": "new jobs of somebody are shared with other groups",
    "quota.set": "users or groups may have so much",
    "setting.set": "a setting of the datacenter is another",
    "alias.set": "a name stands for other GPUs",
    "reservation.set": "nodes or GPUs are reserved for other groups",
    "cluster.rename": "a cluster is called otherwise",
    "cluster.default": "another cluster is the default",
    "node.register": "a machine is there for the first time",
    "node.remove": "a node that is away is known no more",
    "node.drain": "a node takes no new work",
    "node.resume": "a node takes new work again",
    "secret.keep": "a secret was written",
    "secret.forget": "a secret was removed",
    "file.publish": "everybody who has a link may download a file",
    "file.unpublish": "a link to a file leads nowhere any more",
    "job.submit": "a job was submitted",
    "job.remove": "a job that was over was thrown away",
    "job.restore": "a job that was thrown away is there again",
    "job.exec": "a program of somebody was let into a process of a job",
    "job.dial": "a connection of somebody was let to a port of a process of a job",
    "ctl": "a command was written to a job's, a node's or a cluster's ctl",
    "admin.reach": "an administrator reaches what only administrators and its owner may",
}

REACH_EVERY_S = 3600.0
REFUSED_EVERY_S = 60.0
KEPT_MAX = 20_000
ROWS_AT_ONCE = 1000

log = logging.getLogger(__name__)


class AuditRow(SQLModel, table=True):
    """One record.

    Attributes:
        end_bytes: where its line, with its end, ends in the file of all of them.
        line: the record itself.
    """

    __tablename__ = "audit"

    number: int = Field(primary_key=True)
    end_bytes: int = Field(sa_type=BigInteger, index=True, unique=True)
    line: str


# a job that is submitted waits for these: rows as objects would cost several times as much
_COLUMNS = columns(col(AuditRow.number), col(AuditRow.end_bytes), col(AuditRow.line))
_LAST = _COLUMNS.where(col(AuditRow.number) == columns(func.max(col(AuditRow.number))).scalar_subquery())
_FROM = _COLUMNS.where(col(AuditRow.end_bytes) > bindparam("offset")).order_by(col(AuditRow.number))
_ADD = insert(AuditRow)


def audited(what: str, on: str, work: Callable[[Session], T], **more: object) -> Callable[[Session], T]:
    """Return a piece of work for the database that also records that whoever acts did it.

    Args:
        what: a word of WORDS.
        on: what it is done to, mostly as a path: `users/ann`.
        more: what else is to be known; never a secret.
    """
    record = record_now(what, on, DONE, **more)

    def work_and_record(session: Session) -> T:
        result = work(session)
        add(session, record)
        return result

    return work_and_record


def record_now(what: str, on: str, result: str, **more: object) -> Record:
    """Return a record of what whoever acts does in this moment."""
    assert what in WORDS, what
    here = origin()
    told = {key: str(value) for key, value in more.items() if value is not None and value != ""}
    return Record(time.time_ns(), here.who, here.source, what, on, result, told)


def add(session: Session, record: Record) -> None:
    """Add a record, in a transaction of somebody else's."""
    connection = session.connection()
    last = connection.execute(_LAST).first()
    number, end_bytes, before = (1, 0, FIRST_HASH) if last is None else (last[0] + 1, last[1], hash_in(last[2]))
    line = line_of(number, record, before)
    connection.execute(_ADD, {"number": number, "end_bytes": end_bytes + len(line) + 1, "line": line})


def reaches_as_admin(subject: Subject, domain: Domain) -> bool:
    """Tell whether somebody may read a domain for no other reason than that they are an administrator."""
    return allowed(subject, Verb.RULE, SERVICE) and not allowed(replace(subject, admin=False), Verb.READ, domain)


class AuditLog:
    """Adds to the log, and reads it.

    Args:
        clock: seconds of a clock that does not go back.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lately: OrderedDict[tuple[object, ...], float] = OrderedDict()

    @contextlib.asynccontextmanager
    async def about(self, what: str, on: str, **more: object) -> AsyncIterator[None]:
        """Record what comes of the block: that it is done, or the kind of the error that it raises."""
        async with self.refusing(what, on, **more):
            yield
        await self._keep(record_now(what, on, DONE, **more))

    @contextlib.asynccontextmanager
    async def refusing(self, what: str, on: str, **more: object) -> AsyncIterator[None]:
        """Record only an error of the block; that somebody tried too often, only once a minute.

        That is so whatever they tried it on: how long an answer takes does not tell what there is.
        """
        try:
            yield
        except PfsError as error:
            here = origin()
            lately = ("refused", what, here) if error.kind is Kind.TOO_MANY else None
            if lately is None or self._seldom(lately, REFUSED_EVERY_S):
                try:
                    await self._keep(record_now(what, on, error.kind, **more))
                except PfsError as failure:  # the first error is what the caller has to hear
                    log.warning("that %s was refused is not recorded: %s", what, failure)
            raise

    async def reached(self, subject: Subject, domain: Domain) -> None:
        """Record that an administrator reaches what is somebody else's; once an hour for each key that they show."""
        if reaches_as_admin(subject, domain):
            on = f"{domain.kind}/{domain.name}"
            what = ("reach", on, origin())
            if self._seldom(what, REACH_EVERY_S):
                try:
                    await self._keep(record_now("admin.reach", on, DONE, owner=domain.owner))
                except BaseException:
                    self._lately.pop(what, None)  # nobody reaches it unrecorded
                    raise

    async def _keep(self, record: Record) -> None:
        await self._database.write(lambda session: add(session, record))

    def _seldom(self, what: tuple[object, ...], every_s: float) -> bool:
        """Tell whether `what` was not asked for so long."""
        now_s, lately = self._clock(), self._lately
        if now_s < lately.get(what, float("-inf")) + every_s:
            return False
        lately[what] = now_s
        lately.move_to_end(what)
        while len(lately) > KEPT_MAX:
            lately.popitem(last=False)
        return True

    async def extent(self) -> tuple[int, int]:
        """Return how long all lines are, and when the last one was made, in nanoseconds since the epoch."""
        return await self._database.read(_extent)

    async def read(self, offset: int, size_bytes: int) -> bytes:
        """Return a part of all lines."""
        return await self._database.read(lambda session: _part(session, offset, size_bytes))

    def lines_now(self) -> Iterator[str]:
        """Return all lines, without their ends, a part of the log at a time."""
        offset = 0
        while rows := self._database.read_now(partial(_rows, offset=offset, count=ROWS_AT_ONCE)):
            yield from (line for _, _, line in rows)
            offset = rows[-1][1]


def _extent(session: Session) -> tuple[int, int]:
    last = session.connection().execute(_LAST).first()
    return (0, 0) if last is None else (last[1], record_in(last[2]).time_ns)


def _rows(session: Session, offset: int, count: int) -> list[tuple[int, int, str]]:
    found = session.connection().execute(_FROM.limit(count), {"offset": offset})
    return [(number, end_bytes, line) for number, end_bytes, line in found]


def _part(session: Session, offset: int, size_bytes: int) -> bytes:
    rows = _rows(session, offset, size_bytes // LINE_BYTES_MIN + 2)
    if not rows:
        return b""
    begin = rows[0][1] - len(rows[0][2]) - 1
    text = "".join(f"{line}\n" for _, _, line in rows).encode()
    return text[offset - begin : offset - begin + size_bytes]
