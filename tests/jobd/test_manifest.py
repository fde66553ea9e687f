"""Lists of trees: the same tree gives the same text, and what cannot be a tree is refused with the reason."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd import manifest as module
from jobd.manifest import (
    DEPTH_MAX,
    SIZE_BYTES_MAX,
    Manifest,
    Origin,
    Record,
    ShippedFile,
    ShippedFolder,
    ShippedLink,
    check_tree_id,
    decode_manifest,
    decode_record,
    encode_manifest,
    encode_record,
    tree_id,
    tree_of,
)
from pfs.errors import Kind, PfsError

HASH = "ab" * 32
OTHER = "cd" * 32

names = st.binary(min_size=1, max_size=8).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b".."))
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: os.fsdecode(b"/".join(parts)))


def refused(value: bytes | list[object]) -> PfsError:
    with pytest.raises(PfsError) as caught:
        decode_manifest(
            value if isinstance(value, bytes) else "".join(f"{json.dumps(line)}\n" for line in value).encode()
        )
    return caught.value


def listed(*entries: object, origin: object = None) -> list[object]:
    return [origin, *entries]


def file(path: str) -> list[object]:
    return ["f", path, 0o644, 1, HASH]


@given(st.sets(paths, max_size=6), st.integers(0, 0o777), st.integers(0, 10**9))
def test_a_tree_comes_out_as_it_went_in_whatever_its_names(names_: set[str], mode: int, size: int) -> None:
    leaves = [path for path in names_ if not any(other.startswith(f"{path}/") for other in names_)]
    origin = Origin("origin", "https://example.org/x", "1" * 40, 3, OTHER, 5)
    manifest = Manifest(tuple(ShippedFile(path, mode, size, HASH) for path in sorted(leaves)), origin)
    text = encode_manifest(manifest)
    assert decode_manifest(text) == manifest
    assert encode_manifest(decode_manifest(text)) == text


def test_links_and_empty_directories_are_in_it_and_contents_are_named_once() -> None:
    entries = (
        ShippedFile("a", 0o644, 3, HASH),
        ShippedFolder("b", 0o755),
        ShippedLink("c", "a"),
        ShippedFile("d", 0o755, 3, HASH),
    )
    manifest = Manifest(entries, Origin(patch=OTHER, patch_bytes=7))
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert manifest.contents() == {HASH: 3, OTHER: 7}
    assert manifest.size_bytes() == 6


def test_the_id_is_that_of_the_text() -> None:
    text = encode_manifest(Manifest(()))
    assert check_tree_id(tree_id(text)) == tree_of(f"tree:{tree_id(text)}")
    assert tree_of("tree") is None
    assert tree_of(None) is None
    with pytest.raises(PfsError):
        check_tree_id("../../etc")


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"",
        b"[" * 60_000,
        b'null\n["d","' + b"x" * 70_000 + b'",493]\n',
        listed(origin=[]),
        listed([]),
        listed(["x", "a"]),
        listed(["f", "a", 0o644, 1, "no hash"]),
        listed(["f", "a", 0o644, -1, HASH]),
        listed(["f", "a", 0o4755, 1, HASH]),
        listed(["l", "a", ""]),
        listed(origin={"unknown": 1}),
        listed(origin={"diff_lines": "many"}),
        listed(origin={"patch": HASH, "patch_bytes": 1 << 40}),
        listed(origin={"url": "x" * 100_000}),
    ],
)
def test_what_is_no_list_is_refused(value: bytes | list[object]) -> None:
    assert refused(value).kind is Kind.INVALID


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\0b", "/".join(["d"] * (DEPTH_MAX + 1))]
)
def test_a_path_that_leads_elsewhere_or_nowhere_is_refused(path: str) -> None:
    assert refused(listed(file(path))).kind is Kind.INVALID


@pytest.mark.parametrize(
    "entries",
    [
        [file("b"), file("a")],
        [file("a"), file("a")],
        [file("a"), file("a/b")],
        [["l", "a", "/etc"], file("a-b"), file("a/passwd")],
    ],
    ids=["not sorted", "twice", "below a file", "below a link"],
)
def test_paths_that_do_not_go_together_are_refused(entries: list[object]) -> None:
    assert refused(listed(*entries)).kind is Kind.INVALID


def test_more_than_one_may_ship_is_refused_with_the_limits_and_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(listed(["f", "a", 0o644, SIZE_BYTES_MAX + 1, HASH]))
    assert error.kind is Kind.TOO_LARGE
    assert ".pitignore" in error.message
    monkeypatch.setattr(module, "FILES_MAX", 2)
    assert refused(listed(file("a"), file("b"), file("c"))).kind is Kind.TOO_LARGE


def test_records_come_out_as_they_went_in_and_others_are_refused() -> None:
    record = Record(HASH, 3, 4, 7)
    assert decode_record(encode_record(record)[:-1]) == record
    for line in (b"", b"x", f"{HASH} 3 5 7".encode(), f"{HASH} -1 1 7".encode(), f"{HASH} 0 0 {1 << 49}".encode()):
        with pytest.raises(PfsError) as caught:
            decode_record(line)
        assert caught.value.kind is Kind.INVALID
