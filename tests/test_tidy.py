"""The tree stays as one wants to find it: what is checked here no linter of ours checks."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PACKAGES = ("pfs", "jobd", "fuseclient", "cli")
MODULE_LINES_MAX, FUNCTION_LINES_MAX = 400, 70
DOCSTRING = re.compile(r'(#.*\n)*r?"""\S')

# put together here, so that this file does not hold what it looks for
LEFTOVERS = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", r"\bprint\(.*debug", r"\bbreak" + r"point\(")))
# where this clone lies, and hosts that packages come from: both differ from machine to machine
HOSTS = ("py" + "pi", "python" + "hosted", "npm" + "js", "deb." + "debian")


def files() -> list[Path]:
    """Everything that is, or could be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=30).stdout
    paths = [ROOT / name for name in names.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


ELSEWHERE = re.compile("|".join([re.escape(f"{ROOT}/"), *(rf"\b{re.escape(host)}\.[a-z]" for host in HOSTS)]))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


SOURCES = [path for path in files() if path.suffix == ".py"]
PRODUCT = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in PACKAGES]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name(path))


def functions(path: Path, within: ast.AST | None = None) -> Iterator[tuple[str, int]]:
    for node in ast.iter_child_nodes(within or tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}: {node.name}", (node.end_lineno or 0) - node.lineno + 1
        if not isinstance(node, ast.expr):  # there are no functions with lines in expressions
            yield from functions(path, node)


def found(pattern: re.Pattern[str], paths: Iterable[Path]) -> dict[str, list[str]]:
    matches = ((name(path), pattern.findall(path.read_text(errors="replace"))) for path in paths)
    return {path: words for path, words in matches if words}


def test_a_module_can_be_read_in_one_go() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in PRODUCT}
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_a_function_fits_on_a_page() -> None:
    # a migration is a list of tables
    lengths = chain.from_iterable(functions(path) for path in PRODUCT if path.parent.name != "versions")
    assert {function: lines for function, lines in lengths if lines > FUNCTION_LINES_MAX} == {}


def test_a_module_opens_with_what_it_is_about() -> None:
    # a test module is about the module that it is named after
    modules = [path for path in SOURCES if path.stat().st_size and not path.name.startswith("test_")]
    assert [name(path) for path in modules if not DOCSTRING.match(path.read_text())] == []


def test_nothing_was_left_lying_about() -> None:
    assert found(LEFTOVERS, SOURCES) == {}


def test_only_the_command_line_prints() -> None:
    for path in PRODUCT:
        if path.parent.name != "cli" and "print(" in path.read_text():
            calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
            assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], name(path)


def test_no_file_knows_the_machine_that_it_was_written_on() -> None:
    assert found(ELSEWHERE, files()) == {}


def test_every_module_is_used_by_the_product() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = {target.partition(":")[0] for target in project["scripts"].values()}
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    # programs of others begin with the SDK; Alembic finds its own by their place
    roots = commands | {"cli.sdk"} | {module for module in graph.modules if module.startswith("jobd.store.migrations")}
    used = set(roots)
    while roots:
        roots = set().union(*(graph.find_modules_directly_imported_by(module) for module in roots)) - used
        used |= roots
    packages = {module for module in graph.modules if graph.find_children(module)}
    assert graph.modules - used - packages == set()


def test_every_file_of_the_packages_is_in_the_distribution() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = [path for path in files() if path.relative_to(ROOT).parts[0] in PACKAGES]
    assert {".".join(path.parent.relative_to(ROOT).parts) for path in there} == set(setuptools["packages"])
    patterns = ["*.py", *setuptools["package-data"]["*"]]
    assert [name(path) for path in there if not any(path.match(pattern) for pattern in patterns)] == []
