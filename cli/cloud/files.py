"""`paddle pfs`, whose commands `paddle` has without the `pfs`, too: files of a datacenter without a mount.

`file` and `publish` are PaddleCloud's; what they do is here as there.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cli import completion, reaching
from cli.cloud.manner import only_errors
from cli.cloud.options import Voice, dc_option, doing, json_option, quiet_option, show_rows
from cli.dashes import DashCommand, DashGroup
from cli.output import printable

if TYPE_CHECKING:
    from cli.files.copying import Way

PUBLISH_URL = "/api/v1/publish"
CHUNK_KIB_MIN, CHUNK_KIB_MAX = 4, 32 * 1024
paths_argument = click.argument("paths", metavar="PATH…", nargs=-1, required=True, shell_complete=completion.paths)
sources_argument = click.argument(
    "sources", metavar="SOURCE…", nargs=-1, required=True, shell_complete=completion.paths
)
target_argument = click.argument("target", shell_complete=completion.paths)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Print a line for each file.")
force_option = click.option("-f", "--force", is_flag=True, help="Copy also files that seem unchanged.")
keep_option = click.option("-n", "--no-clobber", "keeps", is_flag=True, help="Replace nothing that is there.")
ALSO_AT_TOP = ("cp", "ls", "rm", "mkdir", "sync")


@click.group(cls=DashGroup)
def pfs() -> None:
    """Work with files of a datacenter without a mount: paths there begin with /pfs/<dc>/.

    \b
      paddle pfs cp job.yaml /pfs/dc1/jobs/           submits a job
      paddle pfs cp /pfs/dc1/jobs/job/log -           shows its log until it is over
      echo kill | paddle pfs cp - /pfs/dc1/jobs/job/ctl
      paddle pfs cp data /pfs/dc1/home/ann/           copies a folder; run it again when it was cut
      paddle pfs sync data /pfs/dc1/home/ann/data     copies what is new or changed
    """


@pfs.command()
@sources_argument
@target_argument
@click.option(
    "-r",
    "-R",
    "--recursive",
    is_flag=True,
    expose_value=False,
    help="Folders with all that is in them; so it is without a word.",
)
@force_option
@keep_option
@verbose_option
@click.option(
    "--preserve-links",
    "--preserve--links",
    "links",
    is_flag=True,
    help="Copy symbolic links as such. Default: the files that they lead to.",
)
@click.option("--chunksize", type=int, metavar="KIB", hidden=True, help="As PaddleCloud has it; nothing depends on it.")
@doing
def cp(
    sources: tuple[str, ...],
    target: str,
    *,
    force: bool,
    keeps: bool,
    verbose: bool,
    links: bool,
    chunksize: int | None,
    voice: Voice,
) -> int:
    """Copy files or folders from here to there, or from there to here; - is stdin or stdout.

    Times and the right to run are kept, and what is there unchanged is not copied again: where a copy was cut, the same
    command goes on.
    """
    from cli.files import copying
    from cli.files.copied import How
    from cli.files.naming import STANDARD

    if force and keeps:
        raise click.UsageError("one of -f and -n")
    if voice.as_json and target == STANDARD:
        raise click.UsageError("one of --json and a copy to stdout")
    if chunksize is not None and not CHUNK_KIB_MIN <= chunksize <= CHUNK_KIB_MAX:
        raise click.UsageError(f"chunksize error: {CHUNK_KIB_MIN} to {CHUNK_KIB_MAX} KiB")
    how = How(links=links, always=force, keeps=keeps)
    way = copying.Way(how, verbose=verbose, tells=True, as_json=voice.as_json, quiet=voice.quiet)
    return _copied(voice, way, lambda: copying.copy_all(reaching.connected, sources, target, way))


def _copied(voice: Voice, way: "Way", copy: Callable[[], int]) -> int:
    """Copy, and tell what was; nothing of what was stopped, as nobody has counted how much of that is there."""
    from cli.files import copying
    from pfs.errors import PfsError

    def work() -> int:
        try:
            status = copy()
        except PfsError:
            voice.tell(asdict(way.tally))
            raise
        voice.tell(asdict(way.tally))
        return status

    return copying.stopped(work)


@pfs.command()
@click.argument("source", shell_complete=completion.paths)
@target_argument
@click.option("--delete", is_flag=True, help="Remove from TARGET what is not in SOURCE.")
@force_option
@verbose_option
@json_option
@quiet_option
def sync(source: str, target: str, *, delete: bool, force: bool, verbose: bool, as_json: bool, quiet: bool) -> int:
    """Let the folder TARGET have all that the folder SOURCE has; one of them is /pfs/<dc>/…, which says which way.

    What is there unchanged, by size and time, is not copied again. Nothing is removed without --delete.
    """
    from cli.files import copying
    from cli.files.copied import How

    def work() -> int:
        how = How(deletes=delete, always=force)
        way = copying.Way(how, verbose=verbose, as_json=as_json, quiet=quiet or only_errors())
        done = copying.sync(reaching.connected, source, target, way)
        if as_json or not only_errors():
            copying.show_synced(done, as_json=as_json, quiet=quiet)
        copying.check(done)
        return 0

    return copying.stopped(work)


@pfs.command()
@paths_argument
@click.option("-r", "-R", "--recursive", "deep", is_flag=True, help="Also what is in the directories below.")
@json_option
@quiet_option
def ls(paths: tuple[str, ...], *, deep: bool, as_json: bool, quiet: bool) -> int:
    """List directories."""
    from cli.files import looking

    return looking.list_all(reaching.connected, paths, deep=deep, as_json=as_json, quiet=quiet)


@pfs.command()
@sources_argument
@target_argument
@click.option("-f", "--force", is_flag=True, help="Replace what has the name already; so it is without a word.")
@keep_option
@verbose_option
@doing
def mv(sources: tuple[str, ...], target: str, *, force: bool, keeps: bool, verbose: bool, voice: Voice) -> int:
    """Give a file or directory another name, or put several into a directory."""
    from cli.files import looking

    if force and keeps:
        raise click.UsageError("one of -f and -n")
    moved: list[dict[str, str]] = []

    def noted(old: str, new: str) -> None:
        moved.append({"from": old, "to": new})
        if verbose and voice.speaks:
            click.echo(f"{old} -> {new}")

    with voice.telling({"moved": moved}):
        return looking.move_all(reaching.connected, sources, target, keeps=keeps, noted=noted)


@pfs.command()
@paths_argument
@click.option("-r", "-R", "--recursive", "deep", is_flag=True, help="Directories, too, with all that is in them.")
@click.option("-v", "--verbose", is_flag=True, help="Print also what was in directories.")
@doing
def rm(paths: tuple[str, ...], *, deep: bool, verbose: bool, voice: Voice) -> int:
    """Remove files, and print their paths."""
    from cli.files import looking

    removed: list[str] = []

    def noted(path: str, is_meant: bool) -> None:
        removed.append(path)
        if (verbose or is_meant) and voice.speaks:
            click.echo(printable(path))

    with voice.telling({"removed": removed}):
        return looking.remove_all(reaching.connected, paths, deep=deep, noted=noted)


@pfs.command()
@paths_argument
@doing
def rmdir(paths: tuple[str, ...], *, voice: Voice) -> int:
    """Remove empty directories, and jobs that are over."""
    from cli.files import looking

    removed: list[str] = []
    with voice.telling({"removed": removed}):
        return looking.remove_folders(reaching.connected, paths, removed.append)


@pfs.command()
@paths_argument
@click.option("-p", "--parents", is_flag=True, hidden=True, help="So it is without a word.")
@doing
def mkdir(paths: tuple[str, ...], *, parents: bool, voice: Voice) -> int:
    """Make directories, with those above them; one that is there stays."""
    from cli.files import looking

    there: list[str] = []
    with voice.telling({"directories": there}):
        return looking.make_all(reaching.connected, paths, there.append)


# ---- as PaddleCloud has them


@click.group(cls=DashGroup)
def file() -> None:
    """Copy files as PaddleCloud's `file` does; cp and sync do more."""


@file.command()
@click.argument("source", shell_complete=completion.files)
@target_argument
@doing
def put(source: str, target: str, *, voice: Voice) -> int:
    """Upload SOURCE; a folder into TARGET, and with a slash at its end only what is in it."""
    from cli.files import copying
    from cli.files.copied import How

    way = copying.Way(How(), as_json=voice.as_json, quiet=voice.quiet)
    return _copied(voice, way, lambda: copying.put_file(reaching.connected, source, target, way))


@file.command()
@click.argument("source", shell_complete=completion.paths)
@click.argument("target", shell_complete=completion.files)
@doing
def get(source: str, target: str, *, voice: Voice) -> int:
    """Download SOURCE to TARGET, which is not there yet."""
    from cli.files import copying
    from cli.files.copied import How

    way = copying.Way(How(), as_json=voice.as_json, quiet=voice.quiet)
    return _copied(voice, way, lambda: copying.get_file(reaching.connected, source, target, way))


# a later text of PaddleCloud has them here
pfs.add_command(put)
pfs.add_command(get)


@file.command("ls")
@paths_argument
@json_option
@quiet_option
def list_names(paths: tuple[str, ...], *, as_json: bool, quiet: bool) -> int:
    """List the names of what is in directories."""
    from cli.files import looking

    return looking.list_all(reaching.connected, paths, as_json=as_json, quiet=quiet, names=True)


@click.command(cls=DashCommand)
@click.argument("path", required=False, shell_complete=completion.paths)
@click.option("--remove", is_flag=True, help="The link of PATH leads nowhere any more.")
@json_option
@quiet_option
@dc_option
def publish(path: str | None, *, remove: bool, as_json: bool, quiet: bool, dc: str | None) -> int:
    """Print a link by which everybody can download PATH, a file of your home; without PATH, your links."""
    from cli.files.naming import place

    if remove and path is None:
        raise click.UsageError("which file is not to be published any more?")
    with reaching.connected(dc if path is None else place(path)[0]) as client:
        if path is None:
            told = client.call("GET", PUBLISH_URL, b"")
            rows = sorted(zip(told["files"], told["urls"], strict=True))
            objects = [{"file": name, "url": url} for name, url in rows]
            show_rows(("URL", "FILE"), [(url, name) for name, url in rows], objects, [url for _, url in rows],
                      as_json=as_json, quiet=quiet)  # fmt: skip
            return 0
        body = json.dumps({"path": path}).encode()
        if remove:
            client.call("DELETE", PUBLISH_URL, body)
            if as_json:
                click.echo(json.dumps({"file": path, "removed": True}, indent=2))
            return 0
        url = str(client.call("POST", PUBLISH_URL, body)["url"])
    click.echo(json.dumps({"file": path, "url": url}, indent=2) if as_json else url)
    return 0
