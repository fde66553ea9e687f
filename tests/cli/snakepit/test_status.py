"""The details of Snakepit's tables that the golden scripts do not come by."""

from cli.snakepit.gpuuse import gpus_of
from cli.snakepit.status import job_list, jobs_of, status_report


def job(number: int, state: str, **facts: str) -> dict[str, str]:
    base = {"id": str(number), "user": "tilman", "title": "First light", "state": state, "request": "[2:gtx1070]"}
    return {**base, "submitted": "2026-01-01T00:00:00Z", **facts}


NOW_S = 1767225661.0  # 61 seconds after the jobs' submission


def test_without_jobs_there_is_the_header() -> None:
    assert (
        status_report([], NOW_S, 80, {}) == "   JOB   S SINCE        UC% UM% USER       TITLE                RESOURCE\n"
    )
    assert job_list([], 80, {}).count("\n") == 1


def test_at_most_twenty_ended_jobs_are_shown_newest_first() -> None:
    lines = status_report([job(n, "FAILED", node="n0") for n in range(1, 30)], NOW_S, 80, {}).splitlines()
    assert len(lines) == 22
    assert lines[2].split()[0] == "29"


def test_a_narrow_terminal_shows_thirty_characters_of_the_resources() -> None:
    place = "n0[cuda 0-1] + a-node-with-a-long-name[]"
    for columns, shown in ((0, 30), (65, 30), (73, 30), (74, 10), (100, 36), (200, len(place))):
        line = status_report([job(1, "RUNNING", place=place)], NOW_S, columns, {}).splitlines()[2]
        assert line[64:] == place[:shown].rstrip()


def test_titles_move_no_cursor() -> None:
    assert "\x1b" not in status_report([job(1, "RUNNING", title="\x1b[2J")], NOW_S, 80, {})


def test_a_title_may_be_the_sign_that_stands_for_nothing() -> None:
    header = "JOB  STATE    CHANGED               USER  PLACE  TITLE"
    text = f"Running:\n{header}\n17   RUNNING  2026-01-01T00:00:01Z  ann   n0[]   -\n"
    [found] = jobs_of(text)
    assert found["title"] == "-"
    assert status_report([found], NOW_S, 80, {}).splitlines()[2].split()[-2:] == ["-", "n0[]"]


def test_a_place_names_its_gpus() -> None:
    assert gpus_of("n0[cuda 0-1,4] + n1[] + n2@lab[cuda 0.2]") == [
        *(("n0", number) for number in "014"),
        ("n2@lab", "0.2"),
    ]
    assert gpus_of("") == []
