"""`paddle umount`: the end of a mount, after everything that was written through it has reached its server."""

import errno
import time

import click

from cli.mount.point import DEAD, ask, is_mounted, not_mounted, take_lock
from cli.mount.status import waiting_text
from fuseclient import mountpoints
from fuseclient.status import Status
from pfs.errors import Kind, PfsError

END_S = 60.0  # on a machine that does much else; what is still to be sent has been sent before
ASKED_MAX = 6  # times that it may not answer in time before it is taken away all the same
GLANCE_S = 2.0  # for which somebody may look at the mount point, as `df` does, and nobody can say who it was
LOOK_EVERY_S = 0.2
TELL_EVERY_S = 10.0


def umount_command(mountpoint: str, *, lazy: bool = False, quiet: bool = False) -> int:
    """Unmount, and wait until the process that served the mount is gone.

    Args:
        mountpoint: where it is mounted.
        lazy: also while it is in use; its process then ends with the last user.
        quiet: say nothing when it is unmounted.

    Returns:
        The exit status.

    Raises:
        click.ClickException: it cannot be unmounted, and why.
    """
    point = mountpoints.canonical(mountpoint)
    if not is_mounted(point):
        raise click.ClickException(not_mounted(point))
    try:
        number = mountpoints.device(point)
        while is_mounted(point):
            dead = not lazy and not _wait_for_writes(point)
            _unmount(point, lazy=lazy or dead)
        if not lazy and not _wait_for_end(point, number):
            raise PfsError(Kind.TIMED_OUT, f"{point} is unmounted, but its process does not end{_keepers(number)}")
    except PfsError as error:
        raise click.ClickException(str(error)) from None
    if not quiet:
        click.echo(f"{point}: unmounted")
    return 0


def _wait_for_writes(point: str) -> bool:
    """Wait until the servers have everything, saying what is waited for; whoever gives up leaves the mount as it is.

    Returns:
        False when the process behind the mount is gone.
    """
    tell_s, unanswered = 0.0, 0
    while True:
        try:
            status = Status.decode(ask(point))
        except OSError as error:
            unanswered += error.errno == errno.ETIMEDOUT
            if error.errno == errno.ETIMEDOUT and unanswered < ASKED_MAX:
                click.echo(f"{point}: the mount does not answer; asking again; Ctrl-C leaves it mounted", err=True)
                continue
            return error.errno not in DEAD
        except PfsError:  # of another version
            return True
        text = waiting_text(status)
        if text is None:
            for name in (name for name, server in status.servers.items() if server.refused):
                hint = f"`paddle mount --write-behind {point}` tries again"
                click.echo(f"{point}: {name} has refused changes, which stay in the journal; {hint}", err=True)
            return True
        if time.monotonic() >= tell_s:
            if mountpoints.users(point):
                return True  # who has a file open may write for ever: better to say who that is
            tell_s = time.monotonic() + TELL_EVERY_S
            click.echo(f"{point}: waiting for {text}; Ctrl-C leaves it mounted", err=True)
        time.sleep(LOOK_EVERY_S)


def _unmount(point: str, *, lazy: bool) -> None:
    busy_s = time.monotonic()
    while True:
        try:
            mountpoints.unmount(point, lazy=lazy)
            return
        except PfsError as error:
            if error.kind is not Kind.BUSY:
                raise
        inside = [f"{place} is mounted in it" for place in mountpoints.below(point)]
        users = "; ".join([*inside[: mountpoints.USERS_NAMED], *mountpoints.users(point)])
        if users or time.monotonic() >= busy_s + GLANCE_S:
            users = users or "a program that this user cannot see uses it"
            raise PfsError(Kind.BUSY, f"{point} is in use: {users}; end that first, or use --lazy")
        time.sleep(LOOK_EVERY_S)


def _wait_for_end(point: str, number: str | None) -> bool:
    begun_s = time.monotonic()
    tell_s = begun_s + TELL_EVERY_S
    while time.monotonic() < begun_s + END_S:
        lock = take_lock(point)
        if lock is not None:
            lock.close()
            return True
        if time.monotonic() >= tell_s:
            tell_s = time.monotonic() + TELL_EVERY_S
            click.echo(f"{point}: unmounted; its process is about to end{_keepers(number)}", err=True)
        time.sleep(0.02)
    return False


def _keepers(number: str | None) -> str:
    """Say for whom the process cannot end: what began while it was mounted, and was given copies of all mounts."""
    keepers = [] if number is None else mountpoints.keepers(number)
    return f", with those for whom it is still there: {'; '.join(keepers)}" if keepers else ""
