"""What the server keeps for each mount that is connected: its open files, its leases, its door for bulk bytes.

Beside the operations of the tree (`pfs.session`) a mount asks

    hello   once: {"bulk": secret, "socket": path}, where large ranges and descriptors are had
    alive   every few seconds, so that its leases go on
    bye     it uses no copies any more

and is asked

    break   {"nodes": [id …], "names": [[directory's id, name] …]}: it answers when it uses no copies of these any more
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from pfs.accounts import Identity
from pfs.api import Name
from pfs.bulk import BulkSessions
from pfs.channel import Channel, Handler
from pfs.leased import Holder, LeasedTree, LeaseHub
from pfs.service import TreeFileSystem
from pfs.session import FileSession, Reply
from pfs.wire import Json


class Mounts:
    """All mounts of a server.

    Args:
        filesystem: gives somebody a view of the tree.
        socket: the Unix socket that gives descriptors to mounts on this machine.
    """

    def __init__(self, filesystem: Callable[[Identity], TreeFileSystem], socket: str) -> None:
        self._filesystem = filesystem
        self._socket = socket
        self.hub = LeaseHub()
        self.bulk = BulkSessions()

    def view(self, identity: Identity) -> LeasedTree:
        """Return the tree for somebody who keeps no copies of it."""
        return LeasedTree(self._filesystem(identity), self.hub)

    @asynccontextmanager
    async def conversation(self, identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        """Answer a mount as long as it is connected."""

        async def tell(nodes: Collection[int], names: Collection[Name]) -> None:
            await channel().ask("break", {"nodes": list(nodes), "names": [list(name) for name in names]})

        async def hang_up() -> None:
            await channel().close()

        holder = self.hub.join(tell, hang_up)
        session = FileSession(LeasedTree(self._filesystem(identity), self.hub, holder))
        secret = self.bulk.register(identity.subject, session.opened)

        async def handle(op: str, args: Json, body: bytes) -> Reply:
            answer = self._answer(op, holder, secret)
            return await session.handle(op, args, body) if answer is None else (answer, b"")

        try:
            yield handle
        finally:
            self.hub.lost(holder)
            self.bulk.unregister(secret)
            await session.end()

    def _answer(self, op: str, holder: Holder, secret: str) -> Json | None:
        match op:
            case "hello":
                return {"bulk": secret, "socket": self._socket}
            case "alive":
                self.hub.heard(holder)
                return {}
            case "bye":
                self.hub.leave(holder)
                return {}
            case _:
                return None
