"""The environment of a process."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.environment import Facts, GroupHosts, environment, extended, host_name, hostfile, result_name, work_dir
from jobd.imagelists import Side
from jobd.spec.model import Paddle

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

SERVED = replace(GANG, groups=(GroupHosts("ps", ("h0", "h1"), service=True), GroupHosts("trainer", ("h2", "h3", "h4"))))
FIELDS = {"entry": "python train.py", "topology": "", "cpu": "2", "gpu": "0", "passes": "3"}
PADDLE = replace(
    ALONE,
    user="ann.b@example.org",
    groups=(GroupHosts("trainer", ("t0", "t1")), GroupHosts("pserver", ("p0", "p1", "p2"), service=True)),
    process_index=1,
    paddle=Paddle("/pfs/dc1/home/ann/emb", FIELDS),
)
# every variable that a process of a plain job is promised
PROMISED = {
    *(
        "NUM_GROUPS",
        "GROUP_INDEX",
        "PROCESS_INDEX",
        "WORKER_INDEX",
        "JOB_NUMBER",
        "DATA_ROOT",
        "SHARED_DIR",
        "USER_DIR",
    ),
    *("JOB_DIR", "SRC_DIR", "WORK_DIR", "RESULT_FILE", "MASTER_ADDR", "MASTER_PORT", "PET_NNODES", "PET_NODE_RANK"),
    *("PET_NPROC_PER_NODE", "PET_MASTER_ADDR", "PET_MASTER_PORT", "NVIDIA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
    *("PFS_JOB_ID", "PFS_JOB_NAME", "PFS_ATTEMPT", "PFS_USER", "PFS_DATACENTER", "PFS_HOSTFILE"),
    *("HOME", "USER", "LOGNAME", "NUM_PROCESSES_GROUP0", "HOST_GROUP0_PROCESS0"),
}


def test_a_plain_job_is_told_what_is_promised_and_nothing_else() -> None:
    assert set(environment(ALONE)) == PROMISED


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


def test_services_have_no_rank_among_those_that_torch_starts() -> None:
    ranks = [
        environment(replace(SERVED, group_index=group, process_index=process))
        for group, process in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    ]
    assert {values["MASTER_ADDR"] for values in ranks} == {"h2"}
    assert [(values["PET_NNODES"], values["PET_NODE_RANK"], values["PET_MASTER_ADDR"]) for values in ranks] == [
        ("1", "0", "h0"),
        ("1", "0", "h1"),
        ("3", "0", "h2"),
        ("3", "1", "h2"),
        ("3", "2", "h2"),
    ]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=4).filter(
        lambda g: not all(s for _, s in g)
    )
)
def test_the_ranks_of_a_job_are_all_numbers_once_and_rank_0_is_the_master(shape: list[tuple[int, bool]]) -> None:
    groups = tuple(
        GroupHosts(f"g{index}", tuple(f"h{index}-{process}" for process in range(count)), service)
        for index, (count, service) in enumerate(shape)
    )
    facts = replace(ALONE, groups=groups)
    ranked = [
        (values["PET_NODE_RANK"], group.hosts[process], values["MASTER_ADDR"], values["PET_NNODES"])
        for index, group in enumerate(groups)
        for process in range(len(group.hosts))
        if not group.service
        for values in [environment(replace(facts, group_index=index, process_index=process))]
    ]
    assert [rank for rank, *_ in ranked] == [str(rank) for rank in range(len(ranked))]
    assert {(master, nodes) for *_, master, nodes in ranked} == {(ranked[0][1], str(len(ranked)))}


def test_a_task_of_an_array_knows_the_array_and_its_number() -> None:
    values = environment(replace(ALONE, array_id=16, array_index=0))
    assert (values["PFS_ARRAY_ID"], values["PFS_TASK_ID"], values["PFS_JOB_ID"]) == ("16", "0", "17")
    assert not {"PFS_ARRAY_ID", "PFS_TASK_ID"} & environment(ALONE).keys()


def test_the_file_of_results_is_one_for_each_attempt_and_process() -> None:
    assert environment(GANG)["RESULT_FILE"] == f"/pfs/dc1/jobs/17/tmp/{result_name(2, 1, 2)}"
    assert len({result_name(*place) for place in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))}) == 4


def test_paddlepaddles_variables_are_for_jobs_of_paddleclouds_fields_only() -> None:
    assert not [name for name in environment(GANG) if name.startswith("PADDLE")]


def test_a_trainer_of_paddlecloud_knows_its_place_and_the_parameter_servers() -> None:
    values = environment(PADDLE)
    assert {name: value for name, value in values.items() if name.startswith("PADDLE")} == {
        "PADDLE_JOB_NAME": "digits",
        "PADDLE_CLOUD_CURRENT_DATACENTER": "dc1",
        "PADDLE_CLOUD_USERNAME": "ann.b@example.org",
        "PADDLE_INIT_PORT": "7164",
        "PADDLE_INIT_PORTS_NUM": "1",
        "PADDLE_INIT_PORTS_NUM_FOR_SPARSE": "1",
        "PADDLE_INIT_TRAINER_COUNT": "2",
        "PADDLE_INIT_NUM_GRADIENT_SERVERS": "2",
        "PADDLE_INIT_NUM_PASSES": "3",
        "PADDLE_INIT_USE_GPU": "0",
        "PADDLE_INIT_PSERVERS": "p0,p1,p2",
        "PADDLE_INIT_TRAINER_ID": "1",
        "PADDLE_PSERVER_IPS": "p0,p1,p2",
        "PADDLE_TRAINER_IPS": "t0,t1",
        "PADDLE_TRAINER_ID": "1",
        "PADDLE_TRAINERS": "2",
        "PADDLE_PSERVERS": "3",
        "PADDLE_TRAINING_ROLE": "TRAINER",
        "PADDLE_PORT": "7164",
        "PADDLE_TRAINERS_NUM": "2",
        "PADDLE_TRAINER_ENDPOINTS": "t0:7164,t1:7164",
        "PADDLE_PSERVERS_IP_PORT_LIST": "p0:7164,p1:7164,p2:7164",
        "PADDLE_CURRENT_ENDPOINT": "t1:7164",
    }
    assert (values["TRAINING_ROLE"], values["POD_IP"]) == ("TRAINER", "t1")
    assert (values["TRAINERS"], values["PSERVERS"], values["NAMESPACE"]) == ("2", "3", "ann-b-example-org")
    assert (values["ENTRY"], values["TOPOLOGY"]) == ("python train.py", "")


def test_a_parameter_server_is_no_trainer() -> None:
    values = environment(replace(PADDLE, group_index=1))
    assert values["PADDLE_TRAINING_ROLE"] == values["TRAINING_ROLE"] == "PSERVER"
    assert values["PADDLE_CURRENT_ENDPOINT"] == f"{values['POD_IP']}:7164" == "p1:7164"
    assert not {"PADDLE_TRAINER_ID", "PADDLE_INIT_TRAINER_ID"} & values.keys()


@pytest.mark.parametrize(("cpu", "gpu", "count", "uses_gpu"), [("2", "4", "4", "1"), ("0.5", "0", "1", "0")])
def test_a_trainer_counts_its_gpus_or_else_its_cpus(cpu: str, gpu: str, count: str, uses_gpu: str) -> None:
    values = environment(replace(PADDLE, paddle=Paddle(None, FIELDS | {"cpu": cpu, "gpu": gpu})))
    assert (values["PADDLE_INIT_TRAINER_COUNT"], values["PADDLE_INIT_USE_GPU"]) == (count, uses_gpu)


@pytest.mark.parametrize(
    ("package", "folder"),
    [
        ("/pfs/dc1/groups/ml/emb", "/pfs/dc1/groups/ml/emb"),
        ("jobs/emb", "/pfs/dc1/home/ann/jobs/emb"),
        (None, "/pfs/dc1/jobs/17/src"),
    ],
)
def test_a_package_of_paddlecloud_is_used_in_place(package: str | None, folder: str) -> None:
    facts = replace(PADDLE, user="ann", paddle=Paddle(package, FIELDS))
    values = environment(facts)
    names = ("SRC_DIR", "WORK_DIR", "TRAINER_PACKAGE", "PYTHONPATH")
    assert {work_dir(facts), *(values[name] for name in names)} == {folder}


def test_the_package_stands_before_what_a_spec_says_of_pythonpath() -> None:
    for said, path in (("/opt/lib:/x", "/pfs/dc1/home/ann/emb:/opt/lib:/x"), ("", "/pfs/dc1/home/ann/emb")):
        facts = replace(PADDLE, env={"PYTHONPATH": said})
        assert environment(facts)["PYTHONPATH"] == path
        assert "PYTHONPATH" not in extended(facts)  # as everywhere, the spec's is in the place of the image's


def test_the_libraries_of_paddlecloud_stand_behind_what_a_spec_says_of_them() -> None:
    folders = "/usr/local/nvidia/lib64:/usr/local/cuda/lib64"
    for said, path in (("/opt/lib:/x", f"/opt/lib:/x:{folders}"), ("", folders)):
        facts = replace(PADDLE, env={"LD_LIBRARY_PATH": said})
        assert environment(facts)["LD_LIBRARY_PATH"] == path
        assert "LD_LIBRARY_PATH" not in extended(facts)


def test_where_a_spec_says_nothing_of_them_lists_stand_beside_what_the_image_says() -> None:
    assert extended(PADDLE) == {"PYTHONPATH": Side.BEFORE, "LD_LIBRARY_PATH": Side.BEHIND}
    assert environment(PADDLE)["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64:/usr/local/cuda/lib64"


def test_lists_are_nobodys_business_in_a_plain_job() -> None:
    assert extended(ALONE) == {}
    said = {"PYTHONPATH": "/x", "LD_LIBRARY_PATH": "/y"}
    assert environment(replace(ALONE, env=said)).items() >= said.items()


def test_a_master_and_its_etcd_are_told_only_by_a_spec_that_has_them() -> None:
    said = {"MASTER_IP": "10.0.0.7", "ETCD_IP": "10.0.0.8", "PADDLE_INIT_NICS": "eth0"}
    assert not said.keys() & environment(PADDLE).keys()
    for group in (0, 1):
        assert environment(replace(PADDLE, group_index=group, env=said)).items() >= said.items()


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
