"""The one error type of the product, and the words for what can go wrong.

Everything that a user may cause or see is a `PfsError` with a `Kind`. A kind is translated once, at an
edge: to an HTTP status in `pfs.server.routes`, to an errno in `fuseclient.kernel.errnos`, to an exit status in `cli`.
Anything else that is raised is a defect: it is logged where it is caught and shown as `INTERNAL`.
"""

from enum import StrEnum


class Kind(StrEnum):
    """What went wrong, in the terms of a file system."""

    NOT_FOUND = "not-found"
    EXISTS = "exists"
    DENIED = "denied"  # the caller's rights do not reach this
    FORBIDDEN = "forbidden"  # nobody may do this here
    NOT_DIR = "not-dir"
    IS_DIR = "is-dir"
    NOT_EMPTY = "not-empty"
    INVALID = "invalid"
    BUSY = "busy"
    STALE = "stale"  # another object stands at the path by now
    BAD_HANDLE = "bad-handle"  # the server knows no such open file (it was restarted)
    NAME_TOO_LONG = "name-too-long"
    TOO_LARGE = "too-large"
    NO_SPACE = "no-space"
    QUOTA = "quota"
    CROSS_DOMAIN = "cross-domain"
    READ_ONLY = "read-only"
    LOOP = "loop"
    UNSUPPORTED = "unsupported"
    UNAUTHENTICATED = "unauthenticated"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"
    WOULD_BLOCK = "would-block"
    TOO_MANY = "too-many"
    TOO_MANY_LINKS = "too-many-links"
    NO_DATA = "no-data"  # there is no such extended attribute
    IO = "io"
    INTERNAL = "internal"


class PfsError(Exception):
    """A failure with a kind, a sentence for people, and the path that it is about.

    Args:
        kind: what went wrong.
        message: one sentence: what, where, what to do. Never a traceback, SQL or a path of the server.
        path: the path in the tree, where one is concerned.
    """

    def __init__(self, kind: Kind, message: str = "", path: str | None = None) -> None:
        super().__init__(message or kind.value)
        self.kind = kind
        self.message = message or kind.value
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def saying(self, message: str) -> "PfsError":
        """Return the same failure in other words."""
        return PfsError(self.kind, message, self.path)


class AllowanceError(PfsError):
    """A failure of kind QUOTA of what no disk holds: GPUs, and jobs that run or wait.

    Only over HTTP that is told apart from a quota of storage; all who are told the kind do the same with both.
    """

    def saying(self, message: str) -> "AllowanceError":
        """Return the same failure in other words."""
        return AllowanceError(self.kind, message, self.path)
