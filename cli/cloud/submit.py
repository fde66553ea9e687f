"""`paddle submit`: a spec or a folder becomes a job; PaddleCloud's options make one of its kind. `cli.sdk` does it all.

What its client prints goes to stdout, a line for each step that is done; beside a log to stderr. `Starting job` is what
its design calls `Starting kuberntes job`: there is no Kubernetes here.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import completion, reaching
from cli.cloud.manner import only_errors
from cli.cloud.options import dc_option, json_option, quiet_option
from cli.dashes import DashCommand
from cli.output import printable

if TYPE_CHECKING:
    from cli.sdk.packages import Progress
    from cli.sdk.way import Blocking
    from cli.submit.ship import Shipped
    from pfs.client.web import WebClient

INTERRUPTED = 130
STEPS = {"collecting": "Collecting package", "uploading": "Uploading package", "starting": "Starting job"}

Option = Callable[[Callable[..., int]], Callable[..., int]]
Given = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A job that can be handed in.

    Attributes:
        text: its spec.
        hand_in: does it, and returns its number.
    """

    name: str
    text: bytes
    hand_in: Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Voice:
    """Where it is told what was done.

    Attributes:
        beside_log: stdout is for the log.
    """

    as_json: bool
    quiet: bool
    beside_log: bool

    @contextmanager
    def steps(self, package: Path) -> Iterator["Callable[[Progress], None]"]:
        """Give what tells of each step of a package that it is done, and how far it is while it is brought."""
        from cli.progress import Transfer

        with ExitStack() as shown:
            bar = shown.enter_context(Transfer(package.resolve().name, None))

            def hear(told: "Progress") -> None:
                if told.size:
                    bar.reach(told.done, told.size)
                if told.over:
                    shown.close()
                    self._over(told)

            yield hear

    def _over(self, told: "Progress") -> None:
        for path, why in told.left_out:
            click.echo(f"{printable(path)} is left out: {why.partition(';')[0]}", err=True)
        if not (self.as_json or self.quiet):
            click.echo(f"{STEPS[told.step]} ... Done", err=self.beside_log)

    def number(self, number: str, name: str) -> None:
        """Tell the number of the job."""
        text = f"Job {number}"
        if self.as_json:
            text = json.dumps({"id": int(number), "name": name}, indent=2)
        elif self.quiet:
            text = number
        click.echo(text, err=self.beside_log)


_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--name",
        "--jobname",
        "name",
        metavar="NAME",
        help="What the job is called. Default: as SPEC or FOLDER; of PaddleCloud's kind: paddle-cluster-job.",
    ),
    click.option("--command", metavar="COMMAND", help="With a folder: what runs in it. Default: bash .compute"),
    click.option("--resources", metavar="REQUEST", help="With a folder: a cluster request, such as 2:[8:gtx1070]."),
    click.option("--image", metavar="IMAGE", help="With a folder: the container image."),
    click.option("--registry", metavar="NAME", help="With a folder: the credential for the image's registry."),
    click.option("-e", "--entry", metavar="COMMAND", help="PaddleCloud: what the trainers run in the package."),
    click.option("-t", "--topology", metavar="FILE", help="PaddleCloud: a configuration of its first API, instead."),
    click.option("-p", "--parallelism", type=int, metavar="N", help="PaddleCloud: how many trainers. Default: 1."),
    click.option("-c", "--cpu", type=float, metavar="N", help="PaddleCloud: CPUs of each trainer. Default: 1."),
    click.option("--gpu", type=int, metavar="N", help="PaddleCloud: GPUs of each trainer. Default: 0."),
    click.option("-m", "--memory", metavar="SIZE", help="PaddleCloud: memory of each trainer. Default: 1Gi."),
    click.option(
        "--pservers", type=int, metavar="N", help="PaddleCloud: how many parameter servers. Default: as trainers."
    ),
    click.option("--pscpu", type=float, metavar="N", help="PaddleCloud: CPUs of each of these. Default: 1."),
    click.option("--psmemory", metavar="SIZE", help="PaddleCloud: memory of each of these. Default: 1Gi."),
    click.option("--passes", type=int, metavar="N", help="PaddleCloud: passes over the data. Default: 1."),
    click.option("--faulttolerant", is_flag=True, default=None, help="PaddleCloud: trainers that fail are replaced."),
    click.option("--min_instance", type=int, metavar="N", help="PaddleCloud: the fewest trainers. Default: -p."),
    click.option("--max_instance", type=int, metavar="N", help="PaddleCloud: the most trainers. Default: -p."),
)


def _job_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say what the job is."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(cls=DashCommand)
@click.argument("what", metavar="SPEC|FOLDER", shell_complete=completion.files)
@_job_options
@click.option("--wait", is_flag=True, help="Wait until the job is over, and end with its exit code.")
@click.option("--log", is_flag=True, help="Print the job's log until it is over, and end with its exit code.")
@click.option("--dry-run", is_flag=True, help="Print the spec, where the server would take it, and do nothing.")
@json_option
@quiet_option
@dc_option
def submit(
    what: str,
    *,
    name: str | None,
    wait: bool,
    log: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    dc: str | None,
    **options: object,
) -> int:
    """Submit the job in the file SPEC, as `cp SPEC <dc>/jobs/` does, or the folder FOLDER as a job.

    Where `src` of SPEC is a folder of this machine, it is shipped with the job. Of a FOLDER everything is shipped that
    .gitignore and .pitignore leave; its job.yaml is the spec, or else the options here make one, or .compute runs.

    PaddleCloud's options make a job of its kind, trainers and parameter servers. All of FOLDER is brought to
    /pfs/<dc>/home/<you>/jobs/NAME, but what is there already, and the job runs in that folder, and leaves there what it
    makes; or FOLDER is one of the datacenter, /pfs/…, and the job runs in that.
    """
    from cli.following import exit_code, follow
    from cli.sdk import operations
    from cli.sdk.way import asked
    from cli.submit import paddlecloud

    path = Path(what)
    given = {key: value for key, value in options.items() if value is not None}
    voice = _Voice(as_json, quiet or only_errors(), log)
    with reaching.connected(dc or _datacenter_of(path)) as client:
        if paddlecloud.is_meant(given):
            ready = _of_paddlecloud(client, path, name, given, dc=dc, voice=voice)
        else:
            ready = _own(client, path, name, given, dry_run=dry_run)
        if dry_run:
            asked(client, operations.check, ready.name, ready.text)
            _show(ready, as_json=as_json, quiet=quiet)
            return 0
        number = _handed_in(client, ready, voice)
        hint = f"paddle logs -f {number} shows it, paddle kill {number} ends it"
        if log and not follow(client, f"jobs/{number}", hint):
            return INTERRUPTED
        return exit_code(client, f"jobs/{number}") if wait or log else 0


def _datacenter_of(path: Path) -> str | None:
    """Return the datacenter that a path names, if the configuration knows it."""
    from cli import config
    from cli.submit.packages import is_remote

    if not is_remote(path):
        return None
    named = path.parts[2] if len(path.parts) > 2 else ""
    return named if named in config.effective().datacenters else None


def _own(client: "WebClient", path: Path, name: str | None, given: Given, *, dry_run: bool) -> _Ready:
    from cli.sdk import operations
    from cli.sdk.way import asked
    from cli.submit.ship import unsent
    from cli.submit.shipping import shipped

    def bring(server: "Blocking", folder: Path) -> "Shipped":
        return unsent(folder) if dry_run else shipped(server, folder)

    texts = {key: str(value) for key, value in given.items()}
    stem, text = asked(client, operations.packed, path, name, texts, bring)

    def hand_in() -> str:
        return asked(client, operations.put, f"{stem}.yaml", text, str(uuid.uuid4())).removeprefix("jobs/")

    return _Ready(stem, text, hand_in)


def _of_paddlecloud(
    client: "WebClient", path: Path, name: str | None, given: Given, *, dc: str | None, voice: _Voice
) -> _Ready:
    from cli import config
    from cli.sdk import packages
    from cli.sdk.way import asked

    package = asked(client, packages.package, path, name, given, config.datacenter(dc).name)

    def hand_in() -> str:
        with voice.steps(path) as heard:
            return str(asked(client, packages.submit_package, package, heard))

    return _Ready(package.name, package.text, hand_in)


def _handed_in(client: "WebClient", ready: _Ready, voice: _Voice) -> str:
    """Hand a job in, and return its number; a job that had its name, and is not over, is told of."""
    from cli.cloud.jobs import status_of
    from jobd.life.model import State
    from pfs.errors import Kind, PfsError

    try:
        before = status_of(client, ready.name)
    except PfsError as error:
        if error.kind is not Kind.NOT_FOUND:
            raise
        before = None
    number = ready.hand_in()
    voice.number(number, ready.name)
    if before is not None and not State(before["state"]).over:
        click.echo(f"{ready.name} means this job now; the one before goes on as job {before['id']}", err=True)
    return number


def _show(ready: _Ready, *, as_json: bool, quiet: bool) -> None:
    text = ready.text.decode()
    if as_json:
        click.echo(json.dumps({"name": ready.name, "spec": text}, indent=2, ensure_ascii=False))
    elif quiet:
        click.echo(ready.name)
    else:
        click.echo(text, nl=not text.endswith("\n"))
