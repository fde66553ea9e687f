"""One server and two mounts of it for all tests of this package, and a pair of directories for each."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from integration.box import box, is_mounted
from integration.functional.places import Both, Places


@pytest.fixture(scope="package")
def places() -> Iterator[Places]:
    if os.getuid() != 0:
        pytest.skip("only root can act as others")
    with box() as made, TemporaryDirectory(prefix="pfs-plain-", ignore_cleanup_errors=True) as name:
        plain = Path(name)
        for path in (made.root, plain):
            path.chmod(0o755)  # others come here, too
        made.start_server()
        made.mount()
        numeric = made.root / "numeric"
        numeric.mkdir()
        mounted = made.run("paddle", "mount", "-o", "ids=numeric", str(numeric))
        assert mounted.returncode == 0, mounted.stderr
        (made.data / "home/demo").chmod(0o755)
        try:
            yield Places(made, made.dc / "home/demo", numeric / "dc1/home/demo", plain)
        finally:
            made.run("paddle", "umount", "--lazy", str(numeric))
            if is_mounted(numeric):
                subprocess.run(["umount", "-l", str(numeric)], check=False)


def directory(places: Places, request: pytest.FixtureRequest, *, numeric: bool) -> Both:
    words = f"{request.path.stem}_{request.node.name}"
    name = "".join(letter if letter.isalnum() else "_" for letter in words)[:100]
    home = places.numeric if numeric else places.squashed
    name += "_numeric" if numeric else "_squashed"
    for path in (home / name, places.plain / name):
        path.mkdir()
        if numeric:
            os.chown(path, 0, 0)
    return Both(home / name, places.plain / name, numeric)


@pytest.fixture(params=["squashed", "numeric"])
def both(places: Places, request: pytest.FixtureRequest) -> Both:
    """An empty directory of a mount, and one of this machine: for each way of treating owners."""
    return directory(places, request, numeric=request.param == "numeric")


@pytest.fixture
def numeric(places: Places, request: pytest.FixtureRequest) -> Both:
    """The same where owners are the server's numbers."""
    return directory(places, request, numeric=True)


@pytest.fixture
def home(places: Places, request: pytest.FixtureRequest) -> Path:
    """An empty directory of an ordinary mount."""
    return directory(places, request, numeric=False).mount
