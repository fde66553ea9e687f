"""GPUs as NVIDIA's library tells of them, loaded by a program of its own as a node loads it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from integration.stubnvml import MEMORY_BYTES, changing_gpus, stub_gpus, uuids
from jobd.node.gpus import Gpu, Look
from jobd.node.runtime import Launch
from jobd.node.sandbox import SandboxRuntime, probe
from jobd.wire import GpuReading, NodeGpu

PROGRAM = "from jobd.node import gpus; print(repr(gpus.look()))"
MODELS = ["NVIDIA GeForce GTX 1070", "NVIDIA H200"]


def _look(env: Mapping[str, str], program: str = PROGRAM) -> Look:
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**plain, **env}, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == ""
    names = {"Look": Look, "Gpu": Gpu, "NodeGpu": NodeGpu, "GpuReading": GpuReading}
    found = eval(done.stdout, {"__builtins__": {}}, names)
    assert isinstance(found, Look)
    return found


def test_gpus_are_told_with_all_that_a_node_tells_of_them() -> None:
    with changing_gpus(MODELS) as (env, gpus):
        gpus.are({1: ["util 37", "temperature 61", "process 71 1024", "process 72 4096"]})
        found = _look(env)
    one, two = uuids(MODELS)
    idle, busy = GpuReading(0, 30, 0, {}), GpuReading(37, 61, 5120, {71: 1024, 72: 4096})
    assert found == Look(
        (
            Gpu(NodeGpu(one, 0, MODELS[0], MEMORY_BYTES), ("nvidia0",), "serial0", idle),
            Gpu(NodeGpu(two, 1, MODELS[1], MEMORY_BYTES), ("nvidia1",), "serial1", busy),
        ),
        {},
        "575.1",
    )


def test_a_divided_gpu_is_its_instances() -> None:
    parts = ["mig MIG-1 1024 7 0 NVIDIA H200 MIG 1g.18gb", "mig MIG-2 2048 8 0 NVIDIA H200 MIG 2g.35gb"]
    with changing_gpus(MODELS) as (env, gpus):
        gpus.are({1: [*parts, "ecc 1", "temperature 50"]})
        found = _look(env)
    parent, ill = uuids(MODELS)[1], "1 error of its memory could not be corrected since the driver was loaded"
    assert [gpu.told for gpu in found.gpus[1:]] == [
        NodeGpu("MIG-1", 1, "NVIDIA H200 MIG 1g.18gb", 1024, 0, parent, ill),
        NodeGpu("MIG-2", 1, "NVIDIA H200 MIG 2g.35gb", 2048, 1, parent, ill),
    ]
    assert found.gpus[1].reading == GpuReading(None, 50, 0, {})


def _are_real() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True, timeout=60).returncode == 0


real = pytest.mark.skipif(not _are_real(), reason="there is no GPU here")


@real
def test_real_gpus_are_told_as_nvidias_own_program_tells_of_them() -> None:
    asked = "--query-gpu=index,uuid,name,memory.total,driver_version"
    command = ["nvidia-smi", asked, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = _look({})
    assert (found.silent, found.failure) == ({}, "")
    for line in done.stdout.splitlines():
        index, uuid, name, memory, driver = line.split(", ")
        gpus = [gpu for gpu in found.gpus if gpu.told.index == int(index)]
        assert {gpu.told.parent or gpu.told.uuid for gpu in gpus} == {uuid}
        assert all(gpu.told.model.startswith(name) for gpu in gpus)
        assert sum(gpu.told.memory_bytes for gpu in gpus) <= (int(memory) + 1) << 20
        assert all(Path(f"/dev/{file}").exists() for gpu in gpus for file in gpu.files)
        assert all(gpu.reading.temperature_c for gpu in gpus)
        assert found.driver == driver


@real
def test_a_task_in_a_sandbox_sees_the_real_gpu_that_it_was_given_and_no_other(tmp_path: Path) -> None:
    if why_not := "only root has tasks of others" if os.geteuid() else trio.run(probe):
        pytest.skip(why_not)
    found = [gpu for gpu in _look({}).gpus if not gpu.told.parent]
    files = {gpu.told.uuid: gpu.files for gpu in found}
    asks = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
    output = {}

    async def main() -> None:
        runtime = SandboxRuntime(tmp_path / "state", gpu_files=lambda: files)
        for number, uuid in enumerate(files):
            launch = Launch(f"17.1.0.{number}", asks, {}, "/", "h", uid=200_001, gid=200_001, gpus=(uuid,))
            await runtime.start(launch)
            output[uuid] = b"".join([data async for data in runtime.output(launch.task_id, 0)]).decode()
            await runtime.remove(launch.task_id)

    trio.run(main)
    assert output == {uuid: f"{uuid}\n" for uuid in files}


def test_no_driver_is_no_gpu() -> None:
    with stub_gpus([]) as env:
        found = _look({"LD_LIBRARY_PATH": env["LD_LIBRARY_PATH"]})
        assert (found.gpus, found.absent) == ((), True)
        assert _look(env) == Look(driver="575.1")


def test_a_driver_that_does_not_work_is_told() -> None:
    with stub_gpus(MODELS) as env:
        found = _look({**env, "PFS_STUB_GPUS": "broken"})
    assert (found.gpus, found.absent) == ((), False)
    assert found.failure == "the driver does not work: RM has detected an NVML/RM version mismatch."


def test_a_library_that_was_updated_with_its_driver_is_found_by_a_program_that_runs() -> None:
    program = """
import os
from jobd.node import gpus
broken, os.environ["PFS_STUB_GPUS"] = os.environ["PFS_STUB_GPUS"], os.environ["FITTING"]
first = gpus.look()
os.environ["PFS_STUB_GPUS"] = broken
failed = gpus.look().failure
os.environ["PFS_STUB_GPUS"] = os.environ["FITTING"]
assert failed and first.gpus and gpus.look() == first
print(repr(first))
"""
    with stub_gpus(MODELS) as env:
        found = _look({**env, "PFS_STUB_GPUS": "broken", "FITTING": env["PFS_STUB_GPUS"]}, program)
    assert len(found.gpus) == 2


@pytest.mark.parametrize(
    ("sign", "ill"),
    [
        ("unreachable", "it is lost: its driver does not reach it any more"),
        ("ecc 2", "2 errors of its memory could not be corrected since the driver was loaded"),
        ("remap 1 0", "a part of its memory fails and is replaced when it is reset"),
        ("remap 0 1", "a row of its memory fails and there is no spare one"),
        ("retire", "a part of its memory fails and is replaced when it is reset"),
        ("recovery 1", "its driver says that it has to be reset"),
    ],
)
def test_a_gpu_that_fails_is_told_with_what_ails_it(sign: str, ill: str) -> None:
    with changing_gpus(MODELS) as (env, gpus):
        gpus.are({0: [sign]})
        assert [gpu.told.ill for gpu in _look(env).gpus] == [ill, ""]


def test_a_gpu_that_is_lost_is_silent() -> None:
    with changing_gpus(MODELS) as (env, gpus):
        gpus.are({0: ["lost"]})
        found = _look(env)
    assert found.silent == {0: "it is lost: its driver does not reach it any more"}
    assert [gpu.told.index for gpu in found.gpus] == [1]
