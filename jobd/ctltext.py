"""What is written to a `ctl` file, whatever it commands: text with one command in each line.

All lines of a write are understood before any of them is done, so they are taken apart together. Blank lines mean
nothing.
"""

from pfs.errors import Kind, PfsError

TEXT_BYTES_MAX = 4096
SHOWN_MAX = 80

_KINDS = {"ascii": "plain ASCII", "utf-8": "UTF-8"}


def lines_of(data: bytes, known: str, encoding: str = "utf-8") -> list[str]:
    """Return the lines of one write that say something.

    Args:
        known: the sentence that names the commands, for messages.
        encoding: `ascii` or `utf-8`.

    Raises:
        PfsError: INVALID where there are none, or it is no such text.
    """
    if len(data) > TEXT_BYTES_MAX:
        raise PfsError(Kind.INVALID, f"commands of one write have at most {TEXT_BYTES_MAX} bytes; {known}")
    try:
        lines = [line.strip() for line in data.decode(encoding).splitlines()]
    except UnicodeDecodeError:
        raise PfsError(Kind.INVALID, f"commands are {_KINDS[encoding]} text; {known}") from None
    if not any(lines):
        raise PfsError(Kind.INVALID, f"there is no command in this; {known}")
    return [line for line in lines if line]


def unknown(line: str, known: str) -> PfsError:
    """Return what to say of a line that is no command."""
    return PfsError(Kind.INVALID, f"{line[:SHOWN_MAX]!r} is no command; {known}")
