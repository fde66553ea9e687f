"""Where a folder comes from, whatever state its repository is in."""

from pathlib import Path

import pytest

from cli.submit import provenance as module
from cli.submit.provenance import provenance, public_url
from jobd.manifest import Origin
from tests.cli.repository import Repository, no_settings

URL = "https://example.org/x.git"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    no_settings(monkeypatch)
    return Repository(tmp_path / "work")


def origin(repository: Repository) -> Origin:
    found = provenance(repository.path)
    assert found is not None
    return found.origin


def test_the_commit_of_the_remote_counts_and_all_that_differs_from_it(repository: Repository) -> None:
    pushed = repository.commit(a="1\n")
    repository.track()
    assert origin(repository) == Origin("origin", URL, pushed, 0)
    repository.commit(a="2\n")
    repository.write(b="3\n")
    found = provenance(repository.path)
    assert found is not None
    assert (found.origin.hash, found.origin.diff_lines) == (pushed, found.patch.count(b"\n"))
    assert b"-1\n+2\n" in found.patch
    assert b"--- a\n+++ a\n" in found.patch


def test_a_branch_with_slashes_that_tracks_another_remote(repository: Repository) -> None:
    pushed = repository.commit(a="1\n")
    repository.git("checkout", "-q", "-b", "feature/x")
    repository.track("feature/y/z", remote="fork", url="git@github.com:ann/x.git")
    assert origin(repository) == Origin("fork", "https://github.com/ann/x.git", pushed, 0)


def test_without_an_upstream_the_remotes_own_branches_count(repository: Repository) -> None:
    pushed = repository.commit(a="1\n")
    repository.track()
    repository.git("checkout", "-q", "-b", "mine", "--no-track")
    repository.commit(a="2\n")
    assert (origin(repository).remote, origin(repository).hash) == ("origin", pushed)
    repository.git("checkout", "-q", "--detach")
    assert (origin(repository).remote, origin(repository).hash) == ("origin", pushed)


def test_a_branch_that_tracks_one_of_this_repository_has_no_remote(repository: Repository) -> None:
    last = repository.commit(a="1\n")
    repository.git("checkout", "-q", "-b", "mine", "--track", "main")
    assert origin(repository) == Origin(hash=last)


def test_without_a_remote_the_last_commit_counts(repository: Repository) -> None:
    last = repository.commit(a="1\n")
    repository.write(a="2\n")
    found = origin(repository)
    assert (found.remote, found.url, found.hash) == ("", "", last)
    assert found.diff_lines > 0


def test_a_remote_that_was_never_fetched_and_one_that_has_no_address(repository: Repository) -> None:
    last = repository.commit(a="1\n")
    repository.git("remote", "add", "origin", URL)
    assert origin(repository) == Origin(hash=last)


def test_a_repository_without_a_commit_and_a_folder_without_one(repository: Repository, tmp_path: Path) -> None:
    repository.write(a="1\n")
    assert origin(repository) == Origin()
    assert provenance(tmp_path) is None


def test_where_there_is_no_git_there_is_nothing_to_tell(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance(repository.path) is None


def test_of_a_subfolder_only_its_own_differences_are_told(repository: Repository) -> None:
    repository.commit(sub__a="1\n", b="1\n")
    repository.write(sub__a="2\n", b="2\n")
    found = provenance(repository.path / "sub")
    assert found is not None
    assert b"+++ sub/a" in found.patch
    assert b"b\n" not in found.patch.replace(b"sub/", b"")


def test_of_a_long_difference_the_beginning_is_kept_and_all_lines_are_counted(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATCH_BYTES_MAX", 500)
    repository.commit(a="")
    repository.write(a="line\n" * 1000)
    found = provenance(repository.path)
    assert found is not None
    assert len(found.patch) == 500
    assert found.patch.endswith(b"[the rest of the difference was left out]\n")
    assert found.origin.diff_lines > 1000


def test_a_token_in_the_difference_of_a_tracked_file_is_left_out(repository: Repository) -> None:
    repository.commit(_pituser_txt="ann\nold\n")
    repository.write(_pituser_txt="ann\nsecret\n")
    found = provenance(repository.path)
    assert found is not None
    assert found.patch == b""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:secret@example.org/x.git", "https://***@example.org/x.git"),
        ("https://token@example.org:8443/x.git", "https://***@example.org:8443/x.git"),
        ("ssh://git:secret@example.org/x.git", "ssh://***@example.org/x.git"),
        ("ssh://git@example.org/x.git", "ssh://git@example.org/x.git"),
        ("git@github.com:ann/x.git", "https://github.com/ann/x.git"),
        ("git@gitlab.example.org:ann/x.git", "git@gitlab.example.org:ann/x.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("", ""),
    ],
)
def test_an_address_is_told_without_credentials(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_credentials_of_a_remote_reach_nobody(repository: Repository) -> None:
    repository.commit(a="1\n")
    repository.track(url="https://ann:secret@example.org/x.git")
    assert "secret" not in str(provenance(repository.path))
