"""Rules of gitignore(5), held against git itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cli.submit.ignorerules import Rules

NAMES = (
    "a",
    "b.txt",
    "x.log",
    "sub/a",
    "sub/x.log",
    "sub/deep/a",
    "sub/deep/b.txt",
    "build/out",
    "build/a",
    "data.d/x",
    "A",
)

TEXTS = (
    "a\n",
    "/a\n",
    "*.log\n!sub/x.log\n",
    "build/\n",
    "sub/\n!sub/a\n",
    "sub/*\n!sub/a\n",
    "sub/deep/\n",
    "**/deep\n",
    "sub/**\n",
    "sub/**/a\n",
    "**/a\n",
    "/**/b.txt\n",
    "?.txt\n",
    "[ab]*\n",
    "[!a]*\n",
    "[^x].log\n",
    "[[:upper:]]\n",
    "*\n!*/\n!*.txt\n",
    "# a\n\\#\n\na  \n",
    "\\a\n",
    "sub\n",
    "sub/deep\n!sub/deep\n",
    "data.d\n",
    "/build/*\n!/build/a\n",
    "!a\n",
    "/\n",
    "a/\n",
    "deep/a\n",
    "**\n",
    "*.TXT\n",
    "[\n",
    "a\r\nx.log\r\n",
)


def kept(text: str) -> set[str]:
    rules = Rules().below("", [text])
    return {name for name in NAMES if not rules.leave_out_within(name)}


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
def test_every_rule_leaves_out_what_git_leaves_out(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    wrong = {}
    for text in TEXTS:
        (tmp_path / ".gitignore").write_text(text, newline="")
        found = subprocess.run(
            ["git", "-C", str(tmp_path), "ls-files", "-z", "-o", "--exclude-per-directory=.gitignore"],
            capture_output=True,
            check=True,
        )
        there = {name for name in found.stdout.decode().split("\0") if name not in ("", ".gitignore")}
        if there != kept(text):
            wrong[text] = (there, kept(text))
    assert wrong == {}


def test_the_rules_of_a_deeper_directory_come_before_those_above() -> None:
    above = Rules().below("", ["*.log\n"])
    below = above.below("sub", ["!keep.log\n/own\n"])
    assert below.leave_out("sub/x.log", directory=False)
    assert not below.leave_out("sub/keep.log", directory=False)
    assert below.leave_out("sub/own", directory=False)
    assert not below.leave_out("own", directory=False)
    assert above.leave_out("sub/keep.log", directory=False)
