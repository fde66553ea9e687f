"""Shipping as somebody sees it who waits for it: how far it is, and how much of it was sent."""

from pathlib import Path

import click

from cli.progress import Transfer
from cli.submit.ship import Server, Shipped, ship
from jobd.spec.units import format_size


def shipped(server: Server, folder: Path, *, asks_git: bool = True) -> Shipped:
    """Ship a folder, and say how much of it was sent."""
    with Transfer(folder.resolve().name, None) as transfer:
        done = ship(server, folder, asks_git=asks_git, progress=transfer.reach)
    if done.sent_bytes:
        what = f"{done.files:,} files, {format_size(done.size_bytes)}"
        click.echo(f"Shipped {folder}: {what}; {format_size(done.sent_bytes)} were sent", err=True)
    return done
