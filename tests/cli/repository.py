"""Git repositories for tests, with nobody's own settings."""

import os
import subprocess
from pathlib import Path

import pytest

ENV = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_NAME": "Ann" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ann@example.org" for who in ("AUTHOR", "COMMITTER")},
}


class Repository:
    """One repository with a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        """Run git in it; return what it said."""
        env = {**os.environ, **ENV}
        command = ["git", "-c", "protocol.file.allow=always", "-C", str(self.path), *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

    def write(self, **files: str) -> None:
        """Write files; `__` in a name stands for a slash, `_` for a dot."""
        for name, text in files.items():
            path = self.path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, **files: str) -> str:
        """Commit files; return the hash."""
        self.write(**files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "text")
        return self.git("rev-parse", "HEAD")

    def track(self, branch: str = "main", remote: str = "origin", url: str = "https://example.org/x.git") -> None:
        """Be as after a push of the branch to a remote."""
        self.git("remote", "add", remote, url)
        self.git("update-ref", f"refs/remotes/{remote}/{branch}", "HEAD")
        current = self.git("symbolic-ref", "--short", "HEAD")
        self.git("config", f"branch.{current}.remote", remote)
        self.git("config", f"branch.{current}.merge", f"refs/heads/{branch}")


def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program under test find nobody's settings either."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
