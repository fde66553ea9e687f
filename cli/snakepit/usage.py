"""How `pit` talks: its helps and its refusals look like those of Snakepit's client.

A command is declared by the line that stands for it in the list of all: `run|put [options] <title> [clusterRequest]`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from pfs.errors import Kind, PfsError

HELP = "output usage information"
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
Function = TypeVar("Function", bound=Callable[..., Any])


class WorkerIndex(click.IntRange):
    """Which worker of a job is meant."""

    name = "worker index"


class PitCommand(click.Command):
    """A command whose help is Snakepit's.

    Args:
        usage: how it is called, with all its names.
        about: what it does.
        more: further lines of its help.
    """

    def __init__(self, *args: Any, usage: str, about: str, more: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.usage = usage
        self.about = about
        self.more = more

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what is typed; what is wrong with it is told with the name of this command."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def get_help(self, ctx: click.Context) -> str:
        """Return the help."""
        lines = [f"Usage: {self.usage}", "", self.about, "", "Options:", *_columns(_options(self))]
        return "\n".join([*lines, "", *map(_indented, self.more.splitlines())]).rstrip("\n")


class PitGroup(click.Group):
    """All commands; one that is not there is refused in Snakepit's words."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the list of all commands, in the order in which they were declared."""
        own = [("-V, --version", "output the version number"), ("-h, --help", HELP)]
        commands = [
            (command.usage, command.about)
            for name, command in self.commands.items()
            if isinstance(command, PitCommand) and command.name == name
        ]
        rows = _columns([*own, *commands])
        head, listed = rows[: len(own)], rows[len(own) :]
        return "\n".join(["Usage: pit [options] [command]", "", "Options:", *head, "", "Commands:", *listed, "  *"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise PfsError(Kind.INVALID, "unknown command")
        return super().resolve_command(ctx, args)

    def command_of(
        self, usage: str, about: str, more: str = "", *, takes_rest: bool = False
    ) -> Callable[[Callable[..., Any]], PitCommand]:
        """Declare a command under all the names that its usage begins with.

        Args:
            takes_rest: what stands behind its first argument is no option of ours.
        """
        settings = {**CONTEXT, "allow_interspersed_args": not takes_rest}

        def declare(function: Callable[..., Any]) -> PitCommand:
            names = usage.split(maxsplit=1)[0].split("|")
            words: dict[str, Any] = {"usage": usage, "about": about, "more": more, "context_settings": settings}
            made = click.command(names[0], cls=PitCommand, **words)(function)
            for name in names:
                self.add_command(made, name)
            return made

        return declare


def _options(command: click.Command) -> list[tuple[str, str]]:
    """Return how a command's options are written, and what they do."""
    shown = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    rows = []
    for option in shown:
        words = ", ".join(option.opts[:2])
        rows.append((words if option.metavar is None else f"{words} {option.metavar}", option.help or ""))
    return [*rows, ("-h, --help", HELP)]


def _indented(line: str) -> str:
    """Return a further line of a help; examples stand further to the right."""
    is_example = line == "Examples:" or line.startswith("$ ")
    return f"{'    ' if is_example else '  '}{line}".rstrip()


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"  {left:<{width}}  {right}" for left, right in rows]


def in_own_words(work: Callable[[], object]) -> Callable[[], object]:
    """Return `work`, with what goes wrong said as Snakepit's client does: one line, status 1."""

    def worded() -> object:
        try:
            return work()
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "pit"
            message = " ".join(error.format_message().split()).rstrip(".")
            end = "" if message.endswith("?") else ";"
            raise click.ClickException(f"{message}{end} see: {command} --help") from None
        except PfsError as error:
            if error.kind is Kind.UNREACHABLE:
                raise PfsError(error.kind, f"Unable to reach pit: {error.message}") from None
            raise

    return worded
