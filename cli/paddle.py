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
from cli.output import age, minute, table

if TYPE_CHECKING:
    from pfs.client.web import WebClient

INTERRUPTED = 130
PADDLECLOUD = ("parallelism", "cpu", "gpu", "memory", "pservers", "pscpu", "psmemory", "topology", "passes")
SCOPES = ("read", "write", "submit", "admin")
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
    from cli.mount.options import Options, help_text, parse

    if "help" in words:
        click.echo(help_text())
        return 0
    if status:
        from cli.mount.status import status_command

        return status_command(mountpoint)
    if mountpoint is None:
        raise click.UsageError("at which directory? As in: paddle mount ~/pfs")
    from cli.mount.command import mount_command

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
    from cli.mount.umount import umount_command

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
    from cli.submit.following import exit_code, follow
    from cli.submit.following import submit as hand_in
    from cli.submit.packages import package

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
@click.argument("groups", nargs=-1, required=True)
@dc_option
def share(job: str, groups: tuple[str, ...], dc: str | None) -> None:
    """Let the members of GROUPS read JOB: its log, its files, how it stands. They do not command it."""
    with connected(dc) as client:
        client.write(f"jobs/{job}/ctl", f"share {' '.join(groups)}\n".encode())


@paddle.command()
@click.argument("job")
@click.argument("groups", nargs=-1)
@dc_option
def unshare(job: str, groups: tuple[str, ...], dc: str | None) -> None:
    """Let the members of GROUPS read JOB no more; of all groups where none is named."""
    with connected(dc) as client:
        client.write(f"jobs/{job}/ctl", f"{' '.join(('unshare', *groups))}\n".encode())


@paddle.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over, as `cat <dc>/jobs/JOB/log` does.")
@dc_option
def logs(job: str, follow: bool, dc: str | None) -> None:
    """Print the log of JOB, a name or a number: what there is, as `cat <dc>/jobs/JOB/log.txt` does."""
    from cli.submit.following import copy_stream

    with connected(dc) as client:
        copy_stream(client, f"jobs/{job}/{'log' if follow else 'log.txt'}")


@paddle.group()
def get() -> None:
    """Show jobs, nodes or quotas."""


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


@get.command()
@dc_option
def quota(dc: str | None) -> None:
    """Show what you and your groups have and may have: bytes and files, jobs, GPUs."""
    from cli.submit.following import copy_stream

    with connected(dc) as client:
        copy_stream(client, "quota")


@paddle.group()
def pfs() -> None:
    """Work with files of a datacenter without a mount: paths there begin with /pfs/<dc>/.

    \b
      paddle pfs cp job.yaml /pfs/dc1/jobs/           submits a job
      paddle pfs cp /pfs/dc1/jobs/job/log -           shows its log until it is over
      echo kill | paddle pfs cp - /pfs/dc1/jobs/job/ctl
    """


@pfs.command("ls")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def pfs_ls(paths: tuple[str, ...]) -> None:
    """List directories."""
    from cli import treefiles

    treefiles.list_all(connected, paths)


@pfs.command("cp")
@click.argument("sources", metavar="SOURCE…", nargs=-1, required=True)
@click.argument("target")
def pfs_cp(sources: tuple[str, ...], target: str) -> None:
    """Copy files from here to there, or from there to here; - is stdin or stdout."""
    from cli import treefiles

    treefiles.copy_all(connected, sources, target)


@pfs.command("mv")
@click.argument("source")
@click.argument("target")
def pfs_mv(source: str, target: str) -> None:
    """Give a file or directory another name, or put it into a directory."""
    from cli import treefiles

    treefiles.move(connected, source, target)


@pfs.command("rm")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def pfs_rm(paths: tuple[str, ...]) -> None:
    """Remove files."""
    from cli import treefiles

    treefiles.remove_all(connected, paths, directories=False)


@pfs.command("rmdir")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
def pfs_rmdir(paths: tuple[str, ...]) -> None:
    """Remove empty directories, and jobs that are over."""
    from cli import treefiles

    treefiles.remove_all(connected, paths, directories=True)


@pfs.command("mkdir")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("-p", "--parents", is_flag=True, help="Also those above them; it is fine if they are there.")
def pfs_mkdir(paths: tuple[str, ...], *, parents: bool) -> None:
    """Make directories."""
    from cli import treefiles

    treefiles.make_all(connected, paths, parents=parents)


@paddle.command()
@click.option("--user", metavar="NAME", help="What the account is called. Default: you are asked.")
@click.option(
    "--ca", metavar="FILE", help="The authority of the server's certificate, where the invitation names none."
)
@click.argument("invitation", metavar="INVITATION|URL")
def register(invitation: str, user: str | None, ca: str | None) -> None:
    """Make an account with an INVITATION; or at URL, where everybody may."""
    from cli import entering

    click.echo(entering.register(invitation, user, ca))


@paddle.command()
@click.option("--user", metavar="NAME", help="Who you are there. Default: as in ~/.paddle/config, or you are asked.")
@click.option("--ca", metavar="FILE", help="The authority of the server's certificate.")
@click.argument("url", required=False)
@dc_option
def login(url: str | None, user: str | None, ca: str | None, dc: str | None) -> None:
    """Get a token for this machine with your password, and keep it in ~/.paddle/config."""
    from cli import entering

    click.echo(entering.login(url, dc, user, ca))


@paddle.command()
@dc_option
def logout(dc: str | None) -> None:
    """Take back the token of this machine."""
    from cli import entering

    click.echo(entering.logout(dc))


@paddle.command()
@dc_option
def passwd(dc: str | None) -> None:
    """Change your password; the tokens of all other machines are taken back."""
    from cli import entering

    click.echo(entering.change_password(dc))


@paddle.command()
@click.option("--revoke", metavar="KEY", help="Take back the one that is called KEY.")
@click.option("--new", "label", metavar="LABEL", help="Make one for a script, and print it.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="With --new: what it is for.")
@click.option("--days", type=click.IntRange(1, 3650), help="With --new: when it ends. Default: after 30 days unused.")
@dc_option
def tokens(*, revoke: str | None, label: str | None, scopes: tuple[str, ...], days: int | None, dc: str | None) -> None:
    """Show the keys of your account: tokens of machines and scripts, and keys for nodes."""
    from cli import entering

    if label is None and (scopes or days):
        raise click.UsageError("--scope and --days are of a new token: --new LABEL")
    if label is not None:
        click.echo(entering.make_token(dc, label, list(scopes or SCOPES), days))
        return
    if revoke is not None:
        entering.revoke(dc, revoke)
    rows = [
        [*(str(token[fact]) for fact in ("name", "kind", "label")), " ".join(token["scopes"])]
        + [minute(token[fact]) for fact in ("created", "used", "ends")]
        + ["*" if token["own"] else ""]
        for token in entering.tokens(dc)
    ]
    click.echo(table(["KEY", "KIND", "LABEL", "SCOPES", "MADE", "USED", "ENDS", "THIS"], rows))


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
    with WebClient(where.endpoint, where.token, where.ca, own=config.lasting(where.own)) as client:
        yield client


def _age(stamp: str) -> str:
    return age(time.time() - datetime.fromisoformat(stamp).timestamp())


def main() -> None:
    """Run `paddle`."""
    run_command(paddle, Path(sys.argv[0]).name)
