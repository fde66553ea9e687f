"""How machines become nodes, and how users get certificates: the server knows of their keys, and does not have them.

join token     an administrator, or somebody for nodes of their own, has it printed and carries it to a machine. It is
               good once, and for an hour. The machine makes a key of its own, and tells its fingerprint: the server
               never has the key itself. That key is bound to the machine, by what is in its state directory. It is
               for whom the token was: who is made an administrator meanwhile has a node of their own.
certificate    the datacenter's authority signs it; the server knows it by its fingerprint, like a token, so that it
               ends, is listed and taken back as a token is, and is dead when its owner is gone
"""

import secrets
import time
from collections.abc import Callable

from sqlmodel import Session, select

from pfs.accounts.keyring import (
    DAY_NS,
    IDLE_DAYS,
    NAME_CHARACTERS,
    KeyKind,
    Terms,
    has_ended,
    key_name,
    make_room,
    node_scopes,
    plain,
    there,
)
from pfs.accounts.tables import Key
from pfs.audit.log import AuditLog, audited
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, key_of_certificate, make_join_token
from pfs.perm import Scope
from pfs.sql import Database

MINUTE_NS = 60 * 10**9


class Enrolment:
    """Lets machines and certificates be known.

    Args:
        clock: nanoseconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], int] = time.time_ns) -> None:
        self._audit = AuditLog(database)
        self._database = database
        self._clock = clock

    def join_token_now(self, user: str, where: str, minutes: int, node: str = "") -> str:
        """Return a new join token, for one node of `user`; its text is not kept anywhere.

        Args:
            node: what the machine is to be called that shows it; "" for any.

        Raises:
            PfsError: NOT_FOUND when there is no such account.
        """
        token, now_ns = make_join_token(where, secrets.token_urlsafe(32)), self._clock()
        row = Key(
            fingerprint=fingerprint(token),
            kind=KeyKind.JOIN,
            user=user,
            created_at_ns=now_ns,
            label=_label(node),
            scopes="",
            expires_at_ns=now_ns + minutes * MINUTE_NS,
        )

        def work(session: Session) -> None:
            make_room(session, row, now_ns)
            session.add(Key(**row.model_dump() | {"scopes": Scope.ADMIN if there(session, user).admin else ""}))

        self._database.write_now(_recorded(row, work, minutes=minutes))
        return token

    def certify_now(self, user: str, certificate: bytes, terms: Terms) -> str:
        """Let a certificate (DER) prove `user`; return what it is called among the keys.

        Args:
            terms: `days` says when it ends.

        Raises:
            PfsError: NOT_FOUND when there is no such account, TOO_MANY when it has too many tokens.
        """
        assert terms.days is not None
        key, now_ns = key_of_certificate(certificate), self._clock()
        row = Key(
            fingerprint=fingerprint(key),
            kind=KeyKind.USER,
            user=user,
            created_at_ns=now_ns,
            label=plain(terms.label),
            scopes=" ".join(sorted(terms.scopes)),
            expires_at_ns=now_ns + terms.days * DAY_NS,
        )

        def work(session: Session) -> None:
            there(session, user)
            make_room(session, row, now_ns)
            session.add(Key(**row.model_dump()))

        self._database.write_now(_recorded(row, work, days=terms.days, scopes=row.scopes.replace(" ", ",")))
        return key_name(key)

    async def join(self, user: str, token: str, own: str, machine: str, name: str) -> None:
        """Let a machine be a node of `user`; the token is used up.

        Args:
            own: the fingerprint of the machine's own key.
            machine: to which that key is bound from now on.
            name: of the machine, for people.

        Raises:
            PfsError: UNAUTHENTICATED when the token was used up meanwhile, EXISTS when the machine has a key, DENIED
                when the token is for a machine of another name.
        """
        now_ns = self._clock()

        def work(session: Session) -> None:
            row = session.get(Key, fingerprint(token))
            if row is None or session.get(Key, own) is not None:
                raise PfsError(Kind.UNAUTHENTICATED, "this join token was used already; ask for another")
            if _bound(session, machine, now_ns):
                raise PfsError(Kind.EXISTS, "this machine has a key of its own; to take it back: jobd user revoke")
            if row.label not in (_label(""), _label(name)):
                raise PfsError(Kind.DENIED, f"this join token is {row.label}: start the machine with that --name")
            session.delete(row)
            key = Key(
                fingerprint=own,
                kind=KeyKind.NODE,
                user=user,
                created_at_ns=now_ns,
                label=plain(name),
                scopes=node_scopes(of_datacenter=row.scopes == Scope.ADMIN),
                idle_ns=IDLE_DAYS[KeyKind.NODE] * DAY_NS,
                machine=machine,
            )
            session.add(key)

        on = f"users/{user}/keys/{own[:NAME_CHARACTERS]}"
        more = {"kind": KeyKind.NODE, "label": plain(name), "by": key_name(token)}
        async with self._audit.refusing("token.make", on, **more):
            await self._database.write(audited("token.make", on, work, **more))

    async def is_bound(self, machine: str) -> bool:
        """Tell whether a machine has a key of its own, so that no other is good for it."""
        return await self._database.read(lambda session: _bound(session, machine, self._clock()))


def _label(node: str) -> str:
    """Return what a join token is for, as it is listed among the keys."""
    return plain(f"for the node {node}") if node else "for one node"


def _recorded(row: Key, work: Callable[[Session], None], **more: object) -> Callable[[Session], None]:
    on = f"users/{row.user}/keys/{row.fingerprint[:NAME_CHARACTERS]}"
    return audited("token.make", on, work, kind=row.kind, label=row.label, **more)


def _bound(session: Session, machine: str, now_ns: int) -> bool:
    if not machine:  # as in keys that are bound to none
        return False
    rows = session.exec(select(Key).where(Key.machine == machine)).all()
    return any(not has_ended(row, now_ns) for row in rows)
