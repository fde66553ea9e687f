"""Folders shipped with jobs by `paddle submit` and `pit run`, from real repositories, on a way that is cut."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, Box, box, wait_until
from integration.ways import Way
from pfs.client.web import facts
from tests.cli.repository import ENV, Repository
from tests.cli.situations import CREDENTIALS, SITUATIONS, tree_of

COMPUTE = 'set -e; echo "result $(cat a) $(ls -l run.sh | cut -c1-10) $(readlink link)"; echo 0.97 > "$RESULT_FILE"\n'


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with one node, and no mount."""
    with box() as made:
        made.env |= ENV
        made.start_server()
        made.start_node()
        yield made


@pytest.fixture
def project(world: Box, tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "project")
    made.write(a="pushed\n", run_sh="#!/bin/sh\n", _compute=COMPUTE, _gitignore="*.log\n")
    (made.path / "run.sh").chmod(0o755)
    (made.path / "link").symlink_to("a")
    made.commit()
    made.git("checkout", "-q", "-b", "feature/slash")
    made.track("feature/slash", url="https://ann:secret@example.org/x.git")
    made.write(a="changed\n", fresh="new\n", x_log="ignored\n")
    return made


def client(world: Box, where: Path, *words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run one of the clients in a directory."""
    command = [str(BIN / words[0]), *words[1:]]
    return subprocess.run(
        command, cwd=where, env=world.env, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def data(world: Box, number: str) -> Path:
    return world.data / "jobs" / number / "data"


def number_of(done: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"Job (?:number: )?(\d+)", done.stdout + done.stderr)
    assert found is not None, done
    return found.group(1)


# ---- the main ways


def test_pit_run_ships_the_work_tree_as_it_is_and_shows_the_log(world: Box, project: Repository) -> None:
    done = client(world, project.path, "pit", "run", "First light", "[]", "-l")
    assert done.returncode == 0, done.stderr
    assert "Remote:     origin <https://***@example.org/x.git>\n" in done.stdout
    assert f"Hash:       {project.git('rev-parse', 'HEAD')}\n" in done.stdout
    assert re.search(r"Diff LoC:   [1-9]", done.stdout)
    assert re.search(r"\[prepare\] Copied 6 files, \d+ bytes, as it was shipped\n", done.stdout)
    assert "[worker 0] result changed -rwxr-xr-x a\n" in done.stdout
    assert "secret" not in done.stdout + done.stderr
    number = number_of(done)
    assert sorted(os.listdir(data(world, number) / "src")) == [".compute", ".gitignore", "a", "fresh", "link", "run.sh"]
    assert b"-pushed\n+changed\n" in (world.data / "jobs" / number / "patch").read_bytes()
    again = client(world, project.path, "pit", "run", "Second light", "[]")
    assert again.returncode == 0, again.stderr
    assert "Shipped" not in again.stderr, "nothing is sent twice"


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_job_gets_the_work_tree_and_is_told_where_it_comes_from(world: Box, name: str, tmp_path: Path) -> None:
    situation = SITUATIONS[name](tmp_path)
    done = client(world, situation.folder, "pit", "run", name, "[]", "-l")
    assert done.returncode == 0, done.stderr
    said, _, log = done.stdout.partition("\n\n")
    number = number_of(done)
    assert said.splitlines() == situation.report(number, "[]")
    assert "[worker 0] Worker 0 ended with exit code 0" in log
    assert tree_of(data(world, number) / "src") == situation.work_tree()
    status = facts(world.run("paddle", "pfs", "cp", f"/pfs/dc1/jobs/{number}/status", "-").stdout)
    told = [status.get(name, "") for name in ("remote", "hash", "diff_lines")]
    lines = "" if situation.lines is None else str(situation.lines)
    assert told == [situation.remote.replace("<", "").replace(">", ""), situation.hash, lines]
    job = world.data / "jobs" / number
    patch = (job / "patch").read_bytes() if (job / "patch").exists() else b""
    assert bool(patch) == bool(situation.lines)
    kept = b"".join(path.read_bytes() for path in job.iterdir() if path.is_file())
    assert CREDENTIALS.split(":")[1].encode() not in kept + done.stdout.encode() + done.stderr.encode()


def test_paddle_submit_of_a_folder_ends_with_the_jobs_exit_code(world: Box, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/train.sh").write_text("echo trained; exit 7\n")
    done = client(world, tmp_path, "paddle", "submit", "digits", "--command", "sh train.sh", "--log")
    assert done.returncode == 7, done.stderr
    assert "[worker 0] trained\n" in done.stdout
    (tmp_path / "digits/job.yaml").write_text("command: sh train.sh | tr a-z A-Z\n")
    done = client(world, tmp_path, "paddle", "submit", "digits", "--log")
    assert (done.returncode, "[worker 0] TRAINED\n" in done.stdout) == (0, True), done.stderr


def test_a_job_goes_on_from_what_another_one_kept(world: Box, tmp_path: Path) -> None:
    first = client(world, tmp_path, "pit", "run", "a", "[]", "-d", 'echo w > "$JOB_DIR/keep/model"', "-l")
    second = client(
        world, tmp_path, "pit", "run", "b", "[]", "-c", number_of(first), "-d", 'cat "$JOB_DIR/keep/model"', "-l"
    )
    assert "[worker 0] w\n" in second.stdout, second.stdout + second.stderr
    third = client(world, tmp_path, "pit", "run", "c", "[]", "-c", "999", "-d", "true")
    assert third.returncode != 0
    assert "there is no job 999" in third.stderr
    assert len(third.stderr.splitlines()) == 1


# ---- what goes wrong on the way


class Narrow(Way):
    """A way that is cut after some bytes, again and again."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.cuts = cuts
        self.passed = 0
        super().__init__(port)

    def lets_pass(self, size_bytes: int, *, up: bool) -> bool:
        """Count what is sent; cut where that is too much."""
        self.passed += size_bytes if up else 0
        return not (self.cuts and self.passed > self.cuts[0] and self.cuts.pop(0))


def test_over_a_way_that_is_cut_a_tree_arrives_and_little_is_sent_twice(world: Box, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    large = os.urandom(30_000_000)
    (tmp_path / "big/large").write_bytes(large)
    for number in range(200):
        (tmp_path / f"big/{number}").write_text(str(number))
    way = Narrow(world.port, [5_000_000, 12_000_000, 20_000_000])
    config = tmp_path / "config"
    config.write_text((world.root / "paddle-config").read_text().replace(f":{world.port}", f":{way.port}"))
    try:
        env = {**world.env, "PADDLE_CONFIG": str(config)}
        command = [str(BIN / "paddle"), "submit", "big", "--command", "sha256sum large", "--wait"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    finally:
        way.close()
    assert done.returncode == 0, done.stderr
    assert way.cuts == []
    assert way.passed < 45_000_000
    assert (data(world, number_of(done)) / "src/large").read_bytes() == large


def test_what_the_server_lost_its_connection_to_by_a_restart_goes_on(world: Box, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big/large").write_bytes(os.urandom(120_000_000))
    command = [str(BIN / "paddle"), "submit", "big", "--command", "wc -c < large", "--wait"]
    coming = world.data / "server/trees/demo/coming"
    with subprocess.Popen(command, cwd=tmp_path, env=world.env, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: _size_of_largest(coming) > 1_000_000)
        world.end("server", signal.SIGKILL)
        world.start_server()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert not list(coming.iterdir())


def _size_of_largest(folder: Path) -> int:
    sizes = [0]
    # what has come whole leaves while one looks
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def test_ctrl_c_leaves_the_job_running_and_says_so(world: Box, tmp_path: Path) -> None:
    command = [str(BIN / "pit"), "run", "long", "[]", "-d", "echo begin; sleep 60", "-l"]
    process = subprocess.Popen(command, cwd=tmp_path, env=world.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    seen = b""
    while b"begin" not in seen:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    number = re.search(rb"Job number: (\d+)", seen)
    assert number is not None
    job = number.group(1).decode()
    assert f"job {job} goes on; pit log {job} shows it, pit stop {job} ends it" in said.decode()
    listed = client(world, tmp_path, "paddle", "get", "jobs", "-o", "wide").stdout
    assert re.search(rf"^{job} +long .*RUNNING", listed, re.MULTILINE), listed
    assert client(world, tmp_path, "pit", "stop", job).returncode == 0


def test_what_cannot_be_shipped_is_told_in_one_line_with_a_cure(world: Box, tmp_path: Path) -> None:
    (tmp_path / "away").symlink_to("/etc/passwd")
    for status, *words in (
        (1, "pit", "run", "x", "[]", "-d", "true"),
        (2, "paddle", "submit", ".", "--command", "true"),
    ):
        done = client(world, tmp_path, *words)
        assert done.returncode == status
        assert len(done.stderr.splitlines()) == 1
        assert "the link away leads out of the folder" in done.stderr
    world_without = {**world.env, "PADDLE_CONFIG": str(tmp_path / "none")}
    command = [str(BIN / "paddle"), "submit", ".", "--command", "true"]
    done = subprocess.run(command, cwd=tmp_path, env=world_without, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


# ---- the doors themselves


def test_a_content_of_another_hash_and_a_strangers_tree_are_refused(world: Box) -> None:
    import httpx

    headers = {"authorization": f"Bearer {world.token}"}
    wrong = b"a" * 64 + b" 0 5 5\nwrong"
    answer = httpx.post(f"{world.url}/api/v1/trees/contents", content=wrong, headers=headers)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (400, "invalid")
    assert httpx.post(f"{world.url}/api/v1/trees/contents", content=wrong).status_code == 401
    answer = httpx.put(f"{world.url}/api/v1/trees/{'a' * 64}", content=b"{}", headers=headers)
    assert answer.status_code == 400
    spec = f"src: tree:{'a' * 64}\ncommand: 'true'\n".encode()
    answer = httpx.put(f"{world.url}/api/v1/fs/jobs/stranger.yaml", content=spec, headers=headers)
    assert answer.status_code == 400
    assert "is not on the server" in answer.text


def test_a_thousand_files_are_shipped_and_laid_out(world: Box, tmp_path: Path) -> None:
    for number in range(1000):
        path = tmp_path / f"many/{number % 50}/{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    done = client(world, tmp_path, "paddle", "submit", "many", "--command", "find . -type f | wc -l", "--log")
    assert done.returncode == 0, done.stderr
    assert "[worker 0] 1000\n" in done.stdout


def test_folders_of_a_home_are_seen_where_a_spec_mounts_them(world: Box, tmp_path: Path) -> None:
    home = world.data / "home/demo"
    (home / "sets").mkdir()
    os.chown(home / "sets", home.stat().st_uid, home.stat().st_gid)
    (home / "sets/train").write_text("examples\n")
    command = "cat /data/train; touch /out/made; touch /data/x"
    (tmp_path / "m.yaml").write_text(f"command: {command}\nmounts: ['sets:/data:ro', 'sets:/out']\n")
    done = client(world, tmp_path, "paddle", "submit", "m.yaml", "--log")
    assert "] examples\n" in done.stdout, done.stdout + done.stderr
    assert "Read-only file system" in done.stdout
    assert sorted(os.listdir(home / "sets")) == ["made", "train"]
