"""In which order the integration tests run: what takes long begins first, so that no process works alone at the end.

`script/test` gives whole files to four processes, and the next file to the one that has run out of tests. Whoever ends
them early, by Ctrl-C or by timeout(1), is left no mounts and no servers.
"""

import signal
from collections.abc import Iterator

import pytest

from tests import starting

# by what they took, the longest first; all that is not named comes after them
LONG = (
    "test_story",
    "test_survival",
    "test_model",
    "test_node",
    "test_identity",
    "test_runtimes",
    "test_away",
    "test_drops",
    "test_mounted",
    "test_bench",
    "test_tools",
    "test_programs",
    "test_exec",
    "test_rules",
    "test_mount_fs",
    "test_images",
    "test_recipes",
    "test_controls",
    "test_groups",
    "test_gangs",
    "test_hosts",
    "test_word_emb",
    "test_health",
    "test_write_behind",
    "test_pit_mount_user",
    "test_pit_readme",
    "test_mount_options",
    "test_demo",
    "test_logs",
    "test_shipping",
    "test_hostile",
    "test_hostile_client",
    "test_hostile_server",
    "test_fsx",
    "test_two_mounts",
    "test_memory",
    "test_confinement",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the option of golden scripts."""
    starting.offer_rewriting(parser)


def pytest_configure() -> None:
    """Let programs be interrupted."""
    starting.let_interrupt()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Let TERM take down what tests have set up, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)
