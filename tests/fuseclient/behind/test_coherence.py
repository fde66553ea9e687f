"""Two mounts that promise: when both have kept what they promised, both see what is there, and neither hangs."""

import tempfile
from collections.abc import Awaitable, Callable, Sequence

import trio
import trio.testing
from hypothesis import settings

from fuseclient.behind.filesystem import BehindFileSystem
from fuseclient.behind.journal import open_journal
from fuseclient.cache.filesystem import CachedFileSystem
from pfs.protocol.steps import Outcome, Step, take_steps
from tests.fuseclient.cache.test_coherence import Both, Coherence, Trusted

HANG_S = 300.0  # on a clock that jumps


class Batching(Trusted):
    """The server's side, that makes several changes at once."""

    async def batch(self, steps: Sequence[Step]) -> Sequence[Outcome]:
        return await take_steps(self, steps)


class BothPromise(Both):
    """One tree and two mounts of it that promise."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def mount(self, server: Trusted) -> CachedFileSystem:
        journal = open_journal(self.folder, "http://server", str(len(self.mounts)))
        server.__class__ = Batching
        return BehindFileSystem(server, lambda: 0.0, "dc1", None, journal=journal)  # type: ignore[arg-type]


class BehindCoherence(Coherence):
    """Whatever two mounts do, one after the other or at once: when they have settled both see what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.both = BothPromise(self.folder.name)
        self.run(self.join)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        async def with_nursery() -> None:
            with trio.fail_after(HANG_S):
                async with trio.open_nursery() as nursery:
                    for mount, holder in zip(self.both.mounts, self.both.holders, strict=True):
                        mount.nursery = nursery
                        self.both.hub.heard(holder)
                        assert isinstance(mount, BehindFileSystem)
                        nursery.start_soon(mount.keep_promises)
                    await main()
                    for mount in self.both.mounts:
                        await mount.settle(None)
                    nursery.cancel_scope.cancel()

        trio.run(with_nursery, clock=trio.testing.MockClock(autojump_threshold=0))

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestBehindCoherence = BehindCoherence.TestCase
TestBehindCoherence.settings = settings(max_examples=4, stateful_step_count=12, deadline=None)
