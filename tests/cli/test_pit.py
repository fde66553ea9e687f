from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from cli import pit as program
from cli.pit import status_report
from pfs.errors import PfsError
from tests.cli.repository import Repository, no_settings
from tests.cli.shelf import Shelf


def job(number: int, state: str, **facts: str) -> dict[str, str]:
    base = {"id": str(number), "user": "tilman", "title": "First light", "state": state, "request": "[2:gtx1070]"}
    return {**base, "submitted": "2026-01-01T00:00:00Z", **facts}


NOW_S = 1767225661.0  # 61 seconds after the jobs' submission


def test_the_report_has_snakepits_columns_widths_and_captions():
    jobs = [
        job(3, "SUCCEEDED", place="n0[cuda 0-1]", changed="2026-01-01T00:01:00Z"),
        job(4, "RUNNING", place="n0[]", changed="2026-01-01T00:00:01Z", title="a title that is longer than it may be"),
        job(5, "WAITING", queue_place="2"),
        job(6, "WAITING", queue_place="1"),
        job(7, "PENDING"),
    ]
    assert status_report(jobs, NOW_S, 80) == (
        "   JOB   S SINCE        UC% UM% USER       TITLE                RESOURCE\n"
        "Running:\n"
        "     4 RUN 00d 00:01:00   0   0 tilman     a title that is long n0[]\n"
        "Waiting:\n"
        "     6 WAI 00d 00:01:01   0   0 tilman     First light          [2:gtx1070]\n"
        "     5 WAI 00d 00:01:01   0   0 tilman     First light          [2:gtx1070]\n"
        "     7 NEW 00d 00:01:01   0   0 tilman     First light          [2:gtx1070]\n"
        "Done:\n"
        "     3 FIN 00d 00:00:01   0   0 tilman     First light          n0[cuda 0-1]\n"
    )


def test_without_jobs_there_is_the_header():
    assert status_report([], NOW_S, 80).count("\n") == 1


def test_at_most_twenty_ended_jobs_are_shown_newest_first():
    lines = status_report([job(n, "FAILED", node="n0") for n in range(1, 30)], NOW_S, 80).splitlines()
    assert len(lines) == 22
    assert lines[2].split()[0] == "29"


# ---- run


class Pit:
    """A pit that keeps trees and says of every spec that it is job 190."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.specs: dict[str, dict[str, Any]] = {}

    def call(self, method: str, url: str, content: Any) -> Any:
        return self.shelf.call(method, url, content)

    def put(self, path: str, data: bytes, _key: str) -> str:
        self.specs[path] = YAML(typ="safe", pure=True).load(data)
        return "jobs/190"

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[bytes]]:
        assert path == "jobs/190/log"
        yield iter([b"[2018-12-14 17:04:58] [daemon] Pit daemon started\n"])


@pytest.fixture
def pit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pit]:
    no_settings(monkeypatch)
    shelf = Shelf(tmp_path / "server")
    made = Pit(shelf)

    @contextmanager
    def connected() -> Iterator[Pit]:
        yield made

    monkeypatch.setattr(program, "connected", connected)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield made
    shelf.disk.close()


def run_pit(*words: str) -> Result:
    return CliRunner().invoke(program.pit, ["run", *words], standalone_mode=False)


def message(result: Result) -> str:
    assert isinstance(result.exception, click.ClickException | PfsError)
    return result.exception.message


def test_run_ships_the_directory_and_prints_what_snakepit_prints(pit: Pit) -> None:
    repository = Repository(Path.cwd())
    pushed = repository.commit(a="1\n")
    repository.track(url="https://ann:secret@example.org/x.git")
    repository.write(a="1\n2\n")
    result = run_pit("First light", "[2:gtx1070]", "-d", "cat a", "-l")
    lines = result.output.splitlines()
    assert lines[-7:] == [
        "Job number: 190",
        "Remote:     origin <https://***@example.org/x.git>",
        f"Hash:       {pushed}",
        "Diff LoC:   7",
        'Resources:  "[2:gtx1070]"',
        "",
        "[2018-12-14 17:04:58] [daemon] Pit daemon started",
    ]
    spec = pit.specs["jobs/First-light.yaml"]
    assert pit.shelf.files(spec.pop("src")) == {"a": b"1\n2\n"}
    assert spec == {
        "title": "First light",
        "resources": "[2:gtx1070]",
        "command": ["bash", "-c", "cat a"],
        "end": "any",
    }


def test_run_takes_the_request_and_the_script_from_the_project(pit: Pit) -> None:
    Path(".compute").write_text("true\n")
    Path(".pitrequest.txt").write_text("\n2:[]\n")
    result = run_pit("x", "-p", "-c", "17")
    assert result.exception is None
    assert result.output.splitlines()[-2:] == ["Job number: 190", 'Resources:  "2:[]"']
    spec = pit.specs["jobs/x.yaml"]
    assert (spec["resources"], spec["private"], spec["continue"]) == ("2:[]", True, 17)
    assert "command" not in spec


def test_put_is_another_word_for_run(pit: Pit) -> None:
    result = CliRunner().invoke(program.pit, ["put", "x", "[]", "-e", "true"], standalone_mode=False)
    assert result.exception is None
    assert "jobs/x.yaml" in pit.specs


def test_what_run_refuses_before_anything_is_sent(pit: Pit) -> None:
    assert message(run_pit("x" * 41, "[]", "-d", "true")) == "Job title too long (40 characters max)"
    assert message(run_pit("x", "-d", "true")).startswith("No resources requested from cluster.")
    assert pit.shelf.asked == []
    assert ".compute is not there" in message(run_pit("x", "[]"))
    assert pit.specs == {}
