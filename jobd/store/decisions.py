"""What administrators decide about machines, in SQL: each decision is a piece of work for a transaction.

They say for which groups nodes and GPUs are reserved, what short names stand for, and which machines are known no more.
What is reserved for no group is everybody's.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

from sqlmodel import Session, col, delete, select

from jobd.store.tables import AliasRow, ClosureRow, NodeRow, ReservationRow
from pfs.accounts.groups import group_there
from pfs.accounts.keyring import NAME_CHARACTERS
from pfs.accounts.store import Key
from pfs.audit.log import add, audited, record_now
from pfs.audit.record import DONE
from pfs.errors import Kind, PfsError

Groups = frozenset[str]


def reserving(node_id: str, gpu: str, after: Callable[[Groups], Groups]) -> Callable[[Session], None]:
    """Return what reserves a node, or a GPU of it, for the groups that `after` makes of those of before."""

    def work(session: Session) -> None:
        same = (col(ReservationRow.node_id) == node_id, col(ReservationRow.gpu) == gpu)
        before = frozenset(session.exec(select(ReservationRow.group).where(*same)))
        groups = after(before)
        for group in sorted(groups - before):
            group_there(session, group)
        session.exec(delete(ReservationRow).where(*same))
        session.add_all(ReservationRow(node_id=node_id, gpu=gpu, group=group) for group in groups)
        add(session, replace(record, more={"groups": ",".join(sorted(groups)) or "none"}))

    record = record_now("reservation.set", f"nodes/{node_id}/{gpu}".rstrip("/"), DONE)
    return work


def aliasing(name: str, model: str | None) -> Callable[[Session], None]:
    """Return what lets a name stand for a model of GPUs, None for nothing any more; see `jobd.store.nodes`."""
    work = partial(_alias, name=name, model=model)
    return audited("alias.set", f"aliases/{name}", work, model=model or "none")


def _alias(session: Session, name: str, model: str | None) -> None:
    row = session.get(AliasRow, name)
    if model is None:
        if row is None:
            raise PfsError(Kind.NOT_FOUND, f"there is no alias {name[:80]!r}")
        session.delete(row)
        return
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        raise PfsError(Kind.INVALID, f"{name[:80]!r} cannot be an alias: a letter, then letters and digits")
    if name in models_of(session.exec(select(NodeRow))):
        raise PfsError(Kind.INVALID, f"{name!r} is a model of GPUs itself; choose another name")
    other = session.exec(select(AliasRow).where(AliasRow.model == model, AliasRow.name != name)).first()
    if other is not None:
        cure = f"remove it first with: jobd alias {other.name} --remove"
        raise PfsError(Kind.EXISTS, f"{model!r} has the alias {other.name!r} already; {cure}")
    session.merge(AliasRow(name=name, model=model))


def models_of(nodes: Iterable[NodeRow]) -> set[str]:
    """Return the models of all GPUs that nodes have."""
    return {str(gpu["model"]) for node in nodes for gpu in node.gpus}


def drop_group(session: Session, group: str) -> None:
    """Let nothing be reserved for a group that is gone, in a transaction of somebody else's."""
    session.exec(delete(ReservationRow).where(col(ReservationRow.group) == group))


def drop_rows(session: Session, node_ids: Collection[str]) -> None:
    """Forget machines, in a transaction of somebody else's."""
    session.exec(delete(ClosureRow).where(col(ClosureRow.node_id).in_(node_ids)))
    session.exec(delete(ReservationRow).where(col(ReservationRow.node_id).in_(node_ids)))
    session.exec(delete(NodeRow).where(col(NodeRow.id).in_(node_ids)))


def remove_machines(session: Session, node_ids: Collection[str]) -> None:
    """Forget machines, and take back the keys that they have of their own."""
    known = select(NodeRow.instance).where(col(NodeRow.id).in_(node_ids), NodeRow.instance != "")
    for key in session.exec(select(Key).where(col(Key.machine).in_(list(session.exec(known))))).all():
        on = f"users/{key.user}/keys/{key.fingerprint[:NAME_CHARACTERS]}"
        add(session, record_now("token.revoke", on, DONE, why="node"))
        session.delete(key)
    drop_rows(session, node_ids)
