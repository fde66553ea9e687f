"""The commands of a job's `ctl` file: one in each line of what is written to it.

    kill          end the job: TERM, its grace, KILL
    signal SIG    send a signal, by name with or without SIG, or by number

All lines of a write are checked before any of them is applied. Blank lines mean nothing.
"""

from dataclasses import dataclass

from pfs.errors import Kind, PfsError

TEXT_BYTES_MAX = 4096

HELP = """\
Commands, one per line:
  kill          end the job: TERM to all its processes, KILL when its grace is over
  signal SIG    send a signal to all its processes: USR1, SIGUSR1 or 10
"""

_WORDS = "the commands are: kill, signal SIG"
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


Command = Kill | Signal


def parse_ctl(data: bytes) -> tuple[Command, ...]:
    """Return the commands of one write, in order.

    Raises:
        PfsError: INVALID when any line is no command; nothing is to be applied then.
    """
    if len(data) > TEXT_BYTES_MAX:
        raise PfsError(Kind.INVALID, f"commands of one write have at most {TEXT_BYTES_MAX} bytes; {_WORDS}")
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise PfsError(Kind.INVALID, f"commands are plain ASCII text; {_WORDS}") from None
    commands = tuple(_command(line.split()) for line in lines if line.strip())
    if not commands:
        raise PfsError(Kind.INVALID, f"there is no command in this; {_WORDS}")
    return commands


def _command(words: list[str]) -> Command:
    match words:
        case ["kill"]:
            return Kill()
        case ["signal", name]:
            return Signal(_signal_number(name))
        case ["signal", *_]:
            raise PfsError(Kind.INVALID, "signal takes one signal, such as signal USR1")
        case ["kill", *_]:
            raise PfsError(Kind.INVALID, "kill stands alone in its line; to send a signal write signal USR1")
    raise PfsError(Kind.INVALID, f"{' '.join(words)[:80]!r} is no command; {_WORDS}")


def _signal_number(name: str) -> int:
    if name.isdigit() and len(name) <= 3 and 1 <= int(name) <= _SIGNAL_MAX:
        return int(name)
    number = _SIGNAL_NUMBERS.get(name.upper().removeprefix("SIG"))
    if number is not None:
        return number
    raise PfsError(Kind.INVALID, f"{name[:40]!r} is no signal; write a name such as USR1, or a number from 1 to 64")
