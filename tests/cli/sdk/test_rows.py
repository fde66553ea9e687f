"""The rows that the SDK promises are those that the server makes, key by key."""

import pytest

from cli.sdk.rows import Entry, Job, JobCounts, Servers, Worker
from jobd.job import Job as ServersJob
from jobd.life.events import Terms
from jobd.life.model import Life, Process, State
from jobd.rest.answers import job_row, servers_row, worker_rows
from jobd.spec.spec import parse_spec
from pfs.api import Attr, NodeType
from pfs.protocol.wire import encode_attr

PADDLE = b"entry: python train.py\njob_package: emb\nparallelism: 1\npservers: 1\n"
PLACED = (Process("n0", started_at_ns=1), Process("n1", started_at_ns=1))


def a_job(text: bytes, state: State, *processes: Process) -> ServersJob:
    terms = Terms(services=(False, True))
    return ServersJob(17, "ann", parse_spec(text, "file"), Life(state, "", 0, 0, terms, 50, processes=processes))


JOBS = [
    pytest.param(a_job(PADDLE, State.RUNNING, *PLACED), id="runs"),
    pytest.param(a_job(PADDLE, State.WAITING), id="waits"),
    pytest.param(a_job(b"command: x\n", State.WAITING), id="in-other-words"),
]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_the_keys_that_the_server_tells(job: ServersJob) -> None:
    row = job_row(job)
    assert set(row) == set(Job.__annotations__)
    assert set(row["status"]) == set(JobCounts.__annotations__)
    assert set(servers_row(job)) == set(Servers.__annotations__)


@pytest.mark.parametrize("job", JOBS)
def test_a_process_has_the_keys_that_the_server_tells(job: ServersJob) -> None:
    assert [set(row) for row in worker_rows(job, {})] == [set(Worker.__annotations__)] * job.spec.process_count


def test_of_an_entry_the_server_tells_all_that_is_promised() -> None:
    row = {"name": "model", **encode_attr(Attr(NodeType.FILE, 1, 0o644, 5))}
    assert set(Entry.__annotations__) <= set(row)
