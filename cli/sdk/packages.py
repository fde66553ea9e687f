"""PaddleCloud's packages: a folder is brought to where its job will run, but what is there already, and runs there.

    fields ─▶ package: its spec, and that no job runs in its folder ─▶ the server is asked ─▶ it is brought ─▶ posted

The server is asked before anything travels: it refuses more GPUs than one may have, and all else but missing files.
Only what brings the package blocks. Who is stopped there has submitted nothing, and the same call again goes on.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from cli.resuming import asking_again
from cli.sdk import files, operations
from cli.sdk.way import Blocking, Way
from pfs.client.web import facts
from pfs.errors import PfsError

Step = Literal["collecting", "uploading", "starting"]


class PackageFields(TypedDict, total=False):
    """What may be said of a job of PaddleCloud's kind; what is not, or is None, is as PaddleCloud has it.

    `entry`, the command of its trainers, or `topology`, a file of PaddleCloud's first API, has to be there. Numbers and
    sizes are of each trainer, those with `ps` of each parameter server; `registry` is the credential for `image`.
    """

    entry: str | None
    topology: str | None
    parallelism: int | None
    cpu: float | None
    gpu: int | None
    memory: str | None
    pservers: int | None
    pscpu: float | None
    psmemory: str | None
    passes: int | None
    faulttolerant: bool | None
    min_instance: int | None
    max_instance: int | None
    image: str | None
    registry: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a package is that is submitted; it is told when a step begins, when it is over, and in between.

    Attributes:
        over: the step is done.
        done: how many bytes of the package's changes are there.
        size: how many these will be.
        left_out: with the end of the uploading: what of the folder is not brought, and why.
    """

    step: Step
    over: bool = False
    done: int = 0
    size: int = 0
    left_out: tuple[tuple[str, str], ...] = ()


Heard = Callable[[Progress], object]


def unheard(_: Progress) -> None:
    """Hear nothing."""


@dataclass(frozen=True, slots=True)
class Package:
    """A job of PaddleCloud's kind that can be submitted.

    Attributes:
        text: the spec that the server will make of it.
        fields: what is posted.
        folder: of this machine, which is brought; None where the package is one of the datacenter.
    """

    name: str
    text: bytes
    fields: Mapping[str, object]
    folder: Path | None


def given_of(fields: PackageFields) -> dict[str, object]:
    """Return what is said of a job, without what is None.

    Raises:
        TypeError: for what cannot be said.
    """
    unknown = fields.keys() - PackageFields.__annotations__.keys()
    if unknown:
        raise TypeError(f"submit_package() got an unexpected keyword argument {min(unknown)!r}")
    return {field: value for field, value in fields.items() if value is not None}


async def package(
    way: Way, what: str | os.PathLike[str], name: str | None, given: Mapping[str, object], datacenter: str
) -> Package:
    """Return the job that a package becomes; nothing is brought, and nothing submitted.

    Args:
        what: a folder of this machine, or one of the datacenter, `/pfs/<dc>/…`.
        name: of the job; None is PaddleCloud's own.
        given: PaddleCloud's fields.
        datacenter: what is called so here.

    Raises:
        PfsError: INVALID for fields that make no job, BUSY where a job runs in the folder to which it is brought.
    """
    from cli.submit.packages import is_remote
    from cli.submit.paddlecloud import check_free, fields_of, text_of

    path = Path(what)
    fields = fields_of(path, name, given)
    user = facts((await way.tree.read("me")).decode())["name"]
    made = Package(str(fields["name"]), text_of(fields, user, datacenter), fields, None if is_remote(path) else path)
    if made.folder is not None:
        check_free(await operations.jobs(way), made.name, user)
    return made


async def submit_package(way: Way, package: Package, heard: Heard = unheard) -> int:
    """Bring a package to its folder, unless it is of the datacenter, submit its job, and return the job's number.

    Args:
        heard: is told how far it is; what it raises ends it, and leaves what was brought so far.

    Raises:
        PfsError: what the server refuses; before anything is brought, where that is not about files.
    """
    from cli.submit.paddlecloud import JOBS

    folder = package.folder
    if folder is not None:
        await operations.check(way, package.name, package.text)
        await way.aside(lambda server: _bring(way, server, folder, package.name, heard))
    heard(Progress("starting"))
    content, key = json.dumps(package.fields).encode(), os.urandom(operations.KEY_BYTES).hex()
    made = await asking_again(lambda: way.tree.call("POST", JOBS, content, key), way.pause)
    heard(Progress("starting", over=True))
    return int(made["id"])


def _bring(way: Way, server: Blocking, folder: Path, name: str, heard: Heard) -> None:
    """Let the folder of a job have what one of this machine has, and nothing of the last package that this one lost."""
    from cli.files.copied import How
    from cli.files.upload import upload
    from cli.submit.paddlecloud import uploaded
    from cli.submit.treewalk import everything

    def tell(what: Progress) -> None:
        if heard is unheard:  # each file would go by way of the event loop for nothing
            way.goes_on()
            return
        try:
            way.tell(heard, what)
        except OSError as error:
            raise _HeardError(error) from None

    def reach(done: int, size: int) -> None:
        tell(Progress("uploading", done=done, size=size))

    try:
        with files.here(folder, "read"):
            tell(Progress("collecting"))
            names = list(everything(folder))
            tell(Progress("collecting", over=True))
            tell(Progress("uploading"))
            how = How(recorded=True, links=False)  # a link out of the folder would lead nowhere there
            done = upload(server, folder, uploaded(name), how, names=names, progress=reach, sleep=way.rest)
        if done.failed:
            what = "; ".join(map(str, done.failed))
            raise PfsError(done.failed[0].kind, f"the package is not whole in jobs/{name}: {what}")
        tell(Progress("uploading", over=True, left_out=done.left_out))
    except _HeardError as raised:
        raise raised.error from None


class _HeardError(Exception):
    """What the program raises when it is told something: no file of the package is to blame for it."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error
