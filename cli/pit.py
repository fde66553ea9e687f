"""`pit`: for people who come from Snakepit. What the commands do is in `cli.snakepit`.

The commands stand here in the order in which the help lists them.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli import completion
from cli.attach.options import tty_option
from cli.errors import status_of
from cli.snakepit import choices, connection, rulings
from cli.snakepit.usage import CONTEXT, PitGroup, WorkerIndex, in_own_words

Command = TypeVar("Command", bound=Callable[..., Any])
ENTITIES = """\
There are files of a job (its number, or job:<number>), of user:<name>, group:<name>, shared, and of yourself:
home, me or ~"""
worker_option = click.option(
    "-w", "worker", metavar="<workerIndex>", type=WorkerIndex(0), default=0, help="the worker of the job; default: 0"
)
json_option = click.option("--json", "as_json", is_flag=True, help="prints JSON")


def manner_options(what: str) -> Callable[[Command], Command]:
    """Give a command the options that say what to do about bytes that are there already."""

    def give(command: Command) -> Command:
        goes_on = f"continues an interrupted {what}"
        command = click.option("-c", "--continue", "goes_on", is_flag=True, help=goes_on)(command)
        return click.option("-f", "--force", is_flag=True, help=f"repeats the {what} from its beginning")(command)

    return give


@click.group(cls=PitGroup, invoke_without_command=True, context_settings=CONTEXT)
@click.version_option(None, "-V", "--version", package_name="pfs-jobs", message="%(version)s")
@click.pass_context
def pit(ctx: click.Context) -> None:
    """Snakepit's client, for this datacenter."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


rulings.declare_changes(pit)


@pit.command_of(
    "show <entity>",
    "shows info about an entity",
    """\
Examples:

$ pit show me
$ pit show nodes
$ pit show node:n0
$ pit show job:17
$ pit show jobs user=ann title=%digits% since=2026-01-31 asc=title limit=10

"entity" is one of users, groups, nodes, jobs and aliases, or me, user:<name>, group:<name>, node:<name>,
node:<name>:<index> for one GPU, job:<number>, or the number alone, and alias:<name>.
Filters of jobs: since= and till= (dates), user=, title= (% is anything), asc= and desc= (date, user, title, state),
limit= and offset=""",
)
@json_option
@click.argument("entity", metavar="<entity>", shell_complete=choices.entities)
@click.argument("filters", metavar="[filters...]", nargs=-1)
def show(*, entity: str, filters: tuple[str, ...], as_json: bool) -> None:
    """Show an entity."""
    from cli.snakepit.looking import print_entity

    with connection.connected() as client:
        print_entity(client, entity, filters, as_json=as_json)


rulings.declare_groups(pit)


@pit.command_of("stop <jobNumber>", "stops a running job")
@click.argument("job", metavar="<jobNumber>", shell_complete=choices.jobs)
def stop(job: str) -> None:
    """End a job."""
    from cli.snakepit import looking

    with connection.connected() as client:
        looking.stop(client, job)


@pit.command_of(
    "run|put [options] <title> [clusterRequest]",
    "enqueues current directory as new job",
    """\
Examples:

$ pit run "My task" 2:[8:gtx1070]
$ pit run "My command" [] -d 'hostname; env'

"title" is a short text that will later help identifying the job and its purpose.
"clusterRequest" is an expression to specify resources this job requires from the cluster.
It's a comma separated list of "process requests".
Each "process request" specifies the number of process instances and (divided by colon and in braces) which resources \
to allocate for one process instances (on one node).
The first example will allocate 2 process instances. For each process, 8 "gtx1070" resources will get allocated.
You can also provide a ".pitrequest.txt" file with the same content in your project root as default value.""",
)
@click.option("-p", "--private", is_flag=True, help="prevents automatic sharing of this job")
@click.option(
    *("-c", "--continue", "continued"),
    metavar="<jobNumber>",
    type=int,
    shell_complete=choices.jobs,
    help='continues job with provided number by copying its "keep" directory over to the new job',
)
@click.option(
    *("-d", "--direct", "-e", "--execute", "direct"),
    metavar="<commands>",
    help="directly executes provided commands through bash instead of loading .compute file",
)
@click.option("-l", "--log", "follows", is_flag=True, help="waits for and prints job's log output")
@click.option(
    *("-a", "--archive"),
    is_flag=True,
    help="ships the directory as it is, without git: all that .gitignore and .pitignore leave",
)
@click.argument("title", metavar="<title>")
@click.argument("request", metavar="[clusterRequest]", required=False)
def run(
    *,
    private: bool,
    continued: int | None,
    direct: str | None,
    follows: bool,
    archive: bool,
    title: str,
    request: str | None,
) -> None:
    """Submit the current directory as a job."""
    from cli.following import follow
    from cli.snakepit import running

    wish = running.Wish(title, request, direct, continued, private, archive)
    resources = running.check(wish)
    with connection.connected() as client:
        number = running.run(client, wish, resources)
        if not follows:
            return
        click.echo()
        follow(client, f"jobs/{number}", f"pit log {number} shows it, pit stop {number} ends it")


@pit.command_of("log [options] <jobNumber>", "show job's log")
@click.option("-f", "--follow", "_follow", is_flag=True, help="follows the log until the job is over, as it is anyhow")
@click.argument("job", metavar="<jobNumber>", shell_complete=choices.jobs)
def log(job: str, _follow: bool) -> None:
    """Print a job's log; who stops looking by Ctrl-C has got what they wanted."""
    from cli.snakepit.looking import print_log

    with connection.connected() as client:
        print_log(client, job)


@pit.command_of("download <jobNumber>", "downloads job directory as .tar.gz archive")
@click.argument("job", metavar="<jobNumber>", shell_complete=choices.jobs)
def download(job: str) -> None:
    """Download a job."""
    from cli.snakepit import files

    with connection.connected() as client:
        files.download(client, job)


@pit.command_of("ls <jobNumber> [path]", "lists contents within a job directory", ENTITIES)
@json_option
@click.argument("entity", metavar="<jobNumber>", shell_complete=choices.places)
@click.argument("path", metavar="[path]", default="")
def ls(*, entity: str, path: str, as_json: bool) -> None:
    """List a directory."""
    from cli.snakepit.files import print_folder

    with connection.connected() as client:
        print_folder(client, entity, path, as_json=as_json)


@pit.command_of(
    "cp <jobNumber> <jobPath> <fsPath>",
    "copies contents within from job directory to local file system",
    ENTITIES,
)
@click.argument("entity", metavar="<jobNumber>", shell_complete=choices.places)
@click.argument("path", metavar="<jobPath>")
@click.argument("local", metavar="<fsPath>", shell_complete=completion.files)
def cp(*, entity: str, path: str, local: str) -> None:
    """Copy a file here; one that is there is overwritten."""
    from cli.snakepit.copying import Manner, pull

    with connection.connected() as client:
        pull(client, entity, path, local, Manner(force=True))


@pit.command_of(
    "mount [options] <entity> [mountpoint]",
    "mounts the data directory of an entity to a local mountpoint",
    """\
Examples:

$ pit mount user:me
$ pit mount group:students ~/students
$ pit mount job:17 --shell

"entity" is one of home, shared, user:<name>, group:<name> and job:<number>; the files of jobs are read-only there.
Without "mountpoint" a temporary directory is made, which is gone after the end.""",
)
@click.option("--shell", is_flag=True, help="starts a shell in the mounted directory, and unmounts when that ends")
@click.argument("entity", metavar="<entity>", shell_complete=choices.places)
@click.argument("mountpoint", metavar="[mountpoint]", required=False, shell_complete=completion.folders)
def mount(*, entity: str, mountpoint: str | None, shell: bool) -> None:
    """Mount the folder of an entity."""
    from cli.snakepit import mounting

    with connection.connected() as client:
        mounting.mount(client, entity, mountpoint, shell=shell)


@pit.command_of("status", "prints a job status report")
@json_option
def status(*, as_json: bool) -> None:
    """Print a report of all jobs."""
    from cli.snakepit.looking import print_status

    with connection.connected() as client:
        print_status(client, as_json=as_json)


@pit.command_of("pull [options] <entity> <path> [localPath]", "downloads a file of an entity", ENTITIES)
@manner_options("download")
@click.argument("entity", metavar="<entity>", shell_complete=choices.places)
@click.argument("path", metavar="<path>")
@click.argument("local", metavar="[localPath]", required=False, shell_complete=completion.files)
def pull(*, entity: str, path: str, local: str | None, force: bool, goes_on: bool) -> None:
    """Copy a file here, or to stdout."""
    from cli.snakepit import copying

    with connection.connected() as client:
        copying.pull(client, entity, path, local, copying.Manner(force, goes_on))


@pit.command_of("push [options] <entity> <path> [localPath]", "uploads a file to an entity", ENTITIES)
@manner_options("upload")
@click.argument("entity", metavar="<entity>", shell_complete=choices.places)
@click.argument("path", metavar="<path>")
@click.argument("local", metavar="[localPath]", required=False, shell_complete=completion.files)
def push(*, entity: str, path: str, local: str | None, force: bool, goes_on: bool) -> None:
    """Copy a file, or stdin, there."""
    from cli.snakepit import copying

    with copying.stdin_kept_for(local), connection.connected() as client:
        copying.push(client, entity, path, local, copying.Manner(force, goes_on))


@pit.command_of("cat <entity> <path>", "prints a file of an entity", ENTITIES)
@click.argument("entity", metavar="<entity>", shell_complete=choices.places)
@click.argument("path", metavar="<path>")
def cat(entity: str, path: str) -> None:
    """Print a file."""
    from cli.snakepit import copying

    with connection.connected() as client:
        copying.pull(client, entity, path, None, copying.Manner())


@pit.command_of("mkdir <entity> <path>", "makes a directory of an entity", ENTITIES)
@click.argument("entity", metavar="<entity>", shell_complete=choices.places)
@click.argument("path", metavar="<path>")
def mkdir(entity: str, path: str) -> None:
    """Make a directory."""
    from cli.snakepit.files import make_folder

    with connection.connected() as client:
        make_folder(client, entity, path)


@pit.command_of("delete <entity> <path>", "removes a file or directory of an entity", ENTITIES)
@click.argument("entity", metavar="<entity>", shell_complete=choices.places)
@click.argument("path", metavar="<path>")
def delete(entity: str, path: str) -> None:
    """Remove a file, or a directory with all that is in it."""
    from cli.snakepit import files

    with connection.connected() as client:
        files.delete(client, entity, path)


@pit.command_of(
    "completion <shell>",
    "prints what a shell needs to complete commands, entities and job numbers",
    """\
Examples:

$ pit completion bash > ~/.local/share/bash-completion/completions/pit
$ pit completion zsh > ~/.zfunc/_pit
$ pit completion fish > ~/.config/fish/completions/pit.fish

"shell" is one of bash, zsh (where fpath=(~/.zfunc $fpath) stands before compinit) and fish.""",
)
@click.argument("shell", metavar="<shell>", type=click.Choice(completion.SHELLS))
def complete(shell: str) -> None:
    """Print a script of a shell."""
    from cli.shells import script

    click.echo(script(shell, pit, "pit"))


@pit.command_of(
    "exec [options] <jobNumber> [--] [cmd args...]",
    "executes a command inside of a running job",
    """\
Examples:

$ pit exec 17
$ pit exec 17 nvidia-smi
$ pit exec -w 1 17 -- python -c 'print(1)'
$ tar c data | pit exec 17 tar x

Without "cmd" there is a shell. The exit code is that of the command. Workers are counted over all groups.""",
    takes_rest=True,
)
@worker_option
@tty_option
@click.argument("job", metavar="<jobNumber>", shell_complete=choices.jobs)
@click.argument("words", metavar="[cmd args...]", nargs=-1, type=click.UNPROCESSED)
def execute(*, job: str, words: tuple[str, ...], worker: int, wants_tty: bool | None) -> int:
    """Run a command in a job."""
    from cli.snakepit import entering
    from cli.snakepit.asking import stdin_is_data

    with stdin_is_data(), connection.connected() as client:
        return entering.execute(client, job, worker, words, wants_tty=wants_tty)


@pit.command_of(
    "forward [options] <jobNumber> [ports...]",
    "forwards ports of a running job to this machine",
    """\
Examples:

$ pit forward 17 6006
$ pit forward 17 8080:80 8443:443

"8080:80" is port 80 of the job as port 8080 of this machine, "6006" the same port on both sides. Only programs of this
machine can connect. Ctrl-C ends it.""",
)
@worker_option
@click.argument("job", metavar="<jobNumber>", shell_complete=choices.jobs)
@click.argument("ports", metavar="[ports...]", nargs=-1)
def forward(*, job: str, ports: tuple[str, ...], worker: int) -> int:
    """Forward ports of a job."""
    from cli.snakepit import entering

    with connection.connected() as client:
        return entering.forward(client, job, worker, ports)


rulings.declare_password(pit)


def main() -> None:
    """Run `pit`, which knows only one status for everything that failed, as Snakepit's does.

    What a command of a job returned is told as it is.
    """
    completion.answer_in_our_way()
    failures: list[str] = []

    def say(text: str) -> None:
        failures.append(text)
        click.echo(f"Command failed: {text}", err=True)

    work = in_own_words(lambda: pit.main(prog_name="pit", standalone_mode=False))
    ended = status_of("Command failed", work, say)
    sys.exit(1 if ended == 2 and failures else ended)
