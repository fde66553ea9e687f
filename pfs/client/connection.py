"""One connection to a server for as long as it is needed: made anew when it goes, with the leases that hang on it.

Whoever asks while there is none waits, at most `DEADLINE_S` in all, and then gets TIMED_OUT (`pfs.client.presence` has
the rule). A server that is silent for longer than a lost packet explains is hung up on, and dialled again: it would
take TCP long to find out that the network is back. Leases end by a clock that goes on while the machine sleeps: who
opens a laptop again is not shown what was leased to it before. Questions that change nothing are asked again after a
lost connection; one that may have changed something is not, since nobody knows whether it did.
"""

import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf

import trio

from pfs.api import Broken, Standing
from pfs.client.dial import dial
from pfs.client.presence import Presence
from pfs.client.transfer import Transfer
from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.protocol.answers import decode_break, decode_secret
from pfs.protocol.channel import Channel, ChannelClosed, Handler
from pfs.protocol.wire import Json

log = logging.getLogger(__name__)

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
DEADLINE_S = 30.0
CONNECT_TIMEOUT_S = 10.0
RETRY_FIRST_S, RETRY_MOST_S = 0.05, 2.0
LOSSES_MAX = 6  # of connections on which a question was asked: it may be what ends them
ALIVE_EVERY_S = 2.5
SILENCE_MAX_S = 7.0  # after the end of trust
BYE_S = 1.0


@asynccontextmanager
async def connect_channel(
    url: str, token: str, handler: Handler, ca: str | None = None, own: Pair | None = None
) -> AsyncIterator[Channel]:
    """Connect to the server at `url` and hold the channel while the block runs.

    Args:
        url: `http://host:port` or `https://…`.
        token: a user's token or a node's key; "" where a certificate says enough.
        handler: answers the server's questions.
        ca: file with the certificate authority to trust instead of the system's.
        own: a certificate that tells who we are.

    Raises:
        PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID, with a sentence for people.
    """
    with trio.move_on_after(CONNECT_TIMEOUT_S) as scope:
        transport = await dial(url, token, ca, own)
    if scope.cancelled_caught:
        raise PfsError(Kind.UNREACHABLE, f"the server at {url} does not answer")
    channel = Channel(transport, handler)
    failure: PfsError | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            try:
                yield channel
            finally:
                nursery.cancel_scope.cancel()
    except* PfsError as group:
        failure = only(group)
    if failure is not None:
        raise failure


class Connection:
    """The present channel to a server, made anew when it goes, and the leases that hang on it."""

    def __init__(
        self, url: str, token: str, ca: str | None, transfer: Transfer, *, shortcut: bool, own: Pair | None = None
    ) -> None:
        self._where = (url, token, ca, own)
        self._channel: Channel | None = None
        self._changed = trio.Event()
        self._presence = Presence()
        self._mount = secrets.token_hex(16)
        self._broken: Broken | None = None
        self._lapsed: Callable[[], None] | None = None
        self._returned: Callable[[], None] | None = None
        self._shortcut = shortcut
        self._admin = False
        self._set_s = self._now_s()
        self.transfer = transfer
        self._refusal: PfsError | None = None
        self._begun = trio.Event()
        self._hindrance: PfsError | None = None
        self._dialling = trio.CancelScope()
        self.secret = ""
        self.socket: str | None = None
        self.near = False

    async def run(self) -> None:
        """Dial, and dial again when the connection is lost, until it is given up."""
        with self._dialling:
            await self._dial()

    async def begun(self) -> None:
        """Return when there is a connection for the first time.

        Raises:
            PfsError: the first attempt has failed, and why; further ones follow.
        """
        await self._begun.wait()
        if self._hindrance is not None:
            raise self._hindrance

    def give_up(self) -> None:
        """Dial no more; there is to be no connection yet."""
        self._dialling.cancel()

    def _begin(self, hindrance: PfsError | None) -> None:
        if not self._begun.is_set():
            self._hindrance = hindrance
            self._begun.set()

    async def _dial(self) -> None:
        url, token, ca, own = self._where
        self._presence.not_there(self._now_s())
        said = ""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                async with connect_channel(url, token, self._answer, ca, own) as channel:
                    with trio.move_on_after(CONNECT_TIMEOUT_S) as scope:
                        await self._greet(channel)
                    if scope.cancelled_caught:
                        raise PfsError(Kind.UNREACHABLE, f"the server at {url} does not answer")
                    self._set(channel)
                    log.info("connected to %s", url)
                    said, connected_s = "", trio.current_time()
                    self._begin(None)
                    await self._stay(channel)
                    if trio.current_time() - connected_s > RETRY_MOST_S:  # else it comes and goes
                        pause_s = RETRY_FIRST_S
                log.warning("lost the connection to %s", url)
            except PfsError as error:
                self._begin(error)
                self._refusal = error if error.kind is Kind.UNAUTHENTICATED else None  # who waits, waits in vain
                if error.message != said:  # the same again, every two seconds, tells nobody anything
                    said = error.message
                    log.warning("%s", said)
            self._set(None)
            self._presence.lost(self._now_s())
            self._lapse()
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MOST_S)

    async def _greet(self, channel: Channel) -> None:
        result, _ = await channel.ask("hello", {"mount": self._mount})
        self.secret = decode_secret(result)
        self._admin = result.get("admin") is True
        self.socket = str(result.get("socket", "")) if self._shortcut else None
        await self._show_life(channel)

    async def _show_life(self, channel: Channel) -> None:
        sent_s = self._now_s()
        await channel.ask("alive", {})
        missed = self._presence.missed
        if missed and self._returned is not None:
            self._returned()
        self._presence.heard(sent_s)
        if missed:
            self._wake()

    async def _stay(self, channel: Channel) -> None:
        """Show the server that we are here, until the connection is lost."""
        async with trio.open_nursery() as nursery:

            async def show() -> None:
                while True:
                    await trio.sleep(ALIVE_EVERY_S)
                    with trio.move_on_after(max(0.0, self._presence.trusted_until_s - self._now_s())) as scope:
                        await self._show_life(channel)
                    if scope.cancelled_caught:
                        self._presence.silent(self._now_s())
                        self._lapse()
                        with trio.move_on_after(SILENCE_MAX_S) as scope:
                            await self._show_life(channel)
                        if scope.cancelled_caught:
                            await channel.close()

            async def watch() -> None:
                try:
                    await show()
                except ChannelClosed:
                    return

            nursery.start_soon(watch)
            await channel.closed.wait()
            nursery.cancel_scope.cancel()

    async def say_bye(self) -> None:
        """Let the server know that no copies are used any more, so that nobody has to wait for us."""
        if self._channel is not None and not self._channel.closed.is_set():
            with trio.move_on_after(BYE_S, shield=True), contextlib.suppress(PfsError):
                await self._channel.ask("bye", {})

    def standing(self) -> Standing:
        """Tell how it stands with the server."""
        now_s, missed = self._now_s(), self._presence.missed
        since_s = self._presence.missed_for(now_s) if missed else now_s - self._set_s
        return Standing(self._where[0], self._channel is not None and not missed, since_s, self._admin)

    def _set(self, channel: Channel | None) -> None:
        if (channel is None) != (self._channel is None):
            self._set_s = self._now_s()
        if channel is not None:
            self._refusal = None
        self._channel = channel
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _now_s(self) -> float:
        return time.clock_gettime(CLOCK)

    def _deadline(self) -> float:
        now_s = self._now_s()
        return trio.current_time() + self._presence.deadline_s(now_s, DEADLINE_S) - now_s

    # ---- leases

    def trusted(self) -> bool:
        """Tell whether leases hold."""
        channel = self._channel
        return channel is not None and not channel.closed.is_set() and self._presence.trusted(self._now_s())

    def is_away(self) -> bool:
        """Tell whether what is remembered may be told."""
        return self._presence.away(self._now_s())

    async def look_out(self) -> None:
        """Return when it is known whether the server is there or away."""
        while not self.trusted() and (until_s := self._presence.decided_s(now_s := self._now_s())) > now_s:
            with trio.move_on_after(until_s - now_s):
                await self._changed.wait()

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        """Say what to do when leases end, and before the first ones after that."""
        self._broken, self._lapsed, self._returned = broken, lapsed, returned

    def _lapse(self) -> None:
        if self._lapsed is not None:
            self._lapsed()

    async def _answer(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        if op == "lapse":
            self._presence.lost(self._now_s())
            self._lapse()
            return {}, b""
        if op != "break":
            raise PfsError(Kind.UNSUPPORTED, f"a client does not answer {op!r}")
        nodes, names = decode_break(args)
        if self._broken is not None:
            await self._broken(nodes, names)
        return {}, b""

    async def ask(
        self, op: str, args: Json, body: bytes = b"", *, again: bool, patient: bool = False
    ) -> tuple[Json, bytes]:
        """Ask, waiting for a connection where there is none; not if the server does not accept the token any more.

        Args:
            again: ask again when the connection is lost before the answer came.
            patient: the answer may take as long as it likes; only being without connection is bounded.
        """
        deadline, losses = self._deadline(), 0
        while True:
            channel = self._channel
            if channel is None or channel.closed.is_set():
                with trio.move_on_at(deadline):
                    while self._channel is None or self._channel.closed.is_set():
                        if self._refusal is not None:
                            raise PfsError(self._refusal.kind, self._refusal.message)
                        await self._changed.wait()
                channel = self._channel
            if channel is None or trio.current_time() >= deadline:
                raise PfsError(Kind.TIMED_OUT, f"the server did not answer within {DEADLINE_S:.0f} s")
            try:
                return await channel.ask(op, args, body, deadline=inf if patient else deadline)
            except trio.TooSlowError:
                continue  # and be refused
            except ChannelClosed:
                losses += 1
                if not again or losses >= LOSSES_MAX:
                    raise
                if patient:
                    deadline = self._deadline()


def only(group: BaseExceptionGroup[PfsError]) -> PfsError:
    """Return the error in a group: nurseries wrap even a single one."""
    inner = group.exceptions[0]
    return only(inner) if isinstance(inner, BaseExceptionGroup) else inner
