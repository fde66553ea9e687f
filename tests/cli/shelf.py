"""A server for clients under test: keeps shipped trees on a real disk, and is cut off when a test says so."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trio

from jobd.manifest import Manifest
from jobd.store.trees import TreeStore
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError

TREES = "/api/v1/trees/"


class Shelf:
    """Answers what `cli.submit.ship` asks of a server.

    Attributes:
        asked: the requests so far.
        came: bytes of contents so far.
        cuts: after so many bytes of contents the connection is cut, one after the other.
    """

    def __init__(self, root: Path) -> None:
        (root / "server").mkdir(parents=True)
        self.disk = Disk(str(root))
        self.trees = TreeStore(self.disk, lambda: (), lambda: 1e9)
        self.asked: list[str] = []
        self.came = 0
        self.cuts: list[int] = []

    def call(self, method: str, url: str, content: bytes | Iterable[bytes]) -> Any:
        self.asked.append(method)
        if method == "PUT":
            assert isinstance(content, bytes)
            return {"missing": trio.run(self.trees.put, "ann", url.removeprefix(TREES), content)}
        assert url == f"{TREES}contents"
        assert not isinstance(content, bytes)
        return trio.run(self._take, content)

    async def _take(self, content: Iterable[bytes]) -> dict[str, int]:
        receiver = self.trees.receive("ann")
        left = self.cuts.pop(0) if self.cuts else None
        try:
            for piece in content:
                await receiver.feed(piece if left is None else piece[:left])
                self.came += len(piece)
                if left is not None and (left := left - len(piece)) <= 0:
                    raise PfsError(Kind.UNREACHABLE, "no answer from the server")
            await receiver.close()
        finally:
            await receiver.give_up()
        return {"taken": receiver.taken}

    def manifest(self, src: str) -> Manifest:
        """Return what is on record of a shipped tree."""
        return trio.run(self.trees.whole, "ann", src.removeprefix("tree:"))

    def files(self, src: str) -> dict[str, bytes]:
        """Return what is in a shipped tree."""
        manifest = self.manifest(src)
        pieces = self.trees.pieces("ann", manifest)
        return {piece.path: Path(piece.content[0]).read_bytes() for piece in pieces if piece.content is not None}
