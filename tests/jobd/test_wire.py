"""What server and node say to each other survives the way through JSON, and what makes no sense is refused."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.imagelists import Side
from jobd.wire import (
    DOCKER,
    Assignment,
    Credential,
    GpuReading,
    NodeGpu,
    TaskStanding,
    TaskVolume,
    Wanted,
    Welcome,
    check_network,
    decode_assignment,
    decode_gpus,
    decode_readings,
    decode_welcome,
    encode_assignment,
    encode_gpus,
    encode_readings,
    encode_welcome,
    parse_task_id,
    task_id,
)
from pfs.errors import Kind, PfsError
from pfs.names import FIRST_GID

PLAIN = Assignment("17.1.0.0", ("true",), {}, "/pfs/dc1/jobs/17/src", "digits-17-0")
FULL = replace(
    PLAIN,
    argv=("sh", "-c", "echo 'é' > \udcff"),
    env={"A": "", "B": "x\ny"},
    image="python:3.11",
    uid=200001,
    gid=200002,
    gids=(FIRST_GID + 1, FIRST_GID + 2),
    volumes=(TaskVolume("home/ann", "/pfs/dc1/home/ann", True),),
    cpus=0.5,
    memory_bytes=1 << 30,
    grace_s=1.5,
    runtime=DOCKER,
    gpus=("GPU-1", "GPU-2"),
    hosts=(("digits-17-0", ""), ("digits-17-1", "10.0.0.7"), ("digits-17-2", "fe80::1")),
    network="pfs-17-1",
    overlay=True,
    shm_bytes=1 << 20,
    credential=Credential("registry.example.org:5000", "ann", "é\n"),
    secrets={"wandb": b"\x00\xff\n"},
    pinned=f"docker.io/library/python@sha256:{'a' * 64}",
    shares_image=True,
    held=True,
    extended={"PYTHONPATH": Side.BEFORE, "LD_LIBRARY_PATH": Side.BEHIND},
    files={"train.list": b"\xff\n"},
    watchdog_s=60.0,
)


@pytest.mark.parametrize("assignment", [PLAIN, FULL])
def test_an_assignment_arrives_as_it_was_sent(assignment: Assignment) -> None:
    assert decode_assignment(json.loads(json.dumps(encode_assignment(assignment)))) == assignment


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task_id": "17.1.0"}, "no task"),
        ({"task_id": "17.1.0.../x"}, "no task"),
        ({"runtime": "vm"}, "'vm' is no runtime"),
        ({"image": None}, "a container needs an image"),
        ({"network": "../x"}, "cannot be the name of a network"),
        ({"network": "a\nb"}, "cannot be the name of a network"),
        ({"hosts": [["a b", ""]]}, "'a b' is no host name"),
        ({"hosts": [["a\n127.0.0.1 b", ""]]}, "is no host name"),
        ({"hosts": [["a", "127.0.0.1 b"]]}, "does not appear to be"),
        ({"hosts": [["a"]]}, "not enough values"),
        ({"volumes": [{"source": "x"}]}, "missing"),
        ({"credential": {"server": "x", "password": "y"}}, "'username'"),
        ({"secrets": {"../x": ""}}, "x"),
        ({"secrets": {"x": "no base64!"}}, "base64"),
        ({"files": {"../x": ""}}, "x"),
        ({"extended": {"A": "above"}}, "above"),
        ({"extended": ["A"]}, "items"),
        ({"gids": [FIRST_GID + 1, 27]}, "none of the datacenter's"),
        ({"gids": ["x"]}, "invalid literal"),
        ({"priority": 7}, "unexpected"),
    ],
)
def test_what_is_no_assignment_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(PfsError, match=words) as caught:
        decode_assignment({**encode_assignment(FULL), **change})
    assert caught.value.kind is Kind.INVALID


def test_gpus_arrive_as_they_were_told() -> None:
    gpus = (NodeGpu("GPU-1", 0, "NVIDIA H200", 150_754_820_096), NodeGpu("GPU-2", 1, "NVIDIA GTX 1070", 8 << 30))
    assert decode_gpus(json.loads(json.dumps(encode_gpus(gpus)))) == gpus
    part = (NodeGpu("MIG-1", 0, "NVIDIA H200 MIG 1g.18gb", 1 << 34, 2, "GPU-1", "it is lost"),)
    assert decode_gpus(json.loads(json.dumps(encode_gpus(part)))) == part


def test_what_gpus_do_arrives_as_it_was_told() -> None:
    readings = {"GPU-1": GpuReading(37, 61, 1 << 30, {71: 1 << 30, 72: None}), "GPU-2": GpuReading()}
    assert decode_readings(json.loads(json.dumps(encode_readings(readings)))) == readings


@pytest.mark.parametrize("value", [None, [], {"GPU-1": {}}, {"GPU-1": {**asdict(GpuReading()), "used_bytes": "much"}}])
def test_what_is_no_reading_is_refused(value: object) -> None:
    with pytest.raises(PfsError, match="no proper readings of GPUs"):
        decode_readings(value)


@pytest.mark.parametrize("index", ["x", None, float("inf"), float("nan")])
def test_a_gpu_whose_number_is_none_is_refused(index: object) -> None:
    with pytest.raises(PfsError) as caught:
        decode_gpus([{"uuid": "GPU-1", "index": index, "model": "m", "memory_bytes": 1}])
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize("value", [None, [{}], [{"uuid": "GPU-1", "index": "x", "model": "m", "memory_bytes": 1}], [7]])
def test_what_are_no_gpus_is_refused(value: object) -> None:
    with pytest.raises(PfsError, match="no proper GPUs"):
        decode_gpus(value)


def test_a_welcome_arrives_as_it_was_sent() -> None:
    welcome = Welcome("cm1", "n0", "Cluster", "cl1", "dc1", "mark", {"17.1.0.0": TaskStanding(Wanted.FORGET, 7)})
    assert decode_welcome(json.loads(json.dumps(encode_welcome(welcome)))) == welcome
    with pytest.raises(PfsError, match="no proper welcome"):
        decode_welcome({"node_id": "cm1"})


@given(st.tuples(*[st.integers(min_value=0)] * 4))
def test_a_task_is_found_in_its_id(parts: tuple[int, int, int, int]) -> None:
    assert parse_task_id(task_id(*parts)) == parts


@given(st.text())
def test_only_a_proper_id_is_one(text: str) -> None:
    try:
        parts = parse_task_id(text)
    except PfsError:
        return
    assert [int(part) for part in text.split(".")] == list(parts)


def test_a_network_has_a_plain_name() -> None:
    assert check_network("pfs-17-1") == "pfs-17-1"
    for name in ("", "-x", "a b", "x" * 64, "a/b", "é1"):
        with pytest.raises(ValueError, match="cannot be the name"):
            check_network(name)
