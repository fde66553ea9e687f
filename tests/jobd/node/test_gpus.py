"""How tasks get their GPUs, by what their engine or their machine can do."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from jobd.node.gpus import device_files, device_requests

ONE, TWO = "GPU-1", "GPU-2"
NVIDIA = {"Runtimes": {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}}}
CDI = {"DiscoveredDevices": [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in (ONE, TWO, "all")]}
BY_UUID = [{"DeviceIDs": [ONE, TWO], "Capabilities": [["gpu"]]}]
BY_CDI = [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"]}]


@pytest.mark.parametrize(
    ("info", "requests"),
    [
        ({}, []),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": None}, []),
        (NVIDIA, BY_UUID),
        (CDI, BY_CDI),
        ({**NVIDIA, **CDI}, BY_CDI),
        ({**NVIDIA, "DiscoveredDevices": CDI["DiscoveredDevices"][:1]}, BY_UUID),
        ({"DiscoveredDevices": CDI["DiscoveredDevices"][:1]}, []),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}, []),
    ],
)
def test_an_engine_is_asked_for_what_it_can_give(info: Mapping[str, object], requests: list[object]) -> None:
    assert device_requests(info, [ONE, TWO]) == requests
    assert device_requests(info, []) == []


def test_a_sandbox_gets_the_files_of_its_own_gpus_and_those_of_all(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    found = device_files({ONE: ["nvidia0"], TWO: ["nvidia1"]}, [TWO], tmp_path)
    assert found == [f"{tmp_path}/{name}" for name in ("nvidia1", "nvidiactl", "nvidia-uvm")]
    assert device_files({ONE: ["nvidia0"]}, [], tmp_path) == []


def test_two_instances_of_a_gpu_share_its_file_and_have_one_each(tmp_path: Path) -> None:
    (tmp_path / "nvidia-caps").mkdir()
    names = ("nvidia0", "nvidia-caps/nvidia-cap3", "nvidia-caps/nvidia-cap4")
    for name in names:
        (tmp_path / name).touch()
    own = {ONE: names[:2], TWO: (names[0], names[2])}
    assert device_files(own, [TWO], tmp_path) == [f"{tmp_path}/{name}" for name in (names[0], names[2])]
    assert device_files(own, [ONE, TWO], tmp_path) == [f"{tmp_path}/{name}" for name in names]


def test_gpus_without_files_are_no_reason_to_fail(tmp_path: Path) -> None:
    assert device_files({ONE: ["nvidia0"]}, [ONE, TWO], tmp_path) == []
