"""Extended attributes: what they may be called, and how large they may be.

Those of users only: what the kernel or a label rests on is nobody's to see or to set through the service.
"""

from pfs.errors import Kind, PfsError

PREFIX = "user."
NAME_BYTES_MAX = 255
VALUE_BYTES_MAX = 64 * 1024


def check_xattr(name: str, value: bytes = b"") -> str:
    """Return `name` if an attribute can be called so, and hold `value`.

    Raises:
        PfsError: UNSUPPORTED outside of `user.`, INVALID, NAME_TOO_LONG, TOO_LARGE.
    """
    if not name.startswith(PREFIX):
        raise PfsError(Kind.UNSUPPORTED, "only extended attributes whose names begin with `user.` are kept")
    try:
        size_bytes = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        size_bytes = 0
    if size_bytes <= len(PREFIX) or "\0" in name:
        raise PfsError(Kind.INVALID, "an extended attribute cannot have this name")
    if size_bytes > NAME_BYTES_MAX:
        raise PfsError(Kind.NAME_TOO_LONG, f"the name of an extended attribute has at most {NAME_BYTES_MAX} bytes")
    if len(value) > VALUE_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"an extended attribute has at most {VALUE_BYTES_MAX >> 10} KiB")
    return name
