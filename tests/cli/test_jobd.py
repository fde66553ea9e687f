"""What `jobd quota` sets and tells."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.jobd import jobd
from cli.serve import Store, make_data_root
from pfs.errors import PfsError
from pfs.quota import Limits
from pfs.tree.top import make_home_now
from tests.jobd.conftest import migrated_database


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the account ann, in whose home is a directory with 5 bytes."""
    made = tmp_path / "data"
    make_data_root(str(made))
    shutil.copy(migrated_database(), made / "server/pfs.sqlite")
    store = Store(str(made), None, exclusive=False)
    make_home_now(store.disk, store.accounts.add_user_now("ann", admin=False))
    (made / "home/ann/d").mkdir()
    (made / "home/ann/d/f").write_bytes(b"12345")
    store.close()
    return made


def quota(root: Path, *words: str) -> Result:
    return CliRunner().invoke(jobd, ["quota", "--data-root", str(root), *words])


def limits(root: Path) -> Limits:
    store = Store(str(root), None, exclusive=False)
    try:
        return store.accounts.limits_now("ann")
    finally:
        store.close()


def test_limits_are_set_one_by_one_and_told_with_the_use(root: Path) -> None:
    for words, told, kept in (
        ((), "5 bytes without a limit, 2 files without a limit", Limits()),
        (("--bytes", "10GiB"), "5 bytes of 10GiB, 2 files without a limit", Limits(10 << 30)),
        (("--files", "100000"), "5 bytes of 10GiB, 2 files of 100,000", Limits(10 << 30, 100_000)),
        (("--bytes", "none"), "5 bytes without a limit, 2 files of 100,000", Limits(None, 100_000)),
        ((), "5 bytes without a limit, 2 files of 100,000", Limits(None, 100_000)),
        (("--files", "none", "--bytes", "1Ki"), "5 bytes of 1KiB, 2 files without a limit", Limits(1024)),
    ):
        assert quota(root, "ann", *words).output == f"home/ann: {told}\n"
        assert limits(root) == kept


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("--bytes", "10"), "no unit"),
        (("--bytes", "-1Gi"), "no size"),
        (("--files", "-1"), "no number of files"),
        (("--files", "1e9"), "no number of files"),
        (("--files", "9" * 30), "no number of files"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_to_write(root: Path, words: tuple[str, ...], cure: str) -> None:
    said = quota(root, "ann", *words)
    assert said.exit_code == 2
    assert cure in said.output
    assert "or none" in said.output
    assert limits(root) == Limits()


def test_who_is_not_there_has_no_limits(root: Path) -> None:
    for words in ((), ("--files", "3")):
        said = quota(root, "bob", *words)
        assert isinstance(said.exception, PfsError)
        assert "no user 'bob'" in str(said.exception)


def test_how_long_jobs_are_kept_is_a_duration(root: Path) -> None:
    said = CliRunner().invoke(jobd, ["serve", "--data-root", str(root), "--keep-jobs", "90"])
    assert said.exit_code == 2
    assert "--keep-jobs: " in said.output
    assert "90" in said.output
