"""A server that answers whatever it likes: programs get an errno, and nothing else comes of it."""

import contextlib
import logging
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.kernel import fuse
from fuseclient.kernel.fuse import Operations
from fuseclient.kernel.identity import Identity, Ids
from fuseclient.kernel.inodes import ROOT, Node
from fuseclient.kernel.ops import Ops
from fuseclient.kernel.recall import Recall
from pfs.api import Attr, Entry, NodeType, Owner
from pfs.client.connection import Connection
from pfs.client.filesystem import RemoteFileSystem
from pfs.client.transfer import Transfer
from pfs.errors import Kind, PfsError
from pfs.protocol.listing import pack_entry
from pfs.protocol.wire import Json, decode_attr, encode_attr

EXAMPLES = int(os.environ.get("PFS_HOSTILE_EXAMPLES", "8"))
DC1 = ROOT + 1
NAMES = ["a", "b", "c"]
WHO: Any = SimpleNamespace(pid=os.getpid(), uid=1000, gid=1000, umask=0)

scalars = st.sampled_from(
    [
        *(None, True, False, -1, 0, 1, 7, 2**31, 2**63, 2**64, 10**400),
        *(1.5, -1.0, float("inf"), float("-inf"), float("nan")),
        *("", "x", "..", "a/b", "a\0", "\ud800", "\udcff", "x" * 256, "x" * 5000),
        *("leased", "file", "directory", "user.x"),
    ]
)
wild = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "name", "attr", "size", "entries", "files", "kind"]), inner, max_size=3)
    ),
    max_leaves=6,
)
attrs = st.builds(
    lambda type_, number, size, flags, nlink: encode_attr(
        Attr(type_, number, 0o755, size, nlink, leased="leased" in flags, stream="stream" in flags, valid_s=1.0)
    ),
    st.sampled_from([NodeType.DIRECTORY, NodeType.DIRECTORY, *NodeType]),
    st.integers(1, 6) | st.sampled_from([2**63, 2**64 - 1]),  # so that nodes are found at several places
    st.sampled_from([0, 5, 2**40, 2**63 - 1]),
    st.sampled_from([(), ("leased",), ("leased", "stream")]),
    st.sampled_from([0, 1, 2, 2**31 - 1]),
)


def spoilt_record(record: bytes, at: int | None, byte: int) -> bytes:
    """A record of a listing, or one that is wrong in one byte."""
    return record if at is None else record[:at] + bytes([byte]) + record[at + 1 :]


def spoilt(good: st.SearchStrategy[Json]) -> st.SearchStrategy[Any]:
    """Answers that are right, or wrong in one field."""

    def spoil(value: Json) -> st.SearchStrategy[Json]:
        return st.builds(lambda key, field: {**value, key: field}, st.sampled_from(sorted(value)), wild)

    return good | good.flatmap(spoil)


records = st.builds(
    lambda name, attr, at, byte: spoilt_record(pack_entry(Entry(name, decode_attr(attr))), at, byte),
    st.sampled_from([*NAMES, *NAMES, "..", "a/b", "a\0", "", "x" * 256]),
    attrs,
    st.none() | st.integers(0, 100),
    st.sampled_from([0, 1, 0x7F, 0xFF]),
)
part = spoilt(
    st.builds(
        lambda name, attr, size: {"name": name, "attr": attr, "size": size},
        st.sampled_from(NAMES),
        spoilt(attrs),
        st.sampled_from([0, 3, 5]),
    )
)
good = {
    "listdir": st.builds(lambda more: {"more": more}, st.sampled_from([True, False])),
    "contents": st.builds(lambda files: {"files": files}, st.lists(part, max_size=3)),
    "readlink": st.builds(lambda target: {"target": target}, st.sampled_from(["a", "../../etc", "/"])),
    "listxattr": st.builds(lambda names: {"names": names}, st.lists(st.sampled_from(["user.a", "user.b"]), max_size=2)),
    "statfs": st.just({"bytes_total": 2**62, "bytes_free": 1, "files_total": 2**63 - 1, "files_free": 0}),
    "open": st.builds(lambda handle, attr: {"handle": handle, "attr": attr}, st.integers(0, 3), spoilt(attrs)),
}
good["reopen"] = good["open"]
bodies = st.sampled_from([b"", b"user", b"x" * 5, bytes(5000)])


class Wild(Connection):
    """A connection to a server that answers as the test draws it."""

    def __init__(self, data: st.DataObject) -> None:
        super().__init__("http://127.0.0.1:1", "token", None, Transfer("http://127.0.0.1:1", "token"), shortcut=False)
        self._data = data

    def trusted(self) -> bool:
        return True

    async def ask(self, op: str, args: Json, body: bytes = b"", **_: bool) -> tuple[Json, bytes]:
        await trio.sleep(0.001)
        draw = self._data.draw
        if draw(st.integers(0, 5)) == 0:
            raise PfsError(draw(st.sampled_from(Kind)), "so there")
        answer = draw(spoilt(good[op]) if op in good else spoilt(attrs), label=op)
        return answer, b"".join(draw(st.lists(records, max_size=3))) if op == "listdir" else draw(bodies)


class Machine:
    """A mount of that server, asked as the kernel asks it."""

    def __init__(self, data: st.DataObject, nursery: trio.Nursery) -> None:
        self.draw = data.draw
        self.wild = Wild(data)
        self.fs = CachedFileSystem(RemoteFileSystem(self.wild), trio.current_time, "dc1")
        self.fs.nursery = nursery
        self.ops = Ops({"dc1": self.fs}, Identity(Ids.SQUASHED, Owner(1000, 1000)))
        recall = Recall(self.ops.tree, "dc1", self.fs, lambda number: None, lambda number, name: None)
        self.wild.listen(recall.broken, recall.lapsed, recall.returned)
        self.mount = Operations(self.ops)
        self.numbers = [DC1]
        self.handles: list[int] = []

    async def step(self) -> None:
        number, name = self.draw(st.sampled_from(self.numbers)), self.draw(st.sampled_from(NAMES)).encode()
        mount, fh = self.mount, self.draw(st.sampled_from(self.handles)) if self.handles else None
        asks: dict[str, Any] = {
            "lookup": lambda: mount.lookup(number, name, WHO),
            "getattr": lambda: mount.getattr(number, WHO),
            "readlink": lambda: mount.readlink(number, WHO),
            "mkdir": lambda: mount.mkdir(number, name, 0o755, WHO),
            "symlink": lambda: mount.symlink(number, name, b"x", WHO),
            "link": lambda: mount.link(self.numbers[-1], number, name, WHO),
            "unlink": lambda: mount.unlink(number, name, WHO),
            "rename": lambda: mount.rename(number, name, self.numbers[-1], b"c", 0, WHO),
            "getxattr": lambda: mount.getxattr(number, b"user.a", WHO),
            "listxattr": lambda: mount.listxattr(number, WHO),
            "statfs": lambda: mount.statfs(WHO),
            "list": lambda: self.list(number),
            "open": lambda: self.open(mount.open(number, os.O_RDONLY, WHO)),
            "create": lambda: self.open(mount.create(number, name, 0o644, os.O_RDWR | os.O_CREAT, WHO)),
            "broken": self.broken,
        }
        if fh is not None:
            asks |= {
                "read": lambda: mount.read(fh, self.draw(st.sampled_from([0, 4, 2**40])), 4096),
                "write": lambda: mount.write(fh, 0, b"data"),
                "flush": lambda: mount.flush(fh),
                "fsync": lambda: mount.fsync(fh, False),
                "release": lambda: mount.release(self.handles.pop(self.handles.index(fh))),
            }
        try:
            answer = await asks[self.draw(st.sampled_from(sorted(asks)))]()
        except pyfuse3.FUSEError:
            return
        if isinstance(answer, tuple):
            answer = answer[1]
        if isinstance(answer, pyfuse3.EntryAttributes):
            self.numbers.append(answer.st_ino)
        if isinstance(answer, bytes):
            assert len(answer) <= 5000

    async def open(self, opening: Any) -> Any:
        opened = await opening
        self.handles.append((opened[0] if isinstance(opened, tuple) else opened).fh)
        return opened

    async def list(self, number: int) -> None:
        fh = await self.mount.opendir(number, WHO)

        def reply(name: str, node: Node, offset: int) -> bool:
            self.mount._attributes(node)
            assert "/" not in name
            return True

        try:
            await self.ops.listings.read(fh, 0, reply)
        except PfsError:
            return
        finally:
            await self.mount.releasedir(fh)

    async def broken(self) -> None:
        args = self.draw(spoilt(st.just({"nodes": [1, 2], "names": [[1, "a"], [2, "b"]]})))
        with contextlib.suppress(PfsError):
            await self.wild._answer("break", args, b"")


@pytest.fixture
def quiet() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_server_answers_a_program_gets_an_errno_and_nothing_is_logged_as_a_defect(
    data: st.DataObject, caplog: pytest.LogCaptureFixture, quiet: pytest.MonkeyPatch
) -> None:
    caplog.clear()
    quiet.setattr(fuse, "forget_attributes", lambda inode: None)  # there is no kernel here

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            machine = Machine(data, nursery)
            for _ in range(data.draw(st.integers(1, 25))):
                await machine.step()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
