"""The main job, end to end: mount, cp a spec, cat its log; and what happens when things go wrong on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, Box, box, is_mounted, wait_until, with_own_mounts
from integration.engine import docker_client, engine, python_image
from integration.submitting import job_numbers, spec_of, submit

DEMO_JOB = Path(__file__).parent.parent / "script" / "demo-job"
SPEC = "command: echo hi\n"
BAD_SPECS = {
    "YAML error": ("command: [a, b\n", r"line 1, column \d+: .*bracket"),
    "unknown key": ("comand: x\n", r"line 1, column 1: .*did you mean command"),
    "malformed image": ("command: x\nimage: Foo:Bar:1\n", r"line 2, column 8: .*no image name; write it like"),
    "wrong type": ("command: x\npriority: high\n", r"line 2, column 11: expected a whole number"),
}


@pytest.fixture(scope="module")
def docker() -> Iterator[tuple[str, str]]:
    """Give the address of an engine and an image with Python that was made on the spot."""
    with engine() as url, docker_client(url) as client:
        yield url, python_image(client)


@pytest.fixture(scope="module")
def world(docker: tuple[str, str]) -> Iterator[Box]:
    """Give a datacenter with one node, which has both runtimes, and a mount."""
    with box() as made:
        made.start_server()
        made.start_node(docker=docker[0])
        made.mount()
        yield made


def spec_for(command: str, image: str | None = None) -> str:
    return spec_of(command) if image is None else spec_of(command, image=image)


# ---- the main job


@pytest.mark.parametrize("runtime", ["docker", "sandbox"])
def test_a_model_is_trained_on_a_real_data_set_through_the_mount(world: Box, docker, runtime: str):
    home = world.dc / "home/demo" / runtime
    home.mkdir()
    for name in ("train.py", "digits.csv.gz"):
        shutil.copy(DEMO_JOB / name, home)
    fewer = "import train; train.EPOCHS = 5; train.main()"  # those of the tour are all done by its own test
    job = {"command": f"cd \"$USER_DIR/{runtime}\" && exec python3 -c '{fewer}'"}
    if runtime == "docker":
        job["image"] = docker[1]
    (world.root / "digits.yaml").write_text(json.dumps(job) + "\n")
    done = world.sh(f"cp {world.root}/digits.yaml jobs/{runtime}.yaml && cat jobs/{runtime}/log", timeout_s=90)
    assert done.returncode == 0, done.stderr
    epochs = re.findall(r"\[worker 0\] epoch +(\d+) +loss [\d.]+ +accuracy [\d.]+", done.stdout)
    assert [int(epoch) for epoch in epochs] == [1, 2, 3, 4, 5], done.stdout
    assert "[worker 0] Worker 0 ended with exit code 0" in done.stdout
    assert (world.dc / "jobs" / runtime / "exit_code").read_text() == "0\n"
    assert json.loads((home / "metrics.json").read_text())["accuracy"] > 0.9
    assert (home / "model.json").stat().st_size > 0
    assert (home / "model.json").stat().st_uid == os.getuid()


@pytest.mark.parametrize("runtime", ["docker", "sandbox"])
def test_the_log_streams_while_the_job_runs_and_a_kill_ends_both(world: Box, docker, runtime: str):
    submit(
        world, f"live-{runtime}", spec_for("echo begin; sleep 60; echo end", docker[1] if runtime == "docker" else None)
    )
    reader = subprocess.Popen(["cat", str(world.dc / f"jobs/live-{runtime}/log")], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    for line in reader.stdout:
        if "begin" in line:
            break
    state = world.dc / f"jobs/live-{runtime}/state"
    assert state.read_text() == "RUNNING\n"
    assert world.sh(f"echo kill > jobs/live-{runtime}/ctl").returncode == 0
    rest, _ = reader.communicate(timeout=60)
    assert "end\n" not in rest
    assert state.read_text() == "CANCELLED\n"
    again = world.sh(f"echo kill > jobs/live-{runtime}/ctl")
    assert again.returncode == 1
    assert "busy" in again.stderr


def test_a_job_runs_as_its_owner_and_sees_nothing_but_its_domains(world: Box, docker):
    for runtime, image in (("docker", docker[1]), ("sandbox", None)):
        submit(world, f"own-{runtime}", spec_for("id -u; ls /pfs/dc1 /pfs/dc1/jobs; touch /pfs/dc1/shared/x", image))
        text = world.sh(f"cat jobs/own-{runtime}/log").stdout
        lines = [line.split("[worker 0] ", 1)[1] for line in text.splitlines() if "[worker 0] " in line]
        assert "200001" in lines if os.geteuid() == 0 else True
        assert {"home", "jobs", "shared"} <= set(lines)
        number = os.readlink(world.dc / f"jobs/own-{runtime}")
        assert [line for line in lines if line.isdigit() and line != "200001"] == [number]
        assert "Read-only file system" in text
        assert (world.dc / f"jobs/own-{runtime}/exit_code").read_text() != "0\n"


# ---- bad input


@pytest.mark.parametrize("what", BAD_SPECS)
def test_a_bad_spec_fails_cp_with_a_place_and_a_cure_and_makes_no_job(world: Box, what: str):
    text, says = BAD_SPECS[what]
    before = job_numbers(world)
    (world.root / "bad.yaml").write_text(text)
    done = world.sh(f"cp {world.root}/bad.yaml jobs/bad.yaml")
    assert done.returncode != 0
    assert "Invalid argument" in done.stderr
    assert re.search(says, (world.dc / "jobs/bad.yaml.error").read_text())
    assert job_numbers(world) == before


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line that a failed command said."""
    assert done.returncode not in (0, 70)
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def with_config(world: Box, text: str) -> dict[str, str]:
    path = world.root / "other-config"
    path.write_text(text)
    return {**world.env, "PADDLE_CONFIG": str(path)}


def test_every_way_in_which_a_mount_cannot_be_is_told_in_one_line(world: Box):
    empty, full = world.root / "empty", world.root / "full"
    empty.mkdir()
    full.mkdir()
    (full / "x").touch()

    def mount(point: Path, config: str | None = None) -> str:
        env = None if config is None else with_config(world, config)
        return one_line(world.run("paddle", "mount", str(point), env=env))

    entry = "dc1: {{username: demo, token: {}, endpoint: '{}'}}\n"
    assert "does not accept the token" in mount(empty, entry.format("wrong", world.url))
    assert "Connection refused" in mount(empty, entry.format(world.token, "http://127.0.0.1:9"))
    assert "not empty" in mount(full)
    assert "mkdir" in mount(world.root / "absent")
    assert "not a directory" in mount(full / "x").lower()
    assert "already" in mount(world.mountpoint)
    assert "other-config, line 2" in mount(empty, "dc1: [\n")
    assert "has no token" in mount(empty, "dc1: {username: demo, endpoint: 'http://x'}\n")
    missing = {**world.env, "PADDLE_CONFIG": str(world.root / "none")}
    assert "there is no configuration" in one_line(world.run("paddle", "mount", str(empty), env=missing))
    assert not is_mounted(empty)


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev/fuse takes root")
def test_a_machine_without_fuse_is_told_in_one_line(world: Box):
    point = world.root / "nofuse"
    point.mkdir()
    hide = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
    script = f"{hide} && exec '{BIN}/paddle' mount '{point}'"
    done = subprocess.run(
        with_own_mounts(script), env=world.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert "no FUSE" in one_line(done)


def test_commands_without_a_server_or_with_a_wrong_job_say_so_in_one_line(world: Box):
    entry = f"dc1: {{username: demo, token: {world.token}, endpoint: 'http://127.0.0.1:9'}}\n"
    away = with_config(world, entry)
    assert "127.0.0.1:9" in one_line(world.run("paddle", "get", "jobs", env=away))
    assert "there is no job 'nonesuch'" in one_line(world.run("paddle", "logs", "nonesuch"))
    assert "there is no job '99999'" in one_line(world.run("paddle", "kill", "99999"))


def test_the_server_says_in_one_line_why_it_does_not_start(world: Box):
    absent = world.run("jobd", "serve", "--data-root", str(world.root / "nothing"))
    assert "jobd init" in one_line(absent)
    second = world.run("jobd", "serve", "--data-root", str(world.data), "--port", "0")
    assert "another jobd serves" in one_line(second)
    again = world.run("jobd", "init", "--data-root", str(world.data))
    assert "already" in one_line(again)


# ---- the small wrappers


def test_paddle_does_what_the_files_do(world: Box):
    spec = world.root / "wrapped.yaml"
    spec.write_text(spec_of("echo out; exit 3"))
    done = world.run("paddle", "submit", str(spec), "--log")
    assert done.returncode == 3
    assert "[worker 0] out\n" in done.stdout
    assert world.run("paddle", "submit", str(spec), "--wait").returncode == 3
    assert world.run("paddle", "logs", "-f", "wrapped").stdout.count("[worker 0] out\n") == 1
    spec.write_text(spec_of("sleep 60"))
    number = world.run("paddle", "submit", str(spec)).stdout.split()[1]
    listed = world.run("paddle", "get", "jobs", "-o", "wide").stdout
    assert re.search(rf"^{number} +wrapped +demo +(STARTING|RUNNING) ", listed, re.MULTILINE)
    assert world.run("paddle", "kill", "wrapped").returncode == 0
    assert world.sh(f"cat jobs/{number}/wait").stdout == "143\n"
    assert number not in world.run("paddle", "get", "jobs", "-q").stdout.split()
    all_of_them = world.run("paddlecloud", "get", "jobs", "-a", "-o", "wide").stdout
    assert re.search(rf"^{number} .* CANCELLED ", all_of_them, re.MULTILINE)
    assert re.search(r"^n0 +ONLINE +\d+ ", world.run("paddle", "get", "nodes").stdout, re.MULTILINE)


def test_pit_shows_and_stops_jobs(world: Box):
    number = submit(world, "pitted", spec_of("echo out; sleep 60"))
    wait_until(lambda: " RUN " in world.run("pit", "status").stdout)
    report = world.run("pit", "status").stdout
    assert report.startswith("   JOB   S SINCE        UC% UM% USER       TITLE                RESOURCE\n")
    assert re.search(rf"^ +{number} RUN 00d 00:00:\d\d   0   0 demo       pitted +n0\[\]$", report, re.MULTILINE)
    done = world.run("pit", "stop", number)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "[worker 0] out\n" in world.run("pit", "log", number).stdout


# ---- everything is killed once


def test_a_drop_that_was_acknowledged_survives_a_kill_of_the_server_and_runs_once():
    with box() as made:
        made.start_server()
        made.mount()
        acknowledged = []
        for number in range(6):
            (made.root / "j.yaml").write_text(SPEC)
            assert made.sh(f"cp {made.root}/j.yaml jobs/j{number}.yaml").returncode == 0
            acknowledged.append(f"j{number}")
            assert made.end("server", signal.SIGKILL) == -signal.SIGKILL
            made.start_server()
        assert sorted(job_numbers(made), key=int) == [str(number) for number in range(1, 7)]
        made.start_node()
        for name in acknowledged:
            assert made.sh(f"cat jobs/{name}/wait").stdout == "0\n"
            assert made.sh(f"cat jobs/{name}/log").stdout.count("[worker 0] hi\n") == 1
        assert len(job_numbers(made)) == 6


# until there is a file `enough`
COUNT = 'i=0; while [ ! -e "$SRC_DIR/enough" ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 5'


def numbers_of(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\[worker 0\] (\d+)$", text, re.MULTILINE)]


def enough(world: Box, name: str) -> None:
    (world.data / "jobs" / os.readlink(world.dc / "jobs" / name) / "data/src/enough").touch()


@pytest.mark.parametrize("runtime", ["docker", "sandbox"])
def test_a_job_goes_on_when_its_nodes_daemon_is_killed(world: Box, docker, runtime: str):
    submit(world, f"count-{runtime}", spec_for(COUNT, docker[1] if runtime == "docker" else None))
    log = world.dc / f"jobs/count-{runtime}/log"
    for _ in range(2):
        seen = log.with_name("log.txt").read_bytes().count(b"\n")
        wait_until(lambda seen=seen: log.with_name("log.txt").read_bytes().count(b"\n") > seen + 20)
        world.end("n0", signal.SIGKILL)
        time.sleep(0.3)
        assert log.with_name("state").read_text() == "RUNNING\n"
        world.start_node(docker=docker[0])
    enough(world, f"count-{runtime}")
    numbers = numbers_of(world.sh(f"cat jobs/count-{runtime}/log").stdout)
    assert len(numbers) > 40
    assert numbers == list(range(1, len(numbers) + 1))
    assert log.with_name("exit_code").read_text() == "5\n"


def test_who_waits_for_a_log_goes_on_over_a_kill_of_the_server(world: Box):
    submit(world, "over", spec_of(COUNT))
    reader = subprocess.Popen(["cat", str(world.dc / "jobs/over/log")], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    while "[worker 0] 50\n" not in reader.stdout.readline():
        continue
    world.end("server", signal.SIGKILL)
    world.start_server()
    enough(world, "over")
    rest = reader.stdout.read()  # communicate() would leave out what readline() has read ahead
    reader.stdout.close()
    assert reader.wait(timeout=60) == 0
    numbers = numbers_of(rest)
    assert numbers == list(range(51, 51 + len(numbers)))
    assert numbers_of(world.sh("cat jobs/over/log").stdout) == list(range(1, 51 + len(numbers)))
    assert (world.dc / "jobs/over/exit_code").read_text() == "5\n"


def test_term_ends_the_server_while_somebody_waits_for_a_log(world: Box):
    submit(world, "patient", spec_of("sleep 60"))
    reader = subprocess.Popen(["cat", str(world.dc / "jobs/patient/log")], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    assert world.end("server") == 0
    world.start_server()
    assert world.sh("echo kill > jobs/patient/ctl").returncode == 0
    reader.communicate(timeout=60)


def test_an_umount_leaves_no_process_and_no_mount():
    with box() as made:
        made.start_server()
        made.mount()
        made.umount()
        assert not is_mounted(made.mountpoint)
        mine = str(made.mountpoint).encode()
        left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if mine in p.read_bytes()]
        assert left == []
        done = made.run("paddle", "umount", str(made.mountpoint))
        assert "no pfs is mounted here" in one_line(done)
