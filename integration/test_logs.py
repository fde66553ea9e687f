"""What processes write arrives byte for byte, fast and in little memory. In full size: `python -m integration.logs`."""

import signal
from collections.abc import Iterator

import pytest

from integration import logs
from integration.box import Box, box, wait_until
from integration.engine import busybox_image, docker_client, engine
from integration.memory import Memory

SECONDS = 2
LINES = SECONDS * logs.LINES_PER_S
MIB = 64


@pytest.fixture(scope="module")
def engine_url() -> Iterator[str]:
    with engine() as url:
        yield url


@pytest.fixture(scope="module")
def made(engine_url: str) -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node(docker=engine_url)
        made.mount()
        yield made


@pytest.fixture(params=["sandbox", "docker"])
def where(request: pytest.FixtureRequest, engine_url: str) -> list[str]:
    """Return the lines of a spec that say where the job runs."""
    if request.param == "sandbox":
        return []
    with docker_client(engine_url) as client:
        return [f"image: {busybox_image(client)}"]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[5:45].strip("-")


def check_memory(made: Box) -> None:
    for who in ("server", "n0"):
        memory = Memory.of(made.processes[who].pid)
        print(f"{who}: {memory}")
        assert memory.most < logs.MIB_MAX, who


def test_ten_thousand_lines_a_second(made: Box, where: list[str], name: str) -> None:
    directory = logs.submit(made, name, logs.printing(LINES), *where)
    assert logs.ended(made, name) == "0"
    assert logs.is_whole(directory, logs.lines_of(LINES))
    check_memory(made)


def test_a_line_without_an_end(made: Box, where: list[str], name: str) -> None:
    directory = logs.submit(made, name, logs.LINE.format(mib=MIB), *where)
    assert logs.ended(made, name) == "0"
    assert logs.is_whole(directory, logs.ones(MIB), end=b"\n")
    check_memory(made)


def test_bytes_that_are_no_text(made: Box, where: list[str], name: str) -> None:
    script = "head -c 3000000 /dev/urandom > $USER_DIR/raw; cat $USER_DIR/raw"
    directory = logs.submit(made, name, script, *where)
    assert logs.ended(made, name) == "0"
    assert (directory / "worker-0.log").read_bytes() == (made.data / "home/demo/raw").read_bytes()


def test_the_lines_of_several_processes(made: Box, where: list[str], name: str) -> None:
    some = "$((2000 * (WORKER_INDEX + 1)))"
    directory = logs.submit(made, name, logs.printing(some), *where, 'resources: "3:[]"')
    assert logs.ended(made, name) == "0"
    for worker in range(3):
        assert logs.is_whole(directory, logs.lines_of(2000 * (worker + 1)), worker=worker)
    check_memory(made)


def test_lines_while_server_and_node_are_killed(made: Box, engine_url: str, where: list[str], name: str) -> None:
    count = 2 * LINES
    directory = logs.submit(made, name, logs.printing(count), *where)
    wait_until((directory / "worker-0.log").exists)
    made.end("server", signal.SIGKILL)
    made.start_server()
    made.end("n0", signal.SIGKILL)
    made.start_node(docker=engine_url)
    assert logs.ended(made, name) == "0"
    assert logs.is_whole(directory, logs.lines_of(count))
