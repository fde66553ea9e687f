"""The same calls in a local directory and in one of several mounts, and what must not differ."""

import os
import shutil
import stat
from collections.abc import Callable
from typing import ClassVar, NoReturn

from hypothesis.stateful import RuleBasedStateMachine

from integration.box import wait_until
from integration.model.place import Outcome, Place, outcome
from integration.model.tree import differences, tree
from integration.model.world import World


class Compared(RuleBasedStateMachine):
    """A local directory and mounts that start empty and must stay the same.

    Attributes:
        world: has the mounts; a subclass gives it.
        looks_each: the whole trees are compared after so many calls.
        several: there is more than one mount.
        journal: what has been done, and what came of it.
    """

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.tops = self.world.directories()
        local, mounted, self.disk = self.tops
        self.local = Place(local / "top")
        self.mounted = [Place(each / "top") for each in mounted]
        self.steps = 0
        self.journal: list[str] = []
        self.looks_each = 1
        self.several = len(self.mounted) > 1
        (local / "top").mkdir()
        (mounted[0] / "top").mkdir()

    def both(self, mount: int, call: Callable[..., Outcome], *args: object, looks: bool = True) -> Outcome:
        """Make one call in both, whose outcome is the same.

        Args:
            mount: in which of the mounts.
            looks: the trees are compared afterwards, if it is their turn.
        """
        self.steps += 1
        mount %= len(self.mounted)
        self.journal.append(f"mount {mount}: {call.__name__}{args}")
        expected = outcome(lambda: call(self.local, *args))
        found = outcome(lambda: call(self.mounted[mount], *args))
        self.journal[-1] += f" = {_brief(expected)}"
        if found != expected:
            self.fail(f"but {_brief(found)}")
        if looks and self.steps % self.looks_each == 0:
            self.look()
        return expected

    def look(self) -> None:
        """Compare the whole trees."""
        expected = tree(self.local.root.parent, contents=True)
        for place in self.mounted:
            different = differences(expected, tree(place.root.parent, contents=True))
            if different:
                self.fail(f"through {place.root}:", *different)

    def look_at_disk(self) -> None:
        """Compare with the server's own directory, where what is open without a name has a hidden one for a moment."""
        expected = tree(self.local.root.parent, contents=True)
        found: list[list[str]] = []

        def is_equal() -> bool:
            found.append(differences(expected, tree(self.disk, contents=True)))
            return not found[-1]

        try:
            wait_until(is_equal, 10)
        except AssertionError:
            self.fail("on the server's disk:", *found[-1])

    def fail(self, *lines: str) -> NoReturn:
        """Say what has happened and what is wrong now."""
        raise AssertionError("\n".join(["", *self.journal, *lines]))

    def is_fifo(self, path: str) -> bool:
        """Tell whether opening would wait for somebody else."""
        try:
            return stat.S_ISFIFO(os.stat(self.local.at(path)).st_mode)
        except OSError:
            return False

    def clear(self) -> None:
        """Let go of all files, and remove everything."""
        for place in (self.local, *self.mounted):
            for slot in list(place.open_files):
                place.close(slot)
        for top in (self.tops[0], *self.tops[1]):
            shutil.rmtree(top, ignore_errors=True)
        wait_until(lambda: not any(top.exists() for top in (*self.tops[1], self.disk)))


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:120]} … {text[-60:]} ({len(text)} letters)"
