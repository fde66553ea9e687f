"""Rules 3 and 5 of the tree when several do things to the same names at once, in any order in which these can happen.

Every text is another one, so that what is seen says where it comes from. Each step to the database is held up for as
long as chance wants. Afterwards it is asked of what was done, and when:

- is each text one job at most, whole, and one where it was closed with a good end while nobody else was at its name;
- did a text come back under a name from which somebody had taken it;
- does a server that is started anew find the same as this one.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
import trio

from pfs.api import Closing, FileSystem, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import Service

NEW = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE
CLIENTS, DEEDS, ROUNDS = 3, 4, 20
ENDINGS = ("a.yaml", "b.json", "c.tmp")
SLOW_S = 0.003
SLOW = ("standing", "save_draft", "rename_draft", "delete_draft", "submit", "set_error")
REFUSED = (Kind.NOT_FOUND, Kind.BUSY, Kind.EXISTS)


@dataclass
class Deed:
    """What somebody did: to which names, with which text, from when to when, and whether it was acknowledged."""

    what: str
    names: tuple[str, ...]
    text: str
    begun: int
    ended: int = 1 << 60
    written: int = 1 << 60
    done: bool = False


@dataclass
class Seen:
    """A text that was seen under a name."""

    name: str
    text: str
    asked: int


@dataclass
class Round:
    """What happened to a few names."""

    fs: FileSystem
    dice: Random
    names: list[str]
    numbers: "count[int]"
    deeds: list[Deed] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    clock: "count[int]" = field(default_factory=count)

    async def act(self) -> None:
        """Do something, or look."""
        for _ in range(DEEDS):
            await trio.sleep(self.dice.random() * SLOW_S)
            what = self.dice.choice(["drop", "drop", "drop", "rename", "rename", "unlink", "unlink", "put", "look"])
            names = self.dice.sample(self.names, 2)
            if what == "look":
                await self.look()
                continue
            text = f"command: echo {next(self.numbers)}\n"
            deed = Deed(what, tuple(names if what == "rename" else names[:1]), text, next(self.clock))
            self.deeds.append(deed)
            try:
                await self.do(deed)
                deed.done = True
            except PfsError as error:
                if error.kind not in REFUSED:
                    raise
            deed.ended = next(self.clock)

    async def do(self, deed: Deed) -> None:
        path, data = f"jobs/{deed.names[0]}", deed.text.encode()
        match deed.what:
            case "drop":
                file = await self.fs.open(path, NEW, 0o644)
                try:
                    await file.write(0, data)
                    deed.written = next(self.clock)
                    await trio.sleep(self.dice.random() * SLOW_S)
                    await file.flush(Closing.LAST)
                finally:
                    await file.release()
            case "put":
                await self.fs.put(path, data, None)
                deed.written = next(self.clock)
            case "unlink":
                await self.fs.unlink(path)
            case "rename":
                await self.fs.rename(path, f"jobs/{deed.names[1]}", RenameMode.REPLACE)

    async def look(self) -> None:
        """Look what stands under each name."""
        for name in self.names:
            asked = next(self.clock)
            with suppress(PfsError):
                file = await self.fs.open(f"jobs/{name}", OpenFlags.READ, 0)
                text = await file.read(0, 1000)
                await file.release()
                self.seen.append(Seen(name, text.decode(), asked))

    def problems(self, jobs: Counter[str]) -> list[str]:
        """Return what went wrong."""
        given = {deed.text for deed in self.deeds if deed.what in ("drop", "put")}
        found = [f"{seen} was never written" for seen in self.seen if seen.text and seen.text not in given]
        for deed in self.deeds:
            if jobs[deed.text] > 1:
                found.append(f"{jobs[deed.text]} jobs of {deed}")
            if deed.done and deed.what in ("drop", "put") and deed.names[0] != self.names[-1] and not jobs[deed.text]:
                found += [] if self.others(deed) else [f"no job of {deed}"]
            if deed.done and deed.what in ("unlink", "rename"):
                found += self.come_back(deed)
        return found

    def others(self, mine: Deed) -> list[Deed]:
        """Return what was done to the name of a deed meanwhile."""
        return [
            deed
            for deed in self.deeds
            if deed is not mine and mine.names[0] in deed.names and deed.begun < mine.ended and deed.ended > mine.begun
        ]

    def come_back(self, gone: Deed) -> list[str]:
        """Return which texts were seen under a name after they were taken away, though nobody put them there anew."""
        name = gone.names[0]
        if any(deed.what == "rename" and deed.names[1] == name and deed.ended > gone.begun for deed in self.deeds):
            return []
        before = {deed.text for deed in self.deeds if deed.names[0] == name and deed.written < gone.begun}
        late = [seen for seen in self.seen if seen.name == name and seen.asked > gone.ended and seen.text in before]
        return [f"{seen}, which was taken away by {gone}" for seen in late]


def slowly(store, dice: Random) -> None:
    """Hold up each step to the database before and after it is done."""
    for name in SLOW:
        setattr(store, name, _held(getattr(store, name), dice))


def _held(act, dice: Random):
    async def held(*arguments, **more):
        await trio.sleep(dice.random() ** 4 * SLOW_S)
        try:
            return await act(*arguments, **more)
        finally:
            await trio.sleep(dice.random() ** 4 * SLOW_S)

    return held


@pytest.mark.parametrize("seed", range(2))
def test_no_text_is_two_jobs_and_none_comes_back_whatever_happens_at_once(service, run, seed):
    async def main():
        dice, numbers, rounds = Random(seed), count(), []
        slowly(service.store, dice)
        async with service.running() as engine:
            fs = service.files(engine, service.ann)
            for number in range(ROUNDS):
                rounds.append(Round(fs, dice, [f"{number}{ending}" for ending in ENDINGS], numbers))
                async with trio.open_nursery() as nursery:
                    for _ in range(CLIENTS):
                        nursery.start_soon(rounds[-1].act)
                await rounds[-1].look()
            jobs = Counter([await spec_of(fs, entry.name) for entry in await fs.listdir("jobs") if is_job(entry.name)])
            told = await everything(fs)
        given = {deed.text for each in rounds for deed in each.deeds}
        assert set(jobs) <= given
        assert [problem for each in rounds for problem in each.problems(jobs)] == []
        other = Service(service.root)
        async with other.running() as engine:
            assert await everything(other.files(engine, other.ann)) == told
        assert sum(jobs.values()) > ROUNDS

    run(main)


def is_job(name: str) -> bool:
    return name.isdigit()


async def spec_of(fs: FileSystem, job: str) -> str:
    return (await read(fs, f"jobs/{job}/spec.yaml")).decode()


async def everything(fs: FileSystem) -> dict[str, bytes]:
    """Return what stands under each name."""
    return {entry.name: await read(fs, f"jobs/{entry.name}") for entry in await fs.listdir("jobs") if "." in entry.name}


async def read(fs: FileSystem, path: str) -> bytes:
    file = await fs.open(path, OpenFlags.READ, 0)
    try:
        return await file.read(0, 1000)
    finally:
        await file.release()
