"""What clients of PaddleCloud are told of jobs, whatever these are and wherever they stand."""

from dataclasses import replace

import pytest

from jobd.job import Job
from jobd.life.events import Terms
from jobd.life.model import Life, Process, State
from jobd.rest.answers import (
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    job_row,
    log_heading,
    pods_of,
    quantity,
    servers_row,
    terminating,
    time_of,
    worker_rows,
)
from jobd.spec.spec import parse_spec

SECOND_NS = 10**9
START_NS = 1_494_827_059 * SECOND_NS
PADDLE = (
    b"name: emb\nentry: python train.py\ntopology: t.py\njob_package: emb\n"
    b"parallelism: 2\npservers: 1\ngpu: 1\nmemory: 2Gi\n"
)
OVER = Process("n", started_at_ns=START_NS, ended_at_ns=START_NS + SECOND_NS, code=0)


def life(state: State, *processes: Process, **fields: object) -> Life:
    terms = Terms(services=(False, False, True))
    made = Life(state, "", START_NS, START_NS, terms, 50, processes=processes)
    return replace(made, **fields)  # type: ignore[arg-type]


def job(text: bytes = PADDLE, state: State = State.RUNNING, *processes: Process, **fields: object) -> Job:
    return Job(17, "ann", parse_spec(text, "file"), life(state, *processes, **fields))


def test_a_job_is_told_with_the_fields_that_it_was_posted_with() -> None:
    trainers = (Process("n0", started_at_ns=START_NS), OVER)
    server = Process("n1", started_at_ns=START_NS)
    assert job_row(job(PADDLE, State.RUNNING, *trainers, server, started_at_ns=START_NS)) == {
        "id": 17,
        "name": "emb",
        "job_package": "emb",
        "parallelism": 2,
        "cpu": 1.0,
        "memory": "2Gi",
        "gpu": 1,
        "pservers": 1,
        "pscpu": 1.0,
        "psmemory": "1Gi",
        "topology": "t.py",
        "entry": "python train.py",
        "image": "",
        "passes": 1,
        "faulttolerant": False,
        "state": "RUNNING",
        "status": {
            "active": 1,
            "succeeded": 1,
            "failed": 0,
            "submitTime": "2017-05-15T05:44:19Z",
            "startTime": "2017-05-15T05:44:19Z",
            "completionTime": None,
        },
    }


def test_a_job_that_came_in_by_other_words_is_told_in_the_same() -> None:
    row = job_row(job(b"command: x\nsrc: digits\nresources: '2:[3:gtx1070],4:[]'\nimage: python:3\n"))
    told = {key: row[key] for key in ("name", "job_package", "parallelism", "gpu", "pservers", "entry", "image", "cpu")}
    assert told == {
        "name": "file",
        "job_package": "digits",
        "parallelism": 6,
        "gpu": 3,
        "pservers": 0,
        "entry": "",
        "image": "python:3",
        "cpu": None,
    }
    assert (row["memory"], row["pscpu"], row["psmemory"]) == (None, None, None)


def test_what_waits_is_not_active() -> None:
    waits = job(PADDLE, State.WAITING)
    assert job_row(waits)["status"] == {
        "active": 0,
        "succeeded": 0,
        "failed": 0,
        "submitTime": "2017-05-15T05:44:19Z",
        "startTime": None,
        "completionTime": None,
    }
    assert [pod.phase for pod in pods_of(waits)] == [PENDING] * 3


@pytest.mark.parametrize(
    ("state", "process", "is_server", "phase"),
    [
        (State.STARTING, Process("n"), False, PENDING),
        (State.RUNNING, Process("n", started_at_ns=1), False, RUNNING),
        (State.STOPPING, Process("n", started_at_ns=1), False, RUNNING),
        (State.SUCCEEDED, OVER, False, SUCCEEDED),
        (State.FAILED, replace(OVER, code=1, failed=State.FAILED), False, FAILED),
        (State.CANCELLED, replace(OVER, code=143), False, FAILED),
        (State.SUCCEEDED, replace(OVER, code=143), True, SUCCEEDED),
        (State.FAILED, replace(OVER, code=1, failed=State.FAILED), True, FAILED),
        (State.FAILED, replace(OVER, code=0, failed=State.NODE_LOST), True, SUCCEEDED),
    ],
)
def test_a_pod_has_the_phase_of_its_process(state: State, process: Process, is_server: bool, phase: str) -> None:
    processes = (OVER, OVER, process) if is_server else (process, OVER, OVER)
    pods = pods_of(job(PADDLE, state, *processes))
    assert pods[2 if is_server else 0].phase == phase


def test_a_job_that_ended_before_it_had_a_place_has_failed_pods() -> None:
    assert {pod.phase for pod in pods_of(job(PADDLE, State.CANCELLED))} == {FAILED}


def test_pods_are_called_after_job_group_and_number() -> None:
    assert [(pod.name, pod.number) for pod in pods_of(job())] == [
        ("emb-trainer-0", "0.0"),
        ("emb-trainer-1", "0.1"),
        ("emb-pserver-0", "1.0"),
    ]


def test_an_array_has_no_pods_of_its_own() -> None:
    array = job(b"command: x\narray: 0-3\n")
    assert pods_of(array) == []
    assert job_row(array)["status"]["active"] == 0


def test_workers_are_told_with_exit_code_and_reason() -> None:
    lost = replace(OVER, node="cm1", code=139, reason="killed by SIGSEGV", failed=State.FAILED)
    rows = worker_rows(job(PADDLE, State.STOPPING, lost, Process("cm2")), {"cm1": ("n1", "10.1.9.3")})
    assert rows[0] == {
        "name": "emb-trainer-0",
        "job": 17,
        "process": "0.0",
        "role": "trainer",
        "status": FAILED,
        "node": "n1",
        "address": "10.1.9.3",
        "start": "2017-05-15T05:44:19Z",
        "exit_code": 139,
        "msg": "killed by SIGSEGV",
    }
    assert [(row["role"], row["node"], row["start"], row["exit_code"]) for row in rows[1:]] == [
        ("trainer", "cm2", None, None),
        ("pserver", "", None, None),
    ]


def test_parameter_servers_are_counted() -> None:
    started = Process("n", started_at_ns=1)
    assert servers_row(job(PADDLE, State.RUNNING, started, started, started)) == {
        "id": 17,
        "name": "emb",
        "ready": 1,
        "total": 1,
    }
    assert servers_row(job(PADDLE, State.WAITING))["ready"] == 0


def test_what_is_being_stopped_is_told_apart() -> None:
    assert terminating([job(state=State.STOPPING), job(b"command: x\n", State.RUNNING)]) == ["emb"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, None), (0, "0"), (1000, "1000"), (1024, "1Ki"), (3 << 29, "1536Mi"), (1 << 30, "1Gi"), (1 << 62, "4Ei")],
)
def test_a_size_is_told_exactly(size: int | None, text: str | None) -> None:
    assert quantity(size) == text


def test_a_moment_that_is_not_known_is_none() -> None:
    assert time_of(None) is None


def test_the_heading_of_a_log_is_that_of_the_shipped_client() -> None:
    assert log_heading("x") == "==========================x=========================="
