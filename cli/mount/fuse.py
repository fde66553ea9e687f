"""`mount.fuse.pfs` and `umount.fuse.pfs`: what mount(8), umount(8), /etc/fstab and systemd call.

    mount.fuse.pfs SOURCE DIR [-sfnvrw] [-o OPTION,…] [-t TYPE]
    umount.fuse.pfs DIR [-flnrv] [-t TYPE]

as mount(8) says under "external helpers". SOURCE is the URL of a server, or the name of a datacenter; who one is
there stands in the configuration file. The exit statuses are mount(8)'s, and what is wrong is one sentence.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from cli.errors import status_of
from cli.mount.options import parse
from pfs.errors import Kind, PfsError

MOUNT, UMOUNT = "mount.fuse.pfs", "umount.fuse.pfs"
USAGE, INTERRUPTED, FAILURE = 1, 8, 32  # mount(8)
_STATUSES = {0: 0, 2: USAGE, 130: INTERRUPTED}


def main() -> None:
    """Run `mount.fuse.pfs`."""
    sys.exit(_run(MOUNT, lambda: mount(sys.argv[1:])))


def umount_main() -> None:
    """Run `umount.fuse.pfs`."""
    sys.exit(_run(UMOUNT, lambda: umount(sys.argv[1:])))


def _run(program: str, work: Callable[[], int]) -> int:
    return _STATUSES.get(status_of(program, work), FAILURE)


def mount(arguments: Sequence[str]) -> int:
    """Mount what a helper of mount(8) is asked to.

    Raises:
        PfsError: INVALID for what cannot be understood.
        click.ClickException: it cannot be mounted, and why.
    """
    parser = _Parser(MOUNT, usage="mount.fuse.pfs SOURCE DIR [-sfnvrw] [-o OPTION,…]", allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("-s", action="store_true", help="pass over options that are not known")
    parser.add_argument("-f", action="store_true", help="only pretend")
    parser.add_argument("-v", action="store_true", help="say that it is mounted")
    parser.add_argument("-r", action="store_true", help="as -o ro")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION,…", help="`paddle mount -o help` shows them")
    for word in ("-n", "-w"):
        parser.add_argument(word, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-t", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    options = parse([*given.o, *(["ro"] if given.r else [])], sloppy=given.s)
    if given.f:  # only pretend
        return 0
    from cli.mount.command import mount_command

    return mount_command(given.directory, options, source=given.source, quiet=not given.v)


def umount(arguments: Sequence[str]) -> int:
    """Unmount what a helper of umount(8) is asked to.

    Raises:
        PfsError: INVALID for what cannot be understood.
        click.ClickException: it cannot be unmounted, and why.
    """
    parser = _Parser(UMOUNT, usage="umount.fuse.pfs DIR [-flnrv]", allow_abbrev=False)
    parser.add_argument("directory", metavar="DIR")
    for word in ("-f", "-l"):
        parser.add_argument(word, action="store_true", help="also while it is in use")
    parser.add_argument("-v", action="store_true", help="say that it is unmounted")
    for word in ("-n", "-r"):
        parser.add_argument(word, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-t", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    from cli.mount.umount import umount_command

    return umount_command(given.directory, lazy=given.l or given.f, quiet=not given.v)


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong instead of ending the program by itself."""

    def error(self, message: str) -> NoReturn:
        raise PfsError(Kind.INVALID, f"{message}; it is called so: {self.usage}")
