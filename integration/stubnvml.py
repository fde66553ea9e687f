"""GPUs where there are none: a `libnvidia-ml.so.1` of the tests' own, which a node loads as it would load NVIDIA's.

    with stub_gpus(["GeForce GTX 1070"] * 2) as env:
        …start gradient-node with `env` in its environment
    with changing_gpus(["NVIDIA H200"]) as (env, gpus):
        gpus.are({0: ["lost"]})       what it finds from now on: the words are those of `nvml.c`

It is compiled from `nvml.c` on the spot. By hand: `.venv/bin/python -m integration.stubnvml FOLDER MODEL…` leaves the
library in FOLDER and prints the variables.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

MEMORY_BYTES = 8 << 30
_SOURCE = Path(__file__).with_name("nvml.c")


@contextmanager
def stub_gpus(models: Sequence[str], host: str = "") -> Iterator[dict[str, str]]:
    """Give the variables with which a program finds GPUs of these models, while the block runs.

    Args:
        host: tells the GPUs of one host from another's, which have UUIDs of their own.
    """
    directory = Path(tempfile.mkdtemp(prefix="pfs-nvml-"))
    try:
        compile_stub(directory)
        yield {"LD_LIBRARY_PATH": str(directory), "PFS_STUB_GPUS": gpu_lines(models, host)}
    finally:
        shutil.rmtree(directory)


class ChangingGpus:
    """GPUs that fail, and are well again, while programs look at them."""

    def __init__(self, path: Path, models: Sequence[str], host: str) -> None:
        self._path = path
        self._models = models
        self._host = host
        self.are({})

    def are(self, signs: Mapping[int, Sequence[str]]) -> None:
        """Say how some of them do, by their numbers; the others are well, and do nothing."""
        lines = gpu_lines(self._models, self._host).splitlines(keepends=True)
        text = "".join(line + "".join(f" {sign}\n" for sign in signs.get(i, ())) for i, line in enumerate(lines))
        self._replace(text)

    def fail(self) -> None:
        """Let the driver not fit the library."""
        self._replace("broken")

    def _replace(self, text: str) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self._path)


@contextmanager
def changing_gpus(models: Sequence[str], host: str = "") -> Iterator[tuple[dict[str, str], ChangingGpus]]:
    """Like `stub_gpus`; give what changes the GPUs as well."""
    with stub_gpus(models, host) as env:
        path = Path(env["LD_LIBRARY_PATH"]) / "gpus"
        yield {**env, "PFS_STUB_GPUS": f"@{path}"}, ChangingGpus(path, models, host)


def compile_stub(directory: Path) -> None:
    """Make the library in `directory`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "these tests need a C compiler: install gcc and libc6-dev"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(directory / "libnvidia-ml.so.1"), str(_SOURCE)]
    subprocess.run(command, check=True, timeout=60)


def gpu_lines(models: Sequence[str], host: str = "") -> str:
    """Return the GPUs as the library reads them."""
    return "".join(f"{uuid} {MEMORY_BYTES} {model}\n" for uuid, model in zip(uuids(models, host), models, strict=True))


def uuids(models: Sequence[str], host: str = "") -> list[str]:
    """Return the UUIDs of the GPUs, in their order."""
    marks = (hashlib.sha256(f"{host} {index} {model}".encode()).hexdigest() for index, model in enumerate(models))
    return [f"GPU-{m[:8]}-{m[8:12]}-{m[12:16]}-{m[16:20]}-{m[20:32]}" for m in marks]


def _by_hand(folder: str, models: Sequence[str]) -> Mapping[str, str]:
    directory = Path(folder).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    compile_stub(directory)
    return {"LD_LIBRARY_PATH": str(directory), "PFS_STUB_GPUS": gpu_lines(models)}


if __name__ == "__main__":
    for name, value in _by_hand(sys.argv[1], sys.argv[2:]).items():
        print(f"export {name}='{value}'")
