"""`script/simulate`: plays the stories of many seeds on all processors, and tells which go wrong and how.

Of a seed that goes wrong it shows the shortest beginning of its story that does, and everything that happened then.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing import Pool

from tests.jobd.simulation.world import Outcome, shrink, simulate

CHUNK = 50
TOLD_EVERY_S = 10.0


def main() -> int:
    """Return how many seeds went wrong, at most 1."""
    parser = argparse.ArgumentParser(prog="script/simulate", description="Play simulated worlds, one for each seed.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="only this one, with everything that happens in it")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        outcome = simulate(arguments.seed)
        tell(outcome)
        return int(outcome.problem is not None)
    return int(play(range(arguments.first, arguments.first + arguments.seeds)))


def play(seeds: range) -> bool:
    """Play all seeds, or until one goes wrong; tell whether one did."""
    began = told = time.monotonic()
    done = 0
    with Pool(os.cpu_count()) as pool:
        for seed in pool.imap_unordered(first_wrong, chunks(seeds)):
            done += CHUNK
            if seed is not None:
                pool.terminate()
                tell(shrink(simulate(seed)))
                return True
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                print(f"{done} seeds, {done / (told - began):.1f} a second", flush=True)
    took_s = time.monotonic() - began
    print(f"{len(seeds)} seeds in {took_s:.1f} s, {len(seeds) / took_s:.1f} a second: all is well")
    return False


def chunks(seeds: range) -> Iterator[range]:
    """Return all seeds, some at a time."""
    return (seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK))


def first_wrong(seeds: range) -> int | None:
    """Return the first seed that goes wrong."""
    return next((seed for seed in seeds if simulate(seed).problem is not None), None)


def tell(outcome: Outcome) -> None:
    """Print what happened in a world."""
    print("\n".join(outcome.trace))
    if outcome.problem is not None:
        print(f"\nseed {outcome.seed} goes wrong: {outcome.problem}")
        print(f"its story, as far as it is needed ({len(outcome.story.deeds)} deeds):")
        print("\n".join(f"  {deed}" for deed in outcome.story.deeds))


if __name__ == "__main__":
    sys.exit(main())
