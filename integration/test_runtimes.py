"""The real runtimes keep the promises of every runtime, and those that are their own."""

import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from integration.engine import BUSYBOX_IMAGE, OwnEngine, busybox_image, docker_client, engine, own_engine
from jobd.node import processes, record
from jobd.node.docker import open_docker
from jobd.node.runtime import Exit, Runtime, RuntimeAway, RuntimeFailure
from jobd.node.sandbox import SandboxRuntime, probe
from jobd.node.state import boot_id
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
        async with open_docker(engine_url, tmp_path / "state", f"test{os.getpid()}") as runtime:
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


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
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


def test_an_ordinary_user_can_run_sandboxes(tmp_path: Path) -> None:
    """The node daemon of somebody without root: in a child process that has become that user."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o001)
    for name in ("state", "home", "shared"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, OWNER, OWNER)

    @asynccontextmanager
    async def open_runtime() -> AsyncIterator[Runtime]:
        yield SandboxRuntime(tmp_path / "state")

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

    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(OWNER, OWNER, OWNER)
            os.setresuid(OWNER, OWNER, OWNER)
            _run(check, Bench(open_runtime, tmp_path / "home", tmp_path / "shared", uid=None, image=None))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "home/mine").stat().st_uid == OWNER


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


def test_a_container_killed_by_somebody_else_is_told(docker_bench: Bench, engine_url: str) -> None:
    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*ignores_term))
            with docker_client(engine_url) as client:
                client.kill(_container(client))
            assert await runtime.wait(TASK) == Exit(137, "killed by SIGKILL")

    _run(check, docker_bench)


def test_a_container_that_was_made_and_not_started_is_started(docker_bench: Bench, engine_url: str) -> None:
    """A daemon that was killed between the two leaves that behind."""

    async def check(bench: Bench) -> None:
        async with bench.open() as runtime:
            await runtime.start(bench.launch(*sleeps, task_id="17.1.0.1"))
            with docker_client(engine_url) as client:
                name = _container(client).replace("17.1.0.1", TASK)
                config = client.inspect_container(_container(client))["Config"]
                labels = {**config["Labels"], "pfs.task": TASK}
                client.create_container(config["Image"], ["sh", "-c", "echo late; exit 6"], name=name, labels=labels)
            assert await runtime.tasks() == [TASK, "17.1.0.1"]
            assert await runtime.wait(TASK) == Exit(6)
            assert await read(runtime) == b"late\n"

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


def test_an_image_that_is_not_there_fails_the_start_with_the_engines_words(docker_bench: Bench) -> None:
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
        with pytest.raises(RuntimeAway, match="does not answer"):
            async with open_docker(f"unix://{tmp_path}/none", tmp_path / "state", "x"):
                raise AssertionError

    trio.run(main)


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
