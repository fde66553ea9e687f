"""`jobd`: the server's program."""

import os
import sys
from functools import partial

import click

from cli.errors import run_command, status_of
from cli.loading import loading
from cli.loglines import FORMATS, FORMATTERS, JSON, TEXT, log_lines
from cli.server import accounts, address, administration, audits, clusters, images, quotas
from cli.server.administration import data_root_option, database_option
from pfs.audit.origin import SERVICE, acting

DEFAULT_PORT = 8470
DEFAULT_ENDPOINT = f"https://127.0.0.1:{DEFAULT_PORT}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pfs-jobs", prog_name="jobd")
@click.pass_context
def jobd(context: click.Context) -> None:
    """The server of a datacenter: a job service that is a file system."""
    context.with_resource(acting(audits.person(), audits.terminal()))


@jobd.command()
@data_root_option
@database_option
@click.option("--datacenter", default="dc1", show_default=True, help="Its name, the first directory of every path.")
@click.option("--admin", metavar="NAME", help="The first administrator. Default: you.")
@click.option("--invite-admin", is_flag=True, help="Print a code with which the first administrator registers.")
@click.option("--endpoint", default=DEFAULT_ENDPOINT, show_default=True, help="The URL that clients and nodes use.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="The server's certificate is for it, too; several."
)
@click.option("--tls-ca", metavar="FILE", help="Keys name this authority, instead of the datacenter's own; or none.")
@click.option("--client-config", metavar="FILE", help="Write the administrator's `~/.paddle/config` there.")
@click.option("--node-key", metavar="FILE", help="Write the key for gradient-node there.")
@click.option("--pit-config", metavar="DIR", help="Write .pitconnect.txt and .pituser.txt there.")
def init(
    *,
    data_root: str | None,
    database: str | None,
    datacenter: str,
    admin: str | None,
    invite_admin: bool,
    endpoint: str,
    names: tuple[str, ...],
    tls_ca: str | None,
    client_config: str | None,
    node_key: str | None,
    pit_config: str | None,
) -> None:
    """Make a new datacenter."""
    from cli.server.datacenter import default_data_root, make_datacenter

    root = data_root or default_data_root()
    if invite_admin and (admin or client_config or node_key or pit_config):
        raise click.UsageError(
            "who registers chooses their name, and takes their token then: --invite-admin stands alone"
        )
    name = None if invite_admin else admin or _own_name()
    authority = address.authority(tls_ca)
    made = make_datacenter(
        root, database, datacenter=datacenter, endpoint=endpoint, admin=name, authority=authority, names=names
    )
    about = address.about_authority(made.authority)
    said = f"Made the datacenter {datacenter} in {root}, at {endpoint}."
    if name is None or made.token is None or made.node_key is None:
        click.echo(f"{said} {about}")
        click.echo("Its first administrator registers with this, once:")
        click.echo(f"\n    paddle register {made.invitation}\n")
        click.echo("It is shown only now, and good for a day; jobd invite --admin makes another.")
        return
    token, key = made.token, made.node_key
    config = client_config_text(datacenter, name, token, endpoint)
    click.echo(f"{said} Its first administrator is {name}. {about}")
    _tell(client_config, config, f"Put this into ~/.paddle/config of {name} (mode 0600); the token is shown only once:")
    _tell(node_key, key + "\n", f"Start nodes with this key: gradient-node --data-root {root} --apiKey …")
    if pit_config is not None:
        _write_private(os.path.join(pit_config, ".pitconnect.txt"), f"{endpoint}\n{made.authority}")
        _write_private(os.path.join(pit_config, ".pituser.txt"), f"{name}\n{token}\n")
        click.echo(f"Wrote .pitconnect.txt and .pituser.txt in {pit_config}.")


@jobd.command()
@data_root_option
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="0 takes a free one.")
@click.option("--tls-cert", metavar="FILE", help="A certificate chain, instead of the server's own certificate.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option("--no-tls", is_flag=True, help="Behind a proxy on this machine that speaks TLS.")
@click.option(
    "--keep-jobs", metavar="DURATION", help="How long files and logs stay after a job's end: 30d. Default: for ever."
)
@click.option("--debug", is_flag=True, help="Log more.")
@click.option(
    "--log-format", type=click.Choice(FORMATS), default=TEXT, show_default=True, help="How a record is written."
)
def serve(
    *,
    data_root: str | None,
    database: str | None,
    host: str,
    port: int,
    tls_cert: str | None,
    tls_key: str | None,
    no_tls: bool,
    keep_jobs: str | None,
    debug: bool,
    log_format: str,
) -> None:
    """Serve a datacenter until TERM or Ctrl-C."""
    import logging

    with loading():
        import trio

        from cli.server.datacenter import Store, default_data_root
        from cli.server.listening import Asked, where_keys_mislead
        from cli.server.serve import serve as serve_datacenter
        from pfs.server.guard import Tls

    log_lines(logging.DEBUG if debug else logging.INFO, formatter=FORMATTERS[log_format]())
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    given = None if tls_cert is None or tls_key is None else Tls(tls_cert, tls_key)
    keep_jobs_s = None if keep_jobs is None else _duration("--keep-jobs", keep_jobs)
    log = logging.getLogger("jobd")
    say, warn = (log.info, log.warning) if log_format == JSON else (_say, _say)

    def ready(url: str) -> None:
        say(f"serving {url}")

    def work() -> None:
        store = Store(data_root or default_data_root(), database, exclusive=True)
        try:
            tls = store.tls(Asked(host, given is not None, no_tls), given)
            if misled := where_keys_mislead(host, port, store.setting("endpoint"), proxied=no_tls):
                warn(misled)
            with acting(SERVICE.who, SERVICE.source):
                trio.run(
                    partial(serve_datacenter, proxied=no_tls, keep_jobs_s=keep_jobs_s), store, host, port, tls, ready
                )
        finally:
            store.close()

    if log_format == JSON:
        logging.captureWarnings(True)
        sys.exit(status_of("jobd", work, log.error))
    work()


@jobd.command()
@data_root_option
@database_option
@click.option("--admin", is_flag=True, help="An administrator.")
@click.argument("name")
def adduser(data_root: str | None, database: str | None, admin: bool, name: str) -> None:
    """Make an account, and print its `~/.paddle/config`."""
    from cli.server.datacenter import Store, default_data_root

    store = Store(data_root or default_data_root(), database, exclusive=False)
    token = store.add_user(name, admin=admin)
    text = client_config_text(store.setting("datacenter"), name, token, store.setting("endpoint"))
    _tell(None, text, f"Put this into ~/.paddle/config of {name} (mode 0600); the token is shown only once:")
    store.close()


@jobd.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def node(arguments: tuple[str, ...]) -> None:
    """Serve jobs on this machine: the same as gradient-node."""
    from cli.gradient_node import main as gradient_node

    sys.argv[1:] = arguments
    gradient_node()


for module in (administration, clusters, accounts, address, quotas, images, audits):
    for command in module.COMMANDS:
        jobd.add_command(command)


def client_config_text(datacenter: str, user: str, token: str, endpoint: str) -> str:
    """Return a `~/.paddle/config` with one datacenter."""
    return f"{datacenter}:\n  username: {user}\n  token: {token}\n  endpoint: {endpoint}\n"


def _duration(option: str, text: str) -> float:
    from jobd.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _tell(path: str | None, text: str, where_to: str) -> None:
    if path is None:
        click.echo(f"\n{where_to}\n\n{text.rstrip()}")
    else:
        _write_private(path, text)
        click.echo(f"Wrote {path}.")


def _write_private(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, 0o600)
        file.write(text)


def _own_name() -> str:
    import getpass

    return getpass.getuser().lower()


def _say(text: str) -> None:
    click.echo(f"jobd: {text}", err=True)


def main() -> None:
    """Run `jobd`."""
    run_command(jobd, "jobd")
