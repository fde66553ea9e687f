"""`pit mount` of every kind of entity: what the mount point shows, what is refused, and that nothing is left."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.box import BIN, Box, box, is_mounted

WHERE = {"home": "home/demo", "~": "home/demo", "group:ml": "groups/ml", "shared": "shared"}


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with a group, a job that is over, and something in every folder."""
    with box() as made:
        assert made.run("jobd", "group", "add", "ml", "demo", "--data-root", str(made.data)).returncode == 0
        made.start_server()
        made.start_node()
        made.mount()
        for folder in set(WHERE.values()):
            there = made.data if folder == "shared" else made.dc  # which only the server's machine may change
            (there / folder / "a").write_text(f"{folder}\n")
        (made.dc / "jobs/one.yaml").write_text('command: echo kept > "$JOB_DIR/keep/a"\n')
        assert made.sh("cat jobs/one/wait").stdout == "0\n"
        yield made


@contextmanager
def mounted(world: Box, *words: str, cwd: Path) -> Iterator[Path]:
    """Mount for the block, and end it by Ctrl-C; give the place that is printed, or the last word."""
    command = [str(BIN / "pit"), "mount", *words]
    with subprocess.Popen(
        command, cwd=cwd, env=world.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        try:
            said = process.stderr.readline()
            assert said == "press Ctrl-C to unmount\n", said + process.stderr.read()
            point = cwd / words[-1] if len(words) > 1 else Path(process.stdout.readline().strip())
            yield point
        finally:
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (0, "", "unmounting...\n")
    assert not is_mounted(point)


@pytest.mark.parametrize("entity", WHERE)
def test_the_mount_point_is_the_folder_of_the_entity(world: Box, entity: str, tmp_path: Path) -> None:
    folder = WHERE[entity]
    with mounted(world, entity, cwd=tmp_path) as point:
        assert os.path.ismount(point)
        assert sorted(os.listdir(point)) == sorted(os.listdir(world.dc / folder))
        assert (point / "a").read_text() == f"{folder}\n"
        if entity == "shared":
            with pytest.raises(OSError, match="Read-only file system"):
                (point / "b").write_text("")
        else:
            (point / entity.replace(":", "-")).write_text("written\n")
            assert (world.dc / folder / entity.replace(":", "-")).read_text() == "written\n"
    assert not point.parent.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("push", "shared", "z", "f"), "z: you may read this, not change it"),
        (("push", "home", "new/z", "f"), "new/z: No such file or directory"),
        (("push", "job:1", "z", "f"), "z: files cannot be made here"),
        (("push", "job:1", "status", "f", "-f"), "status: "),
        (("pull", "job:1", "ctl/x", "g"), "ctl/x: "),
    ],
)
def test_a_refusal_names_the_file(world: Box, tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    (tmp_path / "f").write_text("text")
    command = [str(BIN / "pit"), *words]
    ran = subprocess.run(command, cwd=tmp_path, env=world.env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"Command failed: {why}")
    assert len(ran.stderr.splitlines()) == 1


def test_a_job_can_be_read_while_it_runs_and_not_be_changed(world: Box, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir(mode=0o700)
    with mounted(world, "job:1", "m", cwd=tmp_path) as point:
        assert {"log", "status", "keep"} <= set(os.listdir(point))
        assert (point / "keep/a").read_text() == "kept\n"
        with pytest.raises(OSError, match="Read-only file system"):
            (point / "keep/b").write_text("")
    assert (os.listdir(point), (tmp_path / "m").stat().st_mode & 0o777) == ([], 0o700)


def test_a_shell_runs_there_and_ends_it(world: Box, tmp_path: Path) -> None:
    ran = subprocess.run(
        [str(BIN / "pit"), "mount", "--shell", "job:1"],
        input="pwd; cat keep/a; exit 3\n",
        cwd=tmp_path,
        env={**world.env, "SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    place, *said = ran.stdout.splitlines()
    assert (ran.returncode, said) == (0, [place, "kept"])
    assert 'secondary shell: call "exit" to end and unmount\n' in ran.stderr
    assert not os.path.exists(place)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("group:nobody",), "Group not found"),
        (("job:999",), "Job not found"),
        (("node:n0",), 'Unsupported entity type "node"'),
        (("home", "full"), "is not empty; mount at an empty directory"),
        (("home", "nowhere"), "does not exist; make it with: mkdir -p"),
    ],
)
def test_what_cannot_be_mounted_is_told_in_one_line(
    world: Box, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "full/x").mkdir(parents=True)
    command = [str(BIN / "pit"), "mount", *words]
    ran = subprocess.run(command, cwd=tmp_path, env=world.env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Command failed: ")
    assert why in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
