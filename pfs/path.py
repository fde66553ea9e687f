"""Paths of the tree: their grammar, and nothing else.

A path names a node of one datacenter, seen from its root: `""` is the root, `"jobs/17/log"` a file.
No leading and no trailing slash, no empty, `.` or `..` part, no NUL; a part has at most 255 bytes and a
path at most 4,095 (POSIX NAME_MAX and PATH_MAX). Bytes that are no UTF-8 travel as surrogate escapes.
`/pfs/<dc>/home/ann` is the absolute form that users and containers see.
"""

from pfs.errors import Kind, PfsError

NAME_BYTES_MAX = 255
PATH_BYTES_MAX = 4095


def check_name(name: str) -> str:
    """Return `name` if it can name a directory entry.

    Raises:
        PfsError: INVALID for an empty, `.`, `..`, slashed or NUL name, NAME_TOO_LONG above 255 bytes.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise PfsError(Kind.INVALID, f"{name[:NAME_BYTES_MAX]!r} cannot be a file name")
    if _size_bytes(name) > NAME_BYTES_MAX:
        raise PfsError(Kind.NAME_TOO_LONG, f"a file name has at most {NAME_BYTES_MAX} bytes")
    return name


def check_target(target: str) -> str:
    """Return `target` if a symbolic link can hold it.

    Raises:
        PfsError: INVALID for an empty one or one with a NUL, NAME_TOO_LONG above 4,095 bytes.
    """
    if not target or "\0" in target:
        raise PfsError(Kind.INVALID, "a symbolic link cannot lead there")
    if _size_bytes(target) > PATH_BYTES_MAX:
        raise PfsError(Kind.NAME_TOO_LONG, f"where a symbolic link leads has at most {PATH_BYTES_MAX} bytes")
    return target


def _size_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise PfsError(Kind.INVALID, "a half of a surrogate pair cannot be in a file name") from None


def split(path: str) -> list[str]:
    """Return the checked parts of `path`; the root has none."""
    if path == "":
        return []
    if _size_bytes(path) > PATH_BYTES_MAX:
        raise PfsError(Kind.NAME_TOO_LONG, f"a path has at most {PATH_BYTES_MAX} bytes")
    return [check_name(part) for part in path.split("/")]


def join(parent: str, name: str) -> str:
    """Return the path of the entry `name` in the directory `parent`."""
    return f"{parent}/{name}" if parent else name


def parent_and_name(path: str) -> tuple[str, str]:
    """Split off the last part: `"a/b/c"` gives `("a/b", "c")`. The root is INVALID."""
    if path == "":
        raise PfsError(Kind.INVALID, "the root of a datacenter has no name")
    parent, _, name = path.rpartition("/")
    return parent, name


def from_absolute(text: str, datacenter: str) -> str:
    """Turn the form that users write, `/pfs/<dc>/home/ann`, into a path of that datacenter.

    Raises:
        PfsError: INVALID when the text does not start with `/pfs/<datacenter>`.
    """
    root = f"/pfs/{datacenter}"
    if text != root and not text.startswith(root + "/"):
        raise PfsError(Kind.INVALID, f"{text!r} does not start with {root}/")
    path = text[len(root) :].strip("/")
    split(path)
    return path


def to_absolute(path: str, datacenter: str) -> str:
    """Return the form that users and containers see."""
    return f"/pfs/{datacenter}/{path}" if path else f"/pfs/{datacenter}"
