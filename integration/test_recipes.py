"""README's recipes: each is taken from there as it stands, and typed in a live tree."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import WAIT_S, Box, box, wait_until
from integration.stubnvml import stub_gpus

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTION = README.split("\n## Recipes\n", 1)[1].split("\n## ", 1)[0]
# by how each begins: in bold letters
RECIPES = {
    title: re.findall(r"```(?:sh|make)\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^\*\*(.*?)\*\*(.*?)(?=^\*\*|\Z)", SECTION, re.MULTILINE | re.DOTALL)
}
SWEEP = "A sweep over learning rates"
PIPELINE = "A pipeline for make."
FIRST = "The first of ten jobs"
FAILED = "All jobs that failed in the last week"
GPU = "Who is on my GPU?"
AGAIN = "The same again with another seed"
GANG = "All workers of a gang at once"
CI = "A CI runner without an SDK"

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made, stub_gpus(["GeForce GTX 1070"]) as env:
        made.start_server()
        made.start_node(env=env)
        made.mount()
        digits = made.dc / "home/demo/digits"
        digits.mkdir()
        (digits / "train.py").write_text("import sys\nprint('accuracy 0.9 with', *sys.argv[1:])\n")
        yield made


def recipe(title: str) -> str:
    """Return what README says to type."""
    [block] = RECIPES[title]
    return block


def follow(world: Box, title: str) -> Done:
    """Type a recipe."""
    return world.sh(recipe(title), timeout_s=2 * WAIT_S)


def drop(world: Box, name: str, *lines: str) -> Path:
    """Submit a job; return its directory."""
    (world.dc / f"jobs/{name}.yaml").write_text("".join(f"{line}\n" for line in lines))
    return world.dc / "jobs" / os.readlink(world.dc / "jobs" / name)


def test_each_recipe_is_followed_here_and_short():
    assert set(RECIPES) == {SWEEP, PIPELINE, FIRST, FAILED, GPU, AGAIN, GANG, CI}
    assert all(len(recipe(title).splitlines()) <= 10 for title in RECIPES)


def test_a_sweep_shows_what_came_of_each_rate(world: Box):
    done = follow(world, SWEEP)
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(re.findall(r"^jobs/lr-(\S+)/log.txt:.*accuracy 0.9 with --lr (\S+)$", done.stdout, re.MULTILINE))
    assert found == {"0.001": "0.001", "0.01": "0.01", "0.1": "0.1"}


def test_make_runs_a_pipeline_again_only_where_it_must(world: Box):
    home = world.dc / "home/demo"
    (home / "Makefile").write_text(recipe(PIPELINE))
    (home / "train.yaml").write_text('command: echo model > "$USER_DIR/model"\n')
    (home / "evaluate.yaml").write_text('command: grep right "$USER_DIR/model"\n')

    def make() -> tuple[bool, str, str]:
        """Return whether it went well, and which jobs the two steps are now."""
        done = world.sh("make -f home/me/Makefile", timeout_s=2 * WAIT_S)
        numbers = [os.readlink(world.dc / "jobs" / step) for step in ("train", "evaluate")]
        return done.returncode == 0, *numbers

    well, train, evaluate = make()
    assert not well  # the model is not right
    assert make()[:2] == (False, train)  # only the step that failed is done again
    (home / "train.yaml").write_text('command: echo a right model > "$USER_DIR/model"\n')
    well, train_again, evaluate_again = make()
    assert well
    assert train_again != train
    assert evaluate_again != evaluate
    assert make() == (True, train_again, evaluate_again)


def test_who_waits_for_ten_jobs_sees_the_first_that_is_over(world: Box):
    for number in range(1, 11):
        drop(world, f"try-{number}", "command: sleep 1000" if number != 7 else "command: 'true'")
    done = follow(world, FIRST)
    assert done.stdout.splitlines() == ["0", "jobs/try-7/exit_code"], done.stderr
    world.sh("for job in jobs/try-*; do echo kill > $job/ctl; done 2> /dev/null")


def test_jobs_that_failed_are_found_with_the_reason(world: Box):
    bad, good = drop(world, "bad", "command: exit 3"), drop(world, "good", "command: exit 0")
    world.sh("cat jobs/bad/wait jobs/good/wait")
    done = follow(world, FAILED)
    assert done.returncode == 0, done.stderr
    whys = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "exit code 3" in whys[bad.name]
    assert good.name not in whys


def test_who_has_a_gpu_is_named(world: Box):
    job = drop(world, "gpu", "command: sleep 1000", "groups: [{resources: {gpu: 1}}]")
    wait_until(lambda: (job / "state").read_text() == "RUNNING\n")
    assert follow(world, GPU).stdout == "nodes/n0/gpus/0/job:user demo\n"
    (job / "ctl").write_text("kill\n")


def test_a_job_is_submitted_again_with_other_seeds(world: Box):
    drop(world, "digits", "src: digits", "command: python3 train.py --seed 1")
    assert follow(world, AGAIN).returncode == 0
    log = world.sh("cat jobs/digits-*/log").stdout
    assert sorted(re.findall(r"with --seed (\d)", log)) == ["2", "3", "4"]


def test_all_workers_of_a_gang_are_seen_to_their_end(world: Box):
    drop(world, "gang", "groups:", "  - count: 3", "    command: echo I am $WORKER_INDEX; sleep 1; echo done")
    lines = follow(world, GANG).stdout.splitlines()
    assert sorted(lines) == sorted(f"0.{n}: {text}" for n in range(3) for text in (f"I am {n}", "done"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_runner_of_ci_needs_curl_alone(world: Box):
    def ci(number: str, spec: str) -> Done:
        (world.root / "job.yaml").write_text(spec)
        env = {"PATH": os.environ["PATH"], "URL": world.url, "TOKEN": world.token, "CI_JOB_ID": number}
        command = ["bash", "-c", recipe(CI)]
        return subprocess.run(
            command, cwd=world.root, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False
        )

    done = ci("1", "command: echo built; exit 3\n")
    assert done.returncode == 3, done.stderr
    assert "built" in done.stdout
    before = os.readlink(world.dc / "jobs/ci-1")
    assert ci("1", "command: echo built; exit 3\n").returncode == 3
    assert os.readlink(world.dc / "jobs/ci-1") == before
