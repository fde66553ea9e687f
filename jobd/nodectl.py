"""The commands of a node's `ctl` file: one in each line of what is written to it.

drain [WHY]     no new work for the node; what runs there goes on
resume          new work again, also for a node that was set aside; GPUs that are gone are forgotten
rename NAME     another name for the node
"""

from dataclasses import dataclass

from jobd.ctltext import lines_of, unknown
from pfs.errors import Kind, PfsError

WHY_MAX = 200

HELP = """\
Commands, one per line, for administrators:
  drain [WHY]   no new work; what runs goes on
  resume        new work again; GPUs that are gone are forgotten
  rename NAME   give the node another name
"""

_WORDS = "the commands are: drain [WHY], resume, rename NAME"


@dataclass(frozen=True, slots=True)
class Drain:
    """Give the node no new work; `why` may be ""."""

    why: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Give the node new work again."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Call the node `name`."""

    name: str


Command = Drain | Resume | Rename


def parse_ctl(data: bytes) -> tuple[Command, ...]:
    """Return the commands of one write, in order.

    Raises:
        PfsError: INVALID when any line is no command; nothing is to be applied then.
    """
    return tuple(_command(line.split()) for line in lines_of(data, _WORDS))


def _command(words: list[str]) -> Command:
    match words:
        case ["drain", *why]:
            return Drain(check_why(" ".join(why)))
        case ["resume"]:
            return Resume()
        case ["rename", name]:
            return Rename(name)
        case ["resume", *_]:
            raise PfsError(Kind.INVALID, "resume stands alone in its line")
        case ["rename", *_]:
            raise PfsError(Kind.INVALID, "rename takes one name, such as rename n7")
    raise unknown(" ".join(words), _WORDS)


def check_why(text: str) -> str:
    """Return the reason why a node is drained, which stands in files and in one line.

    Raises:
        PfsError: INVALID for one that is too long, or not to be printed.
    """
    if len(text) > WHY_MAX:
        raise PfsError(Kind.INVALID, f"drain: the reason has at most {WHY_MAX} characters")
    if not text.isprintable():
        raise PfsError(Kind.INVALID, "drain: the reason has characters that cannot be shown")
    return text
