"""`jobd`: the server's program."""

import os
import re
import sys
from collections.abc import Callable
from functools import partial

import click

from cli.administration import COMMANDS, data_root_option, database_option
from cli.errors import run_command

DEFAULT_PORT = 8470
DEFAULT_ENDPOINT = f"http://127.0.0.1:{DEFAULT_PORT}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pfs-jobs", prog_name="jobd")
def jobd() -> None:
    """The server of a datacenter: a job service that is a file system."""


@jobd.command()
@data_root_option
@database_option
@click.option("--datacenter", default="dc1", show_default=True, help="Its name, the first directory of every path.")
@click.option("--admin", metavar="NAME", help="The first administrator. Default: you.")
@click.option("--endpoint", default=DEFAULT_ENDPOINT, show_default=True, help="The URL that clients and nodes use.")
@click.option("--client-config", metavar="FILE", help="Write the administrator's `~/.paddle/config` there.")
@click.option("--node-key", metavar="FILE", help="Write the key for gradient-node there.")
@click.option("--pit-config", metavar="DIR", help="Write .pitconnect.txt and .pituser.txt there.")
def init(
    *,
    data_root: str | None,
    database: str | None,
    datacenter: str,
    admin: str | None,
    endpoint: str,
    client_config: str | None,
    node_key: str | None,
    pit_config: str | None,
) -> None:
    """Make a new datacenter."""
    from cli import serve as server

    root = data_root or server.default_data_root()
    name = admin or _own_name()
    token, key = server.init(root, database, datacenter=datacenter, endpoint=endpoint, admin=name)
    config = client_config_text(datacenter, name, token, endpoint)
    click.echo(f"Made the datacenter {datacenter} in {root}; its first administrator is {name}.")
    _tell(client_config, config, f"Put this into ~/.paddle/config of {name} (mode 0600); the token is shown only once:")
    _tell(node_key, key + "\n", f"Start nodes with this key: gradient-node --data-root {root} --apiKey …")
    if pit_config is not None:
        _write_private(os.path.join(pit_config, ".pitconnect.txt"), endpoint + "\n")
        _write_private(os.path.join(pit_config, ".pituser.txt"), f"{name}\n{token}\n")
        click.echo(f"Wrote .pitconnect.txt and .pituser.txt in {pit_config}.")


@jobd.command()
@data_root_option
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="0 takes a free one.")
@click.option("--tls-cert", metavar="FILE", help="The certificate chain; with it the port speaks TLS only.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option("--tls-client-ca", metavar="FILE", help="Verify clients' certificates, where they show one, by this CA.")
@click.option(
    "--keep-jobs", metavar="DURATION", help="How long files and logs stay after a job's end: 30d. Default: for ever."
)
@click.option("--debug", is_flag=True, help="Log more.")
def serve(
    *,
    data_root: str | None,
    database: str | None,
    host: str,
    port: int,
    tls_cert: str | None,
    tls_key: str | None,
    tls_client_ca: str | None,
    keep_jobs: str | None,
    debug: bool,
) -> None:
    """Serve a datacenter until TERM or Ctrl-C."""
    import logging

    import trio

    from cli import serve as server
    from pfs.server.guard import Tls

    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if tls_cert is None and not _is_loopback(host):
        raise click.UsageError(
            f"without TLS only this machine itself is served; for {host} give --tls-cert and --tls-key"
        )
    tls = None if tls_cert is None or tls_key is None else Tls(tls_cert, tls_key, tls_client_ca)
    keep_jobs_s = None if keep_jobs is None else _duration("--keep-jobs", keep_jobs)
    store = server.Store(data_root or server.default_data_root(), database, exclusive=True)
    try:
        trio.run(partial(server.serve, keep_jobs_s=keep_jobs_s), store, host, port, tls, _say_where)
    finally:
        store.close()


@jobd.command()
@data_root_option
@database_option
@click.option("--admin", is_flag=True, help="An administrator.")
@click.argument("name")
def adduser(data_root: str | None, database: str | None, admin: bool, name: str) -> None:
    """Make an account, and print its `~/.paddle/config`."""
    from cli import serve as server

    store = server.Store(data_root or server.default_data_root(), database, exclusive=False)
    token = store.add_user(name, admin=admin)
    text = client_config_text(store.setting("datacenter"), name, token, store.setting("endpoint"))
    _tell(None, text, f"Put this into ~/.paddle/config of {name} (mode 0600); the token is shown only once:")
    store.close()


@jobd.command()
@data_root_option
@database_option
@click.option("--bytes", "size", metavar="SIZE", help="All its files together, such as 10GiB; or none.")
@click.option("--files", metavar="NUMBER", help="Its files, directories and links; or none.")
@click.argument("name")
def quota(*, data_root: str | None, database: str | None, size: str | None, files: str | None, name: str) -> None:
    """Limit what an account's home may hold; print its limits and use."""
    from cli import serve as server
    from jobd.spec.units import format_size, parse_size

    changed = {}
    if size is not None:
        changed["size_bytes"] = _limit(size, parse_size)
    if files is not None:
        changed["files"] = _limit(files, _number)
    store = server.Store(data_root or server.default_data_root(), database, exclusive=False)
    limits, used = store.limit(name, changed), store.used(name)
    of_bytes = "without a limit" if limits.size_bytes is None else f"of {format_size(limits.size_bytes)}"
    of_files = "without a limit" if limits.files is None else f"of {limits.files:,}"
    click.echo(f"home/{name}: {format_size(used.size_bytes)} {of_bytes}, {used.files:,} files {of_files}")
    store.close()


@jobd.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def node(arguments: tuple[str, ...]) -> None:
    """Serve jobs on this machine: the same as gradient-node."""
    from cli.gradient_node import main as gradient_node

    sys.argv[1:] = arguments
    gradient_node()


for command in COMMANDS:
    jobd.add_command(command)


def client_config_text(datacenter: str, user: str, token: str, endpoint: str) -> str:
    """Return a `~/.paddle/config` with one datacenter."""
    return f"{datacenter}:\n  username: {user}\n  token: {token}\n  endpoint: {endpoint}\n"


def _limit(text: str, parse: Callable[[str], int]) -> int | None:
    try:
        return None if text == "none" else parse(text)
    except ValueError as error:
        raise click.UsageError(f"{error}; or none") from None


def _duration(option: str, text: str) -> float:
    from jobd.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{text!r} is no number of files; write digits")
    return int(text)


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


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say_where(url: str) -> None:
    click.echo(f"jobd: serving {url}", err=True)


def main() -> None:
    """Run `jobd`."""
    run_command(jobd, "jobd")
