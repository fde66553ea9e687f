"""What `paddle submit` ships and submits for a folder, and for a spec."""

from functools import partial
from pathlib import Path

import pytest

from cli.submit.packages import package as prepared
from cli.submit.ship import ship, unsent
from jobd.spec.spec import parse_spec
from pfs.errors import PfsError
from tests.cli.shelf import Shelf

NOTHING: dict[str, str | None] = {"command": None, "resources": None, "image": None}


def package(shelf: Shelf, what: Path, name: str | None, given: dict[str, str | None]) -> tuple[str, bytes]:
    return prepared(what, name, given, partial(ship, shelf))


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    path = tmp_path / "digits"
    path.mkdir()
    (path / "train.py").write_text("pass\n")
    return path


def src(text: bytes) -> str:
    (line,) = [line for line in text.decode().splitlines() if line.startswith("src: ")]
    return line.removeprefix("src: ").strip('"')


def test_a_folder_with_a_command_is_a_job(shelf: Shelf, digits: Path) -> None:
    given = {"command": "python train.py", "resources": "2:[]", "image": "python:3.11"}
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
    with pytest.raises(PfsError, match=r"\.compute is not there; write it, or give --command"):
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
    with pytest.raises(PfsError, match="leave out --command"):
        package(shelf, digits, None, {**NOTHING, "command": "x"})


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


def test_of_a_folder_of_the_datacenter_the_job_gets_a_copy(shelf: Shelf) -> None:
    stem, text = package(shelf, Path("/pfs/dc1/home/ann/digits"), None, {**NOTHING, "command": "python train.py"})
    assert (stem, parse_spec(text, stem).src) == ("digits", "/pfs/dc1/home/ann/digits")
    assert shelf.asked == []


def test_what_would_be_shipped_is_named_as_what_is(shelf: Shelf, digits: Path) -> None:
    given = {**NOTHING, "command": "python train.py"}
    assert prepared(digits, None, given, unsent) == package(shelf, digits, None, given)


def test_what_is_nowhere_is_told(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(PfsError, match=r"there is no .*missing here"):
        package(shelf, tmp_path / "missing", None, NOTHING)
