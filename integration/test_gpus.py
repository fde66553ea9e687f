"""GPUs as NVIDIA's library tells of them, loaded by a program of its own as a node loads it."""

import os
import subprocess
import sys
from collections.abc import Mapping

from integration.stubnvml import MEMORY_BYTES, stub_gpus, uuids

PROGRAM = "import logging; logging.basicConfig(); from jobd.node import gpus; print(*gpus.find(), sep='\\n')"


def _found(env: Mapping[str, str]) -> tuple[list[str], str]:
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**plain, **env}, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.split("\n")[:-1], done.stderr


def test_gpus_are_told_with_all_that_a_node_tells_of_them() -> None:
    models = ["NVIDIA GeForce GTX 1070", "NVIDIA H200"]
    with stub_gpus(models) as env:
        lines, said = _found(env)
    expected = [
        f"Gpu(told=NodeGpu(uuid={uuid!r}, index={i}, model={model!r}, memory_bytes={MEMORY_BYTES}), minor={i})"
        for i, (uuid, model) in enumerate(zip(uuids(models), models, strict=True))
    ]
    assert (lines, said) == (expected, "")


def test_no_driver_is_no_gpu_and_no_noise() -> None:
    with stub_gpus([]) as env:
        assert _found({"LD_LIBRARY_PATH": env["LD_LIBRARY_PATH"]}) == ([""], "")
        assert _found(env) == ([""], "")


def test_a_driver_that_does_not_work_and_a_gpu_that_is_lost_are_said() -> None:
    with stub_gpus(["lost", "NVIDIA H200"]) as env:
        lines, said = _found({**env, "PFS_STUB_GPUS": "broken"})
        assert lines == [""]
        assert "the GPUs of this machine cannot be used:" in said
        lines, said = _found(env)
        assert len(lines) == 1
        assert "NVIDIA H200" in lines[0]
        assert "GPU 0 of this machine cannot be used" in said
