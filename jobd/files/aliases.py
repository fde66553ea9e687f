"""The directory `aliases/`: a file for each short name of GPUs, with the model that it stands for."""

from collections.abc import Sequence

from jobd.files.sources import Sources, missing, text
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id


class AliasesDirectory(Directory):
    """`aliases/`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("aliases"))

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return an alias."""
        model = self._sources.engine.fleet.policy.aliases.get(name)
        if model is None:
            raise missing()
        return text(("alias", name), lambda: f"{model}\n", 0)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all aliases."""
        return await listing(self, subject, sorted(self._sources.engine.fleet.policy.aliases))
