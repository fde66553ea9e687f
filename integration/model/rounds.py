"""Rounds of random work: reduced as tests, and in full as `script/soak`, which runs until its time is over.

A round is known by its name and its seed: the same seed does the same work again.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue

import click
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from integration.model.fsx import Exerciser
from integration.model.machine import machine
from integration.model.world import World, world

FAR = ("--no-shortcut",)  # bytes come over the network, although the server is on this machine
MOUNTS: dict[str, list[tuple[str, ...]]] = {
    "one": [()],
    "far": [FAR],
    "two": [(), FAR],
    "crowd": [(), FAR],
    "restart": [FAR],
    "restart-two": [FAR, ()],
    "behind": [(*FAR, "--write-behind")],
    "restart-behind": [(*FAR, "--write-behind")],
    "fsx": [(), FAR],
    "fsx-behind": [(*FAR, "--write-behind"), FAR],
}
CROWD = 3
SIZES_MAX = (10_000, 70_000, 1 << 20, 1 << 20, 1 << 20, 6 << 20)


def calls(
    where: World,
    number: int,
    *,
    examples: int,
    steps: int,
    restarts: bool = False,
    kills: bool = False,
    shrink: bool = False,
) -> None:
    """Make random system calls.

    Args:
        number: the seed.
        examples: so many times from an empty directory.
        steps: calls, at most, from there.
        restarts: the server is restarted in the midst of them.
        kills: the first mount is killed in the midst of them, and mounted again.
        shrink: what fails is tried again and again with less, for five minutes and more.
    """
    wanted = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(machine(where, restarts=restarts, kills=kills)), settings=wanted)


def crowd(where: World, number: int, *, examples: int, steps: int) -> None:
    """Make random system calls in several processes at once, each in directories of its own beside the others'."""
    context = get_context("fork")
    said: SimpleQueue[str] = context.SimpleQueue()
    workers = [
        context.Process(target=_one_of_a_crowd, args=(where, number * CROWD + each, examples, steps, said))
        for each in range(CROWD)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = []
    while not said.empty():
        lines.append(said.get())
    assert not lines, "\n".join(lines)


def _one_of_a_crowd(where: World, number: int, examples: int, steps: int, said: "SimpleQueue[str]") -> None:
    try:
        calls(where, number, examples=examples, steps=steps)
    except (Exception, ExceptionGroup) as error:
        said.put(f"process {os.getpid()}: {_told(error)}")


def _told(error: BaseException) -> str:
    """Return what failed, also where hypothesis complains that it did not fail again."""
    inner = [_told(each) for each in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    if error.__context__ is not None:
        inner.append(f"after {_told(error.__context__)}")
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", []), *inner])


def bytes_of_a_file(
    where: World, number: int, *, steps: int, size_max: int | None = None, behind: bool = False
) -> None:
    """Change and read one file, through the first mount or, where the seed is odd, the second one.

    Args:
        behind: the mount that changes it, always the first one, has `--write-behind`.
        size_max: how long it gets; by default that depends on the seed, too.
    """
    _, mounted, _ = where.directories()
    if number % 2 and not behind:
        mounted.reverse()
    size = random.Random(number).choice(SIZES_MAX) if size_max is None else size_max
    elsewhere = mounted[1] / "file" if len(mounted) > 1 else None
    exerciser = Exerciser(mounted[0] / "file", elsewhere, number, size, behind=behind)
    try:
        exerciser.run(steps)
    finally:
        exerciser.close()


def a_round(name: str, where: World, number: int, *, shrink: bool) -> None:
    """Do a full round."""
    if name.startswith("fsx"):
        bytes_of_a_file(where, number, steps=1000, behind=name == "fsx-behind")
    elif name == "crowd":
        crowd(where, number, examples=10, steps=60)
    elif name.startswith("restart"):
        kills = name == "restart-behind"
        calls(where, number, examples=5, steps=40, restarts=True, kills=kills, shrink=shrink)
    else:
        calls(where, number, examples=20, steps=60, shrink=shrink)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let what ends us end us as an exception does, so that nothing stays mounted."""

    def end(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def soak(name: str, numbers: Iterator[int], until_s: float, say: Callable[[str], None], *, shrink: bool) -> bool:
    """Do rounds of one kind, one mount for all of them, until one fails; tell whether none has."""
    done = 0
    with world(*MOUNTS[name]) as where:
        for number in numbers:
            try:
                a_round(name, where, number, shrink=shrink)
            except (Exception, ExceptionGroup) as error:
                say(
                    f"{_told(error)}\n{name}: seed {number} FAILED after {done} rounds; again: "
                    f"script/soak --only {name} --seed {number} --rounds 1"
                )
                return False
            done += 1
            if time.monotonic() >= until_s:
                break
    say(f"{name}: {done} rounds, the last with seed {number}")
    return True


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long, for all kinds together.")
@click.option(
    "--seed", "first", type=int, help="The seed of the first round of each kind; the others count on from it."
)
@click.option("--rounds", type=int, help="No more rounds of each kind than these.")
@click.option("--shrink", is_flag=True, help="Look for fewer calls that fail as well; that takes minutes.")
@click.option("--only", multiple=True, type=click.Choice(list(MOUNTS)), help="Only this kind of work.")
def main(minutes: float, first: int | None, rounds: int | None, shrink: bool, only: tuple[str, ...]) -> None:
    """Do random work on mounts, beside a model that says what must come of it, until the time is over.

    \b
    one, far, two        random system calls: one mount, one over the network, or two that take turns
    crowd                the same in several processes at once, each in directories of its own
    restart…             the same, with restarts of the server in the midst of them
    behind               the same with `paddle mount --write-behind`
    restart-behind       the same, with restarts of the server, and with the mount killed and made again
    fsx…                 random reads and changes of the bytes of one file, read by a second mount
    """
    names = only or tuple(MOUNTS)
    first = random.SystemRandom().randrange(1 << 32) if first is None else first
    click.echo(f"seed {first}")
    began_s, failed = time.monotonic(), []
    with ended_by_signals():
        for turn, name in enumerate(names, start=1):
            numbers = iter(range(first, first + (rounds or 1 << 32)))
            if not soak(name, numbers, began_s + minutes * 60 * turn / len(names), click.echo, shrink=shrink):
                failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
