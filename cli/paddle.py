"""`paddle` (and `paddlecloud`): the program of a datacenter's users.

Everything but the mount is a thin wrapper: it does what the files do (`cp` a spec, `cat` a log, `echo kill > ctl`).
"""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import config
from cli.errors import run_command
from cli.output import age, table

if TYPE_CHECKING:
    from pfs.client.web import WebClient

INTERRUPTED = 130
PADDLECLOUD = ("parallelism", "cpu", "gpu", "memory", "pservers", "pscpu", "psmemory", "topology", "passes")
OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_LOST"})


dc_option = click.option("--dc", metavar="NAME", help="The datacenter; default: the current one of ~/.paddle/config.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pfs-jobs", prog_name="paddle")
def paddle() -> None:
    """Run jobs on a cluster that is a file system.

    Datacenters are read from ~/.paddle/config (or the file that PADDLE_CONFIG names):

    \b
      dc1:
        username: ann
        token: pfs1.…
        endpoint: https://dc1.example.org:8470
    """


@paddle.command()
@click.argument("mountpoint", required=False)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, and log to the terminal.")
@click.option(
    "-o", "words", metavar="OPTION,…", multiple=True, help="A list of options as for mount(8); `-o help` shows them."
)
@click.option("--allow-other", is_flag=True, help="Let other users of this machine in, too.")
@click.option("--write-behind", is_flag=True, help="Let close return before the server has what was written.")
@click.option("--cache-dir", metavar="FOLDER", help="Where blocks of files are kept. Default: below ~/.cache/pfs.")
@click.option("--cache-size", metavar="SIZE", help="Room that they may take, e.g. 20Gi; 0 keeps none. Default: 1Gi.")
@click.option("--log-file", metavar="FILE", help="Where the mount logs to. Default: below ~/.local/state/pfs.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. Default: info.")
@click.option("--shortcut/--no-shortcut", default=True, help="Read files of a server on this machine directly.")
@click.option("--status", is_flag=True, help="Tell how it stands with MOUNTPOINT, or with all mounts of this machine.")
def mount(
    mountpoint: str | None,
    *,
    foreground: bool,
    words: tuple[str, ...],
    status: bool,
    shortcut: bool,
    **named: str | bool | None,
) -> int:
    """Mount all datacenters at MOUNTPOINT, an empty directory."""
    from cli.mountoptions import Options, help_text, parse

    if "help" in words:
        click.echo(help_text())
        return 0
    if status:
        from cli.mountstatus import status_command

        return status_command(mountpoint)
    if mountpoint is None:
        raise click.UsageError("at which directory? As in: paddle mount ~/pfs")
    from cli.mount import mount_command

    # an option of its own counts more than one in a list
    given = [_option(name, value) for name, value in named.items() if value]
    return mount_command(mountpoint, parse([*words, *given], Options(shortcut=shortcut)), foreground=foreground)


def _option(name: str, value: str | bool | None) -> str:
    """Return an option of the command as it is written behind -o."""
    text = str(value).replace("\\", "\\\\").replace(",", "\\,")
    return name if value is True else f"{name}={text}"


@paddle.command()
@click.argument("mountpoint")
@click.option("-l", "--lazy", is_flag=True, help="Also when it is in use; what is open ends with an error.")
def umount(mountpoint: str, lazy: bool) -> int:
    """Unmount MOUNTPOINT."""
    from cli.umount import umount_command

    return umount_command(mountpoint, lazy=lazy)


def paddlecloud_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of PaddleCloud's client, which begin with one dash."""
    for name in PADDLECLOUD:
        command = click.option(f"-{name}", f"--{name}", name, hidden=True)(command)
    return command


@paddle.command()
@click.argument("what", metavar="SPEC|FOLDER")
@click.option("-jobname", "--name", "name", metavar="NAME", help="What the job is called. Default: as SPEC or FOLDER.")
@click.option(
    "-e", "-entry", "--entry", metavar="COMMAND", help="With a folder: what runs in it. Default: bash .compute"
)
@click.option("-image", "--image", metavar="IMAGE", help="With a folder: the container image.")
@click.option("--resources", metavar="REQUEST", help="With a folder: a cluster request, such as 2:[8:gtx1070].")
@paddlecloud_options
@click.option("--wait", is_flag=True, help="Wait until the job is over, and end with its exit code.")
@click.option("--log", is_flag=True, help="Print the job's log until it is over, and end with its exit code.")
@dc_option
def submit(what: str, *, name: str | None, wait: bool, log: bool, dc: str | None, **given: str | None) -> int:
    """Submit the job in the file SPEC, as `cp SPEC <dc>/jobs/` does, or the folder FOLDER as a job.

    Where `src` of SPEC is a folder of this machine, it is shipped with the job. Of a FOLDER everything is shipped that
    .gitignore and .pitignore leave; its job.yaml is the spec, or else the options here make one. PaddleCloud's options
    (-parallelism, -cpu, -gpu, -memory, -pservers, -pscpu, -psmemory, -topology, -passes) make one of its kind; there
    FOLDER may also be one of the datacenter, /pfs/…, in which the job then runs.
    """
    from cli.following import exit_code, follow
    from cli.following import submit as hand_in
    from cli.packages import package

    with connected(dc) as client:
        stem, text = package(client, Path(what), name, given)
        job = hand_in(client, f"{stem}.yaml", text, str(uuid.uuid4()))
        number = job.removeprefix("jobs/")
        click.echo(f"Job {number}", err=log)
        if log and not follow(client, job, f"paddle logs -f {number} shows it, paddle kill {number} ends it"):
            return INTERRUPTED
        return exit_code(client, job) if wait or log else 0


@paddle.command()
@click.argument("job")
@dc_option
def kill(job: str, dc: str | None) -> None:
    """End JOB, a name or a number, as `echo kill > <dc>/jobs/JOB/ctl` does."""
    with connected(dc) as client:
        client.write(f"jobs/{job}/ctl", b"kill\n")


@paddle.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over, as `cat <dc>/jobs/JOB/log` does.")
@dc_option
def logs(job: str, follow: bool, dc: str | None) -> None:
    """Print the log of JOB, a name or a number: what there is, as `cat <dc>/jobs/JOB/log.txt` does."""
    from cli.following import copy_stream

    with connected(dc) as client:
        copy_stream(client, f"jobs/{job}/{'log' if follow else 'log.txt'}")


@paddle.group()
def get() -> None:
    """Show jobs or nodes."""


@get.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that are over.")
@dc_option
def jobs(everything: bool, dc: str | None) -> None:
    """List jobs: those that are not over, unless -a is given."""
    from pfs.client.web import facts

    with connected(dc) as client:
        found = [facts(entry["each"]) for entry in client.list("jobs", each="status") if entry.get("each")]
    found = [job for job in found if everything or job["state"] not in OVER]
    rows = [
        [*(job[key] for key in ("id", "name", "user", "state", "request")), job["place"] or "-", _age(job["submitted"])]
        for job in sorted(found, key=lambda job: int(job["id"]))
    ]
    click.echo(table(["ID", "NAME", "USER", "STATE", "REQUEST", "PLACE", "AGE"], rows))


@get.command()
@dc_option
def nodes(dc: str | None) -> None:
    """List the machines that run jobs."""
    from pfs.client.web import facts

    with connected(dc) as client:
        found = [facts(entry["each"]) for entry in client.list("nodes", each="status") if entry.get("each")]
    facts_shown = ("name", "state", "gpus", "gpus_free", "processes", "cpus", "memory", "runtimes")
    rows = [[node[fact] for fact in facts_shown] for node in found]
    click.echo(table(["NAME", "STATE", "GPUS", "FREE", "PROCESSES", "CPUS", "MEMORY", "RUNTIMES"], rows))


@contextmanager
def connected(dc: str | None) -> "Iterator[WebClient]":
    """Give a client of the datacenter `dc`, or of the current one."""
    from pfs.client.web import WebClient

    loaded = config.load()
    name = dc or loaded.current
    if name not in loaded.datacenters:
        raise config.ConfigError(
            f"{config.config_path()} knows no datacenter {name!r}: {', '.join(loaded.datacenters)}"
        )
    where = loaded.datacenters[name]
    with WebClient(where.endpoint, where.token, where.ca) as client:
        yield client


def _age(stamp: str) -> str:
    return age(time.time() - datetime.fromisoformat(stamp).timestamp())


def main() -> None:
    """Run `paddle`."""
    run_command(paddle, Path(sys.argv[0]).name)
