"""One account's shipped trees on the disk."""

import os
from pathlib import Path

import pytest

from jobd.manifest import Manifest, ShippedFile, encode_manifest, tree_id
from jobd.store.treefolder import TreeFolder

MANIFEST = Manifest((ShippedFile("x", 0o644, 5, "ab" * 32),))
TEXT = encode_manifest(MANIFEST)


@pytest.fixture
def folder(tmp_path: Path) -> TreeFolder:
    made = TreeFolder(str(tmp_path / "ann"))
    made.make()
    return made


def test_a_list_that_the_disk_lost_half_of_says_nothing(folder: TreeFolder) -> None:
    assert folder.read(tree_id(TEXT)) is None
    folder.write(tree_id(TEXT), TEXT, 1)
    assert folder.read(tree_id(TEXT)) == MANIFEST
    os.truncate(folder.manifest(tree_id(TEXT)), 20)
    assert folder.read(tree_id(TEXT)) is None


def test_a_content_of_another_size_is_missing_and_what_came_of_it_is_told(folder: TreeFolder) -> None:
    hash_ = "ab" * 32
    assert folder.missing(MANIFEST) == {hash_: 0}
    Path(folder.coming(1)).write_bytes(b"123")
    folder.keep_part(folder.coming(1), hash_)
    assert folder.missing(MANIFEST) == {hash_: 3}
    Path(folder.coming(2)).write_bytes(b"12345")
    folder.keep_blob(folder.coming(2), hash_)
    assert folder.missing(MANIFEST) == {}
    os.truncate(folder.blob(hash_), 4)
    assert folder.missing(MANIFEST) == {hash_: 3}


def test_all_that_is_kept_counts_and_what_is_on_its_way_can_be_dropped(folder: TreeFolder) -> None:
    folder.write(tree_id(TEXT), TEXT, 1)
    Path(folder.coming(2)).write_bytes(b"12345")
    folder.keep_blob(folder.coming(2), "ab" * 32)
    Path(folder.coming(3)).write_bytes(b"12")
    assert folder.size_bytes() == len(TEXT) + 5
    folder.drop_coming()
    assert not Path(folder.coming(3)).exists()
    assert TreeFolder(folder.path + "-of-nobody").size_bytes() == 0


def test_trees_are_told_the_oldest_first(folder: TreeFolder) -> None:
    for number, (id_, at_s) in enumerate((("b", 20), ("a", 30), ("c", 10))):
        folder.write(id_, b"", number)
        os.utime(folder.manifest(id_), (at_s, at_s))
    assert list(folder.ages().items()) == [("c", 10.0), ("b", 20.0), ("a", 30.0)]
