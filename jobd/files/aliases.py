"""The directory `aliases/`: a file for each short name of GPUs, with the model that it stands for.

    aliases/<alias>     what administrators write is the model; `rm` lets the alias stand for nothing

A write is a command, as of a `ctl`: the alias is there once its model was written.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from jobd.files.control import OpenControl
from jobd.files.dated import DatedText
from jobd.files.sources import Sources, missing
from pfs.api import Attr, Changes, Closing, Entry, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Subject, Verb, allowed
from pfs.tree.texts import WRITING
from pfs.tree.virtual import Directory, File, How, Node, directory_attr, listing, virtual_id

MODEL_BYTES_MAX = 1024


class AliasesDirectory(Directory):
    """Short names of GPUs."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        names = frozenset(self._sources.engine.fleet.policy.aliases)
        return directory_attr(virtual_id("aliases"), mtime_ns=self._sources.dates.of("aliases", names), mode=0o755)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return an alias."""
        if name not in self._sources.engine.fleet.policy.aliases:
            raise missing()
        return AliasFile(self._sources, name)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all aliases."""
        return await listing(self, subject, sorted(self._sources.engine.fleet.policy.aliases))

    async def create(self, subject: Subject, name: str, flags: OpenFlags, mode: int) -> OpenFile:
        """Begin a new alias."""
        return await AliasFile(self._sources, name).open(subject, WRITING)

    async def put(self, subject: Subject, name: str, data: bytes, key: str | None) -> str | None:
        """Let a name stand for a model, whether it did for one or not."""
        file = await self.create(subject, name, OpenFlags.WRITE, 0o644)
        await file.write(0, data)
        await file.flush(Closing.LAST)
        return None

    async def unlink(self, subject: Subject, name: str) -> None:
        """Let a name stand for nothing."""
        await self.lookup(subject, name)
        async with self._sources.audit.refusing("alias.set", f"aliases/{name}"):
            await decide(self._sources, subject, name, None)


class AliasFile(File):
    """The model that it stands for; administrators write it, and remove it."""

    called, how = "<alias>", How.CONTROL

    def __init__(self, sources: Sources, name: str) -> None:
        self._sources = sources
        self._name = name

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return replace(await self._text().attr(subject), mode=0o644)

    async def setattr(self, subject: Subject, changes: Changes) -> Attr:
        """Mean nothing: a shell's `>` cuts before it writes."""
        return await self.attr(subject)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading, or for another model."""
        if not flags & WRITING:
            return await self._text().open(subject, flags)
        check_rules(subject)
        told = partial(self._sources.audit.refusing, "alias.set", f"aliases/{self._name}")
        return OpenControl(await self.attr(subject), await self._made(), self._obey, subject, told)

    async def _obey(self, subject: Subject, data: bytes) -> None:
        await decide(self._sources, subject, self._name, _model(data))

    def _text(self) -> DatedText:
        return DatedText(("alias", self._name), self._made, self._sources.dates)

    async def _made(self) -> bytes:
        model = self._sources.engine.fleet.policy.aliases.get(self._name)
        return b"" if model is None else f"{model}\n".encode()


def check_rules(subject: Subject) -> None:
    """Refuse who may not say what names stand for.

    Raises:
        PfsError: FORBIDDEN.
    """
    if not allowed(subject, Verb.RULE, SERVICE):
        raise PfsError(Kind.FORBIDDEN, "aliases are made and removed by administrators")


async def decide(sources: Sources, subject: Subject, name: str, model: str | None) -> None:
    """Let a name stand for a model, None for nothing.

    Raises:
        PfsError: FORBIDDEN; else as `jobd.store.nodes.Nodes.alias`.
    """
    check_rules(subject)
    await sources.store.alias(name, model)
    await sources.engine.take_up_policy()


def _model(data: bytes) -> str:
    """Return the model that somebody wrote, which is one line."""
    try:
        model = data.decode().strip()
    except UnicodeDecodeError:
        model = ""
    if not model or len(data) > MODEL_BYTES_MAX or not model.isprintable():
        raise PfsError(Kind.INVALID, "an alias takes one line: the model of GPUs that it stands for")
    return model
