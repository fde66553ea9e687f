"""`paddle` (and `paddlecloud`): the program of a datacenter's users.

Everything but the mount is a thin wrapper: it does what the files do (`cp` a spec, `cat` a log, `echo kill > ctl`).
"""

import sys
from pathlib import Path

import click

from cli import completion
from cli.attach import commands as attach
from cli.cloud import account, files, getting
from cli.cloud import commands as jobs
from cli.cloud.manner import Manner, as_current, telling_requests
from cli.cloud.options import Voice, dc_option, doing
from cli.cloud.restoring import restore
from cli.cloud.submit import submit
from cli.dashes import DashCommand, SectionGroup
from cli.errors import run_command


@click.group(cls=SectionGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pfs-jobs", prog_name="paddle")
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=completion.datacenters,
    help="The datacenter that is the current one for this command.",
)
@click.option("--debug", is_flag=True, help="Tell on stderr what the server is asked, and how it answers.")
@click.option("--only-show-errors", is_flag=True, help="Of what is done only tell what went wrong, as -q does.")
@click.pass_context
def paddle(ctx: click.Context, *, profile: str | None, debug: bool, only_show_errors: bool) -> None:
    """Run jobs on a cluster that is a file system.

    Datacenters are read from ~/.paddle/config (or the file that PADDLE_CONFIG names):

    \b
      dc1:
        username: ann
        token: pfs1.…
        endpoint: https://dc1.example.org:8470
    """
    ctx.obj = Manner(only_errors=only_show_errors)
    if profile is not None:
        ctx.with_resource(as_current(profile))
    if debug:
        ctx.with_resource(telling_requests())


@click.command(cls=DashCommand)
@click.argument("mountpoint", required=False, shell_complete=completion.folders)
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
@doing
def mount(
    mountpoint: str | None,
    *,
    foreground: bool,
    words: tuple[str, ...],
    status: bool,
    shortcut: bool,
    voice: Voice,
    **named: str | bool | None,
) -> int:
    """Mount all datacenters at MOUNTPOINT, an empty directory."""
    from cli.mount.options import Options, help_text, parse

    if "help" in words:
        click.echo(help_text())
        return 0
    if status:
        from cli.mount.status import status_command

        return status_command(mountpoint, as_json=voice.as_json, quiet=voice.quiet)
    if not mountpoint:
        raise click.UsageError("at which directory? As in: paddle mount ~/pfs")
    if foreground and voice.as_json:
        raise click.UsageError("one of --json and --foreground")
    from cli.mount.command import mount_command

    # an option of its own counts more than one in a list
    given = [_option(name, value) for name, value in named.items() if value]
    options = parse([*words, *given], Options(shortcut=shortcut))
    return mount_command(mountpoint, options, foreground=foreground, as_json=voice.as_json, quiet=voice.quiet)


def _option(name: str, value: str | bool | None) -> str:
    """Return an option of the command as it is written behind -o."""
    text = str(value).replace("\\", "\\\\").replace(",", "\\,")
    return name if value is True else f"{name}={text}"


@click.command(cls=DashCommand)
@click.argument("mountpoint", shell_complete=completion.folders)
@click.option("-l", "--lazy", is_flag=True, help="Also when it is in use; what is open ends with an error.")
@doing
def umount(mountpoint: str, *, lazy: bool, voice: Voice) -> int:
    """Unmount MOUNTPOINT."""
    from cli.mount.umount import umount_command
    from fuseclient.mountpoints import canonical

    if not mountpoint:
        raise click.UsageError("of which directory? As in: paddle umount ~/pfs")
    point = canonical(mountpoint)
    status = umount_command(mountpoint, lazy=lazy, quiet=not voice.speaks)
    voice.tell({"mountpoint": point, "mounted": False})
    return status


COMMANDS: dict[str, dict[str, click.Command]] = {
    "Jobs": {
        "submit": submit,
        "jobs": jobs.jobs,
        "queue": jobs.queue,
        "why": jobs.why,
        "logs": jobs.logs,
        "pods": jobs.pods,
        "wait": jobs.wait,
        "kill": jobs.kill,
        "cancel": jobs.kill,
        "restore": restore,
        "share": jobs.share,
        "unshare": jobs.unshare,
        "exec": dc_option(attach.execute),
        "forward": dc_option(attach.forward),
    },
    "Files": {
        "mount": mount,
        "umount": umount,
        **{name: files.pfs.commands[name] for name in files.ALSO_AT_TOP},
        "pfs": files.pfs,
        "file": files.file,
        "publish": files.publish,
    },
    "What there is": {"get": getting.get, "registry": getting.registry, "delete": getting.delete},
    "Who you are": {
        "register": account.register,
        "login": account.login,
        "logout": account.logout,
        "passwd": account.passwd,
        "tokens": account.tokens,
        "use": account.use,
        "config": account.show_config,
        "completion": completion.command_for(paddle),
    },
}
for section in COMMANDS.values():
    for name, command in section.items():
        paddle.add_command(command, name)
paddle.sections = {heading: tuple(section) for heading, section in COMMANDS.items()}


def main() -> None:
    """Run `paddle`."""
    completion.answer_in_our_way()
    run_command(paddle, Path(sys.argv[0]).name)
