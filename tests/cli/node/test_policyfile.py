"""The policy file: what it may say, that every mistake is told with its place, and that nobody else wrote it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.node.policyfile import KEYS, parse_policy, read_policy
from jobd.node.policy import Policy
from pfs.errors import Kind, PfsError

WHOLE = b"""\
images: [python:3.11, "registry.example.org/team/*"]
registries: ["*.Example.org"]
sandbox: false
cpus: 16
memory: 64GiB
shm: 8GiB
processes: 512
disk: 20GiB
ulimits: {nofile: 4096, stack: 16MiB}
mounts: [/srv/datasets/]
"""


def test_a_file_with_everything() -> None:
    assert parse_policy(WHOLE, "p") == Policy(
        images=("python:3.11", "registry.example.org/team/*"),
        registries=("*.example.org",),
        sandbox=False,
        cpus=16.0,
        memory_bytes=64 << 30,
        shm_bytes=8 << 30,
        processes=512,
        disk_bytes=20 << 30,
        ulimits={"nofile": 4096, "stack": 16 << 20},
        mounts=("/srv/datasets",),
    )
    assert [line.split(b":")[0].decode() for line in WHOLE.splitlines()] == list(KEYS)


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"{}", b"~"])
def test_a_file_that_says_nothing_allows_everything(data: bytes) -> None:
    assert parse_policy(data, "p") == Policy()


def test_nothing_is_more_than_everything() -> None:
    assert parse_policy(b"images: []\nmounts: []\n", "p") == Policy(images=(), mounts=())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"image: [x]", "line 1, column 1: there is no key 'image'; did you mean images"),
        (b"a: 1\nb: 2", "line 2, column 1: there is no key 'b'"),
        (b"images: python", "line 1, column 9: expected a list of names of images"),
        (b"images:\n- {a: b}", "line 2, column 3: expected names of images"),
        (b"ulimits: 4096", "line 1, column 10: expected limits by their names, such as {nofile: 4096}"),
        (b"ulimits: {nofiles: 4096}", "line 1, column 11: there is no key 'nofiles'; did you mean nofile"),
        (b"ulimits: {nofile: 3}", "line 1, column 19: expected a whole number from 64 to 1048576"),
        (b'images: ["a b"]', "'a b' is no image"),
        (b"registries: [docker.io/library]", "'docker.io/library' is no registry"),
        (b"sandbox: maybe", "line 1, column 10: expected true or false"),
        (b"sandbox: false\ncpus: 0", "line 2, column 7: expected a number of CPUs"),
        (b"sandbox: false\nmemory: 64", "line 2, column 9: the size 64 has no unit"),
        (b"sandbox: false\nprocesses: 3", "expected a whole number from 16 to 4096"),
        (b"mounts: [srv]", "'srv' is no directory of this machine"),
        (b"cpus: 4", "line 1, column 1: a sandbox does not limit cpus: write sandbox: false as well"),
        (b"sandbox: true\nmemory: 4GiB", "line 2, column 1: a sandbox does not limit memory"),
        (b"- images", "line 1, column 1: expected keys"),
        (b"images: [x", "line 1"),
        (b"shm: 1GiB\nshm: 2GiB", "line 2, column 1"),
        (b"privileged: true", "line 1, column 1: there is no key 'privileged'"),
        (b"\xff", "is no UTF-8"),
    ],
)
def test_a_mistake_is_told_with_its_place(data: bytes, words: str) -> None:
    with pytest.raises(PfsError) as caught:
        parse_policy(data, "/etc/pfs/node.yaml")
    assert caught.value.kind is Kind.INVALID
    assert str(caught.value).startswith("the policy /etc/pfs/node.yaml: line ")
    assert words in str(caught.value)


_TEXTS = st.sampled_from(
    [*KEYS, ": ", "[", "]", ",", "\n", "- ", "'", '"', "*", "false", "1GiB", "7", "&a ", "*a", "!!", "{", "}"]
)


@given(st.binary(max_size=60) | st.lists(_TEXTS, max_size=12).map(lambda words: "".join(words).encode()))
def test_any_text_is_a_policy_or_a_mistake_with_its_place(data: bytes) -> None:
    said = ""
    try:
        assert isinstance(parse_policy(data, "p"), Policy)
    except PfsError as error:
        said = f"{error.kind} {error}"
    assert said == "" or said.startswith(f"{Kind.INVALID} the policy p: line ")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "node.yaml"
    found.write_bytes(WHOLE)
    found.chmod(0o644)
    return found


def test_the_file_that_was_named_or_else_the_one_that_is_there(file: Path, tmp_path: Path) -> None:
    assert read_policy(file).cpus == 16
    assert read_policy(None, default=file).cpus == 16
    assert read_policy(None, default=tmp_path / "none") == Policy()
    with pytest.raises(PfsError, match="there is no such file"):
        read_policy(tmp_path / "none")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(PfsError, match=r"others can write to .*node\.yaml"):
        read_policy(file)


def test_a_file_in_a_directory_that_others_can_write_is_refused(file: Path) -> None:
    file.parent.chmod(0o777)
    with pytest.raises(PfsError, match="others can write to "):
        read_policy(None, default=file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(file, 1234, 0)
    with pytest.raises(PfsError, match="others can write to "):
        read_policy(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(PfsError, match=r"is no file|cannot be read"):
            read_policy(path)
    (tmp_path / "x").touch()
    with pytest.raises(PfsError, match="cannot be read: Not a directory"):
        read_policy(tmp_path / "x/y")
