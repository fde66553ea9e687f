"""The systemd unit of a node (`--service`): what an administrator puts into /etc/systemd/system, with what it decides.

Jobs outlive the daemon: only its own process is ended (`KillMode=process`), whether it is restarted, upgraded or
stopped, and a job that the kernel ends for want of memory does not take the unit along (`OOMPolicy=continue`). Jobs in
sandboxes are below the daemon, so nothing here may limit what programs of jobs need: no filter of system calls or
address families, no memory that cannot be both written and executed, no limit of tasks. The daemon mounts jobs' files
where the container engine has to see them, so the unit has no mounts of its own either: none of ProtectSystem,
ProtectHome, PrivateTmp, PrivateDevices and ReadWritePaths. What stays is to take those rights away for good that
neither the daemon nor any job has a use for.

The key is in a file that only root reads, never on a command line, which everybody on the machine can read.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping

from cli.node.options import OPTIONS, PROGRAM, settings_of
from pfs.errors import Kind, PfsError
from pfs.keys import make_key

UNIT_FILE = "/etc/systemd/system/gradient-node.service"
ENVIRONMENT_FILE = "/etc/pfs/node.env"
# what its options say stays with the key: a unit is read by everybody
_NOT_IN_THE_UNIT = ("apiKey", "service")
_PATHS = ("policy", "data-root", "state-dir", "sandbox-path")
# rights of root that neither the daemon nor bubblewrap uses
_NEVER = (
    "CAP_AUDIT_CONTROL CAP_BLOCK_SUSPEND CAP_LEASE CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYS_BOOT "
    "CAP_SYS_MODULE CAP_SYS_PACCT CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYSLOG CAP_WAKE_ALARM"
)
_ANY_KEY = make_key("http://127.0.0.1", "any")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./%$-]+")

_UNIT = """\
# {unit}
#
#     {program} --service … > {unit}
#     install -d -m 0755 {directory}
#     install -m 0600 /dev/null {environment}     # then write: GRADIENT_NODE_API_KEY=<the key>
#                                                       and what else is said by variables, each in a line
#     systemctl daemon-reload && systemctl enable --now gradient-node
#
# Stopping, restarting and upgrading the daemon leaves its jobs running; it finds them again when it is back.

[Unit]
Description=Runs jobs of a pfs server on this machine
Wants=network-online.target
After=network-online.target docker.service
# a server that is away for a day is no reason to give up
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
EnvironmentFile={environment}
# what jobs in sandboxes get at the most; GPUs need memory that is locked
LimitNOFILE=1048576
LimitMEMLOCK=infinity
{state}
# jobs outlive the daemon
KillMode=process
OOMPolicy=continue
TasksMax=infinity
TimeoutStopSec=30

# after 1 s first, then less and less often; a mistake in what it is told (2) is not tried again
Restart=on-failure
RestartSec=1
RestartSteps=8
RestartMaxDelaySec=300
RestartPreventExitStatus=2

# jobs in sandboxes are below it: no filter of system calls and no mounts of its own
UMask=0077
NoNewPrivileges=yes
RestrictRealtime=yes
CapabilityBoundingSet=~{never}

[Install]
WantedBy=multi-user.target
"""


def unit(given: argparse.Namespace, env: Mapping[str, str]) -> str:
    """Return the unit that runs this program as it was asked to run, and its key from a file.

    Args:
        given: the command line.

    Raises:
        PfsError: INVALID where something of it is wrong, or cannot stand in a unit.
    """
    settings_of(given, {"GRADIENT_NODE_API_KEY": _ANY_KEY, **env})
    words = [_program(), *_words(given)]
    state = "" if given.state_dir else "StateDirectory=pfs-node\nStateDirectoryMode=0700\n"
    return _UNIT.format(
        unit=UNIT_FILE,
        program=PROGRAM,
        directory=os.path.dirname(ENVIRONMENT_FILE),
        environment=ENVIRONMENT_FILE,
        command=" ".join(map(_quoted, words)),
        state=state,
        never=_NEVER,
    )


def _words(given: argparse.Namespace) -> list[str]:
    """Return the options of a command line, with paths that mean the same from everywhere."""
    words = []
    for option in OPTIONS:
        value = getattr(given, option.dest)
        if value is None or option.name in _NOT_IN_THE_UNIT:
            continue
        for each in value if option.repeated else [value]:
            text = os.path.abspath(each) if option.name in _PATHS else each
            words += [f"--{option.name}", text] if option.value else [f"--{option.name}={text}"]
    return words


def _program() -> str:
    """Return the path of this program, also where it was started under its other name."""
    beside = [os.path.dirname(os.path.abspath(shutil.which(path) or path)) for path in (sys.argv[0], sys.executable)]
    found = shutil.which(PROGRAM, path=os.pathsep.join([*beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise PfsError(Kind.INVALID, f"there is no {PROGRAM} beside this program that a unit could start")
    return found


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back."""
    if _CONTROL.search(word):
        raise PfsError(Kind.INVALID, f"{word!r} cannot stand in a unit: it has a control character")
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
