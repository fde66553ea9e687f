"""The commands of a node's `ctl` file: one in each line of what is written to it.

drain [WHY]     no new work for the node; what runs there goes on
resume          new work again, also for a node that was set aside; GPUs that are gone are forgotten
rename NAME     another name for the node
reserve GROUP [GPU…]     only jobs of that group, and of others that were named so, start there, or have these GPUs
unreserve GROUP [GPU…]   no more; without a GPU for the node and all its GPUs. What nobody has reserved is everybody's
"""

import re
from dataclasses import dataclass

from jobd.ctltext import lines_of, unknown
from pfs.errors import Kind, PfsError
from pfs.names import check_group_name

WHY_MAX = 200

HELP = """\
Commands, one per line, for administrators:
  drain [WHY]   no new work; what runs goes on
  resume        new work again; GPUs that are gone are forgotten
  rename NAME   give the node another name
  reserve GROUP [GPU...]     only jobs of such groups start here, or have these GPUs
  unreserve GROUP [GPU...]   no more; without a GPU for the node and all its GPUs
"""

_WORDS = "the commands are: drain [WHY], resume, rename NAME, reserve GROUP [GPU…], unreserve GROUP [GPU…]"
_GPU = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?")


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


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve the node, or GPUs of it by their numbers, for one more group."""

    group: str
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unreserve:
    """Reserve GPUs, or the node and all its GPUs, for a group no more."""

    group: str
    gpus: tuple[str, ...]


Command = Drain | Resume | Rename | Reserve | Unreserve


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
        case ["reserve", group, *gpus]:
            return Reserve(check_group_name(group), _numbers(gpus))
        case ["unreserve", group, *gpus]:
            return Unreserve(check_group_name(group), _numbers(gpus))
        case ["reserve" | "unreserve" as word]:
            raise PfsError(Kind.INVALID, f"{word} takes a group, and numbers of GPUs, such as {word} research 0 1")
        case ["resume", *_]:
            raise PfsError(Kind.INVALID, "resume stands alone in its line")
        case ["rename", *_]:
            raise PfsError(Kind.INVALID, "rename takes one name, such as rename n7")
    raise unknown(" ".join(words), _WORDS)


def _numbers(words: list[str]) -> tuple[str, ...]:
    for word in words:
        if not _GPU.fullmatch(word):
            raise PfsError(Kind.INVALID, f"{word[:40]!r} is no number of a GPU; one looks like 0, or 0.2")
    return tuple(words)


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
