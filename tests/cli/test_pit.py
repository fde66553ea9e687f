from cli.pit import status_report


def job(number: int, state: str, **facts: str) -> dict[str, str]:
    base = {"id": str(number), "user": "tilman", "title": "First light", "state": state}
    return {**base, "submitted": "2026-01-01T00:00:00Z", "node": "", **facts}


NOW_S = 1767225661.0  # 61 seconds after the jobs' submission


def test_the_report_has_snakepits_columns_widths_and_captions():
    jobs = [
        job(3, "SUCCEEDED", node="n0", ended="2026-01-01T00:01:00Z"),
        job(4, "RUNNING", node="n0", started="2026-01-01T00:00:01Z", title="a title that is longer than it may be"),
        job(5, "WAITING"),
        job(6, "PENDING"),
    ]
    assert status_report(jobs, NOW_S, 80) == (
        "   JOB   S SINCE        UC% UM% USER       TITLE                RESOURCE\n"
        "Running:\n"
        "     4 RUN 00d 00:01:00   0   0 tilman     a title that is long n0[]\n"
        "Waiting:\n"
        "     5 WAI 00d 00:01:01   0   0 tilman     First light          []\n"
        "     6 NEW 00d 00:01:01   0   0 tilman     First light          []\n"
        "Done:\n"
        "     3 FIN 00d 00:00:01   0   0 tilman     First light          n0[]\n"
    )


def test_without_jobs_there_is_the_header():
    assert status_report([], NOW_S, 80).count("\n") == 1


def test_at_most_twenty_ended_jobs_are_shown_newest_first():
    lines = status_report([job(n, "FAILED", node="n0") for n in range(1, 30)], NOW_S, 80).splitlines()
    assert len(lines) == 22
    assert lines[2].split()[0] == "29"
