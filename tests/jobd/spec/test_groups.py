"""The processes of a job: how many there are, and whose they are."""

import pytest

from jobd.spec.groups import GROUP_KEYS, JOB_KEYS, PROCESSES_MAX
from jobd.spec.spec import SUPPORTED, SpecError, parse_spec


@pytest.mark.parametrize(
    ("text", "processes"),
    [
        ("resources: '2:[],3:[]'", 5),
        ("groups: [{count: 2}, {}]", 3),
        ("resources: '1000:[],24:[]'", PROCESSES_MAX),
        ("groups: [{count: 1000}, {count: 24}]", PROCESSES_MAX),
    ],
)
def test_a_job_has_the_processes_of_all_its_groups(text: str, processes: int) -> None:
    assert parse_spec(f"command: ls\n{text}\n".encode(), "x").process_count == processes


@pytest.mark.parametrize(
    "text",
    [
        "command: ls\nresources: '1000:[],25:[]'",
        "command: ls\ngroups: [{count: 1000}, {count: 25}]",
        "entry: ls\nparallelism: 513",
        "entry: ls\nparallelism: 1000\npservers: 25",
    ],
)
def test_more_processes_than_a_job_can_have_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"a job has at most 1024 processes, and these are 102[56]"):
        parse_spec(text.encode(), "x")


def test_the_workers_are_counted_group_by_group() -> None:
    spec = parse_spec(b"command: ls\nresources: '2:[],1:[]'\n", "x")
    assert spec.workers() == ((0, 0), (0, 1), (1, 0))


def test_every_key_is_of_the_job_or_of_groups_as_well() -> None:
    assert sorted([*JOB_KEYS, "resources", *(GROUP_KEYS.keys() & SUPPORTED.keys() - {"resources"})]) == sorted(
        SUPPORTED
    )
