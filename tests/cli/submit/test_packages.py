"""What `paddle submit` ships and submits for a folder, and for a spec."""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.paddle import paddle
from cli.submit.packages import package, shipped
from jobd.spec.spec import parse_spec
from pfs.errors import Kind, PfsError
from tests.cli.shelf import Shelf

NOTHING: dict[str, str | None] = {"entry": None, "resources": None, "image": None}


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    path = tmp_path / "digits"
    path.mkdir()
    (path / "train.py").write_text("pass\n")
    return path


def src(text: bytes) -> str:
    (line,) = [line for line in text.decode().splitlines() if line.startswith("src: ")]
    return line.removeprefix("src: ").strip('"')


def test_a_folder_with_an_entry_is_a_job(shelf: Shelf, digits: Path) -> None:
    given = {"entry": "python train.py", "resources": "2:[]", "image": "python:3.11"}
    stem, text = package(shelf, digits, None, given)
    assert stem == "digits"
    assert shelf.files(src(text)) == {"train.py": b"pass\n"}
    assert 'command: "python train.py"\nresources: "2:[]"\nimage: "python:3.11"\n' in text.decode()
    assert package(shelf, digits, "mine", given)[0] == "mine"


def test_a_folder_with_a_compute_script_needs_nothing_else(shelf: Shelf, digits: Path) -> None:
    (digits / ".compute").write_text("python train.py\n")
    _, text = package(shelf, digits, None, NOTHING)
    assert set(shelf.files(src(text))) == {".compute", "train.py"}
    assert "command" not in text.decode()


def test_a_folder_that_says_nowhere_what_runs_is_refused_with_a_cure(shelf: Shelf, digits: Path) -> None:
    with pytest.raises(PfsError, match=r"\.compute is not there; write it, or give --entry"):
        package(shelf, digits, None, NOTHING)
    (digits / ".compute").touch()
    (digits / ".pitignore").write_text(".compute\n")
    with pytest.raises(PfsError, match="left out by an ignore file"):
        package(shelf, digits, None, NOTHING)


def test_the_spec_in_a_folder_counts_and_gets_the_folder_as_its_src(shelf: Shelf, digits: Path) -> None:
    (digits / "job.yaml").write_text("command: python train.py\n")
    stem, text = package(shelf, digits, None, NOTHING)
    assert stem == "digits"
    assert text.decode().endswith("\ncommand: python train.py\n")
    assert set(shelf.files(src(text))) == {"job.yaml", "train.py"}
    with pytest.raises(PfsError, match="leave out --entry"):
        package(shelf, digits, None, {**NOTHING, "entry": "x"})


@pytest.mark.parametrize("named", ["digits", "./digits/", "~/digits"])
def test_a_folder_of_this_machine_in_a_spec_is_shipped(
    shelf: Shelf, digits: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("HOME", str(digits.parent))
    spec = digits.parent / "big.yaml"
    spec.write_text(f"command: x\nsrc: {named}\n")
    stem, text = package(shelf, spec, None, NOTHING)
    assert (stem, set(shelf.files(src(text)))) == ("big", {"train.py"})


@pytest.mark.parametrize(
    "line", ["src: /pfs/dc1/home/ann/digits", "src: elsewhere", "name: x", "src: [", "src: {a: b}"]
)
def test_all_else_is_the_servers_to_understand(shelf: Shelf, digits: Path, line: str) -> None:
    spec = digits.parent / "j.yaml"
    spec.write_text(f"{line}\ncommand: x\n")
    assert package(shelf, spec, None, NOTHING) == ("j", spec.read_bytes())
    assert shelf.asked == []


def test_a_spec_may_have_any_ending(shelf: Shelf, tmp_path: Path) -> None:
    for name, stem in (("a.json", "a"), ("b.yml", "b"), ("c.txt", "c.txt"), ("d", "d")):
        (tmp_path / name).write_text("command: x\n")
        assert package(shelf, tmp_path / name, None, NOTHING)[0] == stem


def test_paddleclouds_options_make_a_job_of_its_kind(shelf: Shelf, digits: Path) -> None:
    given = {**NOTHING, "entry": "python train.py", "parallelism": "2", "cpu": "1.5", "memory": "2Gi"}
    _, text = package(shelf, digits, None, given)
    assert shelf.files(src(text)) == {"train.py": b"pass\n"}
    rest = text.decode().partition("\n")[2]
    assert rest == 'entry: "python train.py"\nparallelism: 2\ncpu: 1.5\nmemory: "2Gi"\n'
    parse_spec(text, "digits")


def test_a_folder_of_the_datacenter_is_used_in_place(shelf: Shelf) -> None:
    given = {**NOTHING, "entry": "python train.py", "parallelism": "2"}
    stem, text = package(shelf, Path("/pfs/dc1/home/ann/digits"), None, given)
    assert stem == "digits"
    paddle = parse_spec(text, stem).paddle
    assert paddle is not None
    assert paddle.package == "/pfs/dc1/home/ann/digits"
    assert shelf.asked == []


def test_what_is_nowhere_is_told(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(PfsError, match=r"there is no .*missing here"):
        package(shelf, tmp_path / "missing", None, NOTHING)


def test_options_may_begin_with_one_dash_as_paddleclouds_do(monkeypatch: pytest.MonkeyPatch, digits: Path) -> None:
    seen: list[dict[str, str | None]] = []

    def noted(_server: object, _what: Path, name: str | None, given: dict[str, str | None]) -> tuple[str, bytes]:
        seen.append({"name": name, **given})
        raise PfsError(Kind.INVALID, "enough")

    @contextmanager
    def connected(_dc: str | None) -> Iterator[None]:
        yield None

    monkeypatch.setattr("cli.submit.packages.package", noted)
    monkeypatch.setattr("cli.reaching.connected", connected)
    words = ["-jobname", "x", "-parallelism", "2", "-entry", "python train.py", "-memory", "2Gi", str(digits)]
    assert isinstance(CliRunner().invoke(paddle, ["submit", *words]).exception, PfsError)
    words = [str(digits), "-p", "4", "-c", "2", "-m", "10Gi", "-t", "train.py", "-registry", "corp", "-max_instance=9"]
    assert isinstance(CliRunner().invoke(paddle, ["submit", *words]).exception, PfsError)
    assert {key: value for key, value in seen[1].items() if value is not None} == {
        "parallelism": "4",
        "cpu": "2",
        "memory": "10Gi",
        "topology": "train.py",
        "registry": "corp",
        "max_instance": "9",
    }
    assert {key: value for key, value in seen[0].items() if value is not None} == {
        "name": "x",
        "parallelism": "2",
        "entry": "python train.py",
        "memory": "2Gi",
    }


class Terminal(io.StringIO):
    """A terminal, as far as a bar is concerned."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("said", "size_bytes", "has_bar"),
    [(io.StringIO(), 5 << 20, False), (Terminal(), 1000, False), (Terminal(), 5 << 20, True)],
)
def test_on_a_terminal_a_bar_shows_how_much_of_a_folder_was_sent(
    said: io.StringIO, size_bytes: int, has_bar: bool, shelf: Shelf, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digits / "large").write_bytes(os.urandom(size_bytes))
    shelf.cuts = [size_bytes // 2]
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    done = shipped(shelf, digits)
    bar, _, told = said.getvalue().rpartition("\n")[0].rpartition("\n")
    assert told.startswith("Shipped ")
    assert ("\r" in bar) == has_bar
    assert bar.endswith("100%") == has_bar
    assert shelf.files(done.src)["large"] == (digits / "large").read_bytes()
