"""Which datacenters a mount has: all of the configuration, those of one server, or the one that a folder is in.

Of several those are mounted that can be asked to let us in, so that a laptop which is logged out of one, or that cannot
get a token from one, has the others; of each that is left out a line says why. Where none is left, it is an error.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import click

from cli import config, reaching
from cli.config import Config, Datacenter, endpoint_of
from cli.sdk.reaching import as_known
from pfs.errors import Kind, PfsError


def chosen(configuration: Config, source: str | None, subdir: str | None) -> dict[str, Datacenter]:
    """Return the datacenters to mount, with what their servers are to be shown.

    Args:
        source: the URL of a server, or the name of a datacenter; None for all.
        subdir: a folder that alone is mounted, behind the name of its datacenter.

    Raises:
        PfsError: there is none, and why.
    """
    names = list(configuration.datacenters) if source is None else _named(source, configuration)
    if subdir is not None:
        names = _only(subdir, names)
    return _let_in(configuration, names)


def _named(source: str, configuration: Config) -> list[str]:
    """Return the datacenters whose server or name is `source`.

    Raises:
        PfsError: INVALID for none.
    """
    there = configuration.datacenters
    found = [name for name, each in there.items() if name == source or each.endpoint == endpoint_of(source)]
    if not found:
        there_are = ", ".join(f"{name} at {each.endpoint}" for name, each in there.items())
        raise PfsError(Kind.INVALID, f"{configuration.path} knows no datacenter {source}; there are {there_are}")
    return found


def _only(subdir: str, names: list[str]) -> list[str]:
    """Return the datacenter that a folder is in.

    Raises:
        PfsError: INVALID for none.
    """
    name = subdir.partition("/")[0]
    if name not in names:
        raise PfsError(Kind.INVALID, f"subdir={subdir}: there is no datacenter {name}; there are {', '.join(names)}")
    return [name]


def _let_in(configuration: Config, names: Iterable[str]) -> dict[str, Datacenter]:
    """Return those of some datacenters that can be asked to let us in, with what they are to be shown; tell the others.

    Raises:
        PfsError: there is none, and why.
    """
    found: dict[str, Datacenter] = {}
    refusals: dict[str, PfsError] = {}
    for name in names:
        try:
            each = _with_token(configuration.showing(name))
            config.lasting(each.own)
        except PfsError as why:
            refusals[name] = why
        else:
            found[name] = each
    if not found:
        raise none_left(refusals, partial(click.echo, err=True))
    for name, refusal in refusals.items():
        click.echo(f"{name} is left out: {refusal}", err=True)
    return found


def _with_token(where: Datacenter) -> Datacenter:
    """Return a datacenter with a token, where it has a password and none.

    Raises:
        PfsError: the server does not take the password, or is away and none is kept.
    """
    try:
        return reaching.with_token(where)
    except PfsError as error:
        kept = as_known(where)
        if kept is None or error.kind is not Kind.UNREACHABLE:
            raise
        return kept  # the mount looks for its server, as for those of others


def none_left(refusals: Mapping[str, PfsError], tell: Callable[[str], None]) -> PfsError:
    """Return why nothing can be mounted; of several datacenters a line tells for each why it cannot be.

    Args:
        refusals: by the names of the datacenters, one at least.
        tell: takes such lines.
    """
    first = next(iter(refusals.values()))
    if len(refusals) == 1:
        return first
    for name, refusal in refusals.items():
        tell(f"{name}: {refusal}")
    return PfsError(first.kind, "none of these datacenters can be mounted")
