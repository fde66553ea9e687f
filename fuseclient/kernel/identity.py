"""Whose the files of a mount are: what it shows, and what becomes of a wish to give a file away.

    identity   shown owner and group     chown                                   what is made belongs to
    squashed   the user who mounts       to that user: done; else FORBIDDEN      the server's choice
    job        the user who mounts       accepted and ignored, whoever it names  the server's choice
    numeric    the server's numbers      done by the server                      whoever makes it

Squashed is for people: the numbers of their machine mean nothing to the server. A job's mount squashes, too, but
root in a container unpacks archives and installs packages, and those end at the first chown that fails. Numeric
is for admins, together with the kernel's own checks: it is a complete POSIX file system. Only there do the
set-user-id, set-group-id and sticky bits mean anything, so only there are they shown and changed.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from pfs.api import Attr, Changes, NodeType, Owner
from pfs.errors import Kind, PfsError

SET_USER_ID, SET_GROUP_ID, GROUP_EXECUTE = 0o4000, 0o2000, 0o010
_ALL_BITS, _PERMISSION_BITS = 0o7777, 0o777


class Ids(StrEnum):
    """The ways in which a mount treats owners."""

    SQUASHED = "squashed"
    JOB = "job"
    NUMERIC = "numeric"


@dataclass(frozen=True, slots=True)
class Identity:
    """How one mount treats owners.

    Attributes:
        ids: the way.
        mounter: the user who mounts, in the numbers of this machine.
    """

    ids: Ids
    mounter: Owner

    @property
    def numeric(self) -> bool:
        """True where owners are the server's numbers."""
        return self.ids is Ids.NUMERIC

    def shown(self, attr: Attr) -> Owner:
        """Return whose a node is shown to be."""
        return Owner(attr.uid, attr.gid) if self.numeric else self.mounter

    def mode(self, mode: int) -> int:
        """Return those bits of a mode that count here."""
        return mode & (_ALL_BITS if self.numeric else _PERMISSION_BITS)

    def changes(self, asked: Changes) -> Changes:
        """Return what the server shall change when a program asks for these changes.

        Raises:
            PfsError: FORBIDDEN when a file would have to belong to somebody else than the user who mounts.
        """
        mode = None if asked.mode is None else self.mode(asked.mode)
        if self.numeric:
            return replace(asked, mode=mode)
        theirs = asked.uid in (None, self.mounter.uid) and asked.gid in (None, self.mounter.gid)
        if self.ids is Ids.SQUASHED and not theirs:
            raise PfsError(Kind.FORBIDDEN, "everything here belongs to the user who mounted it")
        return replace(asked, mode=mode, uid=None, gid=None)

    def emptied(self, by: Owner, mode: int) -> int:
        """Return the mode of a file after an opening that emptied it.

        A program whose content somebody changes must not go on running as its owner. The kernel sees to this
        for writes and for truncate(2), but leaves it to file systems for O_TRUNC.
        """
        if not self.numeric or by.uid == 0:
            return mode
        return mode & ~(SET_USER_ID | (SET_GROUP_ID if mode & GROUP_EXECUTE else 0))

    def made(self, maker: Owner, type_: NodeType, mode: int, directory: Attr | None) -> tuple[int, Owner | None]:
        """Return mode and owner of a new node; no owner leaves it to the server.

        A directory with the set-group-id bit hands on its group, and to directories also that bit: the kernel
        leaves this to file systems.

        Args:
            maker: the process that makes it.
            mode: what it asked for, less its umask.
            directory: where it is made; only needed where `numeric`.
        """
        if not self.numeric:
            return self.mode(mode), None
        if directory is None or not directory.mode & SET_GROUP_ID:
            return self.mode(mode), maker
        inherited = SET_GROUP_ID if type_ is NodeType.DIRECTORY else 0
        return self.mode(mode) | inherited, Owner(maker.uid, directory.gid)
