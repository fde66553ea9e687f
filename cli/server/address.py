"""`jobd url`: where clients and nodes find the server, as keys and configurations say it, and whom they trust there.

A host that moves takes its data along, and is told here what it is called now. Keys that were made before are good
still, and say still what they said: whoever has one names the new address beside it.
"""

import click

from cli.server.administration import data_root_option, database_option, opened

NONE, OWN = "none", "own"


@click.command()
@data_root_option
@database_option
@click.option(
    "--tls-ca", metavar="FILE", help="Keys name this authority; `own` is the datacenter's own, `none` is none."
)
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="The server's certificate is for it, too; several."
)
@click.argument("new", metavar="[URL]", required=False)
def url(
    *, data_root: str | None, database: str | None, tls_ca: str | None, names: tuple[str, ...], new: str | None
) -> None:
    """Let clients and nodes find the server at URL; print what keys say.

    New keys and configurations say it, and jobs when the server was started again; what was made before stays as it is.
    """
    from pfs.keys import address_of

    with opened(data_root, database) as store:
        there = new or store.setting("endpoint")
        secure = address_of(there).secure
        if not secure and (names or tls_ca is not None):
            raise click.UsageError(f"{there} is without TLS: a certificate means nothing there")
        named: str | None = store.jobs.setting_now("authority") or ""
        if tls_ca is not None or not secure or not address_of(store.setting("endpoint")).secure:
            named = authority(tls_ca)
        before = store.where
        store.move(there, named, names)
        if names and not store.is_vouched:
            click.echo(
                "Keys do not name the datacenter's own authority: --name is for its certificates alone.", err=True
            )
        click.echo(store.where)
        if before != store.where:
            click.echo(f"{_about_keys(before, store.where)} Start the server again.", err=True)


def _about_keys(before: str, now: str) -> str:
    """Say what becomes of keys that were made before."""
    old, _, old_authority = before.partition("#")
    there, _, new_authority = now.partition("#")
    if old_authority and old_authority != new_authority:
        return "Keys made before trust the certificate that they name, and no other: make new ones."
    if old == there:
        return "Keys made before name no certificate: they trust the authorities of each machine."
    return f"Keys made before name {old}: give nodes --apiHost {there}, and clients this endpoint, or make new keys."


def authority(named: str | None) -> str | None:
    """Return the authority that an option names (PEM); None for the datacenter's own, "" for none.

    Raises:
        click.UsageError: it is a file without a certificate.
    """
    if named is None or named == OWN:
        return None
    return "" if named == NONE else certificate(named)


def about_authority(pem: str) -> str:
    """Return what is said of the authority that keys name."""
    if not pem:
        return "Keys name no certificate."
    from pfs.certificates import read_certificate
    from pfs.keys import hash_of

    return (
        f"Keys trust certificates of the authority sha256:{hash_of(read_certificate(pem.encode()).der)}, and no other."
    )


def certificate(path: str) -> str:
    """Return the first certificate in a file (PEM).

    Raises:
        click.UsageError: there is none.
    """
    import ssl

    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    with open(path, encoding="ascii", errors="replace") as file:
        text = begin + file.read().partition(begin)[2].partition(end)[0] + end
    try:
        ssl.create_default_context(cadata=text)
        return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(text))
    except (ValueError, ssl.SSLError):
        raise click.UsageError(f"--tls-ca {path}: there is no certificate (PEM) in it") from None


COMMANDS = (url,)
