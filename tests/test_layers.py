"""Who may import whom: the contracts of pyproject.toml hold, and each of them can be broken.

What a command loads before it does anything is measured, since imports inside functions are imports to a contract.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pfs", "jobd", "fuseclient", "cli")
HEAVY = ("alembic", "docker", "hypercorn", "pyfuse3", "sqlalchemy", "sqlmodel", "starlette")

# a module, what it must not import, and how the linter says so
VIOLATIONS = [
    ("pfs/disk/domains.py", "jobd.spec.spec", "pfs is not allowed to import jobd"),
    ("pfs/errors.py", "pfs.path", "pfs.errors is not allowed to import pfs.path"),
    ("pfs/unplaced.py", "pfs.errors", "- pfs.unplaced"),
    ("pfs/server/bodies.py", "pfs.server.mounts", "pfs.server.bodies is not allowed to import pfs.server.mounts"),
    ("pfs/leasing/hub.py", "pfs.leasing.filesystem", "pfs.leasing.hub is not allowed to import pfs.leasing.filesystem"),
    ("pfs/tree/virtual.py", "pfs.tree.top", "pfs.tree.virtual is not allowed to import pfs.tree.top"),
    ("pfs/disk/system.py", "pfs.disk.root", "pfs.disk.system is not allowed to import pfs.disk.root"),
    (
        "pfs/accounts/keyring.py",
        "pfs.accounts.groups",
        "pfs.accounts.keyring is not allowed to import pfs.accounts.groups",
    ),
    ("pfs/audit/record.py", "pfs.audit.log", "pfs.audit.record is not allowed to import pfs.audit.log"),
    ("cli/sdk/way.py", "cli.sdk.sync", "cli.sdk.way is not allowed to import cli.sdk.sync"),
    ("cli/sdk/operations.py", "click", "cli.sdk is not allowed to import click"),
    ("pfs/client/dial.py", "pfs.client.web", "pfs.client.dial is not allowed to import pfs.client.web"),
    ("pfs/protocol/wire.py", "pfs.protocol.steps", "pfs.protocol.wire is not allowed to import pfs.protocol.steps"),
    (
        "fuseclient/kernel/ops.py",
        "fuseclient.kernel.fuse",
        "kernel.ops is not allowed to import fuseclient.kernel.fuse",
    ),
    (
        "fuseclient/behind/queue.py",
        "fuseclient.behind.care",
        "behind.queue is not allowed to import fuseclient.behind.care",
    ),
    (
        "fuseclient/cache/copies.py",
        "fuseclient.cache.tree",
        "cache.copies is not allowed to import fuseclient.cache.tree",
    ),
    ("jobd/spec/values.py", "jobd.spec.spec", "jobd.spec.values is not allowed to import jobd.spec.spec"),
    ("jobd/life/events.py", "jobd.life.life", "jobd.life.events is not allowed to import jobd.life.life"),
    ("jobd/store/db.py", "jobd.store.schema", "jobd.store.db is not allowed to import jobd.store.schema"),
    ("jobd/engine/fleet.py", "jobd.engine.ledger", "jobd.engine.fleet is not allowed to import jobd.engine.ledger"),
    ("jobd/rest/answers.py", "jobd.rest.desk", "jobd.rest.answers is not allowed to import jobd.rest.desk"),
    ("jobd/scheduling/scheduler.py", "jobd.store.db", "jobd.scheduling is not allowed to import jobd.store"),
    (
        "jobd/scheduling/room.py",
        "jobd.scheduling.placement",
        "scheduling.room is not allowed to import jobd.scheduling",
    ),
    (
        "fuseclient/kernel/inodes.py",
        "fuseclient.mount",
        "fuseclient.kernel is not allowed to import fuseclient.mount",
    ),
    ("fuseclient/kernel/procs.py", "pfs.disk.domains", "fuseclient is not allowed to import pfs.disk:"),
    ("jobd/engine/engine.py", "pfs.server.routes", "jobd is not allowed to import pfs.server:"),
    ("jobd/node/state.py", "jobd.store.db", "jobd.node is not allowed to import jobd.store:"),
    ("pfs/path.py", "time", "pfs.path is not allowed to import time"),
    ("jobd/store/logs.py", "pyfuse3", "jobd is not allowed to import pyfuse3"),
    ("cli/submit/ship.py", "cli.snakepit.show", "cli.submit is not allowed to import cli.snakepit"),
    ("cli/files/plan.py", "cli.files.local", "cli.files.plan is not allowed to import cli.files.local"),
    ("cli/snakepit/show.py", "cli.cloud.tables", "cli.snakepit is not allowed to import cli.cloud"),
]


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]
    return subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True, timeout=60)


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_contract_can_be_broken(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module, imported, _ in VIOLATIONS:
        with (tmp_path / module).open("a") as file:
            file.write(f"\nimport {imported}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "0 kept" in done.stdout
    unseen = [complaint for _, _, complaint in VIOLATIONS if complaint not in " ".join(done.stdout.split())]
    assert unseen == []


@pytest.mark.parametrize("module", ["cli.config", "cli.output", "cli.paddle", "cli.pit"])
def test_a_users_command_starts_without_the_server_and_without_fuse(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "modules",
    ["cli.pit, cli.snakepit.looking", "cli.paddle, cli.cloud.jobs", "cli.paddle, cli.files.copying, cli.files.looking"],
)
def test_a_command_that_looks_once_loads_nothing_that_takes_longer_than_its_look(modules: str) -> None:
    slow = ("anyio", "cryptography", "h11", "httpx", "rich", "trio")
    program = f"import sys, {modules}, pfs.client.web; print(*({set(slow)} & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == []
