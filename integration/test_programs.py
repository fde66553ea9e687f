"""Real programs on a mount: what people do all day, and whether what it leaves behind is right."""

import contextlib
import fcntl
import filecmp
import os
import shelve
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import box, wait_until

SECONDS_MAX = 300
ROOT = Path(__file__).parent.parent


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where a program is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


@pytest.fixture(scope="module")
def mounted() -> Iterator[Path]:
    """The home of a user in a mount."""
    with box() as made:
        made.start_server()
        made.mount()
        yield made.dc / "home/demo"


@pytest.fixture
def home(mounted: Path, request: pytest.FixtureRequest) -> Path:
    """An empty directory in a mount."""
    made = mounted / "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    made.mkdir()
    return made


def sh(script: str, cwd: Path, **variables: str | Path) -> str:
    """Run a shell script that must not fail, and return what it prints."""
    env = {**os.environ, **{name: str(value) for name, value in variables.items()}, "LC_ALL": "C.UTF-8"}
    command = ["bash", "-euc", script]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return os.fsdecode(done.stdout)


def plant(root: Path) -> None:
    """Make a tree with everything in it that archives keep."""
    (root / "deep/er/est").mkdir(parents=True)
    (root / "empty").mkdir()
    for number in range(60):
        (root / f"deep/file{number}.py").write_text(f"# file {number}\n" * (number * 7))
    (root / "deep/er/large").write_bytes(os.urandom(3 << 20))
    (root / "deep/er/zero").touch()
    (root / "deep/er/est/\udcff odd \n name").write_text("odd")
    (root / "run").write_text("#!/bin/sh\necho ran\n")
    (root / "run").chmod(0o755)
    (root / "secret").write_text("s")
    (root / "secret").chmod(0o600)
    (root / "link").symlink_to("deep/er")
    (root / "dangling").symlink_to("no/where")
    os.link(root / "run", root / "deep/the same")
    os.mkfifo(root / "fifo")
    with open(root / "sparse", "wb") as file:
        file.truncate(1 << 20)
        file.seek(700_000)
        file.write(b"in the middle")
    os.setxattr(root / "run", "user.note", b"kept")
    # rsync sets no time within the same second, but for what it has written itself
    for path in (root / "run", root / "deep/file7.py", root / "deep", root / "empty", root / "fifo"):
        os.utime(path, ns=(1_000_000_000_000_000_001, 1_234_567_890_123_456_789))


def listed(root: Path, *, nanoseconds: bool = True, numbers: bool = True) -> dict[str, tuple[object, ...]]:
    """Describe a tree as archives keep it."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        what: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        when = info.st_mtime_ns if nanoseconds else info.st_mtime_ns // 10**9
        size = None if path.is_dir() else info.st_size
        links = info.st_nlink if numbers and not path.is_dir() else None
        found[str(path.relative_to(root))] = (info.st_mode, size, links, None if path.is_symlink() else when, what)
    return found


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree on a local disk."""
    root = tmp_path_factory.mktemp("original")
    plant(root)
    return root


# ---- archives and copies


@needs("tar")
def test_tar_unpacks_and_packs_a_tree(home: Path, original: Path, tmp_path: Path) -> None:
    sh(
        'tar cf "$T" -C "$O" --xattrs --format=posix . && mkdir out && tar xf "$T" -C out --xattrs',
        home,
        T=tmp_path / "t",
        O=original,
    )
    assert listed(home / "out") == listed(original)
    assert os.getxattr(home / "out/run", "user.note") == b"kept"
    assert (home / "out/run").stat().st_ino == (home / "out/deep/the same").stat().st_ino
    sh(
        'tar cf "$T" -C out --format=posix . && mkdir "$B" && tar xf "$T" -C "$B"',
        home,
        T=tmp_path / "t",
        B=tmp_path / "back",
    )
    assert listed(tmp_path / "back") == listed(original)
    assert sh("tar cf - out | tar tf - | wc -l", home).strip() == str(len(listed(original)) + 1)
    assert sh('tar df "$T" -C out', home, T=tmp_path / "t") == ""


@needs("rsync")
def test_rsync_finds_nothing_to_do_the_second_time(home: Path, original: Path) -> None:
    sh('rsync -aHX "$O/" copy/', home, O=original)
    assert listed(home / "copy") == listed(original)
    assert sh('rsync -aHXi "$O/" copy/', home, O=original) == ""
    assert sh('rsync -aHXi --checksum "$O/" copy/', home, O=original) == ""
    (home / "copy/deep/file9.py").write_text("changed")
    (home / "copy/more").touch()
    changed = sh('rsync -aHi --delete "$O/" copy/', home, O=original).splitlines()
    assert sorted(line.split()[-1] for line in changed if not line.startswith(".d")) == ["deep/file9.py", "more"]
    assert (
        sh(
            'rsync -ai --inplace --checksum "$O/" copy/; rsync -a copy/ again/; rsync -aci copy/ again/',
            home,
            O=original,
        )
        == ""
    )
    assert listed(home / "copy") == listed(original)


def test_cp_and_mv_keep_a_tree(home: Path, original: Path, tmp_path: Path) -> None:
    sh('cp -a "$O" in && cp -a in out', home, O=original)
    assert listed(home / "in") == listed(home / "out") == listed(original)
    assert os.getxattr(home / "out/run", "user.note") == b"kept"
    sh('mv out "$B" && mv in moved', home, B=tmp_path / "back")
    assert listed(tmp_path / "back") == listed(home / "moved") == listed(original)
    sh('mv "$B" again', home, B=tmp_path / "back")
    assert (listed(home / "again"), sorted(os.listdir(home))) == (listed(original), ["again", "moved"])


def test_find_sees_what_stat_tells(home: Path, original: Path) -> None:
    sh('cp -a "$O" tree', home, O=original)
    script = r'find . -printf "%p %y %m %n %s %T@ %l\0" | sed -z "/ d /s/ [0-9]* / /3" | sort -z | tr "\0" "\n"'
    shown = [sh(script, place) for place in (home / "tree", original)]
    assert shown[0].replace(" d 755 4096", "") == shown[1].replace(" d 755 4096", "")
    assert sh("find tree -type f -size +1M -newermt 2020-01-01", home) == "tree/deep/er/large\n"
    assert len(sh("find tree -name 'file*' -delete -print", home).splitlines()) == 60
    assert sh("find tree -name 'file*'; du -s --apparent-size tree >/dev/null; rm -r tree; ls", home) == ""


def test_dd_install_sed_and_patch(home: Path) -> None:
    sh("seq 1 100000 > f && cp f g && printf changed | dd of=f bs=1 seek=1000 conv=notrunc status=none", home)
    text = "".join(f"{number}\n" for number in range(1, 100_001))
    assert (home / "f").read_text() == text[:1000] + "changed" + text[1007:]
    add = "dd if=g of=h oflag=append conv=notrunc status=none"
    sh(f"{add} bs=4k; {add} bs=64k", home)
    assert (home / "h").read_text() == text * 2
    sh("dd if=/dev/zero of=z bs=1M count=4 oflag=direct conv=fsync status=none", home)
    assert (home / "z").read_bytes() == bytes(4 << 20)
    assert sh("install -D -m 640 g a/b/g && stat -c %a a/b/g && cmp g a/b/g", home) == "640\n"
    sh("sed -i.old 's/^77$/seventy-seven/' g", home)
    assert (home / "g").read_text() == text.replace("\n77\n", "\nseventy-seven\n")
    assert (home / "g.old").read_text() == text
    assert (
        sh("truncate -s 10 g && truncate -s +5 g && wc -c < g && sort -rn f -o f && head -1 f", home) == "15\n100000\n"
    )


@needs("patch", "diff")
def test_patch_and_diff(home: Path) -> None:
    sh(
        "mkdir old new && seq 1 50 | tee old/f > new/f && sed -i 's/^25$/changed/; 40d' new/f && echo more > new/g",
        home,
    )
    sh(
        "diff -Naur old new > p || true; cp -a old work && cd work && patch -b -p1 < ../p && cd .. && rm work/*.orig",
        home,
    )
    assert sh("diff -r new work", home) == ""
    assert sh("cd work && patch -R -p1 < ../p > /dev/null && cd .. && diff -r old work && ls work", home) == "f\n"


# ---- git

GIT = "git -c user.name=a -c user.email=a@example.org -c init.defaultBranch=main -c advice.detachedHead=false"


@needs("git")
def test_git_keeps_a_repository(home: Path, original: Path) -> None:
    script = f"""
    {GIT} init -q r; cd r
    for round in 1 2 3 4; do
        mkdir -p d$round; for i in $(seq 1 9); do seq $round $((round * i * 20)) > d$round/f$i; done
        {GIT} add .; {GIT} commit -qm "round $round"
        {GIT} mv d$round/f1 d$round/moved; echo more >> d1/f2; {GIT} commit -qam "again $round"
    done
    {GIT} branch side HEAD~3; {GIT} checkout -q side; echo side > side; {GIT} add side; {GIT} commit -qm side
    {GIT} checkout -q main; {GIT} merge -q --no-edit side; {GIT} tag -a -m t v1
    test -z "$({GIT} status --porcelain)"
    {GIT} fsck --strict --no-progress
    {GIT} gc -q --prune=now; {GIT} fsck --strict --full --no-progress
    {GIT} checkout -q HEAD~3; {GIT} checkout -q main; {GIT} reset -q --hard HEAD~1; {GIT} reset -q --hard v1
    {GIT} stash -q || true; {GIT} clean -fdxq; test -z "$({GIT} status --porcelain)"
    """
    assert "error" not in sh(script, home)
    commits = sh(f"{GIT} -C r rev-list --count main", home)
    script = f"""
    {GIT} clone -q --no-local r c; {GIT} clone -q r linked; {GIT} clone -q --bare r b.git
    {GIT} clone -q file://$PWD/b.git "$T/out"
    for each in c linked b.git "$T/out"; do {GIT} -C "$each" fsck --strict --no-progress; done
    for each in c linked "$T/out"; do test -z "$({GIT} -C "$each" status --porcelain)"; done
    echo new > c/new; {GIT} -C c add new; {GIT} -C c commit -qm new; {GIT} -C c push -q origin HEAD:new
    {GIT} -C linked worktree add -q ../tree v1; test -z "$({GIT} -C tree status --porcelain)"
    diff -r --exclude .git r linked; {GIT} -C c gc -q; {GIT} -C c rev-list --count main
    """
    with tempfile.TemporaryDirectory() as outside:
        assert sh(script, home, T=outside) == f"{int(commits) + 1}\n"


@needs("git")
def test_git_on_the_mount_clones_this_project(home: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("these sources are no clone of git")
    allowed = f"-c safe.directory={ROOT} -c safe.directory={ROOT}/.git"
    script = f"""
    git {allowed} clone -q --no-local --depth 5 "file://$ROOT" c
    git -C c fsck --strict --no-progress; git -C c gc -q; test -z "$(git -C c status --porcelain)"; rm -rf c
    """
    sh(script, home, ROOT=ROOT)
    assert os.listdir(home) == []


# ---- data bases

BANK = """
import sqlite3, sys
path, mode, name, rounds = sys.argv[1:]
base = sqlite3.connect(path, timeout=50, isolation_level=None)
assert base.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
for number in range(int(rounds)):
    base.execute("begin immediate")
    base.execute("insert into log values (?, ?, zeroblob(500))", (name, number))
    base.execute("update accounts set money = money - 1 where id = ?", (number % 10,))
    base.execute("update accounts set money = money + 1 where id = ?", ((number * 7 + 3) % 10,))
    base.execute("commit")
    if number == 3:
        print("working", flush=True)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_keeps_what_several_write(home: Path, mode: str) -> None:
    path = home / "base"
    with contextlib.closing(sqlite3.connect(path)) as base:
        assert base.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
        base.execute("create table accounts (id integer primary key, money integer)")
        base.execute("create table log (name text, number integer, ballast blob, primary key (name, number))")
        base.executemany("insert into accounts values (?, 100)", [(number,) for number in range(10)])
        base.commit()
    command = [sys.executable, "-c", BANK, str(path), mode]
    writers = [subprocess.Popen([*command, name, "25"], stdout=subprocess.DEVNULL) for name in ("a", "b", "c")]
    killed = subprocess.Popen([*command, "killed", "1000000"], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"working\n"
    killed.kill()
    killed.communicate()
    assert [writer.wait(SECONDS_MAX) for writer in writers] == [0, 0, 0]
    for place in (path, shutil.copy(path, home / "copy") if mode == "delete" else path):
        with contextlib.closing(sqlite3.connect(place)) as base:
            assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert base.execute("select sum(money) from accounts").fetchone() == (1000,)
            counted = dict(base.execute("select name, count(*) from log group by name").fetchall())
            assert {name: counted[name] for name in ("a", "b", "c")} == {"a": 25, "b": 25, "c": 25}
            numbers = [each for (each,) in base.execute("select number from log where name='killed' order by number")]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= 4
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("vacuum")
        assert base.execute("pragma integrity_check").fetchall() == [("ok",)]


# ---- building

MAKEFILE = """
objects = $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
program: $(objects)
\tcc -o $@ $^
%.o: %.c all.h
\tcc -O0 -c -o $@ $<
\techo $< >> built
"""


@needs("make", "cc")
def test_make_builds_what_has_changed_and_nothing_else(home: Path) -> None:
    names = [f"part{number}" for number in range(12)]
    (home / "all.h").write_text("".join(f"int {name}(void);\n" for name in names))
    for number, name in enumerate(names):
        (home / f"{name}.c").write_text(f'#include "all.h"\nint {name}(void) {{ return {number}; }}\n')
    (home / "main.c").write_text(
        '#include <stdio.h>\n#include "all.h"\n'
        f'int main(void) {{ printf("%d\\n", {" + ".join(f"{name}()" for name in names)}); return 0; }}\n'
    )
    (home / "Makefile").write_text(MAKEFILE)
    sh("make -s -j4", home)
    assert sh("./program", home) == f"{sum(range(12))}\n"
    assert len((home / "built").read_text().split()) == 13
    assert "up to date" in sh("make -j4", home)
    assert len((home / "built").read_text().split()) == 13
    (home / "part3.c").write_text('#include "all.h"\nint part3(void) { return 1003; }\n')
    sh("make -s -j4", home)
    assert sh("./program", home) == f"{sum(range(12)) + 1000}\n"
    assert (home / "built").read_text().split()[13:] == ["part3.c"]
    sh("touch all.h; make -s -j4", home)
    assert len((home / "built").read_text().split()) == 27
    assert sh("make -q && echo nothing to do", home) == "nothing to do\n"


def wheel(directory: Path) -> Path:
    """Build a small wheel, as a build tool would."""
    path = directory / "smallthing-1.0-py3-none-any.whl"
    files = {f"smallthing/part{number}.py": f"VALUE = {number}\n" for number in range(40)}
    files["smallthing/__init__.py"] = "from smallthing.part39 import VALUE\ndef main() -> None:\n    print(VALUE)\n"
    about = "smallthing-1.0.dist-info"
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: smallthing\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{about}/entry_points.txt"] = "[console_scripts]\nsmallthing = smallthing:main\n"
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_pip_installs_into_the_mount(home: Path) -> None:
    asked = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if asked.returncode:
        pytest.skip("this Python has no pip")
    made = wheel(home)
    options = "--quiet --disable-pip-version-check --no-index --no-deps --root-user-action=ignore --no-cache-dir"
    sh(f'"$P" -m pip install {options} --target lib "$W"', home, P=sys.executable, W=made)
    run = 'PYTHONPATH=lib "$P" -c "import smallthing; smallthing.main(); print(smallthing.__file__)"'
    assert sh(run, home, P=sys.executable).split() == ["39", f"{home}/lib/smallthing/__init__.py"]
    assert sh("lib/bin/smallthing", home, PYTHONPATH=home / "lib") == "39\n"


# ---- editors

VIM = next((name for name in ("vim", "vim.tiny") if shutil.which(name)), "vim")
SETTINGS = {
    "its own": "",
    "a copy first": "set backup backupskip= backupcopy=yes",
    "a rename": "set backup backupskip= backupcopy=no backupext=.bak",
    "no backup": "set nobackup nowritebackup",
    "a swap file and an fsync": "set swapfile fsync",
}


@needs(VIM)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_vim_edits_a_file(home: Path, settings: str) -> None:
    lines = [f"line {number}" for number in range(2000)]
    (home / "f").write_text("\n".join(lines) + "\n")
    (home / "f").chmod(0o640)
    command = [VIM, "-u", "NONE", "-i", "NONE", "-N", "-es", "-c", settings or "let x = 1"]
    command += ["-c", "%s/line 77$/changed/", "-c", "w", "-c", "normal Golast", "-c", "wq", "f"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = ["changed" if line == "line 77" else line for line in lines]
    assert (home / "f").read_text().splitlines() == [*expected, "last"]
    assert (home / "f").stat().st_mode & 0o777 == 0o640
    left = {
        "set backup backupskip= backupcopy=yes": ["f~"],
        "set backup backupskip= backupcopy=no backupext=.bak": ["f.bak"],
    }
    assert sorted(os.listdir(home)) == ["f", *left.get(settings, [])]


# ---- python


def test_python_keeps_its_files(home: Path, original: Path) -> None:
    with shelve.open(str(home / "shelf")) as shelf:
        for number in range(200):
            shelf[str(number)] = {"number": number, "text": "x" * number}
    with shelve.open(str(home / "shelf"), "w") as shelf:
        for number in range(0, 200, 3):
            del shelf[str(number)]
        shelf["more"] = "more"
    with shelve.open(str(home / "shelf"), "r") as shelf:
        assert sorted(shelf) == sorted([*(str(number) for number in range(200) if number % 3), "more"])
        assert shelf["199"]["text"] == "x" * 199
    with zipfile.ZipFile(home / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(50):
            archive.writestr(f"d/{number}", str(number) * number)
    with zipfile.ZipFile(home / "z.zip", "a") as archive:
        archive.write(original / "deep/er/large", "large")
    with zipfile.ZipFile(home / "z.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(home / "unzipped")
    assert filecmp.cmp(home / "unzipped/large", original / "deep/er/large", shallow=False)
    assert (home / "unzipped/d/7").read_text() == "7777777"


def test_python_makes_temporary_files(home: Path) -> None:
    with tempfile.TemporaryFile(dir=home) as file:
        file.write(b"nameless")
        file.seek(0)
        assert file.read() == b"nameless"
        assert os.listdir(home) == []
    with tempfile.TemporaryDirectory(dir=home) as directory, tempfile.NamedTemporaryFile(dir=directory) as file:
        file.write(b"named")
        file.flush()
        assert Path(file.name).read_bytes() == b"named"
    with tempfile.SpooledTemporaryFile(max_size=10, dir=str(home)) as file:
        file.write(b"x" * 100)
        file.seek(50)
        assert file.read() == b"x" * 50
    assert os.listdir(home) == []


COUNTER = """
import fcntl, sys
for _ in range(60):
    with open(sys.argv[1], "r+") as file:
        getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
        number = int(file.read())
        file.seek(0)
        file.write(str(number + 1))
        file.flush()
"""


@pytest.mark.parametrize("lock", ["flock", "lockf"])
def test_locks_hold_between_the_programs_of_a_machine(home: Path, lock: str) -> None:
    (home / "n").write_text("0")
    command = [sys.executable, "-c", COUNTER, str(home / "n"), lock]
    counters = [subprocess.Popen(command) for _ in range(4)]
    assert [counter.wait(SECONDS_MAX) for counter in counters] == [0, 0, 0, 0]
    assert (home / "n").read_text() == "240"


@needs("flock")
def test_flock_keeps_others_out_until_its_holder_dies(home: Path) -> None:
    holder = subprocess.Popen(
        ["flock", "lock", "sh", "-c", "echo held; exec sleep 60"], cwd=home, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert sh("flock -n lock true || echo busy", home) == "busy\n"
    subprocess.run(["pkill", "-P", str(holder.pid)], check=False)
    holder.send_signal(signal.SIGTERM)
    holder.communicate()
    wait_until(lambda: sh("flock -n lock echo free || true", home) == "free\n")
    with open(home / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_program_is_replaced_while_it_runs(home: Path) -> None:
    shutil.copy("/bin/sleep", home / "program")
    running = subprocess.Popen([str(home / "program"), "60"])
    try:
        shutil.copy("/bin/echo", home / "new")
        os.rename(home / "new", home / "program")
        assert sh("./program replaced", home) == "replaced\n"
        time.sleep(0.1)
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
