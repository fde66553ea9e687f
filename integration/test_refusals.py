"""A spec that is refused, by each call in which its writer can hear of it, and by none: `.error` says why."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.bench.streams import mount
from integration.box import Box, box, wait_until
from integration.submitting import job_numbers
from tests.functional.posix import errno_of

WRONG = "comand: x\n"
HALF = "command: [a, b"  # what follows may cure it: only its end tells that nothing did


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.mount()
        yield made


@pytest.fixture
def jobs(world: Box) -> Iterator[Path]:
    """The folder for drops; at the end there is no job."""
    yield world.dc / "jobs"
    assert job_numbers(world) == set()


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)


def test_what_nothing_cures_is_refused_by_write(jobs: Path) -> None:
    file = opened(jobs / "write.yaml")
    assert errno_of(lambda: os.write(file, WRONG.encode())) == errno.EINVAL
    assert "did you mean command" in (jobs / "write.yaml.error").read_text()
    os.close(file)


def test_what_is_whole_and_wrong_is_refused_by_close(jobs: Path) -> None:
    file = opened(jobs / "close.yaml")
    text = "title: nothing to do\n"  # the next line could have been its command
    assert os.write(file, text.encode()) == len(text)
    assert errno_of(lambda: os.close(file)) == errno.EINVAL
    assert "command" in (jobs / "close.yaml.error").read_text()
    assert (jobs / "close.yaml").read_text() == text


def test_what_somebody_may_not_ask_for_is_refused_by_close_as_such(world: Box, jobs: Path) -> None:
    with mount(world, "as-ann", "ann") as other:
        drop = other.dc / "jobs/first.yaml"
        assert errno_of(lambda: drop.write_text("command: x\npriority: 60\n")) == errno.EACCES
        assert "priorities above 50 are for admins" in Path(f"{drop}.error").read_text()
        assert [name for name in os.listdir(drop.parent) if name.isdigit()] == []


def test_what_is_wrong_is_refused_by_rename_and_keeps_its_name(jobs: Path) -> None:
    (jobs / "x.tmp").write_text(WRONG)
    assert errno_of(lambda: (jobs / "x.tmp").rename(jobs / "renamed.yaml")) == errno.EINVAL
    assert (jobs / "x.tmp").read_text() == WRONG
    assert not (jobs / "renamed.yaml").exists()
    assert "did you mean command" in (jobs / "renamed.yaml.error").read_text()


def test_what_only_its_end_shows_to_be_wrong_is_told_in_error_alone(world: Box, jobs: Path) -> None:
    assert world.sh(f"printf '{HALF}' > jobs/half.yaml").returncode == 0
    wait_until((jobs / "half.yaml.error").exists)
    assert re.match(r"line \d+, column \d+: ", (jobs / "half.yaml.error").read_text())


def test_with_its_drop_an_error_is_gone(jobs: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        (jobs / "gone.yaml").write_text(WRONG)
    assert (jobs / "gone.yaml.error").exists()
    (jobs / "gone.yaml").unlink()
    assert not (jobs / "gone.yaml.error").exists()
