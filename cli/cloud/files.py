"""`paddle pfs`, whose commands `paddle` has without the `pfs`, too: files of a datacenter without a mount."""

import click

from cli import completion, reaching
from cli.cloud.options import json_option, quiet_option
from cli.dashes import DashGroup

paths_argument = click.argument("paths", metavar="PATH…", nargs=-1, required=True)
ALSO_AT_TOP = ("cp", "ls", "rm", "mkdir")


@click.group(cls=DashGroup)
def pfs() -> None:
    """Work with files of a datacenter without a mount: paths there begin with /pfs/<dc>/.

    \b
      paddle pfs cp job.yaml /pfs/dc1/jobs/           submits a job
      paddle pfs cp /pfs/dc1/jobs/job/log -           shows its log until it is over
      echo kill | paddle pfs cp - /pfs/dc1/jobs/job/ctl
    """


@pfs.command()
@click.argument("sources", metavar="SOURCE…", nargs=-1, required=True, shell_complete=completion.files)
@click.argument("target")
def cp(sources: tuple[str, ...], target: str) -> None:
    """Copy files from here to there, or from there to here; - is stdin or stdout."""
    from cli import treefiles

    treefiles.copy_all(reaching.connected, sources, target)


@pfs.command()
@paths_argument
@json_option
@quiet_option
def ls(paths: tuple[str, ...], *, as_json: bool, quiet: bool) -> None:
    """List directories."""
    from cli import treefiles

    treefiles.list_all(reaching.connected, paths, as_json=as_json, quiet=quiet)


@pfs.command()
@click.argument("source")
@click.argument("target")
def mv(source: str, target: str) -> None:
    """Give a file or directory another name, or put it into a directory."""
    from cli import treefiles

    treefiles.move(reaching.connected, source, target)


@pfs.command()
@paths_argument
def rm(paths: tuple[str, ...]) -> None:
    """Remove files."""
    from cli import treefiles

    treefiles.remove_all(reaching.connected, paths, directories=False)


@pfs.command()
@paths_argument
def rmdir(paths: tuple[str, ...]) -> None:
    """Remove empty directories, and jobs that are over."""
    from cli import treefiles

    treefiles.remove_all(reaching.connected, paths, directories=True)


@pfs.command()
@paths_argument
@click.option("-p", "--parents", is_flag=True, help="Also those above them; it is fine if they are there.")
def mkdir(paths: tuple[str, ...], *, parents: bool) -> None:
    """Make directories."""
    from cli import treefiles

    treefiles.make_all(reaching.connected, paths, parents=parents)
