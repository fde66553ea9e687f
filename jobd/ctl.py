"""The commands of a job's `ctl` file: one in each line of what is written to it.

kill            end the job: TERM, its grace, KILL
signal SIG      send a signal, by name with or without SIG, or by number
hold            do not start it before it is released
release         let it go on
requeue         run it again under its number: its processes end, and a new attempt waits
priority N      0 to 100, higher first
extend TIME     more time for it: `extend 2h`
share GROUP     let the members of a group, or of several, read it
unshare GROUP   no more; without a group, nobody but its owner and administrators
lost            its nodes that are away never come back (for administrators)
"""

from dataclasses import dataclass

from jobd.ctltext import lines_of, unknown
from jobd.spec.model import PRIORITY_MAX
from jobd.spec.units import parse_duration
from pfs.errors import Kind, PfsError
from pfs.names import check_group_name

HELP = """\
Commands, one per line:
  kill          end the job: TERM to all its processes, KILL when its grace is over
  signal SIG    send a signal to all its processes: USR1, SIGUSR1 or 10
  hold          do not start it before it is released
  release       let it go on
  requeue       end its processes and run it again, under its number
  priority N    0 to 100, higher first; above 50 for administrators
  extend TIME   more time before its limit: 90s, 15m, 2h or 1d
  share GROUP   let the members of a group, or of several, read the job
  unshare GROUP  no more; without a GROUP, of all of them
  lost          for administrators: its nodes that are away never come back
"""

_WORDS = (
    "the commands are: kill, signal SIG, hold, release, requeue, priority N, extend TIME, share GROUP, unshare GROUP, "
    "lost"
)
# those of Linux, where every job runs, whatever the server runs on
_SIGNALS = (
    *(
        "HUP",
        "INT",
        "QUIT",
        "ILL",
        "TRAP",
        "ABRT",
        "BUS",
        "FPE",
        "KILL",
        "USR1",
        "SEGV",
        "USR2",
        "PIPE",
        "ALRM",
        "TERM",
    ),
    *("STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH"),
    *("IO", "PWR", "SYS"),
)
_SIGNAL_NUMBERS = {name: number for number, name in enumerate(_SIGNALS, start=1)}
_SIGNAL_MAX = 64


@dataclass(frozen=True, slots=True)
class Kill:
    """End the job."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Send the signal `number` to all processes."""

    number: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Do not start the job."""


@dataclass(frozen=True, slots=True)
class Release:
    """Let the job go on."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Run the job again under its number."""


@dataclass(frozen=True, slots=True)
class Priority:
    """Give the job the priority `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Let the job run `by_s` seconds longer."""

    by_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """Let the members of these groups read the job."""

    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unshare:
    """Let the members of these groups read the job no more; of all groups where there are none."""

    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """Give up those of the job's nodes that are away."""


Command = Kill | Signal | Hold | Release | Requeue | Priority | Extend | Share | Unshare | Lost

_PLAIN: dict[str, Command] = {
    "kill": Kill(),
    "hold": Hold(),
    "release": Release(),
    "requeue": Requeue(),
    "lost": Lost(),
}


def parse_ctl(data: bytes) -> tuple[Command, ...]:
    """Return the commands of one write, in order.

    Raises:
        PfsError: INVALID when any line is no command; nothing is to be applied then.
    """
    return tuple(_command(line.split()) for line in lines_of(data, _WORDS, "ascii"))


def _command(words: list[str]) -> Command:
    match words:
        case [word] if word in _PLAIN:
            return _PLAIN[word]
        case ["signal", name]:
            return Signal(_signal_number(name))
        case ["priority", number]:
            return Priority(_priority(number))
        case ["extend", text]:
            return Extend(_duration(text))
        case ["share", _, *_]:
            return Share(_groups(words[1:]))
        case ["unshare", *groups]:
            return Unshare(_groups(groups))
        case ["share"]:
            raise PfsError(Kind.INVALID, "share takes the names of groups, such as share ml")
        case ["signal", *_]:
            raise PfsError(Kind.INVALID, "signal takes one signal, such as signal USR1")
        case ["priority", *_]:
            raise PfsError(Kind.INVALID, "priority takes one number, such as priority 50")
        case ["extend", *_]:
            raise PfsError(Kind.INVALID, "extend takes one duration, such as extend 2h")
        case ["kill", *_]:
            raise PfsError(Kind.INVALID, "kill stands alone in its line; to send a signal write signal USR1")
        case [word, *_] if word in _PLAIN:
            raise PfsError(Kind.INVALID, f"{word} stands alone in its line")
    raise unknown(" ".join(words), _WORDS)


def _groups(words: list[str]) -> tuple[str, ...]:
    return tuple(sorted({check_group_name(word) for word in words}))


def _priority(text: str) -> int:
    if text.isdigit() and len(text) <= 3 and int(text) <= PRIORITY_MAX:
        return int(text)
    raise PfsError(Kind.INVALID, f"{text[:40]!r} is no priority; write a number from 0 to {PRIORITY_MAX}")


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise PfsError(Kind.INVALID, f"extend: {error}") from None
    if seconds <= 0:
        raise PfsError(Kind.INVALID, f"extend: {text[:40]!r} is no more time; write one such as 2h")
    return seconds


def _signal_number(name: str) -> int:
    if name.isdigit() and len(name) <= 3 and 1 <= int(name) <= _SIGNAL_MAX:
        return int(name)
    number = _SIGNAL_NUMBERS.get(name.upper().removeprefix("SIG"))
    if number is not None:
        return number
    raise PfsError(Kind.INVALID, f"{name[:40]!r} is no signal; write a name such as USR1, or a number from 1 to 64")
