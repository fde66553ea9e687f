"""Every command of `pit`, as it is typed: what it prints where, and its exit status."""

import io
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from ruamel.yaml import YAML

from cli import pit as program
from cli.progress import Transfer
from cli.snakepit import connection, copying, looking
from jobd.manifest import Origin, ShippedFile
from pfs.errors import Kind, PfsError
from tests.cli.repository import Repository, no_settings
from tests.cli.shelf import Shelf
from tests.cli.situations import SITUATIONS
from tests.cli.snakepit import joblist
from tests.cli.snakepit.pits import FILES, Tree
from tests.cli.typed import typed
from tests.golden import Step, check

SCRIPTS = sorted((Path(__file__).parent / "snakepit" / "scripts").glob("*.txt"))
NOW_S = 1767225661.0  # 2026-01-01T00:01:01Z

Typed = Callable[..., tuple[int, str, str]]


class Pit(Tree):
    """A pit that keeps trees, and says of every spec that it is job 190."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(FILES)
        self.shelf = shelf
        self.specs: dict[str, dict[str, Any]] = {}

    def call(self, method: str, url: str, content: Any) -> Any:
        if self.people.answers(url) or url.startswith(joblist.PATH):
            return super().call(method, url, content)
        return self.shelf.call(method, url, content)

    def put(self, path: str, data: bytes, _key: str) -> str:
        self.specs[path] = YAML(typ="safe", pure=True).load(data)
        self.files["jobs/190/log"] = "[2018-12-14 17:04:58] [daemon] Pit daemon started\n"
        return "jobs/190"


@pytest.fixture
def pit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pit]:
    no_settings(monkeypatch)
    shelf = Shelf(tmp_path / "server")
    made = Pit(shelf)

    @contextmanager
    def connected() -> Iterator[Pit]:
        yield made

    def send(client: Pit, path: str, source: BinaryIO, transfer: Transfer) -> None:
        client.written.append((f"{path} from {transfer.done}", source.read() + b"\n"))

    monkeypatch.setattr(connection, "connected", connected)
    monkeypatch.setattr(copying, "send", send)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(looking.time, "time", lambda: NOW_S)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield made
    shelf.disk.close()


def type_pit(*words: str) -> tuple[int, str, str]:
    """Run pit, and return its status, and what it writes to stdout and stderr."""
    return typed(program.main, "pit", *words)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_commands_answer_as_the_scripts_say(script: Path, pit: Pit, request: pytest.FixtureRequest) -> None:
    def handler(step: Step) -> str:
        pit.written.clear()
        sys.stdin = io.TextIOWrapper(io.BytesIO(step.text.encode()))
        words = shlex.split(" ".join(step.words))
        status, out, err = type_pit(*(words[1:] if words[0] == "pit" else words))
        said = "".join(f"stderr: {line}\n" for line in err.splitlines())
        done = "".join(f"{path} <- {data.decode()}" for path, data in pit.written)
        answer = out + said + done + (f"status {status}\n" if status else "")
        return answer.replace(str(Path.cwd()), "<here>")

    check(script, handler, request.config.getoption("rewrite"))


# ---- run


def run_pit(*words: str) -> str:
    status, out, err = type_pit("run", *words)
    assert status == 0, err
    return out


def refusal(*words: str) -> str:
    status, out, err = type_pit("run", *words)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    return err


def test_run_ships_the_directory_and_prints_what_snakepit_prints(pit: Pit) -> None:
    repository = Repository(Path.cwd())
    pushed = repository.commit(a="1\n")
    repository.track(url="https://ann:secret@example.org/x.git")
    repository.write(a="1\n2\n")
    assert run_pit("First light", "[2:gtx1070]", "-d", "cat a", "-l").splitlines()[-7:] == [
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


@pytest.mark.parametrize("name", SITUATIONS)
def test_run_ships_the_work_tree_whatever_git_has_to_say_of_it(
    name: str, pit: Pit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    situation = SITUATIONS[name](tmp_path / "room")
    monkeypatch.chdir(situation.folder)
    assert run_pit("x", "[]").splitlines() == situation.report("190", "[]")
    src = pit.specs["jobs/x.yaml"]["src"]
    files, manifest = pit.shelf.files(src), pit.shelf.manifest(src)
    modes = {entry.path: entry.mode for entry in manifest.entries if isinstance(entry, ShippedFile)}
    assert {path: (modes[path], data) for path, data in files.items()} == situation.work_tree()
    origin = manifest.origin or Origin()
    assert f"{origin.remote} <{origin.url}>" == (situation.remote or " <>")
    assert (origin.hash, origin.diff_lines) == (situation.hash, situation.lines or 0)


def test_run_takes_the_request_and_the_script_from_the_project(pit: Pit) -> None:
    Path(".compute").write_text("true\n")
    Path(".pitrequest.txt").write_text("\n2:[]\n")
    assert run_pit("x", "-p", "-c", "17").splitlines()[-2:] == ["Job number: 190", 'Resources:  "2:[]"']
    spec = pit.specs["jobs/x.yaml"]
    assert (spec["resources"], spec["private"], spec["continue"]) == ("2:[]", True, 17)
    assert "command" not in spec


def test_an_archive_is_the_directory_without_git(pit: Pit) -> None:
    repository = Repository(Path.cwd())
    repository.commit(a="1\n", x_log="tracked, and ignored since\n")
    repository.track()
    repository.write(_compute="true\n", _gitignore="*.log\n", _pitignore="data\n", sub__b="2\n", data__c="3\n")
    Path("empty").mkdir()
    printed = run_pit("x", "[]", "-a")
    assert printed.splitlines() == ["Job number: 190", 'Resources:  "[]"']
    manifest = pit.shelf.manifest(pit.specs["jobs/x.yaml"]["src"])
    assert [entry.path for entry in manifest.entries] == [
        *(".compute", ".gitignore", ".pitignore", "a", "empty", "sub/b")
    ]
    assert manifest.origin is None


def test_the_request_of_a_project_is_read_nowhere_else(
    pit: Pit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for elsewhere in (tmp_path, Path("..")):
        (elsewhere / ".pitrequest.txt").write_text("[]\n")
    assert "No resources requested" in refusal("x", "-d", "true")
    Path(".pitrequest.txt").write_text("2:[]\n")
    assert run_pit("x", "3:[]", "-d", "true").splitlines()[-1] == 'Resources:  "3:[]"'  # what is typed counts more


def test_put_is_another_word_for_run(pit: Pit) -> None:
    assert type_pit("put", "x", "[]", "-e", "true")[0] == 0
    assert "jobs/x.yaml" in pit.specs


def test_what_run_refuses_before_anything_is_sent(pit: Pit) -> None:
    assert "Job title too long (40 characters max)" in refusal("x" * 41, "[]", "-d", "true")
    assert "No resources requested from cluster." in refusal("x", "-d", "true")
    assert pit.shelf.asked == []
    Path(".compute").write_text("true\n")
    Path(".pitignore").write_text(".compute\n")
    status, _, err = type_pit("run", "x", "[]", "-a")
    assert (status, ".compute is left out by an ignore file" in err) == (1, True)
    assert pit.specs == {}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "needs 3 gtx for one process, but the largest node, n0, has 2; ask for at most 2 for each process",
            "Cluster cannot fulfill resource request: needs 3 gtx for one process, but the largest node, n0, has 2; ",
        ),
        ("continue: there is no job 99", "The job to continue is not existing: continue: there is no job 99"),
        (
            "continue: there is no job 188",  # ann's
            "Continuing provided job not allowed for current user: continue: there is no job 188",
        ),
        ("line 1, column 1: no", "line 1, column 1: no"),
    ],
)
def test_what_the_server_refuses_is_told_in_snakepits_words_and_its_own(
    said: str, told: str, pit: Pit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(path: str, _data: bytes, _key: str) -> str:
        raise PfsError(Kind.INVALID, said, path)

    monkeypatch.setattr(pit, "put", put)
    assert told in refusal("x", "[]", "-d", "true", "-c", said.rpartition(" ")[2] if "continue" in said else "17")


def test_a_project_without_a_script_is_a_job_that_runs_nothing(pit: Pit) -> None:
    Path("data").write_text("1\n")
    assert run_pit("x", "[]", "-a").splitlines() == ["Job number: 190", 'Resources:  "[]"']
    spec = pit.specs["jobs/x.yaml"]
    assert spec["command"] == ["bash", "-c", "true"]
    assert pit.shelf.files(spec["src"]) == {"data": b"1\n"}


def test_run_says_what_is_wrong_in_the_words_of_the_command_line_before_it_ships(pit: Pit) -> None:
    Path("data").write_text("1\n")
    assert refusal("x", "gtx1070", "-d", "true").startswith(
        'Command failed: Problem parsing allocation "gtx1070" in clusterRequest, column 1: expected "["'
    )
    Path(".pitrequest.txt").write_text("2:[\n")
    assert 'Problem parsing allocation "2:[" in .pitrequest.txt, column 4: ' in refusal("x", "-d", "true")
    assert "Job title missing" in refusal("", "[]", "-d", "true")
    for title in ("two\nlines", "\x1b[31m", "\udcff"):
        assert "Job title not usable: it has to be one line of text" in refusal(title, "[]", "-d", "true")
    assert (pit.shelf.asked, pit.specs) == ([], {})


@pytest.mark.parametrize("words", [("log", "191"), ("run", "x", "[]", "-d", "true", "-l")])
def test_who_stops_looking_at_a_log_has_done_nothing_wrong(
    words: tuple[str, ...], pit: Pit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.following.copy_stream", interrupted)
    status, _, err = type_pit(*words)
    assert (status, " goes on; pit " in err) == (0, True)


# ---- without a server


@pytest.mark.parametrize(
    "words",
    [
        *("status", "status --json", "show me", "show nodes --json", "show jobs", "show 191", "stop 191", "log 191"),
        *("download 191", "ls home", "cp 191 log here", "pull home notes.txt", "cat home notes.txt"),
        *("push home x", "mkdir home x", "delete home x"),
        *("passwd", "passwd bob", "add user:bob", "add user:bob password=x admin=yes", "add group:a", "add alias:a"),
        *("set me password=x", "set user:ann admin=yes", "rm node:n0", "get me email", "get node:n0 state"),
        *("add-group job:17 a", "add-group user:ann a", "remove-group node:n0:1 a", "run x [] -d true", "run x [] -a"),
        *("exec 17 true", "exec 17", "forward 17 6006", "forward 17 8080:80 8443:443", "mount home", "mount job:17"),
    ],
)
def test_a_server_that_is_away_is_told_in_one_line(words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".pitconnect.txt").write_text("http://127.0.0.1:1\n")
    (tmp_path / ".pituser.txt").write_text("ann\npfs1.a.b\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, out, err = type_pit(*words.split())
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Command failed: Unable to reach pit: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pitconnect.txt", ".pituser.txt"]
