"""How far a batch has come, held against a tree in memory on which a part of it was made."""

from dataclasses import replace

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseclient.behind.progress import paths_of, progress
from fuseclient.behind.queue import Promise, Version
from pfs.api import Attr, Changes, NodeType
from pfs.errors import PfsError
from pfs.protocol.steps import Outcome, Step, Verb
from tests.memoryfs import MemoryFileSystem

NAMES = ["a", "b", "d", "d/a", "d/b", "e", "e/a"]
names = st.sampled_from(NAMES)
plans = st.lists(st.tuples(st.sampled_from(Verb), names, names), min_size=1, max_size=10)


def tree() -> MemoryFileSystem:
    server = MemoryFileSystem(clock=iter(range(1, 10_000_000)).__next__)
    server.put("a", b"first")
    server.put("d/b", b"second")
    return server


def step_of(number: int, verb: Verb, path: str, target: str) -> Step:
    changes = Changes(mtime_ns=10**9 + number) if verb in (Verb.MAKE_FILE, Verb.OVERWRITE, Verb.SETATTR) else Changes()
    data = b"x" * number if verb in (Verb.MAKE_FILE, Verb.OVERWRITE) else b""
    return Step(verb, path, target if verb in (Verb.RENAME, Verb.SYMLINK) else "", 0o755, data, changes)


def version(server: MemoryFileSystem, path: str, own: dict[int, int]) -> Version | None:
    try:
        node = server.find(path)
    except PfsError:
        return None
    return Version(own.get(node.node_id, node.node_id), node.size, node.mtime_ns)


async def promised(plan: list[tuple[Verb, str, str]]) -> list[Promise]:
    """Return what a mount promises that knows the whole tree and makes these changes, as far as they are possible."""
    server, promises, own = tree(), list[Promise](), dict[int, int]()
    for verb, path, target in plan:
        step = step_of(len(promises) + 1, verb, path, target)
        before = version(server, path, own)
        target_before = version(server, target, own) if verb is Verb.RENAME else None
        outcome: Outcome = (await server.batch([step]))[0]
        if isinstance(outcome, PfsError) or (verb is Verb.RENAME and path == target):
            continue
        number = len(promises) + 1
        made = verb in (Verb.MAKE_FILE, Verb.MKDIR, Verb.SYMLINK)
        if made:
            assert outcome is not None
            own[outcome.node_id] = 10**12 + number
        node_id = 10**12 + number if made or before is None else before.node_id
        promises.append(Promise(number, step, node_id, before, target_before))
    return promises


async def look(server: MemoryFileSystem, path: str) -> Attr | None:
    try:
        return await server.getattr(path)
    except PfsError:
        return None


@settings(max_examples=40, deadline=None)
@given(plans, st.data())
def test_what_is_done_after_a_lost_answer_leads_to_the_same_tree(
    plan: list[tuple[Verb, str, str]], data: st.DataObject
) -> None:
    async def main() -> None:
        promises = await promised(plan)
        made = data.draw(st.integers(0, len(promises)))
        whole, part = tree(), tree()
        await whole.batch([promise.step for promise in promises])
        await part.batch([promise.step for promise in promises[:made]])
        seen = {path: await look(part, path) for path in paths_of(promises)}
        found = progress(promises, seen, lambda number: number)
        assert found.made <= made
        assert not found.misfits
        assert all(found.is_kept(promise) for promise in promises[: found.made])
        for node_id, path in found.places.items():
            if node_id > 10**12:
                assert seen[path] is not None
        if found.made < made:  # then what is done twice changes nothing
            assert await shape(part) == await shape(await remade(promises[: found.made]))

    trio.run(main)


async def remade(promises: list[Promise]) -> MemoryFileSystem:
    server = tree()
    await server.batch([promise.step for promise in promises])
    return server


async def shape(server: MemoryFileSystem) -> dict[str, tuple[object, ...] | None]:
    found: dict[str, tuple[object, ...] | None] = {}
    for name in NAMES:
        attr = await look(server, name)
        timed = attr is not None and attr.type == "file"
        found[name] = None if attr is None else (attr.type, attr.size, attr.mtime_ns if timed else 0)
    return found


def test_what_somebody_else_has_put_there_is_not_taken_for_ours() -> None:
    async def main() -> None:
        promises = await promised([(Verb.MAKE_FILE, "b", ""), (Verb.MKDIR, "e", ""), (Verb.MAKE_FILE, "e/a", "")])
        server = tree()
        server.put("b", b"theirs")
        await server.batch([promise.step for promise in promises])
        seen = {path: await look(server, path) for path in paths_of(promises)}
        found = progress(promises, seen, lambda number: number)
        assert found.made == 3
        assert [found.is_kept(promise) for promise in promises] == [False, True, True]

    trio.run(main)


def test_a_node_whose_number_is_known_is_told_by_it() -> None:
    attr = Attr(NodeType.FILE, node_id=7, mode=0o644, size=3, mtime_ns=5)
    moved = Promise(1, Step(Verb.RENAME, "a", "b"), 100, Version(100, 3, 5))
    assert progress([moved], {"a": None, "b": attr}, lambda number: 7).made == 1
    other = replace(attr, node_id=8)
    assert not progress([moved], {"a": None, "b": other}, lambda number: 7).is_kept(moved)
