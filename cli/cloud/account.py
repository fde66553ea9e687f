"""The commands of `paddle` about who one is, and where: accounts, tokens, and the configuration."""

import json

import click

from cli import completion
from cli.cloud.options import Voice, dc_option, doing, json_option, quiet_option, show_rows, shown
from cli.dashes import DashCommand
from cli.output import minute

SCOPES = ("read", "write", "submit", "admin")
MASK = "***"
KEYS = ("KEY", "KIND", "LABEL", "SCOPES", "MADE", "USED", "ENDS", "THIS")
DATACENTERS = ("CURRENT", "NAME", "USERNAME", "ENDPOINT", "SHOWS")


@click.command(cls=DashCommand)
@click.option("--user", metavar="NAME", help="What the account is called. Default: you are asked.")
@click.option(
    "--ca", metavar="FILE", help="The authority of the server's certificate, where the invitation names none."
)
@click.argument("invitation", metavar="INVITATION|URL")
@doing
def register(invitation: str, user: str | None, ca: str | None, voice: Voice) -> None:
    """Make an account with an INVITATION; or at URL, where everybody may."""
    from cli import entering

    done = entering.register(invitation, user, ca)
    voice.tell(done.facts, done.text)


@click.command(cls=DashCommand)
@click.option("--user", metavar="NAME", help="Who you are there. Default: as in ~/.paddle/config, or you are asked.")
@click.option("--ca", metavar="FILE", help="The authority of the server's certificate.")
@click.argument("url", required=False)
@doing
@dc_option
def login(url: str | None, user: str | None, ca: str | None, voice: Voice, dc: str | None) -> None:
    """Get a token for this machine with your password, and keep it in ~/.paddle/config."""
    from cli import entering

    done = entering.login(url, dc, user, ca)
    voice.tell(done.facts, done.text)


@click.command(cls=DashCommand)
@doing
@dc_option
def logout(voice: Voice, dc: str | None) -> None:
    """Take back the token of this machine."""
    from cli import entering

    done = entering.logout(dc)
    voice.tell(done.facts, done.text)


@click.command(cls=DashCommand)
@doing
@dc_option
def passwd(voice: Voice, dc: str | None) -> None:
    """Change your password; the tokens of all other machines are taken back."""
    from cli import entering

    done = entering.change_password(dc)
    voice.tell(done.facts, done.text)


@click.command(cls=DashCommand)
@click.option("--revoke", metavar="KEY", help="Take back the one that is called KEY.")
@click.option("--new", "label", metavar="LABEL", help="Make one for a script, and print it.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="With --new: what it is for.")
@click.option("--days", type=click.IntRange(1, 3650), help="With --new: when it ends. Default: after 30 days unused.")
@shown
def tokens(
    *,
    revoke: str | None,
    label: str | None,
    scopes: tuple[str, ...],
    days: int | None,
    as_json: bool,
    quiet: bool,
    dc: str | None,
) -> None:
    """Show the keys of your account: tokens of machines and scripts, and keys for nodes."""
    from cli import entering

    if label is None and (scopes or days):
        raise click.UsageError("--scope and --days are of a new token: --new LABEL")
    if label is not None:
        token = entering.make_token(dc, label, list(scopes or SCOPES), days)
        click.echo(json.dumps({"label": label, "token": token}, indent=2) if as_json else token)
        return
    if revoke is not None:
        entering.revoke(dc, revoke)
    found = entering.tokens(dc)
    rows = [
        [*(str(token[fact]) for fact in ("name", "kind", "label")), " ".join(token["scopes"])]
        + [minute(token[fact]) for fact in ("created", "used", "ends")]
        + ["*" if token["own"] else ""]
        for token in found
    ]
    show_rows(KEYS, rows, found, [str(token["name"]) for token in found], as_json=as_json, quiet=quiet)


@click.command(cls=DashCommand)
@click.argument("datacenter", metavar="DATACENTER", shell_complete=completion.datacenters)
@doing
def use(datacenter: str, voice: Voice) -> None:
    """Make DATACENTER the current one, in ~/.paddle/config."""
    from cli import configfile

    configfile.use(datacenter)
    voice.tell({"datacenter": datacenter})


@click.command("config", cls=DashCommand)
@json_option
@quiet_option
def show_config(*, as_json: bool, quiet: bool) -> None:
    """Show which datacenters you have, and who you are there; what is secret is not shown."""
    from cli.config import effective

    loaded = effective()
    rows, objects = [], []
    for name, each in loaded.datacenters.items():
        is_current = name == loaded.current
        secrets = {"token": each.token, "password": each.password}
        shows = [word for word, value in secrets.items() if value]
        shows += [] if each.own is None else [each.own.certfile]
        rows.append(["*" if is_current else "", name, each.username, each.endpoint, ", ".join(shows) or "nothing"])
        own = {} if each.own is None else {"usercert": each.own.certfile, "userkey": each.own.keyfile}
        masked = {word: MASK for word, value in secrets.items() if value}
        objects.append(
            {"name": name, "username": each.username, "endpoint": each.endpoint, "ca": each.ca, **own, **masked}
            | {"current": is_current}
        )
    if not (as_json or quiet):
        click.echo(f"{loaded.path}:")
    told = {"file": loaded.path, "datacenters": objects}
    show_rows(DATACENTERS, rows, told, list(loaded.datacenters), as_json=as_json, quiet=quiet)
