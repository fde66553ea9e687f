"""One fake for all tests of a module: it keeps nothing between them but what was begun."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.attach.fake import Fake, config_for
from tests.pfs.world import World

PADDLE = str(Path(sys.executable).parent / "paddle")


@dataclass
class Typed:
    """What is typed to run a program in the fake's job 17, and in which environment."""

    fake: Fake
    env: dict[str, str]

    def words(self, *words: str) -> list[str]:
        return [PADDLE, *words]

    @contextmanager
    def started(self, *words: str, **how: Any) -> "Iterator[subprocess.Popen[bytes]]":
        """Run it for the block, and no longer."""
        with subprocess.Popen(self.words(*words), env=self.env, **how) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    folder = tmp_path_factory.mktemp("attach")
    (folder / "world").mkdir()
    with Fake(World(folder / "world")).running() as fake:
        config = config_for(fake, folder)
        yield Typed(fake, {**os.environ, "PADDLE_CONFIG": str(config), "TERM": "vt100"})
