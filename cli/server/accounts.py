"""Commands of `jobd` for administrators: who has an account, and who may make one.

They change the database, and a server that runs takes the change up at once: who is gone, or has another password,
or lost a key, is out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.output import minute, table
from cli.server.administration import data_root_option, database_option, opened

if TYPE_CHECKING:
    from pfs.accounts.keyring import KnownKey

MODES = ("closed", "invitation", "open")
DAYS_MAX = 365
SCOPES = ("read", "write", "submit", "admin")


@click.group()
def user() -> None:
    """Accounts."""


@user.command(name="list")
@data_root_option
@database_option
def list_users(data_root: str | None, database: str | None) -> None:
    """Print who has an account."""
    with opened(data_root, database) as store:
        rows = [
            [each.name, _yes(each.admin), _yes(each.has_password), str(each.keys), " ".join(sorted(each.groups))]
            for each in store.accounts.accounts_now()
        ]
    _print(("USER", "ADMIN", "PASSWORD", "KEYS", "GROUPS"), rows)


@user.command()
@data_root_option
@database_option
@click.argument("name")
def remove(data_root: str | None, database: str | None, name: str) -> None:
    """Let the account NAME be gone: its keys open nothing, its jobs end, its nodes go, its home is put aside."""
    with opened(data_root, database) as store:
        where = store.remove_user(name)
    click.echo(f"{name} is gone; the home is kept as {where} in the data root until you remove it there.")


@user.command()
@data_root_option
@database_option
@click.option("--no", "revoked", is_flag=True, help="No more.")
@click.argument("name")
def admin(data_root: str | None, database: str | None, revoked: bool, name: str) -> None:
    """Let NAME be an administrator."""
    with opened(data_root, database) as store:
        store.accounts.set_admin_now(name, admin=not revoked)


@user.command()
@data_root_option
@database_option
@click.password_option(prompt="New password")
@click.argument("name")
def password(data_root: str | None, database: str | None, password: str, name: str) -> None:
    """Give NAME another password; all tokens of NAME are taken back."""
    from pfs.accounts.passwords import hash_now
    from pfs.accounts.strength import check_password

    with opened(data_root, database) as store:
        store.accounts.set_password_now(name, hash_now(check_password(password, name)))


@user.command()
@data_root_option
@database_option
@click.option("--days", type=click.IntRange(1, DAYS_MAX), default=365, show_default=True, help="Then it ends.")
@click.option("--label", default="", metavar="TEXT", help="The machine it is for.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="What it is for. Default: everything."
)
@click.option("--out", metavar="DIR", default=".", help="Where NAME.pem and NAME-key.pem are written. Default: here.")
@click.argument("name")
def cert(
    *,
    data_root: str | None,
    database: str | None,
    days: int,
    label: str,
    scopes: tuple[str, ...],
    out: str,
    name: str,
) -> None:
    """Make a certificate that tells the server who NAME is, and its key; print the `~/.paddle/config` for them."""
    import os

    from cli.server.ownauthority import check_free, write_private
    from pfs.accounts.store import Terms
    from pfs.perm import Scope

    files = [os.path.abspath(os.path.join(out, f"{name}{end}.pem")) for end in ("", "-key")]
    check_free(files)
    terms = Terms(f"certificate {label}".rstrip(), frozenset(map(Scope, scopes or SCOPES)) | {Scope.READ}, days)
    with opened(data_root, database) as store:
        made = store.certify(name, terms)
        for path, data in zip(files, (made.certificate, made.key), strict=True):
            write_private(path, data)
        datacenter, endpoint = store.setting("datacenter"), store.setting("endpoint")
    click.echo(f"Wrote {files[0]} and {files[1]}, which are good for {days} days.")
    click.echo(f"\nPut this into ~/.paddle/config of {name}, with the places where the files are then:\n")
    click.echo(
        f"{datacenter}:\n  username: {name}\n  usercert: {files[0]}\n  userkey: {files[1]}\n  endpoint: {endpoint}"
    )


@user.command()
@data_root_option
@database_option
@click.argument("name")
def keys(data_root: str | None, database: str | None, name: str) -> None:
    """Print the keys of NAME: tokens of machines and scripts, certificates, keys of nodes."""
    with opened(data_root, database) as store:
        found = store.accounts.keys_now(name)
    _print(KEYS, [key_row(key) for key in found])


@user.command()
@data_root_option
@database_option
@click.option("--all", "every", is_flag=True, help="All keys of NAME, also those of nodes.")
@click.argument("name")
@click.argument("key", required=False)
def revoke(*, data_root: str | None, database: str | None, every: bool, name: str, key: str | None) -> None:
    """Take back the key of NAME that `jobd user keys` calls KEY."""
    if (key is None) != every:
        raise click.UsageError("which KEY? Or --all")
    with opened(data_root, database) as store:
        taken = store.accounts.revoke_now(name, key)
    click.echo(f"{name}: {taken} keys are taken back")


@user.command()
@data_root_option
@database_option
@click.option("--none", "nobody", is_flag=True, help="Share them with no group.")
@click.argument("name")
@click.argument("groups", nargs=-1)
def autoshare(data_root: str | None, database: str | None, nobody: bool, name: str, groups: tuple[str, ...]) -> None:
    """Share new jobs of NAME with GROUPS, unless they are private; without GROUPS, print with which it is so."""
    if nobody and groups:
        raise click.UsageError("either GROUPS or --none")
    with opened(data_root, database) as store:
        if nobody or groups:
            store.accounts.set_autoshare_now(name, groups)
        click.echo(f"{name}: {' '.join(sorted(store.accounts.autoshare_now(name))) or 'no group'}")


@click.command()
@data_root_option
@database_option
@click.argument("mode", type=click.Choice(MODES), required=False)
def registration(data_root: str | None, database: str | None, mode: str | None) -> None:
    """Say who may make an account: nobody, who has an invitation, or everybody; without MODE, print what holds."""
    from pfs.accounts.registration import Registration

    with opened(data_root, database) as store:
        if mode is not None:
            store.set_registration(Registration(mode))
        click.echo(store.registration)


@click.command()
@data_root_option
@database_option
@click.option("--admin", is_flag=True, help="Whoever uses it is an administrator.")
@click.option("--days", type=click.IntRange(1, DAYS_MAX), default=7, show_default=True, help="It ends after so many.")
def invite(data_root: str | None, database: str | None, admin: bool, days: int) -> None:
    """Print an invitation, with which one person makes an account."""
    from pfs.accounts.registration import Registration
    from pfs.errors import Kind, PfsError

    with opened(data_root, database) as store:
        if not admin and store.registration is Registration.CLOSED:
            raise PfsError(Kind.INVALID, "registration is closed; open it first: jobd registration invitation")
        click.echo(f"paddle register {store.accounts.invite_now(store.where, admin=admin, days=days)}")


COMMANDS = (user, registration, invite)
KEYS = ("KEY", "KIND", "LABEL", "SCOPES", "MADE", "USED", "ENDS")


def key_row(key: "KnownKey") -> list[str]:
    """Return what is told of a key, in the columns of KEYS."""
    times = [minute(at_ns) for at_ns in (key.created_at_ns, key.used_at_ns, key.ends_at_ns)]
    return [key.name, key.kind, key.label, " ".join(sorted(key.scopes)), *times]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _print(head: Sequence[str], rows: list[list[str]]) -> None:
    click.echo(table(head, rows))
