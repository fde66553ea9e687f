"""Programs that nobody wrote for us, at the jobs of a mount: each does what it does elsewhere, and none does harm.

Jobs that are only counted are on hold, so that nothing has to run. Of three that others look at one runs and counts
until it is told that it is enough, one is over, and one waits.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from integration.box import WAIT_S, Box, box, wait_until
from integration.submitting import job_numbers, spec_of, submit
from integration.test_programs import needs
from pfs.client.web import WebClient

HELD = "command: echo hi\nhold: true\n"
COUNT = 'i=0; while [ ! -e "$SRC_DIR/enough" ]; do i=$((i+1)); echo "number $i"; sleep 0.05; done'


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with a node, a mount, and the jobs 1 `live`, 2 `over` and 3 `held`."""
    with box() as made:
        made.start_server()
        made.start_node()
        made.mount()
        submit(made, "live", spec_of(COUNT))
        submit(made, "over", spec_of("echo found; exit 3"))
        submit(made, "held", HELD)
        wait_until(lambda: b"number 2\n" in (made.dc / "jobs/live/log.txt").read_bytes())
        assert (made.dc / "jobs/over/wait").read_text() == "3\n"
        yield made


def ok(world: Box, script: str, **words: object) -> str:
    """Run a shell script that must not fail; return what it prints."""
    done = world.sh(script.format(**words))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def one_more(world: Box, before: set[str]) -> str:
    """Return the text of the one job that there is beside those of before."""
    wait_until(lambda: job_numbers(world) != before)
    (new,) = job_numbers(world) - before
    return (world.dc / "jobs" / new / "spec.yaml").read_text()


def events(world: Box) -> list[str]:
    """Return what has happened to the three jobs."""
    return [(world.dc / "jobs" / number / "events").read_text() for number in ("1", "2", "3")]


# ---- who reads


@pytest.mark.parametrize(
    "follow", ["tail -n +1 -s 0.1 -f {}/log.txt", "tail -n +1 -s 0.1 -F {}/log.txt", "tail -n +1 -f {}/log"]
)
def test_tail_follows_a_job_that_runs(world: Box, follow: str) -> None:
    words = ["tail", "-n", "+1", *follow.format(world.dc / "jobs/live").split()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        found = [tail.stdout.readline().split("number ") for _ in range(2)]
        seen = len((world.dc / "jobs/live/log.txt").read_bytes().splitlines())
        while len(found) < seen + 3:  # beyond what there was when it began
            found.append(tail.stdout.readline().split("number "))
        tail.terminate()
    numbers = [int(words[1]) for words in found if len(words) == 2]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("follow", ["-f", "-F"])
def test_tail_follows_what_happens_to_a_job(world: Box, follow: str) -> None:
    job = world.dc / "jobs/live"
    words = ["tail", "-n", "+1", "-s", "0.1", follow, str(job / "events")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        for _ in (job / "events").read_text().splitlines():
            tail.stdout.readline()
        (job / "ctl").write_text("priority 60\n")
        (job / "ctl").write_text("priority 50\n")
        added = [tail.stdout.readline() for _ in range(2)]
        tail.terminate()
    assert added == (job / "events").read_text().splitlines(keepends=True)[-2:]


@needs("less")
def test_less_shows_a_log_and_follows_it(world: Box) -> None:
    env = {**world.env, "TERM": "xterm"}
    less = pexpect.spawn("less", ["+G", str(world.dc / "jobs/over/log")], env=env, timeout=WAIT_S)
    less.expect("found")
    less.send("q")
    less.expect(pexpect.EOF)
    less = pexpect.spawn("less", ["+F", str(world.dc / "jobs/live/log.txt")], env=env, timeout=WAIT_S)
    less.expect(r"number (\d+)")
    seen = (world.dc / "jobs/live/log.txt").read_text().splitlines()[-1].split()[-1]
    less.expect(rf"number {int(seen) + 1}\s")
    less.sendintr()
    less.send("q")
    less.expect(pexpect.EOF)


def test_grep_searches_all_jobs_and_waits_for_none(world: Box) -> None:
    found = ok(world, "grep -rl --include=log.txt -e found -e 'number 1$' jobs/1 jobs/2 jobs/3").split()
    assert found == [f"jobs/{each}log.txt" for each in ("1/", "1/processes/0.0/", "2/", "2/processes/0.0/")]
    done = world.sh("grep -rsl found jobs/1 jobs/2 jobs/3")  # it opens the streams, too, and does not wait for them
    assert {"jobs/2/log", "jobs/2/spec.yaml"} <= set(done.stdout.split())


def test_find_tells_jobs_by_what_is_in_them(world: Box) -> None:
    assert ok(world, "find jobs/1 jobs/2 jobs/3 -name exit_code -path '*[0-9]/exit_code'").split() == [
        "jobs/2/exit_code",
        "jobs/2/processes/0.0/exit_code",
    ]
    assert ok(world, "find jobs -maxdepth 2 -name state -exec grep -lx FAILED {{}} +").split() == ["jobs/2/state"]
    assert "jobs/2" in ok(world, "find jobs -maxdepth 1 -name '[0-9]*' -newer jobs/1/spec.yaml").split()
    assert "jobs/2" not in ok(world, "find jobs -maxdepth 1 -name '[0-9]*' -newer jobs/2").split()


MAKEFILE = """
all: jobs/make-a/exit_code jobs/make-b/exit_code
jobs/%/exit_code: {specs}/%.yaml
\tcp $< jobs/ && test "$$(cat jobs/$*/wait)" = 0
"""


@needs("make")
def test_make_runs_the_jobs_whose_specs_have_changed(world: Box, tmp_path: Path) -> None:
    for name in ("make-a", "make-b"):
        (tmp_path / f"{name}.yaml").write_text("command: 'true'\n")
    makefile = tmp_path / "Makefile"
    makefile.write_text(MAKEFILE.format(specs=tmp_path))
    before = job_numbers(world)
    ok(world, "make -j2 -f {makefile}", makefile=makefile)
    assert len(job_numbers(world) - before) == 2
    assert "Nothing to be done" in ok(world, "make -f {makefile}", makefile=makefile)
    assert len(job_numbers(world) - before) == 2
    (tmp_path / "make-b.yaml").write_text("command: exit 4\n")
    done = world.sh(f"make -f {makefile}")
    assert (done.returncode, "make-b" in done.stdout, "make-a" in done.stdout) == (2, True, False)
    assert len(job_numbers(world) - before) == 3


# ---- who looks at everything: nothing happens

# what a file manager does to draw its icons: it opens all that is not empty, and reads how it begins
LOOK = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    os.stat(folder)
    for name in names:
        path = os.path.join(folder, name)
        os.listxattr(path, follow_symlinks=False)
        if not os.path.islink(path) and os.stat(path).st_size:
            with open(path, "rb") as file:
                file.read(4096), file.seek(0, os.SEEK_END)
"""
WALKERS = {
    "a file manager": "{python} -c '{look}' .",
    "updatedb": "updatedb.plocate -U . -o {out}/db -l 0 --prunefs '' --prunepaths '' --prune-bind-mounts no "
    "&& plocate -d {out}/db -l 1 2/exit_code > /dev/null",
    "tar": "tar c -f {out}/tar . || test $? = 1",  # 1: a log has grown meanwhile
    "rsync": "rsync -a . {out}/copy",
}


@pytest.mark.parametrize("walker", WALKERS)
def test_whoever_looks_at_everything_comes_to_an_end_and_changes_nothing(
    world: Box, walker: str, tmp_path: Path
) -> None:
    if shutil.which(WALKERS[walker].split()[0].format(python=sys.executable, look="")) is None:
        pytest.skip("it is not installed")
    (world.dc / "home/demo/mine").write_text("mine\n")
    before = events(world), sorted(os.listdir(world.dc / "jobs"))
    ok(world, WALKERS[walker], python=sys.executable, look=LOOK, out=tmp_path)
    assert (events(world), sorted(os.listdir(world.dc / "jobs"))) == before
    assert (world.dc / "jobs/live/state").read_text() == "RUNNING\n"


@pytest.mark.parametrize(
    "way", ["tar c 1 2 3 live over held over.yaml | tar x -C {out}", "rsync -a 1 2 3 live over held over.yaml {out}"]
)
def test_a_backup_of_jobs_can_be_read(world: Box, way: str, tmp_path: Path) -> None:
    ok(world, "cd jobs && " + way, out=tmp_path)
    jobs = world.dc / "jobs"
    for name in ("2/spec.yaml", "2/log", "2/log.txt", "2/exit_code", "2/status", "3/why", "1/spec.yaml", "over.yaml"):
        assert (tmp_path / name).read_bytes() == (jobs / name).read_bytes(), name
    assert os.readlink(tmp_path / "live") == "1"
    assert (tmp_path / "1/log.txt").read_bytes() == (jobs / "1/log.txt").read_bytes()[
        : (tmp_path / "1/log.txt").stat().st_size
    ]


# ---- who removes: no harm

HARM = (
    *("rm -rf jobs/{}", "rmdir jobs/{}", "find jobs/{} -delete", "mv jobs/{} jobs/other"),
    *("rm jobs/live", "rm -f jobs/{}/log", "truncate -s 0 jobs/{}/log.txt", "echo x > jobs/{}/spec.yaml"),
    *("echo x > jobs/{}/state", "touch jobs/{}/new", "mkdir jobs/{}/new", "cp -r jobs/2 jobs/{}/copy"),
    *("mkdir {tmp}/empty; rsync -r --delete {tmp}/empty/ jobs/{}/", "sed -i s/number/x/ jobs/{}/spec.yaml"),
)


@pytest.mark.parametrize("script", HARM)
def test_nothing_but_ctl_harms_a_job_that_is_not_over(world: Box, script: str, tmp_path: Path) -> None:
    spec = (world.dc / "jobs/1/spec.yaml").read_text()
    before = events(world)
    assert world.sh(script.format(1, tmp=tmp_path)).returncode != 0
    assert events(world) == before
    assert (world.dc / "jobs/1/spec.yaml").read_text() == spec
    assert (world.dc / "jobs/live/state").read_text() == "RUNNING\n"


def test_a_job_that_is_over_is_thrown_away_by_rmdir_and_not_by_rm(world: Box) -> None:
    number = submit(world, "away", spec_of("true"))
    assert (world.dc / "jobs/away/wait").read_text() == "0\n"
    assert world.sh(f"rm -rf jobs/{number}").returncode != 0
    assert (world.dc / f"jobs/{number}/exit_code").read_text() == "0\n"
    ok(world, "rmdir jobs/{number}", number=number)
    assert "No such file" in world.sh(f"cat jobs/{number}/state").stderr
    assert number not in job_numbers(world)


def test_removing_a_drop_removes_no_job(world: Box) -> None:
    ok(world, "rm jobs/live.yaml")
    assert not (world.dc / "jobs/live.yaml").exists()
    assert (world.dc / "jobs/live/state").read_text() == "RUNNING\n"


# ---- who writes a spec: exactly one job

WRITERS = {
    "cp": "cp {spec} {drop}",
    "cp with times and rights": "cp -a {spec} {drop}",
    "mv": "cp {spec} {spec}.2 && mv {spec}.2 {drop}",
    "mv within": "cp {spec} jobs/.x.tmp && mv jobs/.x.tmp {drop}",
    "bash": "{{ echo 'command: echo hi'; cat /dev/null; echo 'hold: true'; }} > {drop}",
    "bash line by line": "printf 'command: echo hi\\nhold: true\\n' > {drop}",
    "dash": "dash -c 'echo \"command: echo hi\nhold: true\"' > {drop}",
    "dash with children": "dash -c '{{ head -n 1 {spec}; tail -n 1 {spec}; }} > {drop}'",
    "no last newline": "printf 'command: echo hi\\nhold: true' > {drop}",
    "cat": "cat {spec} > {drop}",
    "tee": "tee {drop} < {spec} > /dev/null",
    "tee at the end of a file": "touch {drop} && tee -a {drop} < {spec} > /dev/null",
    "dd": "dd if={spec} of={drop} status=none",
    "dd byte by byte": "dd if={spec} of={drop} bs=1 status=none",
    "dd with fsync": "dd if={spec} of={drop} conv=fsync,notrunc status=none",
    "install": "install -m 644 {spec} {drop}",
    "rsync": "rsync -a {spec} {drop}",
    "rsync in place": "rsync --inplace {spec} {drop}",
    "tar": "name=$(basename {drop}) && cp {spec} {spec}.d/$name && tar c -C {spec}.d $name | tar x -C jobs",
    "python": '{python} -c \'import sys; open(sys.argv[1], "w").write("command: echo hi\\nhold: true\\n")\' {drop}',
    "vim": "vim.tiny -u NONE -N -es -c 'normal icommand: echo hi' -c 'normal ohold: true' -c wq {drop}",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_program_that_writes_a_spec_makes_one_job(world: Box, writer: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(HELD)
    (tmp_path / "spec.yaml.d").mkdir()
    before = job_numbers(world)
    drop = f"jobs/w-{writer.replace(' ', '-')}.yaml"
    ok(world, WRITERS[writer], spec=spec, drop=drop, python=sys.executable)
    assert one_more(world, before).rstrip() == HELD.rstrip()


EMACS = (
    "emacs -Q --batch {drop} --eval "
    '\'(progn {first} (while (search-forward "hi" nil t) (replace-match "bye")) (save-buffer))\''
)
VIM = "vim.tiny -u NONE -N -es -c '{first}' -c '%s/hi/bye/' -c wq {drop}"
# what it does between reading and closing; node's fs.writeFile and the flush that VS Code asks for
VSCODE = """{python} - {drop} <<'.'
import os, sys
text = open(sys.argv[1]).read().replace("hi", "bye").encode()
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
os.write(file, text), os.fdatasync(file), os.close(file), os.stat(sys.argv[1])
.
"""
EDITORS = {
    "sed": "sed -i s/hi/bye/ {drop}",
    "sed with a backup": "sed -i.old s/hi/bye/ {drop}",
    "perl": "perl -pi -e s/hi/bye/ {drop}",
    "vim": VIM.replace("{first}", "set nobackup"),
    "vim with a backup by renaming": VIM.replace("{first}", "set backup writebackup backupcopy=no"),
    "vim with a backup by copying": VIM.replace("{first}", "set backup writebackup backupcopy=yes"),
    "vim with a swap file": VIM.replace("{first}", "set swapfile fsync nowritebackup"),
    "emacs": EMACS.replace("{first}", ""),
    "emacs with a backup by copying": EMACS.replace("{first}", "(setq backup-by-copying t)"),
    "emacs by renaming": EMACS.replace("{first}", "(setq file-precious-flag t)"),
    "VS Code": VSCODE,
    "VS Code by renaming": "sed s/hi/bye/ {drop} > {drop}.vsctmp && mv {drop}.vsctmp {drop}",
    "JetBrains": "sed s/hi/bye/ {drop} > {drop}___jb_tmp___ && mv {drop} {drop}___jb_old___ "
    "&& mv {drop}___jb_tmp___ {drop} && rm {drop}___jb_old___",
    "GNOME": "sed s/hi/bye/ {drop} > jobs/.goutputstream-X1Y2Z3 && sync jobs/.goutputstream-X1Y2Z3 "
    "&& mv jobs/.goutputstream-X1Y2Z3 {drop}",
    "cp": "sed s/hi/bye/ {drop} > {spec} && cp {spec} {drop}",
    "rsync": "sed s/hi/bye/ {drop} > {spec} && rsync -a {spec} {drop}",
}


@pytest.mark.parametrize("editor", EDITORS)
def test_an_editor_that_saves_makes_one_more_job(world: Box, editor: str, tmp_path: Path) -> None:
    if shutil.which(EDITORS[editor].split()[0].format(python=sys.executable)) is None:
        pytest.skip("it is not installed")
    name = f"e-{editor.replace(' ', '-')}"
    submit(world, name, HELD)
    before = job_numbers(world)
    ok(world, EDITORS[editor], drop=f"jobs/{name}.yaml", spec=tmp_path / "spec.yaml", python=sys.executable)
    assert one_more(world, before) == HELD.replace("hi", "bye")
    assert (world.dc / f"jobs/{name}.yaml").read_text() == HELD.replace("hi", "bye")


@needs("nano")
@pytest.mark.parametrize("options", [[], ["--backup"]], ids=["plain", "backup"])
def test_nano_saves_one_job(world: Box, options: list[str]) -> None:
    name = f"nano{len(options)}"
    submit(world, name, HELD)
    before = job_numbers(world)
    words = ["--ignorercfiles", *options, str(world.dc / f"jobs/{name}.yaml")]
    editor = pexpect.spawn("nano", words, env={**world.env, "TERM": "xterm"}, timeout=WAIT_S)
    editor.expect("hi")
    editor.send("\x0b")  # cut the line
    editor.send("command: echo bye\r")
    editor.send("\x0f\r")
    wait_until(lambda: job_numbers(world) != before)
    editor.send("\x18")
    editor.expect(pexpect.EOF)
    editor.close()
    assert one_more(world, before) == HELD.replace("hi", "bye")


def test_what_is_added_to_a_drop_makes_a_job_of_the_whole(world: Box) -> None:
    submit(world, "added", HELD)
    before = job_numbers(world)
    ok(world, "echo 'priority: 40' >> jobs/added.yaml")
    assert one_more(world, before) == HELD + "priority: 40\n"


def test_all_that_was_dropped_here_became_one_job_each_and_no_more(world: Box) -> None:
    before = job_numbers(world)
    world.umount()  # what closings left to be done is done by then
    with WebClient(world.url, world.token) as client:
        assert {name for entry in client.list("jobs") if (name := str(entry["name"])).isdigit()} == before
    world.mount()
