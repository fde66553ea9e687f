"""Where a folder comes from, as git knows it: the remote, the commit that the remote has, and what differs from it.

Nothing here is ever a reason not to submit: without a remote the last commit here counts, and without git there is
nothing to tell.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cli.submit.treewalk import READ_BYTES, git_environment
from jobd.manifest import PATCH_BYTES_MAX, Origin

CUT = b"\n[the rest of the difference was left out]\n"
_SCP = re.compile(r"(?P<user>[^@/:]+@)?(?P<host>[^/:]+):(?P<path>.*)")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a folder comes from; `patch` is the text of the difference, without a hash yet."""

    origin: Origin
    patch: bytes


def provenance(folder: Path) -> Provenance | None:
    """Return where a folder comes from; None where no git knows."""
    try:
        if _git(folder, "rev-parse", "--is-inside-work-tree") != "true":
            return None
    except FileNotFoundError:
        return None
    remote, ref = _tracked(folder)
    commit = _git(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if commit is None:
        return Provenance(Origin(), b"")
    url = _git(folder, "remote", "get-url", "--push", remote) if remote else None
    patch, lines = _difference(folder, commit)
    return Provenance(Origin(remote, public_url(url or ""), commit, lines), patch)


def _difference(folder: Path, commit: str) -> tuple[bytes, int]:
    """Return what differs from a commit, up to what is kept of it, and how many lines there are in all."""
    options = ("--no-prefix", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short")
    settings = [word for name in _filters(folder) for word in ("-c", f"{name}=false")]
    words = ["git", "-C", str(folder), *settings, "diff", *options, commit]
    words += ["--", ".", ":(exclude,glob)**/.pituser.txt"]
    patch, lines = bytearray(), 0
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=git_environment()
    ) as git:
        assert git.stdout is not None
        while data := git.stdout.read(READ_BYTES):
            lines += data.count(b"\n")
            patch += data[: PATCH_BYTES_MAX + 1 - len(patch)]
    if len(patch) > PATCH_BYTES_MAX:
        patch[PATCH_BYTES_MAX - len(CUT) :] = CUT
    return bytes(patch), lines


def _filters(folder: Path) -> list[str]:
    """Return the settings that let git give up where a filter, such as that of LFS, is not installed here."""
    found = _git(folder, "config", "--null", "--name-only", "--get-regexp", r"^filter\..*\.required$")
    return [name for name in (found or "").split("\0") if name]


def _tracked(folder: Path) -> tuple[str, str]:
    """Return a remote, or "", and the reference whose commit counts: what is pushed already, as far as one can tell."""
    branch = _git(folder, "symbolic-ref", "--quiet", "HEAD")
    if branch is not None:
        found = _git(folder, "for-each-ref", "--format=%(upstream:remotename) %(upstream)", branch)
        remote, _, ref = (found or "").partition(" ")
        if ref and remote not in ("", "."):
            return remote, ref
    remotes = (_git(folder, "remote") or "").split()
    for remote in sorted(remotes, key=lambda name: name != "origin"):
        own = [branch.removeprefix("refs/heads/")] if branch is not None else []
        for name in (*own, "HEAD", "main", "master"):
            ref = f"refs/remotes/{remote}/{name}"
            if _git(folder, "rev-parse", "--verify", "--quiet", ref) is not None:
                return remote, ref
    return "", "HEAD"


def public_url(url: str) -> str:
    """Return the address of a repository as everybody may read it: without credentials, GitHub's by https."""
    if "://" not in url:
        found = _SCP.fullmatch(url)
        if found is not None and found["host"] == "github.com":
            return f"https://github.com/{found['path'].lstrip('/')}"
        return url
    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    if credentials and (parts.scheme in ("http", "https") or ":" in credentials):
        return urlunsplit(parts._replace(netloc=f"***@{host}"))
    return url


def _git(folder: Path, *words: str) -> str | None:
    words = ("git", "-C", str(folder), *words)
    done = subprocess.run(words, capture_output=True, check=False, env=git_environment())
    return os.fsdecode(done.stdout).strip() or None if done.returncode == 0 else None
