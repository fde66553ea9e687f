"""How far the server has come with a batch whose answer was lost: read off what stands there now.

A batch is made in its order, so some number of its first promises were made, and the others were not. For each number
it is known how the paths that the promises are about would look then. The number whose picture fits what is seen best
is taken; among equals the smallest, since a change that is made once more with care is at worst kept twice, while one
that is taken for made and was not is lost.

A node that the batch itself has made has no number that could be compared: a file is known by its size and its mtime,
which the promise sets to the nanosecond.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fuseclient.behind.queue import Promise, Version
from pfs.api import Attr, NodeType
from pfs.protocol.steps import Verb


@dataclass(frozen=True, slots=True)
class _Thing:
    """What should stand somewhere; None for what is not known of it."""

    node_id: int
    type: NodeType | None = None
    size: int | None = None
    mtime_ns: int | None = None
    mode: int | None = None


_State = dict[str, _Thing | None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch has come.

    Attributes:
        made: so many of the first promises are made.
        places: where what they are about stands by now, by the number that the promise has for it.
        misfits: paths that do not look as they should then: somebody else was there, or something was refused.
    """

    made: int
    places: Mapping[int, str]
    misfits: frozenset[str]

    def is_kept(self, promise: Promise) -> bool:
        """Tell whether one of the first promises is sure to be made."""
        place = self.places.get(promise.node_id)
        return place not in self.misfits and self.misfits.isdisjoint(promise.paths)


def paths_of(promises: Iterable[Promise]) -> list[str]:
    """Return the paths that have to be looked at."""
    states = _states(list(promises))
    return list(states[-1])


def progress(promises: Sequence[Promise], seen: Mapping[str, Attr | None], real: Callable[[int], int]) -> Progress:
    """Return how many of the first promises are made.

    Args:
        seen: what stands at each of `paths_of`, None for nothing.
        real: the server's number for one of the mount's own, or the same where that is not known.
    """
    states = _states(promises)
    fits = [sum(_fits(seen.get(path), thing, real) for path, thing in state.items()) for state in states]
    made = fits.index(max(fits))
    places = {thing.node_id: path for path, thing in states[made].items() if thing is not None}
    misfits = {path for path, thing in states[made].items() if not _fits(seen.get(path), thing, real)}
    return Progress(made, places, frozenset(misfits))


def _states(promises: Sequence[Promise]) -> list[_State]:
    """Return how the paths look when none, one, two… of the promises are made."""
    first: _State = {}
    states = [first]
    for promise in promises:
        for path, before in zip(promise.paths, (promise.before, promise.target_before), strict=False):
            if path not in states[-1]:
                thing = None if before is None else _before(promise, before)
                for state in states:
                    state[path] = thing
        states.append(_next(states, promise))
    return states


def _before(promise: Promise, before: Version) -> _Thing:
    verb = promise.step.verb
    if verb is Verb.RMDIR:
        return _Thing(before.node_id, NodeType.DIRECTORY)
    return _Thing(before.node_id, NodeType.FILE if verb is Verb.OVERWRITE else None, before.size, before.mtime_ns)


def _next(states: list[_State], promise: Promise) -> _State:
    state, step = dict(states[-1]), promise.step
    match step.verb:
        case Verb.MAKE_FILE | Verb.OVERWRITE:
            mtime_ns = step.changes.mtime_ns
            state[step.path] = _Thing(promise.node_id, NodeType.FILE, len(step.data), mtime_ns, step.changes.mode)
        case Verb.MKDIR:
            state[step.path] = _Thing(promise.node_id, NodeType.DIRECTORY)
        case Verb.SYMLINK:
            size = len(step.target.encode("utf-8", "surrogateescape"))
            state[step.path] = _Thing(promise.node_id, NodeType.SYMLINK, size)
        case Verb.UNLINK | Verb.RMDIR:
            state[step.path] = None
        case Verb.SETATTR:
            thing = state[step.path] or _Thing(promise.node_id)
            mode = thing.mode if step.changes.mode is None else step.changes.mode
            mtime_ns = thing.mtime_ns if step.changes.mtime_ns is None else step.changes.mtime_ns
            state[step.path] = replace(thing, mode=mode, mtime_ns=mtime_ns)
        case Verb.RENAME:
            _rename(states, state, step.path, step.target)
    return state


def _rename(states: list[_State], state: _State, source: str, target: str) -> None:
    for path in [path for path in state if path == source or path.startswith(source + "/")]:
        moved = target + path.removeprefix(source)
        if moved not in state:
            for earlier in states:
                earlier[moved] = None
        state[moved], state[path] = state[path], None


def _fits(seen: Attr | None, thing: _Thing | None, real: Callable[[int], int]) -> bool:
    if seen is None or thing is None:
        return seen is None and thing is None
    number = real(thing.node_id)
    known = thing.type is None or number != thing.node_id
    told = seen.type is not NodeType.DIRECTORY  # what is in a directory changes its size and times
    return (
        (thing.type is None or seen.type is thing.type)
        and (not known or seen.node_id == number)
        and (not told or thing.size is None or seen.size == thing.size)
        and (not told or thing.mtime_ns is None or seen.mtime_ns == thing.mtime_ns)
        and (thing.mode is None or seen.mode == thing.mode)
    )
