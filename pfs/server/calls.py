"""What runs for one connection of the guard: applications, what they still have to receive, and timers.

Applications finish, timers end with the connection; an inbox holds what an application still has to receive, and never
blocks on "the client is gone".
"""

import contextlib
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from starlette.types import Message

from pfs.server.forwarded import sender


class Inbox:
    """The messages for one application call: bounded, in order, and ended by a last one that always fits.

    Once it is ended, whatever else is put is dropped: a body that nobody reads any more holds nobody up.
    """

    def __init__(self, size: int, last: Message) -> None:
        self._send, self._receive = trio.open_memory_channel[Message](size)
        self._last = last
        self._told = False

    async def put(self, message: Message) -> None:
        """Add a message, waiting for room; a disconnect ends the inbox at once."""
        if message["type"] == self._last["type"]:
            self._last = message
            self.end()
        else:
            with contextlib.suppress(trio.ClosedResourceError):
                await self._send.send(message)

    def end(self) -> None:
        """Nothing comes any more but the last."""
        self._send.close()

    async def get(self) -> Any:
        """Return the next message; one that is there comes even to a caller who is already cancelled.

        Starlette asks in that way whether the client is gone.
        """
        try:
            try:
                return self._receive.receive_nowait()
            except trio.WouldBlock:
                return await self._receive.receive()
        except trio.EndOfChannel:
            if self._told:
                await trio.lowlevel.checkpoint()  # a loop over this must not take the processor for itself
            self._told = True
            return self._last


class Tasks(TaskGroup):
    """What runs for one connection: applications, which finish, and timers, which end with it."""

    def __init__(
        self, calls: trio.Nursery, timers: trio.Nursery, extensions: dict[str, dict[str, Any]], *, proxied: bool
    ) -> None:
        super().__init__()
        self._proxied = proxied
        self._nursery = timers
        self._calls = calls
        self._extensions = extensions
        self._inboxes: set[Inbox] = set()

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        scope["extensions"].update(self._extensions)
        if self._proxied:
            peer = scope["client"] and scope["client"][0]
            address = sender(peer, scope["headers"])
            if address is not None and address != peer:
                scope["client"] = (address, 0)
        gone = {"type": f"{scope['type']}.disconnect", "code": 1006}
        inbox = Inbox(config.max_app_queue_size, gone)
        self._inboxes.add(inbox)
        self._calls.start_soon(self._call, app, config, scope, inbox, send)
        return inbox.put

    async def _call(self, app: Any, config: Config, scope: Any, inbox: Inbox, send: Any) -> None:
        async def send_whole(message: Any) -> None:
            if message is not None:  # None is Hypercorn's own: the application has returned
                await trio.lowlevel.checkpoint_if_cancelled()
            await send(message)

        try:
            await _handle(app, config, scope, inbox.get, send_whole, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            self._inboxes.discard(inbox)

    def disconnect(self) -> None:
        """Tell every application that still runs that its client is gone."""
        for inbox in self._inboxes:
            inbox.end()
