"""What SECURITY.md claims, and what only a look at all of the code can show."""

import ast
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text()
CLAIMED = re.findall(r"`((?:tests|integration)/[\w/]+\.py)::(\w+)`", SECURITY)

# what runs in the server's process, beside the libraries
SERVER = (
    *("pfs/server", "pfs/tree", "pfs/disk", "pfs/leasing", "jobd/spec", "jobd/life", "jobd/scheduling", "jobd/store"),
    *("jobd/engine", "jobd/files", "jobd/rest"),
)
# by what a program connects to somebody, or starts another program
DIALS = {"httpx", "requests", "urllib3", "http.client", "urllib.request", "ftplib", "smtplib", "docker", "subprocess"}
CALLS = {
    *("open_tcp_stream", "open_ssl_over_tcp_stream", "open_unix_socket", "create_connection", "getaddrinfo", "urlopen"),
    *("system", "popen", "execv", "execve", "execvp", "fork", "posix_spawn", "run_process", "Popen"),
}

# below these there are known holes: requests that are smuggled (h11), slow ranges (starlette), frames (wsproto)
OLDEST = {"h11": "0.16.0", "starlette": "0.49.1", "wsproto": "1.2.0", "cryptography": "45.0.0", "urllib3": "2.5.0"}


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("path", "name"), CLAIMED)
def test_a_control_is_shown_by_a_test_that_is_there(path: str, name: str) -> None:
    assert name in functions_of(path)


def test_every_control_names_a_test() -> None:
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", SECURITY.split("| control | shown by |")[1], re.MULTILINE)[1:]
    assert len(rows) > 20
    assert [control for control, shown in rows if not re.search(r"::\w+`", shown)] == []


def test_whoever_reads_the_readme_finds_it() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
    for words in ("no wall against a determined attacker", "security advisories"):
        assert words in SECURITY
    assert not re.search(r"[\w.]+@[\w.]+", SECURITY)  # an address that nobody reads would be worse than none


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@pytest.mark.parametrize("folder", SERVER)
def test_the_server_dials_nobody_and_starts_nothing(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    found = []
    for path in paths:
        tree = ast.parse(path.read_text())
        names = {name for name in imported(tree) if any(f"{name}.".startswith(f"{each}.") for each in DIALS)}
        found += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(names | (CALLS & set(called(tree))))]
    assert found == []


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


@pytest.mark.parametrize("needed", requirements(), ids=str)
def test_what_is_installed_is_what_is_asked_for(needed: Requirement) -> None:
    if needed.marker is None or needed.marker.evaluate():
        assert needed.specifier.contains(importlib.metadata.version(needed.name))


@pytest.mark.parametrize("name", OLDEST)
def test_what_is_installed_is_new_enough(name: str) -> None:
    assert Version(importlib.metadata.version(name)) >= Version(OLDEST[name])


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-build"])
def test_what_is_installed_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / f"script/{name}.lock").read_text()
    entries = re.split(r"\n(?=[A-Za-z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).strip())
    assert entries
    loose = [
        entry for entry in entries if not re.match(r"[\w.\-\[\]]+==\S+.*--hash=sha256:[0-9a-f]{64}", entry, re.DOTALL)
    ]
    assert loose == []
    assert "--require-hashes" in (ROOT / "script/bootstrap").read_text()
