"""Several changes in one message: on the wire, and in their order."""

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from pfs.api import Attr, Changes, NodeType
from pfs.errors import Kind, PfsError
from pfs.protocol.steps import (
    STEPS_MAX,
    Step,
    Verb,
    decode_outcomes,
    decode_steps,
    encode_outcomes,
    encode_steps,
    take_steps,
)
from tests.memoryfs import MemoryFileSystem

texts = st.text(max_size=10) | st.just("a/\udcff")
steps = st.builds(
    Step,
    st.sampled_from(Verb),
    texts,
    texts,
    st.integers(0, 0o7777),
    st.binary(max_size=20),
    st.builds(Changes, mode=st.none() | st.integers(0, 0o777), mtime_ns=st.none() | st.integers(-5, 2**60)),
    st.booleans(),
)


@settings(max_examples=30)
@given(st.lists(steps, max_size=5))
def test_steps_travel(made: list[Step]) -> None:
    assert decode_steps(*encode_steps(made)) == made


def test_outcomes_travel() -> None:
    attr = Attr(NodeType.FILE, 7, 0o644, size=3, leased=True)
    found = decode_outcomes(encode_outcomes([attr, None, PfsError(Kind.EXISTS, "it is there", "a")]), 3)
    assert found[:2] == [attr, None]
    assert isinstance(found[2], PfsError)
    assert (found[2].kind, found[2].path) == (Kind.EXISTS, "a")


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"steps": "all"},
        {"steps": [1]},
        {"steps": [{}]},
        {"steps": [{"verb": "dance", "path": "a", "mode": 0}]},
        {"steps": [{"verb": "mkdir", "path": 1, "mode": 0}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": "all"}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": True}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0o10000}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0, "target": 1}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0, "size": 6}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0, "size": -1}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0, "size": True}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0, "changes": {"mode": "x"}}]},
        {"steps": [{"verb": "mkdir", "path": "a", "mode": 0}] * (STEPS_MAX + 1)},
    ],
)
def test_what_is_no_batch_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(PfsError) as caught:
        decode_steps(args, b"5bytes"[:5])
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    "result", [{}, {"outcomes": 1}, {"outcomes": []}, {"outcomes": [1]}, {"outcomes": [{"attr": 1}]}]
)
def test_what_is_no_answer_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(PfsError) as caught:
        decode_outcomes(result, 1)
    assert caught.value.kind is Kind.INVALID


def test_each_step_has_its_own_outcome() -> None:
    server = MemoryFileSystem()
    made = [
        Step(Verb.MKDIR, "d", mode=0o750),
        Step(Verb.MAKE_FILE, "d/f", mode=0o640, data=b"text", changes=Changes(mtime_ns=5)),
        Step(Verb.MAKE_FILE, "d/f", mode=0o640),
        Step(Verb.OVERWRITE, "d/f", data=b"other", changes=Changes(mtime_ns=6)),
        Step(Verb.SYMLINK, "d/l", "f"),
        Step(Verb.RENAME, "d/l", "d/f", no_replace=True),
        Step(Verb.RENAME, "d/l", "d/m"),
        Step(Verb.RMDIR, "d"),
        Step(Verb.UNLINK, "d/m"),
        Step(Verb.SETATTR, "d/f", changes=Changes(mode=0o600)),
    ]
    outcomes = trio.run(take_steps, server, made)
    kinds = [each.kind if isinstance(each, PfsError) else None for each in outcomes]
    assert kinds == [None, None, Kind.EXISTS, None, None, Kind.EXISTS, None, Kind.NOT_EMPTY, None, None]
    assert list(server.find("d").children) == ["f"]
    node = server.find("d/f")
    assert (bytes(node.data), node.mtime_ns, node.mode, node.nlink) == (b"other", 6, 0o600, 1)
    assert server.open_files == 0
