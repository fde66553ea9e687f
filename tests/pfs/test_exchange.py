"""How long a request may take."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from pfs.exchange import SILENCE_MAX_S, SLOWEST_BYTES_PER_S, Patience


def timeless(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def lasts_s(size: int, step_s: float) -> float:
    """Return how long a request lasts on which a byte moves every so often."""
    began = trio.current_time()
    patience = Patience(size, lambda now: None)
    with patience.scope:
        while True:
            await trio.sleep(step_s)
            patience.moved()
    return trio.current_time() - began


def test_silence_ends_a_request_of_any_size() -> None:
    async def main() -> None:
        assert await lasts_s(1 << 40, SILENCE_MAX_S + 1) == SILENCE_MAX_S

    timeless(main)


def test_a_trickle_ends_by_the_size() -> None:
    async def main() -> None:
        assert await lasts_s(10 * SLOWEST_BYTES_PER_S, SILENCE_MAX_S - 1) == SILENCE_MAX_S + 10

    timeless(main)


def test_what_moves_is_noted() -> None:
    noted: list[float] = []

    async def main() -> None:
        patience = Patience(0, noted.append)
        await trio.sleep(3)
        patience.moved()
        assert noted == [trio.current_time()]

    timeless(main)
