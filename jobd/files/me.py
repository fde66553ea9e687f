"""`me`: who reads it, as facts; and what they choose for themselves is written to it, as to a `ctl`.

autoshare GROUP…   share new jobs with these groups of yours, unless they are `private`; `autoshare` alone with none
"""

from dataclasses import replace
from functools import partial

from jobd.ctltext import lines_of, unknown
from jobd.files.control import OpenControl
from jobd.files.dated import DatedText
from jobd.files.facts import flat
from jobd.files.sources import Sources
from pfs.api import Attr, Changes, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.names import check_group_name
from pfs.perm import SERVICE, Subject, Thing, ThingKind, Verb, allowed
from pfs.tree.texts import WRITING
from pfs.tree.virtual import File, How

_WORDS = "the command is: autoshare GROUP…"


class Me(File):
    """Who you are, as facts; `autoshare GROUP…` is written to it."""

    how = How.CONTROL

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size of the text."""
        return replace(await self._text(subject).attr(subject), mode=0o644)

    async def setattr(self, subject: Subject, changes: Changes) -> Attr:
        """Mean nothing: a shell's `>` cuts before it writes."""
        return await self.attr(subject)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading, or for commands."""
        if not flags & WRITING:
            return await self._text(subject).open(subject, flags)
        text = await self._made(subject)
        told = partial(self._sources.audit.about, "ctl", f"users/{subject.user}")
        return OpenControl(await self.attr(subject), text, self._obey, subject, told)

    def _text(self, subject: Subject) -> DatedText:
        return DatedText(("me", subject.user), partial(self._made, subject), self._sources.dates)

    async def _made(self, subject: Subject) -> bytes:
        facts = {
            "name": subject.user,
            "admin": "yes" if allowed(subject, Verb.RULE, SERVICE) else "no",
            "groups": " ".join(sorted(subject.groups)),
            "autoshare": " ".join(sorted(await self._sources.store.autoshare(subject.user))),
        }
        return flat(facts).encode()

    async def _obey(self, subject: Subject, data: bytes) -> None:
        if not allowed(subject, Verb.COMMAND, Thing(ThingKind.ACCOUNT, subject.user)):
            raise PfsError(Kind.FORBIDDEN, "what an account chooses is said by whose it is")
        for groups in parse_choices(data):
            await self._sources.store.set_autoshare(subject.user, groups)


def parse_choices(data: bytes) -> list[frozenset[str]]:
    """Return the commands of one write, in order: the groups of each `autoshare`.

    Raises:
        PfsError: INVALID when any line is no command; nothing is to be applied then.
    """
    return [_groups(line) for line in lines_of(data, _WORDS)]


def _groups(line: str) -> frozenset[str]:
    word, *groups = line.split()
    if word != "autoshare":
        raise unknown(line, _WORDS)
    return frozenset(map(check_group_name, groups))
