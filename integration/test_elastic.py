"""PaddleCloud's fault-tolerant mode and its elastic jobs, with real processes in real containers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.box import Box, box, wait_until
from integration.engine import busybox_image, docker_client, engine

NEEDS = "memory: 64Mi\npsmemory: 64Mi\npservers: 1\n"
# a parameter server runs the entry as well, where there is no program of PaddlePaddle's
SERVE = '[ "$TRAINING_ROLE" = PSERVER ] && exec sleep 1000; echo "trainer $PADDLE_TRAINER_ID of $TRAINERS"; '


@dataclass
class World:
    """A datacenter with one node, which offers 512 MiB."""

    box: Box
    image: str

    def submit(self, name: str, text: str) -> Path:
        """Submit a job, and return its folder."""
        (self.box.dc / f"jobs/{name}.yaml").write_text(f"image: {self.image}\ngrace: 1s\n{text}")
        return self.box.dc / f"jobs/{name}"

    def ended(self, job: Path) -> str:
        """Return the state of a job once it is over."""
        assert self.box.sh(f"cat jobs/{job.name}/wait").returncode == 0
        return (job / "state").read_text().strip()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with engine() as url, box() as made:
        with docker_client(url) as client:
            image = busybox_image(client)
        made.start_server()
        made.start_node("n0", url, "--memory", "512MiB")
        made.mount()
        yield World(made, image)


def states(job: Path) -> list[str]:
    """Return where the trainers of a job stand."""
    return [(each / "state").read_text().strip() for each in sorted((job / "processes").glob("0.*"))]


def test_a_trainer_that_dies_is_replaced_and_the_job_succeeds(world: World) -> None:
    die = 'if [ "$PADDLE_TRAINER_ID.$PFS_ATTEMPT" = 1.1 ]; then kill -9 $$; fi; echo "$PFS_ATTEMPT" > "$RESULT_FILE"'
    job = world.submit("dies", f"entry: '{SERVE}{die}'\nparallelism: 2\nfaulttolerant: true\n{NEEDS}")
    assert world.ended(job) == "SUCCEEDED"
    assert [(job / f"processes/0.{each}/result").read_text() for each in range(2)] == ["1\n", "2\n"]
    assert (job / "processes/0.1/before").read_text() == "killed by SIGKILL\n"
    assert (job / "processes/0.1/log.txt").read_text() == "trainer 1 of 2\n" * 2
    assert "Worker 1 is started again (failure 1 of 2)" in (job / "log.txt").read_text()


def test_trainers_that_die_again_and_again_fail_the_job_with_the_number(world: World) -> None:
    job = world.submit("fails", f"entry: '{SERVE}exit 3'\nparallelism: 2\nfaulttolerant: true\n{NEEDS}")
    assert world.ended(job) == "FAILED"
    assert "exit code 3 (failure 3; at most 2 are made up for)" in (job / "why").read_text()


def test_an_elastic_job_grows_when_another_ends_and_shrinks_when_one_waits(world: World) -> None:
    alone = "groups: [{name: w, command: sleep 1000, resources: {memory: 256MiB}}]\n"
    first = world.submit("first", alone)
    wait_until(lambda: (first / "state").read_text() == "RUNNING\n")
    entry = f"entry: '{SERVE}exec sleep 1000'\nmin_instance: 1\nmax_instance: 3\npsmemory: 64Mi\npservers: 1\n"
    job = world.submit("elastic", f"{entry}memory: 128Mi\n")
    wait_until(lambda: states(job) == ["RUNNING", "WAITING", "WAITING"])
    (first / "ctl").write_text("kill\n")
    wait_until(lambda: states(job) == ["RUNNING"] * 3)
    second = world.submit("second", alone)
    wait_until(lambda: (second / "state").read_text() == "RUNNING\n")
    assert states(job) == ["RUNNING", "CANCELLED", "CANCELLED"]
    assert (job / "state").read_text() == "RUNNING\n"
    (second / "ctl").write_text("kill\n")
    wait_until(lambda: states(job) == ["RUNNING"] * 3)
    assert (job / "processes/0.2/log.txt").read_text() == "trainer 2 of 3\n" * 2
    (job / "ctl").write_text("kill\n")
    assert world.ended(job) == "CANCELLED"
