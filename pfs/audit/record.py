"""The audit log: what a record says, how it is written, and how each holds fast the one before it.

A record is one line of ASCII, whose words are parted by single spaces:

    17 2026-01-31T12:00:00.000001Z ann 10.0.0.7#3fa9c2d1e0b7 job.submit jobs/17 done name=digits <64 digits>
    │  when, in UTC                │   from where, with the key's name      │     │    more      │
    number                         who                      what           on    result         hash

The hash is the SHA-256 of the hash before it and of everything that stands left of it. So no line is changed, put in,
taken out or moved without the hash of that line, or the next one, being wrong; who would hide it has to write all
lines from there on anew, and then they differ from every copy. What users choose may be any text: whatever could be
taken for the end of a word or of a line, or for a command to a terminal, stands there as `%` and two digits.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from pfs.errors import Kind, PfsError

DONE = "done"
FIRST_HASH = "0" * 64
TEXT_CHARACTERS_MAX = 200
LINE_BYTES_MIN = 100  # what no line is shorter than
NOTHING = "-"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SAFE = "/:@=,.-_+*#()[]!?"
_WORDS_MIN = 8


@dataclass(frozen=True, slots=True)
class Record:
    """That somebody did something, or was refused.

    Attributes:
        who: a name; "" for nobody who is known.
        source: an address, with the name of the key that was shown behind a `#`; or `local`.
        what: a word of `pfs.audit.log.WORDS`.
        on: what it was done to, mostly as a path.
        result: DONE, or the kind of the error.
        more: what else is to be known; never a secret, and nothing of what files hold.
    """

    time_ns: int
    who: str
    source: str
    what: str
    on: str
    result: str = DONE
    more: Mapping[str, str] = field(default_factory=dict)


def line_of(number: int, record: Record, before: str) -> str:
    """Return the line of a record, without an end.

    Args:
        number: its own, from 1 on.
        before: the hash of the record before it; FIRST_HASH for the first.
    """
    fields = (record.who, record.source, record.what, record.on, record.result)
    words = [str(number), _time_text(record.time_ns), *map(_word, fields)]
    words += [f"{key}={_word(value)}" for key, value in record.more.items()]
    body = " ".join(words)
    return f"{body} {_hash(before, body)}"


def hash_in(line: str) -> str:
    """Return the hash that a line ends with."""
    return line.rpartition(" ")[2]


def record_in(line: str) -> Record:
    """Return what a line says.

    Raises:
        PfsError: INVALID when it is no record.
    """
    words = line.split(" ")
    if len(words) < _WORDS_MIN:
        raise PfsError(Kind.INVALID, "this line is no record")
    try:
        time_ns = (datetime.fromisoformat(words[1]) - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, TypeError):
        raise PfsError(Kind.INVALID, f"{words[1][:40]!r} is no time") from None
    more = {key: _text(value) for key, _, value in (word.partition("=") for word in words[7:-1])}
    who, source, what, on, result = map(_text, words[2:7])
    return Record(time_ns, who, source, what, on, result, more)


@dataclass
class Chain:
    """Looks at lines one after the other, from the first on.

    Attributes:
        number: of the last record that was looked at; 0 before the first.
        last: its hash.
    """

    number: int = 0
    last: str = FIRST_HASH

    def follow(self, line: str) -> None:
        """Look at the next line.

        Raises:
            PfsError: INVALID, naming the record and what is wrong with it.
        """
        number, expected = line.partition(" ")[0], self.number + 1
        body, _, said = line.rpartition(" ")
        if number != str(expected):
            raise _broken(expected, f"in its place stands {number[:40]!r}")
        if said != _hash(self.last, body):
            raise _broken(expected, "it, or the one before it, is not what was written")
        self.number, self.last = expected, said


def follow_all(lines: Iterable[str], known: str = "") -> Chain:
    """Look at all lines; return the end of the chain.

    Args:
        known: the hash of a record that was noted down elsewhere and is to be among them; "" for none.

    Raises:
        PfsError: INVALID for the first record that is broken, or when the one that is known is not there.
    """
    chain, seen = Chain(), not known
    for line in lines:
        chain.follow(line)
        seen = seen or chain.last == known
    if not seen:
        raise PfsError(Kind.INVALID, f"no record has the hash {known[:64]!r}: records are missing, or all are others")
    return chain


def _broken(number: int, what: str) -> PfsError:
    return PfsError(Kind.INVALID, f"record {number} is broken: {what}")


def _hash(before: str, body: str) -> str:
    return hashlib.sha256(f"{before} {body}".encode("utf-8", "surrogateescape")).hexdigest()


def _word(text: str) -> str:
    if len(text) > TEXT_CHARACTERS_MAX:
        text = text[: TEXT_CHARACTERS_MAX - 1] + "…"
    if text == NOTHING:
        return "%2D"
    return quote(text, safe=_SAFE, errors="surrogateescape") or NOTHING


def _text(word: str) -> str:
    return "" if word == NOTHING else unquote(word, errors="surrogateescape")


def _time_text(time_ns: int) -> str:
    at = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return at.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
