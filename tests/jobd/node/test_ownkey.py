"""The key that a machine keeps: for root's eyes alone, the same after a crash, and told when it makes no sense."""

import os
import stat
from pathlib import Path

import pytest

from jobd.node.ownkey import ASKED, NAME, asked_key, keep_asked_key, read_own_key
from pfs.errors import PfsError
from pfs.keys import make_join_token, url_of_key

URL = "https://dc1:8470"
TOKEN, OTHER = make_join_token(URL, "one"), make_join_token(URL, "two")


def test_a_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        asked = asked_key(tmp_path, TOKEN)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ASKED).stat().st_mode) == 0o600
    assert read_own_key(tmp_path) is None
    keep_asked_key(tmp_path)
    assert read_own_key(tmp_path) == asked
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert TOKEN not in (tmp_path / NAME).read_text()


def test_a_machine_that_asks_again_asks_with_the_same_key(tmp_path: Path) -> None:
    asked = asked_key(tmp_path, TOKEN)
    assert asked_key(tmp_path, TOKEN) == asked
    assert asked.is_of(TOKEN)
    assert not asked.is_of(OTHER)
    assert asked_key(tmp_path, OTHER) != asked
    assert url_of_key(asked.key) == URL


@pytest.mark.parametrize("text", ["", "{}", "pfs1.a.b", "[]", "\xff"])
def test_a_file_that_makes_no_sense_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(PfsError, match="key cannot be read: remove it"):
        read_own_key(tmp_path)
