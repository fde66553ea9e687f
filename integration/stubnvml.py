"""GPUs where there are none: a `libnvidia-ml.so.1` of the tests' own, which a node loads as it would load NVIDIA's.

    with stub_gpus(["GeForce GTX 1070"] * 2) as env:
        …start gradient-node with `env` in its environment

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
