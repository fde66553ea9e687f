"""`script/simulate`: plays the stories of many seeds on all processors, and tells which goes wrong and how.

Of a seed that goes wrong it shows the shortest beginning of its story that does, and everything that happened then.
"""

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pool

from tests.jobd.simulation.world import Outcome, shrink, simulate

CHUNK_MAX = 50
TOLD_EVERY_S = 10.0
WRONG, INTERRUPTED = 1, 130


def main() -> int:
    """Return 0 where all is well, 1 where a seed goes wrong, 130 where somebody did not want to wait."""
    parser = argparse.ArgumentParser(prog="script/simulate", description="Play simulated worlds, one for each seed.")
    parser.add_argument("--seeds", type=at_least(1), metavar="N", help="how many (1000)")
    parser.add_argument("--first", type=at_least(0), metavar="N", help="the first of them (0)")
    parser.add_argument("--seed", type=at_least(0), metavar="N", help="only this one, with all that happens in it")
    given = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if given.seed is None:
        first = given.first or 0
        return play(range(first, first + (given.seeds or 1000)))
    if given.seeds is not None or given.first is not None:
        parser.error("--seed is about one seed, --seeds and --first about many")
    return tell(simulate(given.seed))


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a number of an argument."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} on")
        return int(text)

    return number


def play(seeds: range) -> int:
    """Play all seeds, or until one goes wrong; return the exit status."""
    began = told = time.monotonic()
    done = 0
    players = len(os.sched_getaffinity(0))
    with Pool(players, be_a_player) as pool:
        try:
            for count, wrong in pool.imap(first_wrong, chunks(seeds, players)):
                if wrong is not None:
                    pool.terminate()
                    return tell(shrink(simulate(wrong)))
                done += count
                if time.monotonic() - told > TOLD_EVERY_S:
                    told = time.monotonic()
                    rate = done / (told - began)
                    left_min = (len(seeds) - done) / rate / 60
                    print(f"{done} seeds, {rate:.1f} a second, {left_min:.0f} minutes left", flush=True)
        except KeyboardInterrupt:
            pool.terminate()
            print(f"\n{done} seeds: all is well; to go on: script/simulate --first {seeds.start + done}")
            return INTERRUPTED
    took_s = time.monotonic() - began
    print(f"{done} seeds in {took_s:.1f} s, {done / took_s:.1f} a second: all is well")
    return 0


def be_a_player() -> None:
    """Leave Ctrl-C to the process that asked for the seeds, and what was imported out of every collection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()


def chunks(seeds: range, players: int) -> Iterator[range]:
    """Return all seeds, some at a time, so that every player has several turns."""
    size = min(CHUNK_MAX, len(seeds) // (4 * players) + 1)
    return (seeds[i : i + size] for i in range(0, len(seeds), size))


def first_wrong(seeds: range) -> tuple[int, int | None]:
    """Return how many seeds there were, and the first that goes wrong."""
    return len(seeds), next((seed for seed in seeds if simulate(seed).problem is not None), None)


def tell(outcome: Outcome) -> int:
    """Print what happened in a world; return the exit status."""
    print("\n".join(outcome.trace))
    if outcome.problem is None:
        print(f"\nseed {outcome.seed}, with {len(outcome.jobs)} jobs: all is well")
        return 0
    print("\nits story, as far as it is needed:")
    print("\n".join(f"  {deed}" for deed in outcome.story.deeds))
    print(f"\nseed {outcome.seed} goes wrong: {outcome.problem}")
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
