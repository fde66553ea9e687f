"""The real runtimes keep the promises of every runtime, and those that are their own."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from integration.engine import BUSYBOX_IMAGE, OwnEngine, busybox_image, docker_client, engine, own_engine
from jobd.attach import STDERR, STDOUT, Terminal
from jobd.imagelists import Side
from jobd.node import diskuse, enginewatch, processes, record
from jobd.node.collector import LOST
from jobd.node.containers import written_at
from jobd.node.docker import DockerRuntime, open_docker
from jobd.node.runtime import Exit, Runtime, RuntimeAway, RuntimeFailure
from jobd.node.sandbox import SandboxRuntime, probe
from jobd.node.ship import ship
from jobd.node.state import boot_id
from jobd.store.logs import LogStore
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel
from tests.jobd.node.attaching import ATTACH_CHECKS, command, dialled, free_port, rest, said_until
from tests.jobd.node.conformance import (
    CHECKS,
    HOME,
    TASK,
    Bench,
    ignores_term,
    read,
    read_until,
    says_two_lines,
    sleeps,
    waits_in_a_line,
)
from tests.jobd.node.server import eventually

OWNER = 200001
RUN = os.getpid()  # also of what these tests fork
OF_ORDINARY_USERS = (
    "what_goes_wrong_comes_apart_from_what_is_said",
    "a_terminal_is_one_and_without_one_there_is_none",
    "a_signal_ends_a_program_beside_a_task_and_not_the_task",
    "a_port_of_a_task_is_connected_to_and_each_side_ends_by_itself",
)
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def engine_url() -> Iterator[str]:
    with engine() as url:
        yield url


@pytest.fixture(scope="module")
def image(engine_url: str) -> str:
    with docker_client(engine_url) as client:
        return busybox_image(client)


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    home, shared = tmp_path / "home", tmp_path / "shared"
    home.mkdir(mode=0o700)
    os.chown(home, OWNER, OWNER)
    shared.mkdir()
    return home, shared


@pytest.fixture
def sandbox(tmp_path: Path, directories: tuple[Path, Path]) -> Iterator[Bench]:
    @asynccontextmanager
    async def open_runtime() -> AsyncIterator[Runtime]:
        yield SandboxRuntime(tmp_path / "state")

    bench = Bench(open_runtime, *directories, uid=OWNER, image=None)
    yield bench
    trio.run(_remove_all, bench)


@pytest.fixture
def docker_bench(engine_url: str, image: str, tmp_path: Path, directories: tuple[Path, Path]) -> Iterator[Bench]:
    @asynccontextmanager
    async def open_runtime() -> AsyncIterator[Runtime]:
        async with open_docker(engine_url, tmp_path / "state", f"test{RUN}") as runtime:
            yield runtime

    bench = Bench(open_runtime, *directories, uid=OWNER, image=image)
    yield bench
    trio.run(_remove_all, bench)


async def _remove_all(bench: Bench) -> None:
    with trio.fail_after(LIMIT_S):
        async with bench.open() as runtime:
            for task_id in await runtime.tasks():
                await runtime.remove(task_id)


@pytest.fixture(params=["sandbox", "docker"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found = request.getfixturevalue("sandbox" if request.param == "sandbox" else "docker_bench")
    assert isinstance(found, Bench)
    return found


def _run(check: Callable[[Bench], Awaitable[None]], bench: Bench) -> None:
    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            await check(bench)

    trio.run(main)


@pytest.mark.parametrize("check", [*CHECKS, *ATTACH_CHECKS], ids=lambda check: check.__name__)
def test_promise(check: Callable[[Bench], Awaitable[None]], bench: Bench) -> None:
    _run(check, bench)


# ---- walls


def test_a_task_has_no_capability_and_can_gain_none(bench: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch("grep", "-E", "^(Cap|NoNewPrivs|Groups|Uid)", "/proc/self/status"))
            found = dict(line.split(":") for line in (await read(runtime)).decode().splitlines())
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(found[name], 16) == 0, name
        assert found["NoNewPrivs"].strip() == "1"
        assert found["Uid"].split() == [str(OWNER)] * 4
        assert set(found["Groups"].split()) <= {str(OWNER)}

    _run(check, bench)


def test_a_sandbox_shows_its_volumes_and_nothing_else_of_the_machine(sandbox: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "secret").chmod(0o644)
    there = f"{tmp_path}/secret {tmp_path} /root /home /var/lib /var/run /etc/shadow /etc/ssh /sys /boot /mnt /srv"

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            text = f"for f in {there}; do [ -e $f ] && echo $f; done; ls -d /pfs/dc1/*; ls /dev /run /proc | grep sd"
            await runtime.start(bench.launch("sh", "-c", text))
            assert (await read(runtime)).decode().split() == ["/pfs/dc1/home", "/pfs/dc1/shared"]

    _run(check, sandbox)


def test_a_sandbox_cannot_write_where_it_may_only_read(sandbox: Bench) -> None:
    text = "for d in / /usr /usr/bin /etc /pfs /pfs/dc1 /pfs/dc1/shared /dev /run; do touch $d/x 2>&- && echo $d; done"

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch("sh", "-c", text))
            assert await read(runtime) == b""

    _run(check, sandbox)


def test_a_sandbox_knows_its_owner_by_name_and_no_other_processes(sandbox: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps, task_id="17.1.0.1"))
            launch = bench.launch("sh", "-c", "id -un; getent passwd 0; echo /proc/[0-9]*; ls /proc/$$/fd")
            await runtime.start(replace(launch, env={"PFS_USER": "ann"}))
            # the sandbox's first process and the shell; and no descriptor but the standard ones
            lines = (await read(runtime)).decode().splitlines()
            assert lines == ["ann", "root:x:0:0:root:/:/bin/sh", "/proc/1 /proc/2", "0", "1", "2"]

    _run(check, sandbox)


def test_git_clones_over_the_network_in_a_sandbox(sandbox: Bench, tmp_path: Path) -> None:
    """What a job's `git:` comes to: its owner's name, home and hosts, and nobody who is asked for a password."""
    made = tmp_path / "served/repo.git"
    git = ["git", "-c", "user.name=ann", "-c", "user.email=ann@example.org", "-C", str(tmp_path / "work")]
    for words in (
        ["init", "-q", "-b", "main", str(tmp_path / "work")],
        [*git[1:], "commit", "-q", "--allow-empty", "-m", "one"],
    ):
        subprocess.run(["git", *words], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(tmp_path / "work"), str(made)], check=True)
    subprocess.run(["git", "-C", str(made), "update-server-info"], check=True)
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))

    async def check(bench: Bench) -> None:
        url = f"http://localhost:{server.server_address[1]}"
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        text = f"git clone -q {url}/repo.git there && git -C there log --format=%s; git clone -q {url}/none.git"
        text += f"; cmp {certificates} {certificates}; readlink -e /etc/resolv.conf"
        async with bench.open() as runtime:
            await runtime.start(bench.launch("sh", "-c", text))
            lines = (await read(runtime)).decode().splitlines()
        assert lines[0] == "one"
        assert "not found" in lines[-2]
        assert lines[-1] == "/etc/resolv.conf"
        assert (bench.home / "there/.git").stat().st_uid == OWNER

    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            _run(check, sandbox)
        finally:
            server.shutdown()
            thread.join()


def test_variables_of_a_task_reach_no_program_before_its_own(sandbox: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            launch = bench.launch("true")
            await runtime.start(replace(launch, env={"LD_PRELOAD": "/nowhere.so", "ENV": "/nowhere", "PATH": "/bin"}))
            # the loader complains once for each program that gets the variable
            assert (await read(runtime)).count(b"/nowhere.so") == 1

    _run(check, sandbox)


def test_a_variable_with_a_strange_name_is_refused(sandbox: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            with pytest.raises(RuntimeFailure, match="cannot be the name"):
                await runtime.start(replace(bench.launch("true"), env={"A=$(id)": "x"}))
            assert await runtime.tasks() == []

    _run(check, sandbox)


def _show_python() -> None:
    """Let everybody run the Python that runs this, in mounts of this process alone: it may be in somebody's home."""
    base = Path(sys.base_prefix)
    hidden = [parent for parent in base.parents if not parent.stat().st_mode & 0o001]
    if hidden:
        ctypes.CDLL(None).unshare(0x20000)  # CLONE_NEWNS
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        python = os.open(base, os.O_PATH)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(hidden[-1])], check=True)
        base.mkdir(parents=True)
        subprocess.run(["mount", "-c", "--bind", f"/proc/self/fd/{python}", str(base)], check=True, pass_fds=[python])


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Give a directory that everybody gets to; whoever else runs tests closes those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def _as_ordinary_user(directory: Path, check: Callable[[Bench], Awaitable[None]]) -> None:
    """Do it as the node daemon of somebody without root: in a child process that has become that user."""
    for name in ("state", "home", "shared"):
        (directory / name).mkdir()
        os.chown(directory / name, OWNER, OWNER)

    @asynccontextmanager
    async def open_runtime() -> AsyncIterator[Runtime]:
        yield SandboxRuntime(directory / "state")

    child = os.fork()
    if child == 0:
        status = 1
        try:
            _show_python()
            os.setgroups([])
            os.setresgid(OWNER, OWNER, OWNER)
            os.setresuid(OWNER, OWNER, OWNER)
            _run(check, Bench(open_runtime, directory / "home", directory / "shared", uid=None, image=None))
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_ordinary_user_can_run_sandboxes(open_to_all: Path) -> None:
    async def check(bench: Bench) -> None:
        assert await probe() == ""
        async with bench.open() as runtime:
            text = "id -u; grep CapEff /proc/self/status; touch mine; cat /etc/shadow 2>&- || echo no; exit 5"
            await runtime.start(bench.launch("sh", "-c", text))
            assert await runtime.wait(TASK) == Exit(5)
            assert await read(runtime) == f"{OWNER}\nCapEff:\t{0:016x}\nno\n".encode()
            with pytest.raises(RuntimeFailure, match="does not run as root"):
                await runtime.start(replace(bench.launch("true", task_id="17.1.0.1"), uid=0, gid=0))
            await runtime.remove(TASK)

    _as_ordinary_user(open_to_all, check)
    assert (open_to_all / "home/mine").stat().st_uid == OWNER


# ---- who is let into a task


def _seconds(number: int) -> str:
    """Return a time that only what these tests start sleeps for, as a word of a command line."""
    return f"{RUN}{number:02}"


def _marked(word: str) -> list[int]:
    """Return the processes of this machine with a word on their command lines."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(int(name))
    return found


def _confinement(pid: int) -> dict[str, str]:
    """Return all that keeps a process within its bounds, as this machine sees it."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    names = "Umask Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters"
    found = {name: status[name] for name in names.split()}
    found |= {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir(f"/proc/{pid}/ns")}
    found |= {name: os.readlink(f"/proc/{pid}/{name}") for name in ("cwd", "root")}
    return found | {name: Path(f"/proc/{pid}/{name}").read_text() for name in ("limits", "cgroup", "mountinfo")}


@pytest.mark.parametrize("terminal", [None, Terminal(80, 24)])
def test_what_runs_beside_a_task_is_as_confined_as_the_task(bench: Bench, terminal: Terminal | None) -> None:
    async def check(bench: Bench) -> None:
        launch = replace(bench.launch("sleep", _seconds(1)), gids=(OWNER + 7,), ulimits={"nofile": 777})
        async with bench.open() as runtime:
            await runtime.start(launch)
            async with runtime.attach(TASK, command(["sleep", _seconds(2)], terminal)):
                await eventually(lambda: _marked(_seconds(2)))
                (own,) = (pid for pid in _marked(_seconds(1)) if Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
                (beside,) = (pid for pid in _marked(_seconds(2)))
                expected = _confinement(own)
                assert expected["Seccomp"] == "2"
                assert _confinement(beside) == expected
                assert os.listdir(f"/proc/{beside}/fd") == ["0", "1", "2"]

    _run(check, bench)


@pytest.mark.parametrize("terminal", [None, Terminal(80, 24)])
def test_what_was_begun_beside_a_task_is_killed_with_all_below_it(bench: Bench, terminal: Terminal | None) -> None:
    words = [_seconds(number) for number in range(1, 6)]
    text = "trap '' HUP TERM; set -m; sleep {} & (setsid sleep {}; true) & (sleep {} & sleep {}) & sleep {}"

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            async with runtime.attach(TASK, command(["sh", "-c", text.format(*words)], terminal)):
                await eventually(lambda: all(_marked(word) for word in words))
            assert [word for word in words if _marked(word)] == []

    _run(check, bench)


def test_what_a_program_beside_a_task_leaves_behind_is_killed_and_holds_nobody_up(bench: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            async with runtime.attach(
                TASK, command(["sh", "-c", f"sleep {_seconds(21)} & echo said; exit 4"])
            ) as inside:
                assert (await rest(inside))[STDOUT] == b"said\n"
                assert await inside.wait() == 4
            assert _marked(_seconds(21)) == []

    _run(check, bench)


def test_a_signal_reaches_the_children_of_a_program_beside_a_task(bench: Bench) -> None:
    loop = "echo up; while :; do sleep 0.02; done"
    text = f"trap 'echo got; exit 5' INT; sh -c \"trap 'echo child; exit' INT; {loop}\"; wait"

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            async with runtime.attach(TASK, command(["sh", "-c", text])) as inside:
                await said_until(inside, b"up\n")
                await inside.signal(signal.SIGINT)
                assert (await rest(inside))[STDOUT] == b"child\ngot\n"
                assert await inside.wait() == 5

    _run(check, bench)


def test_a_terminal_hears_ctrl_c(bench: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            text = "trap 'echo got; exit 5' INT; echo up; while :; do sleep 0.02; done"
            async with runtime.attach(TASK, command(["sh", "-c", text], Terminal(80, 24))) as inside:
                await said_until(inside, b"up\r\n")
                await inside.send(b"\x03")
                assert b"got\r\n" in (await rest(inside))[STDOUT]
                assert await inside.wait() == 5

    _run(check, bench)


def test_a_daemon_that_is_killed_leaves_nothing_beside_a_task(bench: Bench) -> None:
    """In a container until there is another daemon, in a sandbox not even that long."""

    async def killed(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch("sleep", _seconds(31)))
            text = f"trap '' HUP TERM; sleep {_seconds(32)} & sleep {_seconds(33)}"
            async with runtime.attach(TASK, command(["sh", "-c", text], Terminal(80, 24))):
                await eventually(lambda: _marked(_seconds(32)) and _marked(_seconds(33)))
                os.kill(os.getpid(), signal.SIGKILL)

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(runtime.wait, TASK)
            await eventually(lambda: not _marked(_seconds(32)) and not _marked(_seconds(33)))
            assert _marked(_seconds(31)) != []
            nursery.cancel_scope.cancel()

    child = os.fork()
    if child == 0:
        try:
            _run(killed, bench)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    _run(check, bench)


def test_a_daemon_that_may_not_has_the_engine_end_what_runs_beside_a_task(
    docker_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(processes, "end_session", refuse)
    monkeypatch.setattr(processes, "send_to_group", refuse)

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            async with runtime.attach(TASK, command(["sh", "-c", f"sleep {_seconds(61)}; exit 5"])) as inside:
                await eventually(lambda: _marked(_seconds(61)))
                await inside.signal(signal.SIGTERM)
                assert await inside.wait() == 128 + signal.SIGTERM
            async with runtime.attach(TASK, command(["sh", "-c", f"trap '' TERM; sleep {_seconds(62)}; exit 5"])):
                await eventually(lambda: _marked(_seconds(62)))
            await eventually(lambda: not _marked(_seconds(62)))

    _run(check, docker_bench)


def test_a_sandbox_whose_keeper_was_killed_comes_to_its_end(sandbox: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            async with runtime.attach(TASK, command(["sleep", _seconds(41)])) as inside:
                await eventually(lambda: _marked(_seconds(41)))
                (beside,) = (processes.find(pid) for pid in _marked(_seconds(41)))
                assert beside is not None
                keeper = processes.find(beside.parent)
                assert keeper is not None
                processes.send(keeper, signal.SIGKILL)
                assert await inside.wait() == 128 + signal.SIGKILL
                await eventually(lambda: not _marked(_seconds(41)))
                await runtime.signal(TASK, signal.SIGTERM)
                assert await runtime.wait(TASK) == Exit(143, "killed by SIGTERM")

    _run(check, sandbox)


def test_an_ordinary_user_is_let_into_sandboxes(open_to_all: Path) -> None:
    async def check(bench: Bench) -> None:
        for each in ATTACH_CHECKS:
            if each.__name__ in OF_ORDINARY_USERS:
                try:
                    await each(bench)
                finally:
                    async with bench.open() as runtime:
                        await runtime.remove(TASK)
        async with bench.open() as runtime:
            await runtime.start(bench.launch("sleep", _seconds(51)))
            async with runtime.attach(TASK, command(["sleep", _seconds(52)])):
                await eventually(lambda: _marked(_seconds(52)))
                (own,) = (pid for pid in _marked(_seconds(51)) if Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
                (beside,) = _marked(_seconds(52))
                assert _confinement(beside) == _confinement(own)
            assert _marked(_seconds(52)) == []
            await runtime.remove(TASK)

    _as_ordinary_user(open_to_all, check)


def test_what_others_serve_on_the_machine_is_not_a_port_of_a_sandbox(sandbox: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            others = socket.create_server(("127.0.0.1", 0))
            with others, pytest.raises(PfsError, match="nothing listens there"):
                await runtime.dial(TASK, others.getsockname()[1])

    _run(check, sandbox)


def test_what_is_served_beside_a_task_is_a_port_of_the_task(bench: Bench) -> None:
    port = free_port()

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            serve = ["busybox", "nc", "-ll", "-p", str(port), "-e", "cat"]
            async with runtime.attach(TASK, command(serve)), aclosing(await dialled(runtime, port)) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some(100) == b"hello"

    _run(check, bench)


def test_a_program_in_a_sandbox_that_reads_no_more_is_told_of(sandbox: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            async with runtime.attach(TASK, command(["sh", "-c", "exec <&-; echo up; sleep 1000"])) as inside:
                await said_until(inside, b"up\n")
                with pytest.raises(PfsError, match="the program reads no more") as caught:
                    await inside.send(b"x")
                assert caught.value.kind is Kind.BUSY

    _run(check, sandbox)


def test_a_program_that_wrote_its_title_over_its_variables_is_joined_with_those_of_its_children(sandbox: Bench) -> None:
    over = "import ctypes, subprocess; c = ctypes.CDLL(None); at = ctypes.c_void_p.in_dll(c, 'environ').value; "
    over += "first = ctypes.cast(at, ctypes.POINTER(ctypes.c_void_p))[0]; child = subprocess.Popen(['sleep', '1000']); "
    over += "ctypes.memset(first, 0, len(open('/proc/self/environ', 'rb').read())); open('up', 'w'); child.wait()"

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch("python3", "-c", over))
            await eventually((bench.home / "up").exists)
            async with runtime.attach(TASK, command(["printenv", "HOME"])) as inside:
                assert await rest(inside) == {STDOUT: HOME.encode() + b"\n", STDERR: b""}

    _run(check, sandbox)


def test_what_is_no_program_is_refused_with_the_reason(bench: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            with pytest.raises(PfsError, match=f"^{HOME} cannot be run here: [Pp]ermission denied$") as caught:
                async with runtime.attach(TASK, command([HOME])):
                    raise AssertionError
            assert caught.value.kind is Kind.DENIED

    _run(check, bench)


# ---- what happens behind a runtime's back


def _supervisor(sandbox_state: Path) -> processes.Process:
    noted = record.read(sandbox_state / "tasks" / TASK)
    assert noted is not None
    assert noted.supervisor is not None
    found = processes.find(noted.supervisor[0])
    assert found is not None
    return found


def _is_alive(process: processes.Process) -> bool:
    """Tell whether a process is there, and not only waiting for whoever has to bury it."""
    now = processes.find(process.pid)
    return now is not None and now.start_ticks == process.start_ticks and not now.is_dead


def test_a_sandbox_that_writes_without_an_end_is_kept_as_far_as_its_cap_and_goes_on(
    tmp_path: Path, directories: tuple[Path, Path]
) -> None:
    kept_bytes = 128 * 1024

    async def check() -> None:
        runtime = SandboxRuntime(tmp_path / "state", output_bytes_max=kept_bytes)
        bench = Bench(lambda: nullcontext(runtime), *directories, uid=OWNER, image=None)
        lines = "seq 1 100000"
        try:
            await runtime.start(bench.launch("sh", "-c", f"{lines} && echo wrote all > done && {lines} && exit 3"))
            assert await runtime.wait(TASK) == Exit(3)
            assert (bench.home / "done").read_text() == "wrote all\n"
            whole = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
            assert await read(runtime) == whole[:kept_bytes]
        finally:
            await runtime.remove(TASK)

    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            await check()

    trio.run(main)


def test_a_killed_supervisor_takes_its_sandbox_with_it_and_is_told(sandbox: Bench, tmp_path: Path) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*ignores_term))
            await read_until(runtime, b"up\n")
            supervisor = _supervisor(tmp_path / "state")
            family = processes.descendants(supervisor)
            assert len(family) >= 3
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, runtime)
                processes.send(supervisor, signal.SIGKILL)
            assert await runtime.wait(TASK) == Exit(125, "the sandbox's supervisor was killed")
            # the last of them may be on its way out still
            await eventually(lambda: not [process for process in family if _is_alive(process)])

    _run(check, sandbox)


def test_a_term_for_the_supervisor_ends_nothing(sandbox: Bench, tmp_path: Path) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*waits_in_a_line))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                processes.send(_supervisor(tmp_path / "state"), number)
            (bench.home / "go").touch()
            assert await runtime.wait(TASK) == Exit(3)

    _run(check, sandbox)


def test_a_restart_of_the_machine_is_told(sandbox: Bench, tmp_path: Path) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps))
            file = tmp_path / "state/tasks" / TASK / record.NAME
            supervisor = _supervisor(tmp_path / "state")
            file.write_text(file.read_text().replace("boot ", "boot another-"))
            processes.send(supervisor, signal.SIGKILL)
            assert await runtime.wait(TASK) == Exit(125, "the machine was restarted")

    _run(check, sandbox)


def test_a_process_that_has_a_tasks_old_id_gets_none_of_its_signals(sandbox: Bench, tmp_path: Path) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*says_two_lines))
            await runtime.wait(TASK)
            # this very process stands in for a stranger
            file = tmp_path / "state/tasks" / TASK / record.NAME
            file.write_text(f"boot {boot_id()} x\npid {os.getpid()} 1\nstarted\nexit 0\n")
            await runtime.signal(TASK, signal.SIGKILL)
            await runtime.remove(TASK)

    _run(check, sandbox)


def test_a_removed_container_is_told(docker_bench: Bench, engine_url: str) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*ignores_term))
            await read_until(runtime, b"up\n")
            with docker_client(engine_url) as client:
                client.remove_container(_container(client), force=True)
            assert await runtime.wait(TASK) == Exit(125, "its container was removed behind the node's back")
            assert await read(runtime) == b"up\n"

    _run(check, docker_bench)


def test_a_list_stands_beside_what_the_image_says_of_it(docker_bench: Bench, engine_url: str) -> None:
    name = "pfs-test-env:1"
    with docker_client(engine_url) as client:
        made = client.create_container(BUSYBOX_IMAGE, ["true"])
        said = {"Env": ["PYTHONPATH=/opt/a:/opt/b", "LD_LIBRARY_PATH=/opt/lib", "GREETING=x"]}
        client.commit(made["Id"], *name.split(":"), conf=said)
        client.remove_container(made["Id"])

    async def check(bench: Bench) -> None:
        launch = replace(bench.launch("sh", "-c", 'echo "$PYTHONPATH" "$LD_LIBRARY_PATH" "$GREETING"'), image=name)
        async with bench.open() as runtime:
            own = {"PYTHONPATH": "/pkg", "LD_LIBRARY_PATH": "/lib64", "GREETING": "y"}
            sides = {"PYTHONPATH": Side.BEFORE, "LD_LIBRARY_PATH": Side.BEHIND}
            await runtime.start(replace(launch, env=own, extended=sides))
            assert await read(runtime) == b"/pkg:/opt/a:/opt/b /opt/lib:/lib64 y\n"

    _run(check, docker_bench)
    with docker_client(engine_url) as client:
        client.remove_image(name, force=True)


def test_a_container_killed_by_somebody_else_is_told(docker_bench: Bench, engine_url: str) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*ignores_term))
            with docker_client(engine_url) as client:
                client.kill(_container(client))
            assert await runtime.wait(TASK) == Exit(137, "killed by SIGKILL")

    _run(check, docker_bench)


def test_a_container_that_was_made_and_not_started_is_not_started_before_it_is_asked_for_again(
    docker_bench: Bench, engine_url: str, tmp_path: Path
) -> None:
    """A daemon that was killed between the two leaves that behind; meanwhile another node may have got the task."""

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps, task_id="17.1.0.1"))
            with docker_client(engine_url) as client:
                name = _container(client).replace("17.1.0.1", TASK)
                config = client.inspect_container(_container(client))["Config"]
                labels = {**config["Labels"], "pfs.task": TASK}
                client.create_container(config["Image"], ["sh", "-c", "echo late; exit 6"], name=name, labels=labels)
                labels["pfs.task"] = "17.1.0.2"
                client.create_container(config["Image"], ["true"], name=name.replace(TASK, "17.1.0.2"), labels=labels)
            (tmp_path / "state/tasks" / TASK).mkdir()
            (tmp_path / "state/tasks" / TASK / "container").touch()
            # what nobody wrote down is what an engine made after its maker had gone
            assert await runtime.tasks() == ["17.1.0.1"]
            with docker_client(engine_url) as client:
                assert not client.containers(all=True, filters={"label": f"pfs.task={TASK}"})
            await runtime.start(bench.launch("sh", "-c", "echo again; exit 6"))
            assert await runtime.wait(TASK) == Exit(6)
            assert await read(runtime) == b"again\n"

    _run(check, docker_bench)


def test_memory_is_limited_and_running_out_of_it_is_told(docker_bench: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            text = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
            await runtime.start(replace(bench.launch("sh", "-c", text), memory_bytes=32 << 20, cpus=0.5))
            assert await runtime.wait(TASK) == Exit(137, "killed: out of memory")

    _run(check, docker_bench)


def test_a_child_that_ran_out_of_memory_is_told_with_its_parents_own_exit(docker_bench: Bench) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            child = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
            launch = bench.launch("sh", "-c", f"sh -c '{child}'; echo a child is gone; exit 3")
            await runtime.start(replace(launch, memory_bytes=32 << 20))
            assert await runtime.wait(TASK) == Exit(3, "killed: out of memory")
            # the shell's own word for it comes by another stream, before or after
            assert b"a child is gone\n" in await read(runtime)

    _run(check, docker_bench)


def test_what_ended_a_task_is_told_in_words(bench: Bench) -> None:
    ends = {
        "kill -SEGV $$": Exit(139, "killed by SIGSEGV"),
        "sh -c 'kill -ABRT $$'; exit $?": Exit(134, "killed by SIGABRT"),
        "exec /tmp": Exit(126, "a program could not be executed"),
        "exit 129": Exit(129),
    }

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            for number, (command, end) in enumerate(ends.items()):
                task_id = f"{number}.1.0.0"
                await runtime.start(bench.launch("sh", "-c", command, task_id=task_id))
                assert await runtime.wait(task_id) == end, command

    _run(check, bench)


@dataclass
class Server:
    """A server's end of a channel for output: it keeps so much of a job's log."""

    store: LogStore

    async def ask(self, op: str, args: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        pieces = [(int(time_ns), int(length)) for time_ns, length in args["pieces"]]
        offset = await self.store.append(17, 1, 0, int(args["offset"]), pieces=pieces, data=body)
        return {"offset": offset}, b""


def test_a_container_that_prints_thrice_what_is_kept_takes_no_more_of_the_disk_and_the_log_says_so(
    engine_url: str, image: str, tmp_path: Path, directories: tuple[Path, Path]
) -> None:
    """Two daemons after one another: the first one sees the beginning, the second one how it becomes too much."""
    server_bytes, kept_bytes, whole = 256 * 1024, 320 * 1024, "".join(f"{number}\n" for number in range(1, 180_001))
    rest = "for i in $(seq 3 2 177); do seq ${i}001 $((i+2))000; sleep 0.05; done; seq 179001 180000; touch done"
    text = f"seq 1 3000; while [ ! -e go ]; do sleep 0.02; done; {rest}; exit 3"
    assert len(whole) > 3 * kept_bytes
    (tmp_path / "jobs/17").mkdir(parents=True)
    server = Server(LogStore(str(tmp_path / "jobs"), bytes_max=server_bytes))
    name = f"cap{os.getpid()}"

    def opened() -> AbstractAsyncContextManager[DockerRuntime]:
        return open_docker(engine_url, tmp_path / "state", name, output_bytes_max=kept_bytes)

    async def shipped(runtime: Runtime) -> int:
        offset = await server.store.offset_of(17, 1, 0)
        return await ship(cast("Channel", server), runtime, TASK, offset)

    async def main() -> None:
        bench = Bench(opened, *directories, uid=OWNER, image=image)
        async with opened() as runtime, trio.open_nursery() as nursery:
            await runtime.start(bench.launch("sh", "-c", text))
            nursery.start_soon(shipped, runtime)
            await read_until(runtime, b"\n3000\n")
            nursery.cancel_scope.cancel()
        async with opened() as runtime:
            await runtime.tasks()
            async with aclosing(runtime.output(TASK, len(whole[: whole.index("\n3000\n")]))) as chunks:
                assert await anext(chunks)
            (bench.home / "go").touch()
            assert await shipped(runtime) == (tmp_path / "state/tasks" / TASK / "output").stat().st_size
            assert await runtime.wait(TASK) == Exit(3)
            assert (bench.home / "done").exists()
            assert _size(tmp_path / "state/tasks") <= kept_bytes + 4096
            with docker_client(engine_url) as client:
                container = client.inspect_container(runtime.container(TASK))["Id"]
                root = Path(client.info()["DockerRootDir"], "containers", container, "local-logs")
            assert 0 < _size(root) <= 2.1 * kept_bytes
            await runtime.remove(TASK)
        logs = tmp_path / "jobs/17/logs"
        own = (logs / "worker-0.log").read_text()
        assert whole.startswith(own)
        assert len(own) > 3000 * 4
        assert (logs / "job.log").read_text().count("The log has reached its 256KiB") == 1

    trio.run(_within_the_limit, main)


async def _within_the_limit(main: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(LIMIT_S):
        await main()


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def test_what_a_container_prints_beyond_the_engines_log_while_no_daemon_is_there_is_told_as_lost(
    engine_url: str, image: str, tmp_path: Path, directories: tuple[Path, Path]
) -> None:
    text = "echo first; while [ ! -e go ]; do sleep 0.02; done; seq 1 50000; exit 3"

    def opened() -> AbstractAsyncContextManager[DockerRuntime]:
        return open_docker(engine_url, tmp_path / "state", f"lost{os.getpid()}", output_bytes_max=128 * 1024)

    async def main() -> None:
        bench = Bench(opened, *directories, uid=OWNER, image=image)
        async with opened() as runtime:
            await runtime.start(bench.launch("sh", "-c", text))
            await read_until(runtime, b"first\n")
        (bench.home / "go").touch()
        with docker_client(engine_url) as client:
            client.wait(f"pfs-{TASK}-lost{os.getpid()}", timeout=60)
        async with opened() as runtime:
            assert await runtime.wait(TASK) == Exit(3, LOST)
            assert await read(runtime) == b"first\n"
            await runtime.remove(TASK)

    trio.run(_within_the_limit, main)


def test_a_container_that_writes_more_than_it_may_outside_its_mounts_is_ended_with_the_numbers(
    docker_bench: Bench, engine_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diskuse, "LOOK_EVERY_S", 0.2)
    mib = 1 << 20

    async def check(bench: Bench) -> None:
        text = f"dd if=/dev/zero of={HOME}/own bs=1M count=40; echo own; while [ ! -e go ]; do sleep 0.02; done"
        text += "; dd if=/dev/zero of=/tmp/big bs=1M count=64; echo all; sleep 600"
        async with bench.open() as runtime:
            # what it writes into its mounts and in memory does not count
            memory = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2> /dev/null"
            launch = bench.launch("sh", "-c", f"{memory}; {text}")
            await runtime.start(replace(launch, disk_bytes=32 * mib))
            await read_until(runtime, b"own\n")
            await trio.sleep(1)
            assert runtime.trouble == ""
            with docker_client(engine_url) as client:
                told = client.inspect_container(_container(client))
            mounts = Path(f"/proc/{told['State']['Pid']}/mountinfo").read_text()
            assert written_at(told) in ([], written_at({}, mounts))
            (bench.home / "go").touch()
        # the limit is the container's own: a daemon that comes later keeps it, too
        async with bench.open() as runtime:
            end = await runtime.wait(TASK)
            assert end.code == 137
            found = re.fullmatch(r"disk: ([0-9.]+) GiB written outside the mounts, 0.0312 GiB allowed", end.reason)
            assert found is not None, end
            assert 32 * mib <= float(found[1]) * 1024 * mib < 80 * mib

    _run(check, docker_bench)


def test_an_image_that_is_not_there_fails_the_start_with_the_engines_words(
    docker_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobd.node.images.PAUSES_S", (0.01,))

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            launch = replace(bench.launch("true"), image="registry.invalid/no/such:image")
            with pytest.raises(RuntimeFailure, match=r"no image 'registry.invalid/no/such:image': .*registry.invalid"):
                await runtime.start(launch)
            assert await runtime.tasks() == []

    _run(check, docker_bench)


def test_daemons_on_one_engine_leave_each_others_tasks_alone(
    docker_bench: Bench, engine_url: str, tmp_path: Path
) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime, open_docker(engine_url, tmp_path / "other", "other") as other:
            await runtime.start(bench.launch(*sleeps))
            assert await other.tasks() == []
            await other.remove(TASK)
            await other.start(bench.launch(*says_two_lines))
            assert await read(other) == b"one\ntwo\n"
            await other.remove(TASK)
            assert await runtime.tasks() == [TASK]

    _run(check, docker_bench)


def _container(client: object) -> str:
    """Return the name of the only container of this test."""
    containers = client.containers(all=True, filters={"label": f"pfs.node-state=test{os.getpid()}"})  # type: ignore[attr-defined]
    (name,) = (container["Names"][0].lstrip("/") for container in containers)
    return str(name)


def test_no_engine_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeAway, match=r"does not answer \(No such file or directory\)$"):
            async with open_docker(f"unix://{tmp_path}/none", tmp_path / "state", "x"):
                raise AssertionError

    trio.run(main)


@pytest.mark.parametrize(("status", "body"), [(404, b'{"error": "x"}'), (200, b"[]"), (200, b"{}")])
def test_what_is_no_engine_is_said(tmp_path: Path, status: int, body: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    async def main(url: str) -> None:
        with pytest.raises(RuntimeAway, match=f"^what answers at {url} is no container engine$"):
            async with open_docker(url, tmp_path / "state", "x"):
                raise AssertionError

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            trio.run(main, f"tcp://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


# ---- an engine of its own that is stopped and killed


# the SDK leaves a socket open when the engine goes in the middle of a call
disturbed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def fragile() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        with docker_client(engine.base_url) as client:
            busybox_image(client)
        yield engine


def _bench_of(runtime: Runtime, directories: tuple[Path, Path]) -> Bench:
    return Bench(lambda: nullcontext(runtime), *directories, uid=OWNER, image=BUSYBOX_IMAGE)


@disturbed
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_that_was_restarted_ended_the_task(
    fragile: OwnEngine, tmp_path: Path, directories: tuple[Path, Path], how: signal.Signals
) -> None:
    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            async with open_docker(fragile.base_url, tmp_path / "state", f"test{how}") as runtime:
                launch = _bench_of(runtime, directories).launch(*sleeps)
                await runtime.start(launch)
                await trio.to_thread.run_sync(fragile.stop, how)
                with pytest.raises(RuntimeAway):
                    await runtime.signal(TASK, signal.SIGTERM)
                await trio.to_thread.run_sync(fragile.start)
                end = await runtime.wait(TASK)
                assert end == Exit(125, "the container engine was restarted and ended the task")
                await runtime.remove(TASK)

    trio.run(main)


@disturbed
def test_a_task_that_ended_while_the_engine_was_dead_has_its_own_exit_code(
    fragile: OwnEngine, tmp_path: Path, directories: tuple[Path, Path]
) -> None:
    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            async with open_docker(fragile.base_url, tmp_path / "state", "test-own") as runtime:
                launch = _bench_of(runtime, directories).launch(
                    "sh", "-c", f"echo before; while [ ! -e {HOME}/go ]; do sleep 0.02; done; exit 3"
                )
                await runtime.start(launch)
                await read_until(runtime, b"before")
                await trio.to_thread.run_sync(fragile.stop, signal.SIGKILL)
                (directories[0] / "go").touch()
                await trio.sleep(1)
                await trio.to_thread.run_sync(fragile.start)
                assert await runtime.wait(TASK) == Exit(3)
                assert await read(runtime) == b"before\n"
                await runtime.remove(TASK)

    trio.run(main)


@disturbed
def test_an_engine_that_hangs_is_told_and_all_is_done_once_when_it_answers_again(
    fragile: OwnEngine, tmp_path: Path, directories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginewatch, "KNOCK_EVERY_S", 0.2)
    monkeypatch.setattr("jobd.node.engine.KNOCK_TIMEOUT_S", 1.0)
    other, third, told = "17.1.0.1", "17.1.0.2", list[str]()

    async def check(runtime: DockerRuntime) -> None:
        bench = _bench_of(runtime, directories)
        await runtime.start(bench.launch(*sleeps))
        async with trio.open_nursery() as nursery:
            fragile.signal(signal.SIGSTOP)
            try:
                # one is asked for before anybody knows, and one after
                mark = ("sh", "-c", f"echo ran >> {HOME}/runs")
                nursery.start_soon(runtime.start, bench.launch(*mark, task_id=other))
                await eventually(lambda: "has not answered within" in runtime.trouble)
                nursery.start_soon(runtime.start, bench.launch(*mark, task_id=third), told.append)
                await eventually(lambda: told)
                with pytest.raises(RuntimeAway, match="has not answered within"):
                    await runtime.signal(TASK, signal.SIGTERM)
            finally:
                fragile.signal(signal.SIGCONT)
        for task_id in (other, third):
            assert await runtime.wait(task_id) == Exit(0)
        assert (bench.home / "runs").read_text() == "ran\n" * 2
        await eventually(lambda: not runtime.trouble)
        await runtime.signal(TASK, signal.SIGTERM)
        assert await runtime.wait(TASK) == Exit(143, "killed by SIGTERM")
        for task_id in (TASK, other, third):
            await runtime.remove(task_id)
        assert "has not answered within" in told[0]

    async def main() -> None:
        async with open_docker(fragile.base_url, tmp_path / "state", "test-hangs") as runtime:
            await check(runtime)

    trio.run(_within_the_limit, main)


@dataclass(frozen=True)
class Lasting:
    """An engine whose containers outlive it, on a file system that may have quotas for projects."""

    engine: OwnEngine
    has_quotas: bool


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    image, place = tmp_path_factory.mktemp("xfs") / "image", tmp_path_factory.mktemp("data")
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    made = shutil.which("mkfs.xfs") is not None and not subprocess.call(["mkfs.xfs", "-q", str(image)])
    mounted = [made and _mounts(image, place, options) for options in ("loop,pquota", "loop") if made]
    try:
        with own_engine("--live-restore", f"--data-root={place}") as engine:
            with docker_client(engine.base_url) as client:
                busybox_image(client)
            yield Lasting(engine, bool(mounted) and mounted[0])
    finally:
        # an engine mounts its directory once more, upon itself, which os.path.ismount does not see
        while not subprocess.call(["umount", "-l", str(place)], stderr=subprocess.DEVNULL):
            pass


def _mounts(image: Path, place: Path, options: str) -> bool:
    if os.path.ismount(place):
        return False
    return subprocess.run(["mount", "-o", options, str(image), str(place)], check=False).returncode == 0


@disturbed
def test_a_task_lives_on_through_a_restart_of_an_engine_that_lets_it(
    lasting: Lasting, tmp_path: Path, directories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginewatch, "KNOCK_EVERY_S", 0.2)
    text = f"i=0; while [ ! -e {HOME}/go ]; do i=$((i+1)); echo $i; sleep 0.01; done; kill -9 $$"
    engine = lasting.engine

    async def main() -> None:
        async with open_docker(engine.base_url, tmp_path / "state", "test-lasts") as runtime:
            await runtime.start(_bench_of(runtime, directories).launch("sh", "-c", text))
            await read_until(runtime, b"\n5\n")
            asked = runtime.times_renewed
            await trio.to_thread.run_sync(engine.stop)
            await eventually(lambda: "does not answer" in runtime.trouble)
            await trio.to_thread.run_sync(engine.start)
            await eventually(lambda: not runtime.trouble and runtime.times_renewed > asked)
            seen = int((await read_until(runtime, b"5\n")).split()[-1])
            await read_until(runtime, f"\n{seen + 200}\n".encode())
            (directories[0] / "go").touch()
            # its own end, not the engine's
            assert await runtime.wait(TASK) == Exit(137, "killed by SIGKILL")
            numbers = (await read(runtime)).decode().split()
            assert numbers == [str(number + 1) for number in range(len(numbers))]
            await runtime.remove(TASK)

    trio.run(_within_the_limit, main)


def test_an_engine_is_told_the_limit_of_the_disk_where_its_storage_can_keep_it(
    lasting: Lasting, tmp_path: Path, directories: tuple[Path, Path]
) -> None:
    """One that is asked and cannot runs the container without."""

    async def main() -> None:
        async with open_docker(lasting.engine.base_url, tmp_path / "state", "test-quotas") as runtime:
            launch = _bench_of(runtime, directories).launch(
                "sh", "-c", "dd if=/dev/zero of=/tmp/big bs=1M count=64 2>&1 | grep -o 'No space left on device'"
            )
            await runtime.start(replace(launch, disk_bytes=16 << 20))
            assert await read(runtime) == (b"No space left on device\n" if lasting.has_quotas else b"")
            await runtime.remove(TASK)

    trio.run(_within_the_limit, main)
