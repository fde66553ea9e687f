"""How a node gets to the tree: by the data root, or by mounts, which containers have to see."""

import os
from pathlib import Path

import pytest

from cli.node import files as nodefiles
from cli.node.files import check_engine, check_files
from cli.node.options import parse, settings_of
from jobd.node.runtime import RuntimeAway
from pfs.errors import Kind, PfsError
from pfs.keys import make_key

KEY = make_key("http://127.0.0.1:9", "secret")


def settings(*options: str):
    return settings_of(parse(["--apiKey", KEY, *options]), {})


def test_a_node_without_the_data_root_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PfsError, match="use sudo, or give --data-root") as refused:
        check_files(settings())
    assert refused.value.kind is Kind.DENIED


def test_a_data_root_is_one(tmp_path: Path) -> None:
    with pytest.raises(PfsError, match="is no data root"):
        check_files(settings("--data-root", str(tmp_path)))
    (tmp_path / ".pfs-id").write_text("abc\n")
    found = check_files(settings("--data-root", str(tmp_path)))
    assert found is not None
    assert found.mark == "abc"


@pytest.mark.parametrize("sees", [True, False])
def test_an_engine_with_mounts_of_its_own_runs_nothing_for_a_node_that_mounts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sees: bool
) -> None:
    monkeypatch.setattr(nodefiles, "shares_mounts", lambda url: sees)
    check_engine(settings("--data-root", str(tmp_path)))
    if sees:
        check_engine(settings())
    else:
        with pytest.raises(RuntimeAway, match="does not see what is mounted here: give --data-root"):
            check_engine(settings())
