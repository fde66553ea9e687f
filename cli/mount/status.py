"""`paddle mount --status`: what mounts say of themselves, for people.

Programs have the same as JSON: `getfattr --only-values -n user.pfs.status DIR`.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from cli.mount.point import is_mounted, not_mounted, status_of
from cli.output import age, printable
from fuseclient import mountpoints
from fuseclient.status import Rate, Server, Status
from jobd.spec.units import format_size
from pfs.errors import PfsError


def status_command(mountpoint: str | None, *, as_json: bool = False, quiet: bool = False) -> int:
    """Tell how it stands with one mount, or with all of this machine.

    Args:
        mountpoint: where it is mounted; None for all.
        as_json: as JSON.
        quiet: tell only where they are mounted.

    Returns:
        The exit status: 1 when one of them does not tell.

    Raises:
        click.ClickException: nothing is mounted there.
    """
    points = mountpoints.mounted() if mountpoint is None else [mountpoints.canonical(mountpoint)]
    if mountpoint is not None and not is_mounted(points[0]):
        raise click.ClickException(not_mounted(points[0]))
    if not points and not (as_json or quiet):
        click.echo("no pfs is mounted on this machine")
    failed, found = 0, []
    for point in points:
        try:
            status = status_of(point)
            found.append({"mountpoint": point, **asdict(status)})
            if not as_json:
                click.echo(printable(point) if quiet else status_text(point, status))
        except PfsError as error:
            failed = 1
            click.echo(str(error), err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    return failed


def status_text(point: str, status: Status) -> str:
    """Return all that a mount says, in lines."""
    lines = [f"{point}: mounted for {age(status.mounted_s)}, process {status.pid}, version {status.version}"]
    rows = [
        ("options", status.options or "the defaults"),
        ("open files", str(status.open_files)),
        ("known inodes", str(status.inodes)),
        ("read", f"{format_size(status.read_bytes)} by programs, beside what the kernel had"),
        ("written", f"{format_size(status.written_bytes)} by programs"),
    ]
    if status.blocks is not None:
        blocks = status.blocks
        room = f"{format_size(blocks.held_bytes)} of {format_size(blocks.limit_bytes)}"
        rows.append(("blocks", f"{_rate(blocks.rate)}; {room} on the local disk"))
    lines += _aligned(rows, "  ")
    for name, server in status.servers.items():
        lines.append(f"  {name}: {server.url}, {'connected' if server.connected else 'away'} for {age(server.since_s)}")
        lines += _aligned(_server(server), "    ")
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def waiting_text(status: Status) -> str | None:
    """Return what a mount has that its servers do not have yet, None for nothing."""
    waiting = [
        f"{_waiting(server)} to reach {name}" + ("" if server.connected else ", which is away")
        for name, server in status.servers.items()
        if server.waiting_bytes or server.waiting_operations
    ]
    return "; ".join(waiting) or None


def _server(server: Server) -> list[tuple[str, str]]:
    return [
        ("leases", str(server.leases)),
        ("attributes", _rate(server.attributes)),
        ("listings", _rate(server.listings)),
        ("small files", _rate(server.contents)),
        ("fetched", format_size(server.fetched_bytes)),
        ("sent", format_size(server.sent_bytes)),
        ("waiting", _waiting(server)),
        *(("refused", text) for text in server.refused),
        *([("conflicts", f"{server.conflicts}, kept under names of their own")] if server.conflicts else []),
    ]


def _waiting(server: Server) -> str:
    changes = "1 change" if server.waiting_operations == 1 else f"{server.waiting_operations} changes"
    return f"{format_size(server.waiting_bytes)} in {changes}"


def _rate(rate: Rate) -> str:
    if rate.asked == 0:
        return "not asked for yet"
    return f"{100 * rate.hits // rate.asked} % of {rate.asked} from copies"


def _aligned(rows: list[tuple[str, str]], indent: str) -> Iterator[str]:
    width = max(len(name) for name, _ in rows)
    return (f"{indent}{name.ljust(width)}  {text}" for name, text in rows)
