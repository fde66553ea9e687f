"""How mount(8) and umount(8) call their helpers, and which statuses they get."""

from typing import Any

import click
import pytest

from cli.mount import command as mount
from cli.mount import fuse, umount
from cli.mount.options import Options, parse
from pfs.errors import Kind, PfsError

URL = "https://dc1.example.org:8470"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the helpers asked for, in place of mounting."""
    asked: list[tuple[Any, ...]] = []

    def mount_command(point: str, options: Options, *, source: str, quiet: bool) -> int:
        asked.append((source, point, options, quiet))
        return 0

    def umount_command(point: str, *, lazy: bool, quiet: bool) -> int:
        asked.append((point, lazy, quiet))
        return 0

    monkeypatch.setattr(mount, "mount_command", mount_command)
    monkeypatch.setattr(umount, "umount_command", umount_command)
    return asked


@pytest.mark.parametrize(
    ("arguments", "options", "quiet"),
    [
        ([], [], True),
        (["-o", "rw,_netdev"], [], True),
        (["-o", "ro", "-o", "allow_other"], ["ro,allow_other"], True),
        (["-r", "-n", "-v"], ["ro"], False),
        (["-w", "-t", "fuse.pfs", "-o", "rw,dev,suid"], ["suid"], True),
        (["-s", "-o", "foo,noexec"], ["noexec"], True),
    ],
)
def test_a_helper_is_called_as_mount_does(
    called: list[tuple[Any, ...]], arguments: list[str], options: list[str], quiet: bool
) -> None:
    assert fuse.mount([URL, "/pfs", *arguments]) == 0
    assert called == [(URL, "/pfs", parse(options), quiet)]


def test_who_only_pretends_mounts_nothing_and_is_told_of_wrong_options(called: list[tuple[Any, ...]]) -> None:
    assert fuse.mount([URL, "/pfs", "-f"]) == 0
    with pytest.raises(PfsError, match="there is no option 'foo'"):
        fuse.mount([URL, "/pfs", "-f", "-o", "foo"])
    assert called == []


@pytest.mark.parametrize("arguments", [[], [URL], [URL, "/a", "/b"], [URL, "/a", "-x"], [URL, "/a", "-o"]])
def test_a_call_that_is_none_is_one_sentence(called: list[tuple[Any, ...]], arguments: list[str]) -> None:
    with pytest.raises(PfsError, match=r"it is called so: mount\.fuse\.pfs SOURCE DIR") as caught:
        fuse.mount(arguments)
    assert caught.value.kind is Kind.INVALID
    assert "\n" not in str(caught.value)
    assert called == []


@pytest.mark.parametrize(
    ("arguments", "lazy"), [([], False), (["-l"], True), (["-f", "-v"], True), (["-n", "-r"], False)]
)
def test_umount_is_passed_on(called: list[tuple[Any, ...]], arguments: list[str], lazy: bool) -> None:
    assert fuse.umount(["/pfs", *arguments]) == 0
    assert called == [("/pfs", lazy, "-v" not in arguments)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (PfsError(Kind.INVALID, "a wrong option"), 1),
        (click.ClickException("it is not empty"), 32),
        (PfsError(Kind.UNREACHABLE, "no answer"), 32),
        (ZeroDivisionError("a defect"), 32),
        (KeyboardInterrupt(), 8),
    ],
)
def test_the_statuses_are_those_of_mount(
    error: BaseException | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        if error is not None:
            raise error
        return 0

    assert fuse._run(fuse.MOUNT, work) == status
    said = capsys.readouterr().err
    assert said.count("\n") == (0 if status in (0, 8) else 1)
    assert said == "" or said.startswith("mount.fuse.pfs: ")
