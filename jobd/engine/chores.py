"""What is done in the background: again while it fails, since a full disk must not end the service."""

import logging
from collections.abc import Awaitable, Callable

import trio

from pfs.errors import PfsError

log = logging.getLogger(__name__)

AGAIN_S = 5.0

Work = Callable[..., Awaitable[object]]


class Chores:
    """Runs pieces of work beside one another. Whatever is done here may be done twice."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    def live_in(self, nursery: trio.Nursery) -> None:
        """Do from now on what is to be done, until the nursery is cancelled."""
        self._nursery = nursery

    def start(self, work: Work, *args: object) -> None:
        """Begin something."""
        assert self._nursery is not None
        self._nursery.start_soon(self.until_done, work, *args)

    async def until_done(self, work: Work, *args: object) -> None:
        """Do something, and again while it fails."""
        while True:
            try:
                await work(*args)
                return
            except PfsError as error:
                log.warning("%s: %s; trying again in %.0f s", work.__name__, error, AGAIN_S)
            except Exception:
                log.exception("%s failed; trying again in %.0f s", work.__name__, AGAIN_S)
            await trio.sleep(AGAIN_S)
