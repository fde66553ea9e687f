"""What can stand where somebody presses the tab key in the middle of a command of `pit`: entities, and job numbers."""

from typing import TYPE_CHECKING

import click

from cli.completion import begun, names

if TYPE_CHECKING:
    from pfs.client.web import WebClient

FOLDERS = {"user": "home", "group": "groups", "node": "nodes", "job": "jobs", "alias": "aliases"}
LISTS = ("users", "groups", "nodes", "jobs", "aliases")
OWN = ("me",)
PLACES = (*OWN, "home", "shared")
WITH_FILES = ("user", "group", "job")


def entities(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return what can be looked at."""
    return _entities(ctx, incomplete, (*LISTS, *OWN), tuple(FOLDERS))


def places(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return what has files."""
    return _entities(ctx, incomplete, PLACES, WITH_FILES)


def jobs(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the numbers of jobs."""
    return begun(names(_known, ctx, "jobs"), incomplete)


def groups(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of groups."""
    return begun(names(_known, ctx, FOLDERS["group"]), incomplete)


def _entities(ctx: click.Context, incomplete: str, words: tuple[str, ...], kinds: tuple[str, ...]) -> list[str]:
    kind, colon, _ = incomplete.partition(":")
    if incomplete.isdigit():
        return begun(names(_known, ctx, "jobs"), incomplete)
    found = begun([*words, *(f"{each}:" for each in kinds)], incomplete)
    if colon or (len(found) == 1 and found[0].endswith(":")):  # a kind alone is no word that is whole
        kind = kind if colon else found[0].removesuffix(":")
        there = names(_known, ctx, FOLDERS[kind]) if kind in kinds else []
        return begun([f"{kind}:{name}" for name in there], incomplete)
    return found


def _known(_ctx: click.Context) -> "WebClient | None":
    from cli.snakepit.connection import acquainted
    from pfs.client.web import WebClient

    known = acquainted()
    return None if known is None else WebClient(known[0].endpoint, known[1].token, known[0].ca)
