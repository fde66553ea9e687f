"""PaddleCloud's fields: what its processes run, tried with a shell; what each field means is pinned in scripts/spec."""

import subprocess
from pathlib import Path

import pytest

from jobd.environment import Facts, GroupHosts, environment
from jobd.spec.paddle import PADDLE_FIELDS
from jobd.spec.spec import SUPPORTED, SpecError, parse_spec


def said(folder: Path, text: str, group: int, *, has_paddle: bool) -> str:
    """Return what the first process of a group prints in a folder with, or without, a `paddle` that tells its words."""
    spec = parse_spec(text.encode(), "emb")
    hosts = tuple(
        GroupHosts(each.name, tuple(f"{each.name}{number}" for number in range(each.count)), each.service)
        for each in spec.groups
    )
    values = environment(
        Facts("dc1", "ann", 17, "emb", 1, hosts, group, 0, env=spec.groups[group].env, paddle=spec.paddle)
    )
    if has_paddle:
        (folder / "paddle").write_text('#!/bin/sh\necho paddle "$@"\n')
        (folder / "paddle").chmod(0o755)
    values["PATH"] = f"{folder}:/usr/bin:/bin"
    argv = ["/bin/sh", *spec.groups[group].argv[1:]]
    return subprocess.run(argv, env=values, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


ENTRY = "entry: 'echo $PADDLE_TRAINING_ROLE of $PADDLE_TRAINERS'\nparallelism: 2\n"


def test_trainers_run_the_entry(tmp_path: Path) -> None:
    assert said(tmp_path, ENTRY, 0, has_paddle=True) == "TRAINER of 2"


def test_a_parameter_server_is_paddlepaddles_own(tmp_path: Path) -> None:
    ports = "--port=7164 --ports_num=1 --ports_num_for_sparse=1 --num_gradient_servers=2"
    # an empty list of interfaces means all of them
    assert said(tmp_path, ENTRY, 1, has_paddle=True) == f"paddle pserver --use_gpu=0 --nics= {ports}"
    text = f"{ENTRY}env: {{PADDLE_INIT_NICS: eth0}}\n"
    assert said(tmp_path, text, 1, has_paddle=True) == f"paddle pserver --use_gpu=0 --nics=eth0 {ports}"


def test_without_that_program_a_parameter_server_runs_the_entry(tmp_path: Path) -> None:
    assert said(tmp_path, ENTRY, 1, has_paddle=False) == "PSERVER of 2"


def test_a_topology_is_trained_by_paddlepaddles_own_program(tmp_path: Path) -> None:
    words = said(tmp_path, "topology: my topo.py\ngpu: 2\npasses: 3\npservers: 2\n", 0, has_paddle=True)
    assert words == (
        "paddle train --local=0 --config=my topo.py --port=7164 --ports_num=1 --ports_num_for_sparse=1"
        " --num_gradient_servers=1 --pservers=pserver0,pserver1 --trainer_id=0 --trainer_count=2"
        " --use_gpu=1 --num_passes=3"
    )


def test_no_field_is_a_key_of_other_jobs() -> None:
    assert not PADDLE_FIELDS.keys() & SUPPORTED.keys()


@pytest.mark.parametrize("native", ["command: ls", "resources: '[]'", "groups: [{}]", "service: true"])
def test_other_words_for_the_same_are_refused_with_what_to_write(native: str) -> None:
    key = native.partition(":")[0]
    with pytest.raises(SpecError, match=rf"line 2, column 1: {key} does not go .* instead, or remove entry"):
        parse_spec(f"entry: ls\n{native}\n".encode(), "x")


@pytest.mark.parametrize("files", ["src: a", "git: {url: 'https://a/b'}"])
def test_files_come_from_the_package_or_from_elsewhere(files: str) -> None:
    assert parse_spec(f"entry: ls\n{files}\n".encode(), "x").paddle is not None
    with pytest.raises(SpecError, match="keep one of them"):
        parse_spec(f"entry: ls\n{files}\njob_package: b\n".encode(), "x")
