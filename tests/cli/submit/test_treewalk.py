"""Which files of a folder a job gets: by git where that knows, else by the ignore files; and what cannot be shipped."""

import os
import stat
from pathlib import Path

import pytest

from cli.submit import treewalk
from cli.submit.treewalk import ChangingFileError, everything, listed, scan
from jobd import manifest
from jobd.manifest import ShippedFile, ShippedFolder, ShippedLink
from pfs.errors import Kind, PfsError
from tests.cli.repository import Repository, no_settings


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    no_settings(monkeypatch)
    return Repository(tmp_path / "work")


def paths(folder: Path) -> set[str]:
    return {entry.path for entry in scan(folder).entries}


def refused(folder: Path) -> PfsError:
    with pytest.raises(PfsError) as caught:
        scan(folder)
    return caught.value


# ---- with git


def test_tracked_changed_and_new_files_are_shipped_as_they_are_now(repository: Repository) -> None:
    repository.commit(a="old", sub__b="b", gone="x", _gitignore="*.log\n")
    repository.write(a="new", fresh="f", x_log="ignored")
    (repository.path / "gone").unlink()
    assert paths(repository.path) == {"a", "sub/b", "fresh", ".gitignore"}
    (content,) = [c for c in scan(repository.path).contents.values() if c.path.endswith("/a")]
    assert Path(content.path).read_text() == "new"


def test_what_pitignore_names_is_left_out_even_where_it_is_tracked(repository: Repository) -> None:
    repository.commit(data__large="x", data__small="x", train_py="x", _pitignore="data/*\n!data/small\n")
    assert paths(repository.path) == {".pitignore", "data/small", "train.py"}


def test_of_a_subfolder_that_alone_is_shipped(repository: Repository) -> None:
    repository.commit(sub__a="a", other="b", _gitignore="*.log\nout/\n")
    repository.write(sub__x_log="ignored", out__r="r")
    assert paths(repository.path / "sub") == {"a"}
    assert paths(repository.path / "out") == {"r"}, "somebody names a folder that git ignores: they mean it"


def test_submodules_and_repositories_inside_are_shipped_by_their_own_rules(
    repository: Repository, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    library.commit(code="c", _gitignore="*.o\n")
    repository.commit(main="m")
    repository.git("submodule", "add", "-q", str(library.path), "lib")
    repository.commit()
    (repository.path / "lib/x.o").write_text("object")
    inner = Repository(repository.path / "inner")
    inner.write(new="n")
    assert paths(repository.path) == {"main", ".gitmodules", "lib/code", "lib/.gitignore", "inner/new"}


def test_a_repository_without_a_commit_is_shipped(repository: Repository) -> None:
    repository.write(a="a")
    assert paths(repository.path) == {"a"}


def test_modes_links_and_names_that_are_no_text(repository: Repository) -> None:
    repository.write(run_sh="#!/bin/sh\n", sub__x="x")
    (repository.path / "run.sh").chmod(0o755)
    (repository.path / "link").symlink_to("sub/x")
    (repository.path / "sub/up").symlink_to("../run.sh")
    odd = os.fsdecode(b'caf\xe9 \n"')
    (repository.path / odd).write_text("odd")
    entries = {entry.path: entry for entry in scan(repository.path).entries}
    assert set(entries) == {"run.sh", "sub/x", "link", "sub/up", odd}
    run = entries["run.sh"]
    assert isinstance(run, ShippedFile)
    assert run.mode & 0o111
    assert entries["sub/up"] == ShippedLink("sub/up", "../run.sh")
    assert list(entries) == sorted(entries)


def test_files_with_tokens_and_git_itself_are_never_shipped(repository: Repository) -> None:
    repository.commit(_pituser_txt="ann\ntoken\n", a="a", sub___pituser_txt="token")
    (repository.path / ".paddle").mkdir()
    (repository.path / ".paddle/config").write_text("token")
    assert paths(repository.path) == {"a"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_repository_that_git_does_not_trust_is_told_with_what_to_do(repository: Repository) -> None:
    repository.commit(a="a")
    os.chown(repository.path, 12345, 12345)
    error = refused(repository.path)
    assert error.kind is Kind.DENIED
    assert "git config --global --add safe.directory" in error.message


# ---- without


def test_without_git_everything_is_shipped_that_the_ignore_files_leave(tmp_path: Path) -> None:
    for name in ("a", "x.log", "sub/b", "sub/c", "big/x/y", "keep/big", ".gitignore", "sub/.gitignore", ".pitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "sub/.gitignore").write_text("c\n")
    (tmp_path / ".pitignore").write_text("/big\n")
    (tmp_path / "empty/inner").mkdir(parents=True)
    (tmp_path / "nested/.git").mkdir(parents=True)
    (tmp_path / "nested/code").touch()
    os.mkfifo(tmp_path / "fifo")
    assert paths(tmp_path) == {
        *("a", "sub/b", "keep/big", ".gitignore", "sub/.gitignore", ".pitignore", "empty/inner", "nested/code"),
    }
    assert (
        ShippedFolder("empty/inner", stat.S_IMODE((tmp_path / "empty/inner").stat().st_mode)) in scan(tmp_path).entries
    )


def test_where_there_is_no_git_program_a_work_tree_is_a_folder_like_others(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(a="a", _gitignore="*.log\n")
    repository.write(b_log="ignored")
    monkeypatch.setenv("PATH", "/nowhere")
    assert paths(repository.path) == {"a", ".gitignore"}


def test_an_ignored_directory_is_not_even_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / ".pitignore").write_text("data\n")
    looked: list[str] = []
    real = os.scandir
    monkeypatch.setattr(treewalk.os, "scandir", lambda path: looked.append(str(path)) or real(path))
    assert list(listed(tmp_path)) == [".pitignore"]
    assert looked == [str(tmp_path)]


def test_where_all_of_a_folder_is_meant_only_pitignore_counts(repository: Repository) -> None:
    repository.write(_gitignore="*.pickle\n", _pitignore="notes\n", notes="x", dict_pickle="x", sub__a="x")
    (repository.path / "empty").mkdir()
    assert sorted(everything(repository.path)) == [".gitignore", ".pitignore", "dict.pickle", "empty", "sub/a"]


# ---- what cannot be shipped


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../other", "sub/../../x"])
def test_a_link_that_leads_out_is_refused_with_its_name_and_a_cure(tmp_path: Path, target: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/l").symlink_to("..")
    (tmp_path / "away").symlink_to(target)
    error = refused(tmp_path)
    assert error.kind is Kind.INVALID
    assert "the link away leads out of the folder" in error.message
    assert ".pitignore" in error.message
    (tmp_path / ".pitignore").write_text("away\n")
    assert paths(tmp_path) == {".pitignore", "sub/l"}


def test_a_file_that_keeps_changing_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "busy"
    path.write_text("x")
    real = treewalk.hashlib.file_digest

    def growing(file: object, name: str) -> object:
        with path.open("a") as more:
            more.write("x")
        return real(file, name)

    monkeypatch.setattr(treewalk.hashlib, "file_digest", growing)
    with pytest.raises(ChangingFileError, match="busy changes while it is read"):
        scan(tmp_path)


def test_a_file_that_changes_once_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "busy"
    path.write_text("x")
    real = treewalk.hashlib.file_digest

    def growing(file: object, name: str) -> object:
        digest = real(file, name)
        if path.stat().st_size == 1:
            path.write_text("xx")
        return digest

    monkeypatch.setattr(treewalk.hashlib, "file_digest", growing)
    (entry,) = scan(tmp_path).entries
    assert isinstance(entry, ShippedFile)
    assert entry.size_bytes == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    assert "secret cannot be read" in refused(tmp_path).message


def test_too_much_is_refused_before_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    monkeypatch.setattr(manifest, "FILES_MAX", 2)
    error = refused(tmp_path)
    assert error.kind is Kind.TOO_LARGE
    assert "3 files" in error.message
