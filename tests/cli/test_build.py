"""Which state of the program runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from cli import build
from cli.build import own_build, own_version

AT_S = 1_539_108_765  # 2018-10-09 18:12:45 UTC


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "cli").mkdir()
    for name, at_s in (("a.py", AT_S), ("b.py", AT_S - 100), ("c.txt", AT_S + 100)):
        (tmp_path / "cli" / name).write_text("x")
        os.utime(tmp_path / "cli" / name, (at_s, at_s))
    return tmp_path


def git(clone: Path, *words: str) -> str:
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(["git", "-C", clone, *who, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_clone_is_known_by_its_commit_and_the_time_of_its_newest_module(clone: Path) -> None:
    git(clone, "init", "-q")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "x")
    assert own_build(clone) == f"{git(clone, 'rev-parse', '--short', 'HEAD')} 2018-10-09_18:12:45_UTC"


def test_a_clone_without_a_commit_and_what_is_no_clone_are_not_known(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_commit_on_record", lambda: "")
    assert own_build(clone) == "unknown 2018-10-09_18:12:45_UTC"
    (clone / ".git").mkdir()
    assert own_build(clone) == "unknown 2018-10-09_18:12:45_UTC"


def test_what_was_installed_from_a_repository_has_its_commit_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        version = "6.7"

        def read_text(self, name: str) -> str | None:
            return self.texts.get(name)

        texts = {"direct_url.json": '{"vcs_info": {"commit_id": "ba95b2d0123456789"}}'}  # noqa: RUF012

    monkeypatch.setattr(build, "distribution", lambda name: Installed())
    assert own_version() == "6.7"
    assert build._commit_on_record() == "ba95b2d"
    for text in ("", "{}", "{"):
        Installed.texts = {"direct_url.json": text}
        assert build._commit_on_record() == ""


def test_this_program_tells_three_words() -> None:
    assert re.fullmatch(r"\S+ \S+ \d{4}-\d\d-\d\d_\d\d:\d\d:\d\d_UTC", f"{own_version()} {own_build()}")
