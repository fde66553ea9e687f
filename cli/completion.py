"""What can stand where somebody presses the tab key: files of this machine, and what the server knows.

Whoever types waits for it, so it is one short request; where that fails, or takes too long, or somebody would have to
be asked for a password, there is nothing to choose from, and nobody is told why. How shells ask is in `cli.shells`.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.dashes import DashCommand
from pfs.errors import PfsError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pfs.client.web import WebClient

SHELLS = ("bash", "zsh", "fish")
LIMIT_S = 1.0
ROOT = "/pfs/"
Connect = Callable[[click.Context], "WebClient | None"]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem[str]]":
    """Let the shell complete a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def folders(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem[str]]":
    """Let the shell complete a directory."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


# ---- paddle


def paddle_jobs(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the numbers of jobs of the datacenter that is meant."""
    return begun(names(_of_paddle, ctx, "jobs"), incomplete)


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[str] | list[CompletionItem[str]]":
    """Return what is in the directory of a datacenter that is being typed; else let the shell complete a file."""
    if not incomplete.startswith(ROOT):
        return files(ctx, param, incomplete)
    name, slash, path = incomplete.removeprefix(ROOT).partition("/")
    if not slash:
        return [f"{ROOT}{each}/" for each in datacenters(ctx, param, name)]
    ctx.params["dc"] = name
    folder = path.rpartition("/")[0]
    found = names(_of_paddle, ctx, folder)
    return begun([f"{ROOT}{name}/{f'{folder}/' if folder else ''}{each}" for each in found], incomplete)


def datacenters(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the datacenters that the configuration knows."""
    from cli import config

    try:
        return begun(list(config.load().datacenters), incomplete)
    except (PfsError, OSError):
        return []


def _of_paddle(ctx: click.Context) -> "WebClient | None":
    from cli import config
    from cli.sdk import reaching

    where = reaching.as_known(config.datacenter(ctx.params.get("dc")))
    return None if where is None else reaching.opened(where)


def command_for(paddle: click.Group) -> click.Command:
    """Return the command that tells a shell how to complete those of `paddle`."""

    @click.command("completion", cls=DashCommand)
    @click.argument("shell", type=click.Choice(SHELLS))
    def tell(shell: str) -> None:
        """Print what SHELL needs to complete commands, datacenters and job numbers.

        \b
          bash   > ~/.local/share/bash-completion/completions/paddle
          zsh    > ~/.zfunc/_paddle, with fpath=(~/.zfunc $fpath) before compinit
          fish   > ~/.config/fish/completions/paddle.fish
        """
        from cli.shells import script

        click.echo(script(shell, paddle, "paddle"))

    return tell


def answer_in_our_way() -> None:
    """Have click answer a shell, where it is that who asks, as `cli.shells` does."""
    if any(name.endswith("_COMPLETE") for name in os.environ):
        from cli.shells import prepare

        prepare()


# ---- the server


class _LateError(BaseException):
    """It takes too long; nobody but us may take it for an error of theirs."""


@contextmanager
def _within(limit_s: float) -> Iterator[None]:
    def late(_number: int, _frame: object) -> None:
        raise _LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def names(connect: Connect, ctx: click.Context, folder: str) -> list[str]:
    """Return the names in a folder of the tree; of jobs only their numbers.

    Args:
        connect: gives a client, or None where somebody would have to be asked who they are.
    """
    try:
        client = connect(ctx)
        if client is None:
            return []
        with client, _within(LIMIT_S):
            names = [str(entry["name"]) for entry in client.list(folder)]
    except (_LateError, PfsError, OSError):
        return []
    return [name for name in names if name.isdigit() or folder != "jobs"]


def begun(words: list[str], incomplete: str) -> list[str]:
    """Return the words that begin with what is there already."""
    return [word for word in words if word.startswith(incomplete)]
