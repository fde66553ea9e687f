"""Sizes and durations as people write them.

    size      = number ("Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei") ["B"]        16GiB, 1Gi, 1.5TiB
    duration  = [number "d"] [number "h"] [number "m"] [number "s"]           90s, 15m, 1h30m
              | [days "-"] hours ":" minutes ":" seconds                      1-12:00:00, 02:30:00
    number    = digits ["." digits]

A bare number is refused: nobody remembers whether a limit of 90 meant seconds or minutes. The powers of 1000
(GB) are refused as well, since half of their users mean GiB.
"""

import re
from decimal import Decimal

SIZE_BYTES_MAX = 2**63 - 1
DURATION_S_MAX = 100 * 365 * 86400.0

_UNIT_BYTES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_UNIT_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"

_SIZE = re.compile(rf"({_NUMBER})\s*([KMGTPE]i)B?")
_WORDS = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _UNIT_S))
_CLOCK = re.compile(r"(?:([0-9]{1,5})-)?([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])")
_BARE = re.compile(_NUMBER)

_SIZE_CURE = "write a number and one of Ki, Mi, Gi, Ti, Pi, Ei, such as 16GiB"
_DURATION_CURE = "write it like 90s, 15m, 1h30m, 2d or 1-12:00:00"


def parse_size(text: str) -> int:
    """Return the size in bytes.

    Raises:
        ValueError: no size, no whole number of bytes, or 8EiB and more; the text says what to write.
    """
    stripped = text.strip()
    match = _SIZE.fullmatch(stripped)
    if match is None:
        what = f"the size {stripped} has no unit" if _BARE.fullmatch(stripped) else f"{stripped!r} is no size"
        raise ValueError(f"{what}; {_SIZE_CURE}")
    size_bytes = Decimal(match[1]) * _UNIT_BYTES[match[2]]
    if size_bytes > SIZE_BYTES_MAX:
        raise ValueError(f"the size {stripped} is too large; at most 8EiB less one byte can be named")
    if size_bytes != int(size_bytes):
        raise ValueError(f"the size {stripped} is no whole number of bytes; use a smaller unit")
    return int(size_bytes)


def format_size(size_bytes: int) -> str:
    """Return the size in the largest unit that shows it with at most one decimal, or rounded to one."""
    for unit, unit_bytes in reversed(_UNIT_BYTES.items()):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.1f}".removesuffix(".0") + unit + "B"
    return f"{size_bytes} bytes"


def parse_duration(text: str) -> float:
    """Return the duration in seconds.

    Raises:
        ValueError: no duration, or more than a hundred years; the text says what to write.
    """
    stripped = text.strip()
    clock = _CLOCK.fullmatch(stripped)
    words = _WORDS.fullmatch(stripped) if stripped else None
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        duration_s = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    elif words is not None:
        parts = zip(words.groups(), _UNIT_S.values(), strict=True)
        duration_s = float(sum(Decimal(number) * unit_s for number, unit_s in parts if number))
    elif _BARE.fullmatch(stripped):
        raise ValueError(f"the duration {stripped} has no unit; {_DURATION_CURE}")
    else:
        raise ValueError(f"{stripped!r} is no duration; {_DURATION_CURE}")
    if duration_s > DURATION_S_MAX:
        raise ValueError(f"the duration {stripped} is too long; at most a hundred years can be named")
    return duration_s
