"""`jobd audit`: the audit log, and whether it is whole."""

import os
from collections.abc import Iterator

import click

from cli.server.administration import data_root_option, database_option, opened


@click.group(invoke_without_command=True)
@data_root_option
@database_option
@click.option("--who", metavar="NAME", help="Only what NAME did.")
@click.option("--what", metavar="WORD", help="Only this, such as login, or all that begins so, such as user.")
@click.option("--on", metavar="PATH", help="Only what was done to this, or to what lies below it.")
@click.option("--since", metavar="TIME", default="", help="Only from then on: 2026-01-31, or 2026-01-31T12:00, in UTC.")
@click.option("--refused", is_flag=True, help="Only what was refused.")
@click.pass_context
def audit(
    context: click.Context,
    *,
    data_root: str | None,
    database: str | None,
    who: str | None,
    what: str | None,
    on: str | None,
    since: str,
    refused: bool,
) -> None:
    """Print who did what, from where, and what came of it."""
    if context.invoked_subcommand is not None:
        return
    from pfs.audit.record import DONE, record_in

    with opened(data_root, database) as store:
        for line in store.accounts.audit.lines_now():
            record = record_in(line)
            if (
                (who is None or record.who == who)
                and (what is None or record.what.startswith(what))
                and (on is None or f"{record.on}/".startswith(f"{on.rstrip('/')}/"))
                and (not refused or record.result != DONE)
                and line.split(" ", 2)[1] >= since
            ):
                click.echo(line)


@audit.command()
@data_root_option
@database_option
@click.option("--file", metavar="FILE", help="Look at a copy of the file `audit` instead.")
@click.option("--known", metavar="HASH", default="", help="The hash of a record that was noted down: it must be there.")
def verify(data_root: str | None, database: str | None, file: str | None, known: str) -> None:
    """Look whether no record was changed, put in, or taken out; name the first that is broken.

    Note down the hash that is printed, away from the server: with --known, records that were cut off are missed too.
    """
    from pfs.audit.record import follow_all

    if file is not None:
        end = follow_all(_lines(file), known)
    else:
        with opened(data_root, database) as store:
            end = follow_all(store.accounts.audit.lines_now(), known)
    click.echo(f"{end.number} records, all whole; the last one's hash is {end.last}")


def person() -> str:
    """Return who sits at the terminal; behind `sudo`, the account that the command runs as."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return str(os.getuid())


def terminal() -> str:
    """Return what the audit log says of where a command is given."""
    from pfs.audit.origin import LOCAL

    behind = os.environ.get("SUDO_USER", "")
    return f"{LOCAL}#{behind}" if behind else LOCAL


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


COMMANDS = (audit,)
