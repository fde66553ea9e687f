"""How commands of `paddle` are spelled and listed: long options with one dash or two, and a help in sections.

PaddleCloud's client was written in Go, where a long option begins with one dash, and any may have its value behind a
`=`: `-n=3`, `-rm=true`. So every option here does as well.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import click

ONE_LETTER = 3  # as long as `--x` is
TRUTHS = {word: word[0] in "1t" for word in ("1", "0", "t", "f", "true", "false")}


class DashCommand(click.Command):
    """A command whose long options may begin with one dash, too."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Return what reads its words."""
        return _with_one_dash(super().make_parser(ctx), self.get_params(ctx), ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read its words."""
        given = list(args)
        try:
            return super().parse_args(ctx, _without_truths(args, self.get_params(ctx)))
        except click.NoSuchOption as error:
            # click takes a word with one dash for letters, of which it names the first that there is not
            words = (word.partition("=")[0] for word in given if word.startswith(error.option_name))
            raise click.NoSuchOption(next(words, error.option_name), ctx=error.ctx) from None


class DashGroup(click.Group):
    """A group of such commands, in the order in which they were declared."""

    command_class = DashCommand
    group_class = type

    def make_parser(self, ctx: click.Context) -> Any:
        """Return what reads its own words."""
        return _with_one_dash(super().make_parser(ctx), self.get_params(ctx), ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self.commands)


class SectionGroup(DashGroup):
    """A group whose help has its commands in sections.

    Attributes:
        sections: the names of commands, by the heading above them; every command stands in one of them.
    """

    sections: Mapping[str, Sequence[str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        limit = formatter.width - 6 - max(map(len, self.list_commands(ctx)))
        for heading, names in self.sections.items():
            rows = [(name, self.commands[name].get_short_help_str(limit)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=16)


def _with_one_dash(parser: Any, params: Sequence[click.Parameter], ctx: click.Context) -> Any:
    for param in params:
        twin = copy(param)
        twin.opts, twin.secondary_opts = _shortened(param.opts), _shortened(param.secondary_opts)
        if isinstance(param, click.Option) and twin.opts:
            twin.add_to_parser(parser, ctx)
    # a letter is looked up as a word, too, which may have its value behind a `=`
    parser._long_opt.update(parser._short_opt)
    return parser


def _without_truths(args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """Return the words without what is behind flags: one that is false is as if it were not there."""
    flags = {option for param in params if getattr(param, "is_flag", False) for option in param.opts}
    flags |= {option[1:] for option in flags if option.startswith("--")}
    words: list[str] = []
    for at, word in enumerate(args):
        if word == "--":
            return [*words, *args[at:]]
        option, _, value = word.partition("=")
        is_told = option in flags and value.lower() in TRUTHS
        if not is_told:
            words.append(word)
        elif TRUTHS[value.lower()]:
            words.append(option)
    return words


def _shortened(options: Sequence[str]) -> list[str]:
    """Return long options with one dash; one that is there in this form already is not repeated."""
    long = [option[1:] for option in options if option.startswith("--") and len(option) > ONE_LETTER]
    return [option for option in long if option not in options]
