"""From submission to the first byte that the container writes, against a bare `docker run` of the same image.

Rounds alternate, so that a machine whose speed drifts is fair to both. A second table shows how long a byte takes
from the container's write to a reader that waits in `cat log`.
"""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import docker

from integration.box import Box, box
from integration.engine import docker_client, python_image
from integration.hosts import hosts, on_network_of

ROUNDS = 11
LINES = 100
PROGRAM = "import time; print('first', flush=True)"
CLOCK = f"import time\nfor _ in range({LINES}):\n    time.sleep(0.05)\n    print(time.time_ns(), flush=True)\n"


@contextmanager
def beside_an_engine(image: Callable[[docker.APIClient], str], *, near: bool = True) -> Iterator[tuple[Box, str, str]]:
    """Give a datacenter with a node, the URL of the node's engine and the name of an image there.

    Args:
        near: the node is on the network of its engine, as on every machine; else it can put up no wall there.
    """
    with ExitStack() as stack:
        (host,) = stack.enter_context(hosts(1))
        if near:
            stack.enter_context(on_network_of(host))
        url = host.engine.base_url
        client = stack.enter_context(docker_client(url))
        made = stack.enter_context(box())
        name = image(client)
        made.start_server()
        made.start_node(docker=url)
        yield made, url, name


def bare_s(url: str, image: str) -> float:
    """Return how long `docker run` takes to its program's first byte."""
    begun = time.perf_counter()
    command = ["docker", "--host", url, "run", "--rm", image, "python3", "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"f"
        took_s = time.perf_counter() - begun
        process.stdout.read()
    assert process.returncode == 0
    return took_s


def ours_s(made: Box, image: str, number: int) -> float:
    """Return how long it takes from writing the spec to reading the program's first byte through the mount."""
    jobs = made.dc / "jobs"
    spec = f'{{"image": "{image}", "command": ["python3", "-c", "{PROGRAM}"]}}\n'
    begun = time.perf_counter()
    (jobs / f"start{number}.json").write_text(spec)
    with open(jobs / f"start{number}" / "log", "rb", buffering=0) as log:
        text = b""
        while b"] first" not in text:
            text += log.read(65536)
        took_s = time.perf_counter() - begun
        while log.read(65536):
            pass
    return took_s


def latencies_ms(made: Box, image: str) -> list[float]:
    """Return the time of each line from the container's write to a waiting reader."""
    jobs = made.dc / "jobs"
    home = made.dc / "home/demo/clock.py"
    home.write_text(CLOCK)
    (jobs / "clock.yaml").write_text(f"image: {image}\ncommand: python3 $USER_DIR/clock.py\n")
    found: list[float] = []
    with open(jobs / "clock" / "log", "rb", buffering=0) as log:
        while text := log.read(65536):
            now_ns = time.time_ns()
            found += [(now_ns - int(stamp)) / 1e6 for stamp in re.findall(rb"\[worker 0\] (\d{15,})\n", text)]
    return found


def row(name: str, values: Sequence[float], unit: str) -> str:
    """Return one line of the table."""
    least, most = min(values), max(values)
    return f"{name:<46} {statistics.median(values):9.3f} {least:9.3f} {most:9.3f}  {unit}"


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with beside_an_engine(python_image) as (made, url, image):
        made.mount()
        bare, ours = [bare_s(url, image)], [ours_s(made, image, 0)]  # not counted: caches are cold
        bare.clear()
        ours.clear()
        for number in range(1, rounds + 1):
            bare.append(bare_s(url, image))
            ours.append(ours_s(made, image, number))
        delays_ms = latencies_ms(made, image)
    print(f"{'':<46} {'median':>9} {'min':>9} {'max':>9}   ({rounds} rounds, {len(delays_ms)} lines)")
    print(row("docker run, to the first byte", bare, "s"))
    print(row("spec written, to the first byte in `cat log`", ours, "s"))
    print(row("ratio", [a / b for a, b in zip(ours, bare, strict=True)], "x"))
    print(row("container's write to a waiting `cat log`", delays_ms, "ms"))


if __name__ == "__main__":
    main()
