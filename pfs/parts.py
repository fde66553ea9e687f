"""Bytes that travel together and lie in several places: nothing is copied to put them side by side."""

from collections.abc import Iterable, Iterator

Part = bytes | bytearray | memoryview  # some of the bytes that are written together


def cut(parts: Iterable[Part], size: int) -> Iterator[tuple[Part, ...]]:
    """Give the same bytes in groups of `size` bytes, the last of which may be smaller; nothing is copied."""
    group: list[Part] = []
    room = size
    for part in parts:
        view = memoryview(part)
        while view:
            group.append(part if len(view) == len(part) <= room else view[:room])
            view, room = view[len(group[-1]) :], room - len(group[-1])
            if room == 0:
                yield tuple(group)
                group, room = [], size
    if group:
        yield tuple(group)
