"""What the server keeps for each mount that is connected: its open files, its leases, its door for bulk bytes.

Beside the operations of the tree (`pfs.server.session`) a mount asks

    hello   once, with {"mount": name}: {"bulk": secret, "socket": path}, where large ranges and descriptors are had,
            and "admin": whether its user is one; from then on it is leased what it looks at
    alive   every few seconds, so that its leases go on
    bye     it uses no copies any more

and is asked

    break   {"nodes": [id …], "names": [[directory's id, name] …]}: it answers when it uses no copies of these any more
    lapse   when the server ends: it answers when it uses no copies any more
"""

import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from pfs.accounts.store import Identity
from pfs.api import Name
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import Holder, LeaseHub
from pfs.leasing.promises import Promises
from pfs.perm import SERVICE, Verb, allowed
from pfs.protocol.channel import Channel, Handler
from pfs.protocol.wire import Json
from pfs.server.bulk import BulkSessions
from pfs.server.session import FileSession, Reply
from pfs.tree.service import TreeFileSystem

NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")


class Mounts:
    """All mounts of a server.

    Args:
        filesystem: gives somebody a view of the tree.
        socket: the Unix socket that gives descriptors to mounts on this machine.
        promises: who is promised to hear of changes, for the server after this one.
    """

    def __init__(
        self, filesystem: Callable[[Identity], TreeFileSystem], socket: str, promises: Promises | None = None
    ) -> None:
        self._filesystem = filesystem
        self.socket = socket
        self.hub = LeaseHub(promises)
        self.bulk = BulkSessions()

    def view(self, identity: Identity) -> LeasedTree:
        """Return the tree for somebody who keeps no copies of it."""
        return LeasedTree(self._filesystem(identity), self.hub)

    @asynccontextmanager
    async def conversation(self, identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        """Answer a mount as long as it is connected."""

        async def tell(nodes: Collection[int], names: Collection[Name]) -> None:
            await channel().ask("break", {"nodes": list(nodes), "names": [list(name) for name in names]})

        async def lapse() -> None:
            await channel().ask("lapse", {})

        async def hang_up() -> None:
            await channel().close()

        holder = self.hub.join(tell, lapse, hang_up, identity.subject.user)
        session = FileSession(LeasedTree(self._filesystem(identity), self.hub, holder), lambda: channel().drained())
        secret = self.bulk.register(identity.subject, session.opened)

        async def handle(op: str, args: Json, body: bytes) -> Reply:
            if op == "hello":
                if holder.name is not None:
                    raise PfsError(Kind.INVALID, "a mount says hello once")
                name = args.get("mount")
                await self.hub.enter(holder, name if isinstance(name, str) and NAME.fullmatch(name) else secret)
                return {
                    "bulk": secret,
                    "socket": self.socket,
                    "admin": allowed(identity.subject, Verb.RULE, SERVICE),
                }, b""
            answer = self._answer(op, holder)
            return await session.handle(op, args, body) if answer is None else (answer, b"")

        try:
            yield handle
        finally:
            self.hub.lost(holder)
            self.bulk.unregister(secret)
            await session.end()

    def _answer(self, op: str, holder: Holder) -> Json | None:
        match op:
            case "alive":
                self.hub.heard(holder)
                return {}
            case "bye":
                self.hub.leave(holder)
                return {}
            case _:
                return None
