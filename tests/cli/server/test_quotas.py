"""What `jobd quota` sets and tells."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlmodel import select

from cli.jobd import jobd
from cli.server.datacenter import Store
from pfs.accounts.tables import Quota
from pfs.errors import PfsError
from pfs.quota import Limits
from pfs.tree.top import make_home_now


@pytest.fixture
def root(root: Path) -> Path:
    """The account ann, in whose home is a directory with 5 bytes."""
    store = Store(str(root), None, exclusive=False)
    make_home_now(store.disk, store.accounts.add_user_now("ann", admin=False))
    (root / "home/ann/d").mkdir()
    (root / "home/ann/d/f").write_bytes(b"12345")
    store.close()
    return root


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
        (("--files", "-1"), "is no number"),
        (("--files", "1e9"), "is no number"),
        (("--files", "9" * 30), "is no number"),
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


def test_what_jobs_may_have_is_set_and_told_as_well(root: Path) -> None:
    held = "home/ann: 5 bytes without a limit, 2 files without a limit"
    for words, told in (
        (("--gpus", "4"), "; GPUs: 4 at most"),
        (
            ("--jobs-running", "10", "--jobs-waiting", "1000"),
            "; running jobs: 10 at most; waiting jobs: 1,000 at most; GPUs: 4 at most",
        ),
        (("--gpus", "none", "--jobs-waiting", "0"), "; running jobs: 10 at most; waiting jobs: 0 at most"),
        (("--jobs-running", "none", "--jobs-waiting", "none"), ""),
    ):
        assert quota(root, "ann", *words).output == f"{held}{told}\n"


def test_a_group_has_limits_of_its_own(root: Path) -> None:
    assert "no group 'ml'" in str(quota(root, "groups/ml", "--gpus", "1").exception)
    store = Store(str(root), None, exclusive=False)
    store.join_group("ml", "ann")
    store.close()
    (root / "groups/ml/f").write_bytes(b"123")
    said = quota(root, "groups/ml", "--bytes", "1Gi", "--gpus", "8")
    assert said.output == "groups/ml: 3 bytes of 1GiB, 1 files without a limit; GPUs: 8 at most\n"
    assert quota(root, "ann").output == "home/ann: 5 bytes without a limit, 2 files without a limit\n"


def test_who_is_gone_has_no_limits_any_more(root: Path) -> None:
    quota(root, "ann", "--bytes", "1Gi", "--gpus", "8")
    store = Store(str(root), None, exclusive=False)
    store.remove_user("ann")
    assert (store.jobs.policy_now().quotas, store.database.read_now(lambda s: s.exec(select(Quota)).all())) == ({}, [])
    store.close()


def test_without_a_name_all_are_told_that_have_limits(root: Path) -> None:
    store = Store(str(root), None, exclusive=False)
    store.join_group("ml", "ann")
    make_home_now(store.disk, store.accounts.add_user_now("bob", admin=False))
    store.close()
    assert quota(root).output == ""
    quota(root, "bob", "--bytes", "1Gi")
    quota(root, "bob", "--bytes", "none")
    quota(root, "groups/ml", "--gpus", "1")
    quota(root, "ann", "--files", "7")
    assert [line.split(":")[0] for line in quota(root).output.splitlines()] == ["home/ann", "groups/ml"]
    said = quota(root, "--gpus", "1")
    assert (said.exit_code, "whose limits?" in said.output) == (2, True)
