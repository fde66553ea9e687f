"""The rules of the tree, on a real mount: what no test beside the part that it is about shows already.

RULES tells for each rule where it is shown.
"""

import errno
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.jobd import jobd
from fuseclient.status import ATTRIBUTE
from integration.bench.finished import fill
from integration.box import Box, box, is_mounted, wait_until
from integration.submitting import job_numbers, spec_of, submit
from tests.functional.posix import errno_of

ROOT = Path(__file__).parent.parent
SPEC = "command: 'true'\nhold: true\n"
QUIET = 'echo begun; while [ ! -e "$SRC_DIR/enough" ]; do sleep 0.1; done'
LONG_OVER, OF_LATE = 40, 4  # jobs that ended before the server was started; those of them that are listed
STREAMS = {"log", "wait"}

RULES = {
    1: (
        "integration/test_rules.py::test_every_size_is_true_and_only_a_live_stream_has_none",
        "integration/test_mount_fs.py::test_a_live_stream_has_no_size",
        "tests/jobd/files/test_tree.py::test_time_alone_changes_no_text",
        "tests/jobd/files/test_tree.py::test_every_path_that_a_listing_names_is_there_as_the_same_thing_and_shows_its_size",
    ),
    2: (
        "integration/test_rules.py::test_a_log_is_a_pipeline_and_the_same_bytes_as_its_text",
        "integration/test_story.py::test_the_log_streams_while_the_job_runs_and_a_kill_ends_both",
        "integration/test_mount_fs.py::test_a_waiting_reader_is_ended",
        "integration/test_mount_fs.py::test_a_reader_that_will_not_wait_is_told_to_come_again",
        "integration/test_streams.py::test_a_log_is_read_to_its_end_by_who_never_waits_in_a_read",
        "integration/test_streams.py::test_who_reads_quiet_logs_asks_the_server_nothing",
        "integration/test_streams.py::test_with_nostream_whoever_reads_everything_gets_what_there_is",
        "integration/test_crowd.py::test_so_many_wait_on_one_mount_and_those_beyond_are_refused_alone",
        "integration/test_crowd.py::test_so_many_files_are_open_and_one_more_is_refused_until_one_is_closed",
        "integration/test_crowd.py::test_so_many_files_are_polled_and_one_more_is_an_error_that_harms_no_other",
        "integration/test_tools.py::test_tail_follows_a_job_that_runs",
        "integration/test_tools.py::test_grep_searches_all_jobs_and_waits_for_none",
    ),
    3: (
        "integration/test_rules.py::test_what_is_no_closing_of_a_whole_new_text_submits_nothing",
        "integration/test_rules.py::test_one_opening_is_one_job",
        "integration/test_rules.py::test_a_shell_hears_of_a_spec_that_nothing_can_cure_and_a_good_one_takes_the_error_away",
        "integration/test_rules.py::test_over_http_a_key_is_one_job_and_half_a_body_is_none",
        "integration/test_tools.py::test_a_program_that_writes_a_spec_makes_one_job",
        "integration/test_drops.py::test_a_writer_that_a_signal_ends_leaves_no_job",
        "integration/test_refusals.py::test_what_nothing_cures_is_refused_by_write",
        "integration/test_refusals.py::test_what_is_whole_and_wrong_is_refused_by_close",
        "integration/test_refusals.py::test_what_somebody_may_not_ask_for_is_refused_by_close_as_such",
        "integration/test_refusals.py::test_what_is_wrong_is_refused_by_rename_and_keeps_its_name",
        "integration/test_refusals.py::test_what_only_its_end_shows_to_be_wrong_is_told_in_error_alone",
        "tests/jobd/files/test_drafts.py::test_a_drop_is_named_by_its_first_character_and_its_ending",
    ),
    4: (
        "integration/test_rules.py::test_every_other_name_is_scratch_and_some_names_are_the_servers",
        "integration/test_rules.py::test_scratch_has_a_most",
        "integration/test_tools.py::test_an_editor_that_saves_makes_one_more_job",
        "integration/test_tools.py::test_nano_saves_one_job",
        "integration/test_scratch.py::test_scratch_is_gone_after_a_day_and_neither_a_drop_nor_what_is_younger",
        "tests/jobd/store/test_drafts.py::test_scratch_is_swept_by_when_it_was_written_and_not_by_the_time_it_bears",
    ),
    5: (
        "integration/test_tools.py::test_whoever_looks_at_everything_comes_to_an_end_and_changes_nothing",
        "integration/test_tools.py::test_nothing_but_ctl_harms_a_job_that_is_not_over",
        "integration/test_tools.py::test_a_job_that_is_over_is_thrown_away_by_rmdir_and_not_by_rm",
        "integration/test_tools.py::test_removing_a_drop_removes_no_job",
        "integration/test_paddle.py::test_a_job_that_was_removed_is_brought_back_with_what_it_left",
    ),
    6: (
        "integration/test_rules.py::test_ctl_is_obeyed_in_write_and_the_shell_hears_of_what_is_wrong",
        "integration/test_rules.py::test_all_lines_of_a_write_are_understood_before_the_first_is_done",
        "integration/test_rules.py::test_signals_and_another_attempt",
        "integration/test_ctl.py::test_a_job_that_is_being_killed_may_be_killed_again_and_one_that_is_over_may_not",
        "integration/test_ctl.py::test_what_does_not_heed_a_kill_is_ended_after_its_grace",
        "integration/test_ctl.py::test_a_job_that_is_given_more_time_outlives_its_first_limit",
        "integration/test_ctl.py::test_a_waiting_job_is_held_by_somebody_until_it_is_released",
        "integration/test_ctl.py::"
        "test_an_ordinary_user_hears_that_a_job_of_a_fellow_and_a_node_are_not_theirs_to_command",
        "tests/jobd/test_ctl.py::test_commands",
        "tests/jobd/files/test_control.py::test_no_line_is_obeyed_where_a_later_one_is_refused",
        "tests/jobd/files/test_control.py::test_a_ctl_has_one_mode_for_all_and_its_write_tells_who_may_not_command",
    ),
    7: (
        "integration/test_streams.py::test_python_waits_for_a_state_without_a_loop",
        "integration/test_streams.py::test_c_waits_for_a_state_without_a_loop",
        "integration/test_streams.py::test_c_waits_for_a_line_of_a_status_without_a_loop",
        "integration/test_streams.py::test_a_text_of_a_job_is_ready_until_this_opening_has_read_it_as_it_is_now",
    ),
    8: (
        "integration/test_rules.py::test_times_tell_the_last_change_and_modes_what_one_may_do",
        "tests/jobd/files/test_control.py::"
        "test_what_is_told_of_a_job_has_the_time_of_its_last_event_and_its_state_that_of_its_last_state",
    ),
    9: (
        "integration/test_rules.py::test_what_ended_long_ago_is_not_listed_and_can_be_entered",
        "tests/jobd/store/test_jobs.py::test_a_listing_shows_what_is_active_and_what_ended_of_late",
        "tests/jobd/store/test_jobs.py::test_no_question_of_every_day_looks_at_all_jobs",
    ),
    10: (
        "integration/test_rules.py::test_a_stranger_sees_of_a_job_what_everybody_may_and_nothing_else",
        "tests/jobd/files/test_tree.py::test_the_queue_names_the_waiting_jobs_in_order_with_their_reasons_to_everybody",
        "tests/jobd/files/test_tree.py::test_each_gpu_of_a_node_tells_what_it_is_and_which_job_has_it",
        "integration/test_rules.py::test_drops_scratch_names_and_errors_are_ones_own",
        "integration/test_rules.py::test_who_may_read_a_job_may_not_command_it",
        "tests/jobd/files/test_rights.py::test_who_may_do_what_with_every_file",
        "tests/jobd/files/test_apart.py::test_what_bob_does_changes_nothing_of_anns",
    ),
    11: (
        "integration/test_away.py::test_over_a_long_cut_and_a_restart_what_is_known_is_read_and_the_rest_fails_in_time",
        "integration/test_away.py::test_a_spec_that_is_closed_during_a_short_cut_is_one_job",
        "integration/test_away.py::test_over_a_short_cut_everything_just_waits",
        "integration/test_two_mounts.py::test_open_files_and_waiting_writes_outlive_a_restart_of_the_server",
        "integration/test_story.py::test_who_waits_for_a_log_goes_on_over_a_kill_of_the_server",
        "integration/test_story.py::test_a_drop_that_was_acknowledged_survives_a_kill_of_the_server_and_runs_once",
    ),
    12: (
        "integration/test_rules.py::test_how_a_job_ended_is_one_number",
        "tests/jobd/files/test_tree.py::test_how_each_process_ended_stays_to_be_read",
    ),
}


def test_every_rule_is_shown() -> None:
    assert sorted(RULES) == list(range(1, 13))
    for place in (place for places in RULES.values() for place in places):
        file, _, name = place.partition("::")
        assert f"\ndef {name}(" in (ROOT / file).read_text(), f"there is no {place}"


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with a node, a mount, the jobs `quiet`, which runs, `over` and `held`, and many before them."""
    with box() as made:
        fill(made.data, LONG_OVER, recent=OF_LATE)
        made.start_server()
        made.start_node()
        made.mount()
        submit(made, "quiet", spec_of(QUIET))
        submit(made, "over", spec_of("echo said; exit 3"))
        submit(made, "held", SPEC)
        wait_until(lambda: b"begun\n" in read(made, "jobs/quiet/log.txt"))
        assert read(made, "jobs/over/wait") == b"3\n"
        yield made


@pytest.fixture(scope="module")
def ann(world: Box) -> Iterator[Path]:
    """The datacenter as somebody else has it mounted."""
    told = world.run("jobd", "adduser", "--data-root", str(world.data), "ann").stdout
    config, point = world.root / "ann-config", world.root / "ann"
    config.write_text(told[told.index("dc1:") :])
    point.mkdir()
    mounted = world.run("paddle", "mount", str(point), env={**world.env, "PADDLE_CONFIG": str(config)})
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield point / "dc1"
    finally:
        world.run("paddle", "umount", str(point))
        if is_mounted(point):
            subprocess.run(["umount", "-l", str(point)], check=False)


def read(world: Box, path: str) -> bytes:
    return (world.dc / path).read_bytes()


def number_of(world: Box, name: str) -> str:
    return os.readlink(world.dc / "jobs" / name)


def status(world: Box, name: str) -> dict[str, str]:
    """Return the facts of a job."""
    lines = read(world, f"jobs/{name}/status").decode().splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def nothing_new(world: Box, script: str) -> None:
    """Run a shell script that must not fail, and must not make a job."""
    before = job_numbers(world)
    done = world.sh(script)
    assert done.returncode == 0, done.stderr
    settled(world)
    assert job_numbers(world) == before


def settled(world: Box) -> None:
    """Wait until the server has heard of everything that was closed."""
    wait_until(lambda: json.loads(os.getxattr(world.mountpoint, ATTRIBUTE))["open_files"] == 0)


# ---- 1: sizes


def test_every_size_is_true_and_only_a_live_stream_has_none(world: Box) -> None:
    live = {number_of(world, name) for name in ("quiet", "held")}

    def is_true(path: Path) -> bool:
        where = path.relative_to(world.dc).parts
        if where[0] == "jobs" and where[1] in live and where[-1] in STREAMS:
            return path.stat().st_size == 0
        return path.stat().st_size == len(path.read_bytes())

    for folder, _, names in os.walk(world.dc):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not path.is_symlink():
                wait_until(lambda path=path: is_true(path))  # type: ignore[misc]
    assert (world.dc / "jobs/over/log").stat().st_size > 0


# ---- 2: streams


def test_a_log_is_a_pipeline_and_the_same_bytes_as_its_text(world: Box) -> None:
    (world.root / "job.yaml").write_text("command: for i in 1 2 3; do echo $i; sleep 0.1; done\n")
    done = world.sh(f"cp {world.root}/job.yaml jobs/ && cat jobs/job/log && cat jobs/job/exit_code")
    assert re.findall(r"\[worker 0\] (\d)$", done.stdout, re.MULTILINE) == ["1", "2", "3"]
    assert done.stdout.endswith("\n0\n")
    assert read(world, "jobs/job/log") == read(world, "jobs/job/log.txt")
    opened = os.open(world.dc / "jobs/quiet/log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert os.read(opened, 1 << 16) == read(world, "jobs/quiet/log.txt")
        assert errno_of(lambda: os.read(opened, 100)) == errno.EAGAIN
    finally:
        os.close(opened)


# ---- 3 and 4: drops and scratch


def test_what_is_no_closing_of_a_whole_new_text_submits_nothing(world: Box) -> None:
    path = world.dc / "jobs/fsynced.yaml"
    before = job_numbers(world)
    with open(path, "w") as file:
        file.write(SPEC)
        file.flush()
        os.fsync(file.fileno())
        assert job_numbers(world) == before
    assert len(job_numbers(world) - before) == 1
    nothing_new(
        world,
        "cd jobs; touch fsynced.yaml empty.yaml; chmod 600 fsynced.yaml; : > empty.json; cat fsynced.yaml > /dev/null;"
        "mv fsynced.yaml moved.yaml; cp moved.yaml moved.tmp; ln -s moved.yaml linked.yaml;"
        "exec 3>> moved.yaml; exec 3>&-",
    )
    assert read(world, "jobs/moved.yaml").decode() == SPEC


def test_one_opening_is_one_job(world: Box) -> None:
    before = job_numbers(world)
    with open(world.dc / "jobs/twice.json", "wb", buffering=0) as file:
        file.write(b'{"command": "true", "hold": true}')
        os.close(os.dup(file.fileno()))
        assert job_numbers(world) == before  # it is still open for writing
    assert len(job_numbers(world) - before) == 1
    with open(world.dc / "jobs/twice.json", "wb") as file:
        file.write(b'{"command": "true", "hold": true}\n')
    assert len(job_numbers(world) - before) == 2


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shell_hears_of_a_spec_that_nothing_can_cure_and_a_good_one_takes_the_error_away(
    world: Box, shell: str
) -> None:
    before = job_numbers(world)
    drop, error = f"jobs/bad-{shell}.yaml", world.dc / f"jobs/bad-{shell}.yaml.error"
    assert world.sh(f"{shell} -c 'echo \"comand: x\" > {drop}'").returncode != 0
    assert "line 1, column 1" in error.read_text()
    assert job_numbers(world) == before
    assert world.sh(f"{shell} -c 'echo \"{{command: x, hold: true}}\" > {drop}'").returncode == 0
    assert not error.exists()
    assert len(job_numbers(world) - before) == 1


def test_over_http_a_key_is_one_job_and_half_a_body_is_none(world: Box) -> None:
    before = job_numbers(world)
    url = f"{world.url}/api/v1/fs/jobs/web.yaml"
    headers = {"Authorization": f"Bearer {world.token}"}
    answers = [httpx.put(url, headers=headers | {"Idempotency-Key": "k"}, content=SPEC) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert len(job_numbers(world) - before) == 1

    def half() -> Iterator[bytes]:
        yield SPEC[:17].encode()
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        httpx.put(url, headers=headers | {"Content-Length": str(len(SPEC))}, content=half())
    assert httpx.get(f"{world.url}/api/v1/fs/me", headers=headers).status_code == 200
    assert len(job_numbers(world) - before) == 1


SCRATCH = (
    ".a.yaml",
    "a.yaml~",
    ".#a.yaml",
    "#a.yaml#",
    "sedAbCdEf",
    "x.tmp",
    "x.yaml.tmp",
    ".x.yaml.AbCdEf",
    "5a",
    "x",
)


def test_every_other_name_is_scratch_and_some_names_are_the_servers(world: Box) -> None:
    before = job_numbers(world)
    for name in SCRATCH:
        (world.dc / "jobs" / name).write_text(SPEC)
        assert (world.dc / "jobs" / name).read_text() == SPEC
    (world.dc / "jobs/.#lock").symlink_to("somebody@somewhere.1")
    assert {*SCRATCH, ".#lock"} <= set(os.listdir(world.dc / "jobs"))
    for name in ("17000", "4913", "by-colour", "x.yaml.error"):
        assert errno_of(lambda name=name: (world.dc / "jobs" / name).write_text(SPEC)) == errno.EPERM
        assert errno_of(lambda name=name: (world.dc / "jobs/x.tmp").rename(world.dc / "jobs" / name)) == errno.EPERM
    for name in (*SCRATCH, ".#lock"):
        (world.dc / "jobs" / name).unlink()
    assert job_numbers(world) == before
    assert not {*SCRATCH, ".#lock"} & set(os.listdir(world.dc / "jobs"))


def test_scratch_has_a_most(world: Box) -> None:
    path = world.dc / "jobs/large.tmp"
    path.write_bytes(bytes(1 << 20))
    assert errno_of(lambda: path.write_bytes(bytes((1 << 20) + 1))) == errno.EFBIG
    path.unlink()


# ---- 6: commands


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_ctl_is_obeyed_in_write_and_the_shell_hears_of_what_is_wrong(world: Box, shell: str) -> None:
    def echo(words: str, name: str) -> int:
        return world.sh(f"{shell} -c 'echo {words} > jobs/{name}/ctl'").returncode

    submit(world, f"told-{shell}", SPEC)
    assert echo("priority 30", f"told-{shell}") == 0
    assert status(world, f"told-{shell}")["priority"] == "30"
    for wrong in ("kil", "priority high", "kill it"):
        assert echo(wrong, f"told-{shell}") != 0, wrong
    assert status(world, f"told-{shell}")["state"] == "WAITING"
    assert echo("kill", f"told-{shell}") == 0
    assert read(world, f"jobs/told-{shell}/wait") != b""
    assert echo("kill", f"told-{shell}") != 0
    assert errno_of(lambda: (world.dc / "jobs/over/ctl").write_text("kill\n")) == errno.EBUSY
    assert errno_of(lambda: (world.dc / "jobs/held/ctl").write_text("dance\n")) == errno.EINVAL


def test_all_lines_of_a_write_are_understood_before_the_first_is_done(world: Box) -> None:
    submit(world, "lines", SPEC)
    ctl = os.open(world.dc / "jobs/lines/ctl", os.O_RDWR)
    try:
        assert b"extend TIME" in os.pread(ctl, 1 << 16, 0)
        assert errno_of(lambda: os.write(ctl, b"priority 20\nkil\n")) == errno.EINVAL
        assert status(world, "lines")["priority"] == "50"
        os.write(ctl, b"priority 19\npriority 20\n")
        assert (status(world, "lines")["priority"], status(world, "lines")["state"]) == ("20", "WAITING")
        os.pwrite(ctl, b"priority 21\n", 4096)  # where it is written does not count
        assert status(world, "lines")["priority"] == "21"
    finally:
        os.close(ctl)
    assert stat.S_IMODE((world.dc / "jobs/lines/ctl").stat().st_mode) == 0o600


def test_signals_and_another_attempt(world: Box) -> None:
    submit(world, "obeys", spec_of("trap 'echo heard' USR1; echo up; while :; do sleep 0.05; done"))
    ctl, log = world.dc / "jobs/obeys/ctl", world.dc / "jobs/obeys/log.txt"
    wait_until(lambda: b"up\n" in log.read_bytes())
    ctl.write_text("signal USR1\n")
    wait_until(lambda: b"heard\n" in log.read_bytes())
    ctl.write_text("requeue\n")
    wait_until(lambda: status(world, "obeys")["attempt"] == "2")
    wait_until(lambda: log.read_bytes().count(b"up\n") == 2)
    ctl.write_text("kill\n")
    assert read(world, "jobs/obeys/wait") == b"143\n"


# ---- 8 and 9: times, modes, and how many


def test_times_tell_the_last_change_and_modes_what_one_may_do(world: Box) -> None:
    names = [submit(world, name, SPEC) for name in ("first", "second", "third")]
    (world.dc / "jobs/first/ctl").write_text("kill\n")
    assert read(world, "jobs/first/wait")
    listed = [name for name in world.sh("ls -t jobs").stdout.split() if name in names]
    assert listed == [names[0], names[2], names[1]]
    over = world.dc / "jobs" / number_of(world, "over")
    told = {name: (over / name).stat() for name in ("", "state", "ctl", "log", "spec.yaml", "exit_code")}
    assert {name: stat.S_IMODE(info.st_mode) for name, info in told.items()} == {
        "": 0o555, "state": 0o444, "ctl": 0o600, "log": 0o444, "spec.yaml": 0o444, "exit_code": 0o444
    }  # fmt: skip
    assert told[""].st_mtime_ns == told["state"].st_mtime_ns == told["exit_code"].st_mtime_ns
    assert {info.st_uid for info in told.values()} == {os.getuid()}
    assert status(world, "over")["user"] == "demo"


def test_what_ended_long_ago_is_not_listed_and_can_be_entered(world: Box) -> None:
    listed = {int(number) for number in job_numbers(world)}
    assert listed & set(range(1, LONG_OVER + 1)) == set(range(LONG_OVER - OF_LATE + 1, LONG_OVER + 1))
    for number in (1, 2, LONG_OVER // 2):
        assert read(world, f"jobs/{number}/exit_code") == b"0\n"
    assert not (world.dc / "jobs/1000000").exists()


# ---- 10: who sees what


def test_a_stranger_sees_of_a_job_what_everybody_may_and_nothing_else(world: Box, ann: Path) -> None:
    numbers = {number_of(world, name) for name in ("quiet", "over", "held")}
    assert not numbers & set(os.listdir(ann / "jobs"))
    for number in numbers:
        for path in (f"jobs/{number}", f"jobs/{number}/log", f"jobs/{number}/ctl"):
            assert errno_of((ann / path).stat) == errno.ENOENT
    held, quiet = number_of(world, "held"), number_of(world, "quiet")
    assert re.search(rf"^{quiet} +RUNNING .* demo .* quiet$", (ann / "status").read_text(), re.MULTILINE)
    assert re.search(rf"^{held} +WAITING .* demo .* held$", (ann / "status").read_text(), re.MULTILINE)
    assert world.sh("echo drain > nodes/n0/ctl").returncode == 0
    next_one = submit(world, "next", spec_of("true", title="Next one"))
    assert re.search(rf"^1 +{next_one} +demo .* Next one ", (ann / "queue").read_text(), re.MULTILINE)
    assert world.sh("echo resume > nodes/n0/ctl && cat jobs/next/wait").stdout == "0\n"
    status = world.run("pit", "status", env={**world.env, "PIT_CONFIG_DIR": str(pit_of_ann(world))}).stdout
    assert [word for word in ("quiet", "over", "held", "Next one") if f"{word} " not in status] == []


def pit_of_ann(world: Box) -> Path:
    """Make a folder from which `pit` asks as ann."""
    folder = world.root / "ann-pit"
    folder.mkdir()
    token = (world.root / "ann-config").read_text().partition("token: ")[2].split()[0]
    (folder / ".pitconnect.txt").write_text(f"{world.url}\n")
    (folder / ".pituser.txt").write_text(f"ann\n{token}\n")
    return folder


def test_the_audit_is_there_for_administrators_alone(world: Box, ann: Path) -> None:
    assert "audit" in os.listdir(world.dc)
    assert re.search(rf" demo \S+ job\.submit jobs/{number_of(world, 'held')} done ", (world.dc / "audit").read_text())
    assert errno_of((ann / "audit").stat) == errno.ENOENT
    assert "audit" not in os.listdir(ann)


def test_drops_scratch_names_and_errors_are_ones_own(world: Box, ann: Path) -> None:
    submit(world, "same", SPEC)
    (ann / "jobs/same.yaml").write_text(SPEC)
    assert os.readlink(ann / "jobs/same") != number_of(world, "same")
    (world.dc / "jobs/mine.tmp").write_text("x")
    with pytest.raises(OSError, match="Invalid"):
        (world.dc / "jobs/refused.yaml").write_text("comand: x\n")
    assert {"refused.yaml.error", "mine.tmp"} <= set(os.listdir(world.dc / "jobs"))
    listed = {name for name in os.listdir(ann / "jobs") if not name.isdigit() and not name.startswith("by-")}
    assert listed == {"same", "same.yaml"}


def test_who_may_read_a_job_may_not_command_it(world: Box, ann: Path) -> None:
    for name in ("ann", "demo"):
        jobd.main(["group", "add", "ml", name, "--data-root", str(world.data)], standalone_mode=False)
    number = submit(world, "shared", spec_of("true", hold=True))
    (world.dc / "jobs/shared/ctl").write_text("share ml\n")
    wait_until((ann / "jobs" / number).is_dir)
    assert (ann / f"jobs/{number}/state").read_text() == "WAITING\n"
    assert errno_of(lambda: (ann / f"jobs/{number}/ctl").write_text("kill\n")) == errno.EPERM
    assert read(world, "jobs/shared/state") == b"WAITING\n"


# ---- 12: exit codes

FIRST = 'while [ ! -e "$SRC_DIR/second" ]; do sleep 0.05; done; sleep 0.2; exit 5'
ENDS: dict[str, tuple[dict[str, object], int]] = {
    "well": ({"command": "exit 0"}, 0),
    "number": ({"command": "exit 42"}, 42),
    "signal": ({"command": "kill -SEGV $$"}, 128 + signal.SIGSEGV),
    "killed-by-signal": ({"command": "kill -KILL $$"}, 128 + signal.SIGKILL),
    "no-program": ({"command": ["no-such-program"]}, 127),
    "nothing-ran": ({"git": {"url": "file:///no/where", "ref": "x"}, "command": "true"}, 125),
    "first-ends-all": ({"groups": [{"name": "a", "command": "sleep 60"}, {"name": "b", "command": "exit 3"}]}, 3),
    "first-in-time": (
        {
            "on_error": "continue",
            "groups": [
                {"name": "a", "command": FIRST},
                {"name": "b", "command": "touch $SRC_DIR/second; exit 7"},
                {"name": "c", "command": "exit 0"},
            ],
        },
        7,
    ),
}


def test_how_a_job_ended_is_one_number(world: Box) -> None:
    for name, (spec, _) in ENDS.items():
        submit(world, name, json.dumps(spec) + "\n")
    found = {name: world.sh(f"cat jobs/{name}/wait jobs/{name}/exit_code").stdout for name in ENDS}  # given up in time
    assert found == {name: f"{code}\n{code}\n" for name, (_, code) in ENDS.items()}
