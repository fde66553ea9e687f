"""The options that `paddle` and `pit` have in common for programs in jobs; each start of theirs loads this."""

import click

tty_option = click.option(
    *("-t/-T", "--tty/--no-tty", "wants_tty"),
    default=None,
    help="gives the command a terminal, or with -T none; default: one, where you sit at one",
)
