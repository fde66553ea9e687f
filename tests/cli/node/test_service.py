"""The unit of `--service`: systemd understands it, it starts the node as asked, and jobs outlive what it does."""

import argparse
import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli import gradient_node
from cli.node.options import OPTIONS, parse, settings_of
from cli.node.service import unit
from pfs.errors import PfsError
from pfs.keys import make_key

KEY = make_key("http://127.0.0.1:9", "very-secret")
# since systemd 254; an older one starts the node every second
NEW = {"RestartSteps", "RestartMaxDelaySec"}


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a program that was installed."""
    found = tmp_path / "bin/gradient-node"
    found.parent.mkdir()
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(found)])
    monkeypatch.setenv("HOME", str(tmp_path))
    return found


def service(text: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser["Service"]


def started(text: str) -> list[str]:
    """Return the words of the command as systemd reads them."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(service(text)["ExecStart"])]


def given(*words: str) -> argparse.Namespace:
    return parse([*words, "--service"])


def test_systemd_understands_it(tmp_path: Path) -> None:
    text = unit(given("--cpus", "16", "--mount", "/srv/a b:/data"), {})
    assert set(service(text)) >= {"ExecStart", "EnvironmentFile", "KillMode", "Restart"}
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd is not installed; the text was read as one of its files")
    file = tmp_path / "gradient-node.service"
    file.write_text(text)
    done = subprocess.run([verifier, "verify", str(file)], capture_output=True, text=True, check=False, timeout=60)
    about_it = [line for line in done.stderr.splitlines() if "gradient-node" in line]
    assert {match[1] for line in about_it if (match := re.search(r"Unknown key(?: name)? '(\w+)'", line))} <= NEW
    assert [line for line in about_it if "Unknown key" not in line] == []


def test_it_starts_this_program_with_the_same_options(program: Path, tmp_path: Path) -> None:
    words = ["--name", "n 0", "-cluster", "50% of $HOME", "--mounts", "/srv/a:/a,/srv/b:/b:ro", "--debug"]
    words += ["--mount", '/srv/"c":/c', "--sandbox-path", str(tmp_path), "--cluster", "back\\slash"]
    first, *rest = started(unit(given(*words), {}))
    assert first == str(program)
    env = {"GRADIENT_NODE_API_KEY": KEY}
    assert settings_of(parse(rest), env) == settings_of(parse(words), env)
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= {f"--{each.name}" for each in OPTIONS}


def test_paths_mean_the_same_from_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = started(unit(given("--data-root", "data", "--state-dir", "./state", "--policy", "p.yaml"), {}))
    for name in ("data", "state", "p.yaml"):
        assert str(tmp_path / name) in words


def test_the_key_is_in_a_file_that_only_root_reads() -> None:
    text = unit(given("--apiKey", KEY, "--cpus", "1"), {"GRADIENT_NODE_API_KEY": KEY})
    assert "secret" not in text
    assert "apiKey" not in text
    file = service(text)["EnvironmentFile"]
    assert f"install -m 0600 /dev/null {file}" in text


def test_jobs_outlive_the_daemon_and_their_own_want_of_memory() -> None:
    found = service(unit(given(), {}))
    assert (found["KillMode"], found["OOMPolicy"], found["TasksMax"]) == ("process", "continue", "infinity")


def test_it_is_started_again_with_growing_pauses_but_not_after_a_mistake() -> None:
    found = service(unit(given(), {}))
    assert found["Restart"] == "on-failure"
    assert float(found["RestartSec"]) < float(found["RestartMaxDelaySec"])
    assert int(found["RestartSteps"]) > 1
    assert found["RestartPreventExitStatus"] == "2"
    assert "StartLimitIntervalSec=0" in unit(given(), {})


def test_nothing_of_it_keeps_jobs_from_what_they_need() -> None:
    """Jobs in sandboxes inherit filters, and mounts that the unit has for itself are hidden from the engine."""
    mounts = "ProtectSystem ProtectHome PrivateTmp PrivateDevices PrivateMounts ReadWritePaths ReadOnlyPaths MountFlags"
    mounts += " InaccessiblePaths TemporaryFileSystem ProtectKernelTunables ProtectKernelModules ProtectControlGroups"
    filters = "SystemCallFilter SystemCallArchitectures MemoryDenyWriteExecute RestrictAddressFamilies LockPersonality"
    filters += " RestrictNamespaces RestrictSUIDSGID PrivateNetwork PrivateUsers DynamicUser User MemoryMax LimitNPROC"
    assert not set(service(unit(given(), {}))) & set(f"{mounts} {filters}".split())


def test_state_is_where_the_daemon_looks_for_it() -> None:
    assert service(unit(given(), {}))["StateDirectory"] == "pfs-node"
    assert "StateDirectory" not in service(unit(given("--state-dir", "/srv/state"), {}))


@pytest.mark.parametrize("words", [["--cpus", "none"], ["--mount", "/a:/proc"], ["--name", "a\nb"]])
def test_a_mistake_is_told_instead(words: list[str]) -> None:
    with pytest.raises(PfsError):
        unit(given(*words), {})


def test_the_program_prints_it_and_needs_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: Path
) -> None:
    monkeypatch.setattr("sys.argv", [str(program), "--service", "--cpus", "2"])
    with pytest.raises(SystemExit) as end:
        gradient_node.main()
    assert not end.value.code
    assert f"ExecStart={program} --cpus 2\n" in capsys.readouterr().out


def test_under_its_other_name_it_starts_the_program_beside(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    monkeypatch.setattr("sys.argv", [str(program.with_name("jobd"))])
    assert started(unit(given(), {}))[0] == str(program)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root gives rights away")
def test_a_sandbox_needs_none_of_the_rights_that_it_takes_away() -> None:
    never = service(unit(given(), {}))["CapabilityBoundingSet"].removeprefix("~").split()
    less = ",".join(f"-{name.removeprefix('CAP_').lower()}" for name in never)
    script = "import trio; from jobd.node.sandbox import probe; print(repr(trio.run(probe)))"
    command = ["setpriv", f"--bounding-set={less}", "--no-new-privs", sys.executable]
    done = subprocess.run([*command, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "''\n"
