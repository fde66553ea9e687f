"""The environment of a process."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.environment import Facts, GroupHosts, environment, host_name, hostfile

ALONE = Facts(
    datacenter="dc1",
    user="ann",
    job_id=17,
    job_name="digits",
    attempt=2,
    groups=(GroupHosts("worker", ("digits-17-0",)),),
    group_index=0,
    process_index=0,
)
GANG = replace(
    ALONE,
    groups=(GroupHosts("ps", ("h0", "h1")), GroupHosts("trainer", ("h2", "h3", "h4"))),
    group_index=1,
    process_index=2,
    gpu_uuids=("GPU-a", "GPU-b"),
    end_time_s=1_900_000_000,
)


def test_a_process_alone_knows_its_places() -> None:
    values = environment(ALONE)
    assert values["DATA_ROOT"] == "/pfs/dc1"
    assert values["USER_DIR"] == values["HOME"] == "/pfs/dc1/home/ann"
    assert values["SHARED_DIR"] == "/pfs/dc1/shared"
    assert values["JOB_DIR"] == "/pfs/dc1/jobs/17"
    assert values["SRC_DIR"] == values["WORK_DIR"] == "/pfs/dc1/jobs/17/src"
    assert values["RESULT_FILE"].startswith("/pfs/dc1/jobs/17/")
    assert values["JOB_NUMBER"] == values["PFS_JOB_ID"] == "17"
    assert (values["PFS_JOB_NAME"], values["PFS_ATTEMPT"]) == ("digits", "2")
    assert (values["PFS_USER"], values["PFS_DATACENTER"]) == ("ann", "dc1")


def test_a_process_alone_is_a_gang_of_one_for_torch() -> None:
    values = environment(ALONE)
    assert values["MASTER_ADDR"] == values["PET_MASTER_ADDR"] == "digits-17-0"
    assert values["MASTER_PORT"] == values["PET_MASTER_PORT"]
    assert (values["PET_NNODES"], values["PET_NODE_RANK"], values["PET_NPROC_PER_NODE"]) == ("1", "0", "1")


def test_every_process_sees_all_of_its_fellows() -> None:
    first = environment(replace(GANG, group_index=0, process_index=0))
    last = environment(GANG)
    hosts = {name: value for name, value in last.items() if name.startswith(("HOST_", "NUM_"))}
    assert hosts == {
        "NUM_GROUPS": "2",
        "NUM_PROCESSES_GROUP0": "2",
        "NUM_PROCESSES_GROUP1": "3",
        "HOST_GROUP0_PROCESS0": "h0",
        "HOST_GROUP0_PROCESS1": "h1",
        "HOST_GROUP1_PROCESS0": "h2",
        "HOST_GROUP1_PROCESS1": "h3",
        "HOST_GROUP1_PROCESS2": "h4",
    }
    differing = {name for name in first if first[name] != last[name]}
    assert differing == {"GROUP_INDEX", "PROCESS_INDEX", "WORKER_INDEX", "PET_NODE_RANK", "RESULT_FILE"}


def test_the_place_among_all_counts_over_the_groups() -> None:
    values = environment(GANG)
    assert (values["GROUP_INDEX"], values["PROCESS_INDEX"], values["WORKER_INDEX"]) == ("1", "2", "4")
    assert (values["PET_NNODES"], values["PET_NODE_RANK"], values["PET_NPROC_PER_NODE"]) == ("5", "4", "2")


def test_gpus_are_named_by_uuid_and_void_says_that_there_are_none() -> None:
    assert environment(GANG)["NVIDIA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert environment(ALONE)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert environment(ALONE)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_the_end_is_told_where_there_is_one() -> None:
    assert environment(GANG)["PFS_END_TIME"] == "1900000000"
    assert "PFS_END_TIME" not in environment(ALONE)


def test_the_folders_of_the_owners_groups_are_named() -> None:
    values = environment(replace(ALONE, user_groups=("ml", "data-team")))
    assert values["ML_GROUP_DIR"] == "/pfs/dc1/groups/ml"
    assert values["DATA_TEAM_GROUP_DIR"] == "/pfs/dc1/groups/data-team"


def test_variables_of_the_spec_win_but_for_those_that_only_the_server_knows() -> None:
    values = environment(replace(ALONE, env={"LR": "0.1", "HOME": "/tmp", "NVIDIA_VISIBLE_DEVICES": "all"}))
    assert (values["LR"], values["HOME"]) == ("0.1", "/tmp")
    assert values["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_slurms_variables_are_never_set() -> None:
    assert not [name for name in environment(GANG) if name.startswith("SLURM_")]


def test_the_hostfile_has_every_host_in_order() -> None:
    assert hostfile(GANG) == "h0\nh1\nh2\nh3\nh4\n"


@pytest.mark.parametrize(
    ("name", "host"),
    [("digits", "digits-17-0"), ("My_Job.v2", "my-job-v2-17-0"), ("a" * 63, "a" * 40 + "-17-0"), ("9-", "9-17-0")],
)
def test_host_names_come_from_the_name_of_the_job(name: str, host: str) -> None:
    assert host_name(name, 17, 0) == host


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True), st.integers(1, 10**12), st.integers(0, 10**6))
def test_host_names_are_labels_of_the_dns(name: str, job_id: int, worker: int) -> None:
    host = host_name(name, job_id, worker)
    assert len(host) <= 63
    assert host.replace("-", "a").isalnum()
    assert host.isascii()
    assert host == host.lower().strip("-")
