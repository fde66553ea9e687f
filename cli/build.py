"""Which state of this program runs: the commit that it was made from, and when its files were last made.

A clone asks git; what pip installed from a repository has the commit on record; elsewhere it is not known.
"""

import json
import subprocess
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

DISTRIBUTION = "pfs-jobs"
PACKAGES = ("cli", "jobd", "pfs")
UNKNOWN = "unknown"
GIT_TIMEOUT_S = 5.0


def own_version() -> str:
    """Return the version of this program."""
    try:
        return distribution(DISTRIBUTION).version
    except PackageNotFoundError:
        return "unreleased"


def own_build(root: Path = Path(__file__).parent.parent) -> str:
    """Return commit and time of what lies in `root`, such as `ba95b2d 2018-10-09_18:12:45_UTC`."""
    commit = _commit_of_clone(root) if (root / ".git").exists() else _commit_on_record()
    made_s = max((file.stat().st_mtime for name in PACKAGES for file in (root / name).rglob("*.py")), default=0.0)
    return f"{commit or UNKNOWN} {time.strftime('%Y-%m-%d_%H:%M:%S_UTC', time.gmtime(made_s))}"


def _commit_of_clone(root: Path) -> str:
    # root may run what somebody else cloned
    words = ["git", "-c", "safe.directory=*", "-C", str(root), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _commit_on_record() -> str:
    try:
        record = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    return str(record.get("vcs_info", {}).get("commit_id", ""))[:7]
