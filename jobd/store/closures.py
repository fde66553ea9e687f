"""Which machines take no new work, in SQL: that somebody drained one outlives every restart."""

from collections.abc import Iterable

from sqlmodel import Session, col, delete, select

from jobd.nodestate import Closed
from jobd.store.tables import ClosureRow
from pfs.audit.log import audited
from pfs.sql import Database


class Closures:
    """What is kept of machines that take no new work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def closed(self) -> dict[str, Closed]:
        """Return the machines that take no new work, by id."""
        return await self._database.read(_closed)

    def closed_now(self) -> dict[str, Closed]:
        """Like `closed`, for callers without an event loop."""
        return self._database.read_now(_closed)

    async def close_nodes(self, node_ids: Iterable[str], closed: Closed) -> None:
        """Let machines take no new work, for this reason instead of any other."""
        await self._database.write(lambda session: _close(session, list(node_ids), closed))

    def close_nodes_now(self, node_ids: Iterable[str], closed: Closed) -> None:
        """Like `close_nodes`, for callers without an event loop."""
        ids = list(node_ids)
        work = audited("node.drain", _on(ids), lambda session: _close(session, ids, closed), why=closed.why)
        self._database.write_now(work)

    async def open_nodes(self, node_ids: Iterable[str]) -> None:
        """Let machines take new work again."""
        await self._database.write(lambda session: _open(session, list(node_ids)))

    def open_nodes_now(self, node_ids: Iterable[str]) -> None:
        """Like `open_nodes`, for callers without an event loop."""
        ids = list(node_ids)
        self._database.write_now(audited("node.resume", _on(ids), lambda session: _open(session, ids)))


def _on(node_ids: list[str]) -> str:
    return f"nodes/{','.join(node_ids)}"


def _closed(session: Session) -> dict[str, Closed]:
    return {row.node_id: Closed(row.by, row.why, row.since_ns) for row in session.exec(select(ClosureRow))}


def _close(session: Session, node_ids: list[str], closed: Closed) -> None:
    for node_id in node_ids:
        session.merge(ClosureRow(node_id=node_id, by=closed.by, why=closed.why, since_ns=closed.since_ns))


def _open(session: Session, node_ids: list[str]) -> None:
    session.exec(delete(ClosureRow).where(col(ClosureRow.node_id).in_(node_ids)))
