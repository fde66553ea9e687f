"""What a sandbox is told: nothing that its owner chose reaches a shell unquoted, or a file of /etc unchecked."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.node import userland
from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.node.userland import Sandbox
from pfs.names import FIRST_GID

LAUNCH = Launch("17.1.0.0", ("true",), {"PFS_USER": "ann", "HOME": "/pfs/dc1/home/ann"}, "/work", "host0")
NASTY = 'it\'s $(id) `id` "x" \\ \n\t* ; exit 9 #é'


def test_variables_arrive_as_they_are() -> None:
    launch = replace(LAUNCH, env={"NASTY": NASTY, "EMPTY": ""})
    text = userland.script(launch)
    done = subprocess.run(
        ["sh", "-s", "--", "env", "-0"],
        input=f"exec 3>/dev/null\n{text}".encode(),
        env={},
        capture_output=True,
        check=True,
        timeout=10,
    )
    env = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    assert env["NASTY"] == NASTY
    assert env["EMPTY"] == ""
    assert env["HOSTNAME"] == "host0"
    assert env["PATH"] == userland.PATH


def test_a_programs_arguments_arrive_as_they_are() -> None:
    words = ["printf", "%s|", NASTY, "", "-n", "--"]
    text = f"exec 3>/dev/null\n{userland.script(LAUNCH)}"
    done = subprocess.run(["sh", "-s", "--", *words], input=text.encode(), capture_output=True, check=True, timeout=10)
    assert done.stdout.decode() == f"{NASTY}||-n|--|"


@pytest.mark.parametrize("name", ["", "A B", "1A", "A-B", "A=B", "A;id", "A\n"])
def test_a_variable_needs_a_proper_name(name: str) -> None:
    with pytest.raises(RuntimeFailure, match="cannot be the name"):
        userland.check(replace(LAUNCH, env={name: "x"}))


@pytest.mark.parametrize("change", [{"argv": ()}, {"argv": ("a\0b",)}, {"env": {"A": "\0"}}])
def test_what_no_process_can_be_given_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RuntimeFailure):
        userland.check(replace(LAUNCH, **change))  # type: ignore[arg-type]


def test_volumes_come_outer_ones_first_each_as_it_may_be_used() -> None:
    volumes = (Volume("/d/job", "/pfs/dc1/jobs/17", False), Volume("/d/shared", "/pfs/dc1", True))
    sandbox = Sandbox(("--ro-bind", "/usr", "/usr"), "/state/etc", {"/run/etc/hosts": 20}, [Path("/opt/tools")])
    words = " ".join(userland.options(replace(LAUNCH, volumes=volumes), sandbox))
    assert "--ro-bind /opt/tools /opt/tools " in words
    assert "--ro-bind /usr /usr --ro-bind /state/etc /etc " in words
    assert "--perms 0444 --file 20 /run/etc/hosts " in words
    assert words.index("--ro-bind /d/shared /pfs/dc1 ") < words.index("--bind /d/job /pfs/dc1/jobs/17 ")
    assert words.endswith("--remount-ro / --chdir /work")


def test_devices_are_there_only_for_those_who_were_given_them() -> None:
    sandbox = Sandbox((), "/state/etc", {}, devices=["/dev/nvidia0"])
    assert "--dev-bind /dev/nvidia0 /dev/nvidia0" in " ".join(userland.options(LAUNCH, sandbox))
    assert "--dev-bind" not in userland.options(LAUNCH, replace(sandbox, devices=()))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")
def test_rights_are_dropped_before_anything_of_the_owners_runs() -> None:
    words = userland.command(200001, 200002, (), 8)
    assert words[:4] == ["bwrap", "--args", "8", "--"]
    assert words[4:7] == ["setpriv", "--reuid=200001", "--regid=200002"]
    assert {"--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"} <= set(words)
    assert words[-3:] == ["sh", "-s", "--"]
    assert "--clear-groups" not in (grouped := userland.command(200001, 200002, (FIRST_GID + 1, FIRST_GID + 2), 8))
    assert f"--groups={FIRST_GID + 1},{FIRST_GID + 2}" in grouped
