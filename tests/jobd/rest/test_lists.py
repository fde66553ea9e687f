"""Jobs, pods, quotas and credentials as the lists of Kubernetes that PaddleCloud's shipped client reads."""

from dataclasses import replace

import pytest

from jobd.job import Job
from jobd.life.model import Kill, Process, State
from jobd.rest.lists import (
    GPU,
    JOBS,
    LABEL,
    SERVER_LABEL,
    STORAGE,
    job_items,
    pod_items,
    quota_item,
    registry_item,
    server_items,
)
from tests.jobd.rest.test_answers import OVER, PADDLE, START_NS, job

STARTED, ENDED = "2017-05-15T05:44:19Z", "2017-05-15T05:44:20Z"
RUNS = Process("n0", started_at_ns=START_NS)


def terminated(process: Process) -> dict | None:
    first = pod_items(job(PADDLE, State.RUNNING, process, OVER, OVER), {})[0]
    return first["status"]["container_statuses"][0]["state"]["terminated"]


def test_the_trainers_of_a_job_are_a_batch_job() -> None:
    fields = {"started_at_ns": START_NS, "ended_at_ns": None}
    assert job_items([job(PADDLE, State.RUNNING, RUNS, OVER, RUNS, **fields)]) == [
        {
            "metadata": {
                "name": "emb-trainer",
                "namespace": "ann",
                "uid": "17",
                "creation_timestamp": STARTED,
                "labels": {LABEL: "emb"},
            },
            "spec": {"parallelism": 2, "completions": 2},
            "status": {"active": 1, "succeeded": 1, "failed": 0, "start_time": STARTED, "completion_time": None},
        }
    ]


def test_a_job_that_waits_has_no_times_and_one_that_is_over_both() -> None:
    over = job(PADDLE, State.SUCCEEDED, OVER, OVER, OVER, started_at_ns=START_NS, ended_at_ns=START_NS + 10**9)
    waiting, ended = (item["status"] for item in job_items([job(PADDLE, State.WAITING), over]))
    assert (waiting["start_time"], waiting["completion_time"]) == (None, None)
    assert (ended["start_time"], ended["completion_time"], ended["succeeded"]) == (STARTED, ENDED, 2)


def test_a_job_that_is_being_stopped_is_an_item_unless_somebody_killed_it() -> None:
    ending = job(b"command: x\n", State.STOPPING, RUNS)
    killed = job(PADDLE, State.STOPPING, RUNS, RUNS, RUNS, kill_requested=Kill("ann", ""))
    assert [item["metadata"]["name"] for item in job_items([killed, ending])] == ["file-trainer"]
    over = job(PADDLE, State.CANCELLED, OVER, OVER, OVER, kill_requested=Kill("ann", ""))
    assert len(job_items([over])) == 1


def test_parameter_servers_are_a_replica_set() -> None:
    (item,) = server_items([job(PADDLE, State.RUNNING, RUNS, RUNS, RUNS), job(b"command: x\n")])
    assert (item["metadata"]["name"], item["metadata"]["labels"]) == ("emb-pserver", {SERVER_LABEL: "emb"})
    assert item["spec"] == {"replicas": 1}
    assert item["status"] == {"replicas": 1, "ready_replicas": 1, "available_replicas": 1}
    (waiting,) = server_items([job(PADDLE, State.WAITING)])
    assert waiting["status"] == {"replicas": 1, "ready_replicas": 0, "available_replicas": 0}


def test_a_process_is_a_pod_with_one_container() -> None:
    lost = replace(OVER, node="cm1", code=139, failed=State.FAILED)
    running = Process("cm2", started_at_ns=START_NS)
    items = pod_items(job(PADDLE, State.RUNNING, lost, running), {"cm1": ("n1", "10.1.9.3")})
    assert items[0] == {
        "metadata": {
            "name": "emb-trainer-0",
            "namespace": "ann",
            "uid": "17.0.0",
            "creation_timestamp": None,
            "labels": {LABEL: "emb"},
        },
        "spec": {"node_name": "n1"},
        "status": {
            "phase": "Failed",
            "host_ip": "10.1.9.3",
            "start_time": STARTED,
            "container_statuses": [
                {
                    "name": "trainer",
                    "ready": False,
                    "state": {
                        "running": None,
                        "terminated": {
                            "exit_code": 139,
                            "message": "it was ended by SIGSEGV: Segmentation fault",
                            "reason": "Error",
                            "started_at": STARTED,
                            "finished_at": ENDED,
                        },
                    },
                }
            ],
        },
    }
    (container,) = items[1]["status"]["container_statuses"]
    assert (container["ready"], container["state"]) == (True, {"running": {"started_at": STARTED}, "terminated": None})
    assert items[2]["metadata"]["labels"] == {SERVER_LABEL: "emb"}
    assert items[2]["spec"] == {"node_name": None}
    assert items[2]["status"]["host_ip"] is None
    (container,) = items[2]["status"]["container_statuses"]  # which is asked for the first of these, always
    assert (container["ready"], container["state"]) == (False, {"running": None, "terminated": None})


@pytest.mark.parametrize(
    ("process", "code", "reason", "message"),
    [
        (OVER, 0, "Completed", None),
        (replace(OVER, code=1), 1, "Error", "it ended with 1"),
        (replace(OVER, code=1, reason="disk: 2 GiB written"), 1, "Error", "disk: 2 GiB written"),
        (replace(OVER, code=0, before="it ended with 3"), 0, "Completed", "replaces one that failed: it ended with 3"),
        (
            replace(OVER, code=137, reason="killed: out of memory", failed=State.OUT_OF_MEMORY),
            137,
            "OOMKilled",
            "killed: out of memory",
        ),
        (replace(OVER, code=None, failed=State.NODE_LOST), None, "Error", None),
    ],
)
def test_how_a_process_ended_is_told_with_code_and_reason(
    process: Process, code: int | None, reason: str, message: str | None
) -> None:
    told = terminated(process)
    assert told is not None
    assert (told["exit_code"], told["reason"], told["message"]) == (code, reason, message)


def test_what_never_had_a_place_or_still_runs_has_not_terminated() -> None:
    assert terminated(RUNS) is None
    assert terminated(Process("")) is None
    (first, *_) = pod_items(job(PADDLE, State.CANCELLED), {})
    assert first["status"]["phase"] == "Failed"
    assert first["status"]["container_statuses"][0]["state"]["terminated"] is None


def rows(gpus: int | None, running: int | None, size: int | None) -> list[dict]:
    told = (("GPU", 1, gpus), ("JobsRunning", 2, running), ("Bytes", 3 << 20, size), ("Files", 7, 9))
    return [{"name": name, "used": used, "limit": limit} for name, used, limit in told]


def test_limits_are_texts_and_where_there_is_none_there_is_no_word() -> None:
    item = quota_item("a@b", rows(4, None, 1 << 30), [])
    assert (item["metadata"]["name"], item["metadata"]["namespace"]) == ("default", "a-b")
    assert item["spec"]["hard"] == item["status"]["hard"] == {GPU: "4", STORAGE: "1Gi"}
    assert quota_item("ann", rows(None, None, None), [])["status"]["hard"] == {}
    assert quota_item("ann", rows(0, 0, None), [])["status"]["hard"] == {GPU: "0", JOBS: "0"}


def test_what_is_used_is_what_is_reserved_for_processes_on_nodes() -> None:
    jobs: list[Job] = [job(PADDLE, State.RUNNING, RUNS, OVER, RUNS), job(b"command: x\n", State.RUNNING, RUNS)]
    used = quota_item("ann", rows(4, 5, None), [*jobs, job(PADDLE, State.WAITING)])["status"]["used"]
    assert used == {GPU: "1", JOBS: "2", STORAGE: "3Mi", "pods": "3", "cpu": "2", "memory": "3Gi"}


def test_a_credential_is_a_secret_that_tells_nothing_of_itself() -> None:
    assert registry_item("ann", "corp", START_NS) == {
        "metadata": {
            "name": "pcloud-registry-corp",
            "namespace": "ann",
            "uid": None,
            "creation_timestamp": STARTED,
            "labels": None,
        },
        "type": "kubernetes.io/dockerconfigjson",
    }
