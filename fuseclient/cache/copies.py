"""What a mount knows of a datacenter's nodes without asking, and for how long that holds.

    Copy      one node: its attributes; of a directory its names, all of them; of a small file its content
    Copies    all of them, by node id, and the way from a path to a node

A leased copy holds until the server takes the lease back (`broken`), or until the mount itself changes the node
(`touch`). An answer that was asked for before that came, and arrives after it, is not kept: each question notes
what was broken while it was under way (`Question`). Whether leases hold at all, in time, is the caller's business:
when they do not (`lapse`), what is known is still there as a memory of how things were, and is looked at as of
`REMEMBERED_S`, when all that was ever told still held. What this mount itself has changed since then has the size that
it has made, and the times that it had before.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pfs.api import Attr, Content, Entry, NodeType

COPIES_MAX = 180_000
CONTENT_BYTES_MAX = 64 * 1024 * 1024
FOR_EVER = float("inf")
REMEMBERED_S = -1.0


@dataclass(slots=True, eq=False)
class Copy:
    """What is known of one node.

    Attributes:
        attr: None when they are not known any more.
        until_s: when the attributes cease to hold; for leased ones never.
        names: all names of a directory, None when they are not known.
        names_until_s: when the names cease to hold; for a leased directory never.
        content: all bytes of a file, None when they are not known.
    """

    attr: Attr | None = None
    until_s: float = 0.0
    names: dict[str, int] | None = None
    names_until_s: float = FOR_EVER
    content: bytes | None = None


@dataclass(slots=True, eq=False)
class Question:
    """A question under way, and what was broken meanwhile."""

    broken: set[int] = field(default_factory=set)
    everything: bool = False

    def holds(self, node_id: int) -> bool:
        """Tell whether what the answer says of the node is still so."""
        return not self.everything and node_id not in self.broken


class Unknown(Exception):
    """It has to be asked for."""


class Copies:
    """The copies of one datacenter's nodes.

    Args:
        copies_max: more than these are not kept: those that were used least recently go.
        content_bytes_max: the same for the contents of small files.
        is_dirty: tells whether this mount has written to a node what the server does not have: what it says of the
            node is then not kept.
    """

    def __init__(
        self,
        copies_max: int = COPIES_MAX,
        content_bytes_max: int = CONTENT_BYTES_MAX,
        is_dirty: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._copies_max = copies_max
        self._content_bytes_max = content_bytes_max
        self._is_dirty = is_dirty
        self._copies: OrderedDict[int, Copy] = OrderedDict()
        self._contents: OrderedDict[int, Copy] = OrderedDict()
        self._content_bytes = 0
        self._questions: set[Question] = set()
        self.root: int | None = None

    def __len__(self) -> int:
        return len(self._copies)

    def leased(self) -> int:
        """Count the nodes whose attributes hold until the server takes the lease back."""
        return sum(copy.attr is not None and copy.attr.leased for copy in self._copies.values())

    @contextmanager
    def question(self) -> Iterator[Question]:
        """Note what is broken while the block asks."""
        question = Question()
        self._questions.add(question)
        try:
            yield question
        finally:
            self._questions.discard(question)

    # ---- looking

    def node(self, path: str, now_s: float) -> int | None:
        """Return the id of what stands at `path`; None when nothing does.

        Raises:
            Unknown: a directory on the way, or its names, are not known.
        """
        if self.root is None:
            raise Unknown
        node_id = self.root
        for name in path.split("/") if path else ():
            names = self.names(node_id, now_s)
            if names is None:
                raise Unknown
            found = names.get(name)
            if found is None:
                return None
            node_id = found
        return node_id

    def attr(self, node_id: int, now_s: float) -> Attr | None:
        """Return the attributes of a node, None when they do not hold any more."""
        copy = self._copies.get(node_id)
        if copy is None or copy.attr is None or now_s >= copy.until_s:
            return None
        self._copies.move_to_end(node_id)
        return copy.attr

    def listing(self, node_id: int, now_s: float) -> list[Entry] | None:
        """Return what stands in a directory; None when a part of that is not known."""
        copy = self._copies.get(node_id)
        if copy is None or copy.names is None:
            return None
        entries = []
        for name, child in copy.names.items():
            attr = self.attr(child, now_s)
            if attr is None:
                return None
            entries.append(Entry(name, attr))
        self._copies.move_to_end(node_id)
        return entries

    def content(self, node_id: int) -> bytes | None:
        """Return all bytes of a small file."""
        copy = self._contents.get(node_id)
        if copy is None:
            return None
        self._contents.move_to_end(node_id)
        return copy.content

    def names(self, node_id: int, now_s: float) -> dict[str, int] | None:
        """Return the names of a directory; None when they are not known."""
        copy = self._copies.get(node_id)
        if copy is None or now_s >= copy.names_until_s:
            return None
        self._copies.move_to_end(node_id)  # without it nothing below it is found
        return copy.names

    def last_attr(self, node_id: int) -> Attr | None:
        """Return the attributes of a node as they were last, though they need not hold any more."""
        copy = self._copies.get(node_id)
        return None if copy is None else copy.attr

    def _names(self, node_id: int) -> dict[str, int] | None:
        copy = self._copies.get(node_id)
        return None if copy is None else copy.names

    def child(self, node_id: int, name: str) -> int | None:
        """Return what a name in a directory leads to; None where that is nothing, or not known."""
        names = self._names(node_id)
        return None if names is None else names.get(name)

    def small_after(self, node_id: int, name: str, count: int, size_max: int) -> list[str]:
        """Return `name` and the files behind it in a directory: small ones whose content is not known."""
        names = self._names(node_id) or {}
        found = [name]
        walk = iter(names.items())
        for each, _ in walk:
            if each == name:
                break
        for each, child in walk:
            if len(found) >= count:
                break
            copy = self._copies.get(child)
            if copy is None or copy.attr is None or copy.content is not None:
                continue
            if copy.attr.type is NodeType.FILE and copy.attr.size <= size_max:
                found.append(each)
        return found

    def is_directory(self, node_id: int) -> bool:
        """Tell whether a node is a directory, or may be one."""
        copy = self._copies.get(node_id)
        return copy is None or copy.attr is None or copy.attr.type is NodeType.DIRECTORY

    def is_leased(self, node_id: int) -> bool:
        """Tell whether the server speaks before it lets the node change."""
        copy = self._copies.get(node_id)
        return copy is not None and copy.attr is not None and copy.attr.leased

    # ---- learning

    def learn_root(self, question: Question, attr: Attr, now_s: float) -> None:
        """Keep what was answered about the root directory."""
        self.root = attr.node_id
        self.learn(question, attr, now_s)

    def learn(self, question: Question, attr: Attr, now_s: float) -> None:
        """Keep attributes that were answered, if they are leased, or of a directory that the server makes."""
        until_s = FOR_EVER if attr.leased else now_s + _made_by_server_s(attr)
        if until_s <= now_s or not question.holds(attr.node_id) or self._is_dirty(attr.node_id):
            return
        copy = self._copies.get(attr.node_id)
        if copy is None:
            copy = self._copies[attr.node_id] = Copy()
            self._make_room()
        copy.attr, copy.until_s = attr, until_s

    def relearn(self, attr: Attr) -> None:
        """Keep what a change of this mount has made of a node whose lease it holds."""
        copy = self._copies.get(attr.node_id)
        if copy is not None:
            copy.attr, copy.until_s = attr, FOR_EVER

    def learn_listing(self, question: Question, parent: int, entries: Sequence[Entry], now_s: float) -> None:
        """Keep a directory's names, and the attributes that came with them."""
        for entry in entries:
            self.learn(question, entry.attr, now_s)
        copy = self._copies.get(parent)
        if copy is None or copy.attr is None or not question.holds(parent):
            return
        until_s = FOR_EVER if copy.attr.leased else now_s + _made_by_server_s(copy.attr)
        if until_s > now_s:
            copy.names, copy.names_until_s = {entry.name: entry.attr.node_id for entry in entries}, until_s

    def learn_empty(self, question: Question, node_id: int) -> None:
        """Note that a directory, which this mount has just made, has no names."""
        if question.holds(node_id) and self.is_leased(node_id):
            self._copies[node_id].names, self._copies[node_id].names_until_s = {}, FOR_EVER

    def learn_content(self, question: Question, content: Content, now_s: float) -> None:
        """Keep the bytes of a small file."""
        self.learn(question, content.attr, now_s)
        node_id = content.attr.node_id
        if question.holds(node_id) and self.is_leased(node_id) and not self._is_dirty(node_id):
            self._drop_content(node_id)
            copy = self._copies[node_id]
            copy.content = content.data
            self._contents[node_id] = copy
            self._content_bytes += len(content.data)
            while self._content_bytes > self._content_bytes_max:
                self._drop_content(next(iter(self._contents)))

    def adopt(self, former: int, attr: Attr) -> None:
        """Note that a node which this mount had given a number of its own has got the server's."""
        self._note(former)
        copy = self._copies.pop(former, None)
        if copy is None:
            return
        self._drop_content(attr.node_id)
        self._copies[attr.node_id] = copy
        copy.attr, copy.until_s = attr, FOR_EVER if attr.leased else REMEMBERED_S
        if self._contents.pop(former, None) is not None:
            self._contents[attr.node_id] = copy
            if not attr.leased:
                self._drop_content(attr.node_id)

    # ---- unlearning

    def broken(self, nodes: Iterable[int]) -> None:
        """The server takes leases back: nothing that is known of these nodes holds any more."""
        for node_id in nodes:
            self._note(node_id)
            self._drop_content(node_id)
            self._copies.pop(node_id, None)

    def touch(self, node_id: int) -> None:
        """This mount has changed a node: its attributes and content have to be asked for again, not its names."""
        self._note(node_id)
        self._drop_content(node_id)
        copy = self._copies.get(node_id)
        if copy is not None:
            copy.until_s = 0.0

    def wrote(self, node_id: int, end: int) -> None:
        """This mount has written to a file, up to `end`."""
        self.touch(node_id)
        copy = self._copies.get(node_id)
        if copy is not None and copy.attr is not None and copy.attr.size < end:
            copy.attr = replace(copy.attr, size=end)

    def guess(self, node_id: int, attr: Attr, until_s: float) -> None:
        """Answer with `attr` for a moment: what a change of this mount has most likely made of the node."""
        copy = self._copies.get(node_id)
        if copy is not None and copy.attr is not None:
            copy.attr, copy.until_s = replace(attr, leased=copy.attr.leased), until_s

    def set_name(self, parent: int, name: str, node_id: int | None) -> None:
        """This mount has made a name lead to a node, or nowhere."""
        names = self._names(parent)
        if names is None:
            return
        if node_id is None:
            names.pop(name, None)
        else:
            names[name] = node_id

    def forget_names(self, node_id: int) -> None:
        """The names of a directory have to be asked for again."""
        self._note(node_id)
        copy = self._copies.get(node_id)
        if copy is not None:
            copy.names = None

    def lapse(self) -> None:
        """Nothing holds any more: the server may not be able to speak."""
        for question in self._questions:
            question.everything = True

    def forget_all(self) -> None:
        """Nothing is known any more."""
        self.lapse()
        self._copies.clear()
        self._contents.clear()
        self._content_bytes = 0
        self.root = None

    def _note(self, node_id: int) -> None:
        for question in self._questions:
            question.broken.add(node_id)

    def _drop_content(self, node_id: int) -> None:
        copy = self._contents.pop(node_id, None)
        if copy is not None and copy.content is not None:
            self._content_bytes -= len(copy.content)
            copy.content = None

    def _make_room(self) -> None:
        while len(self._copies) > self._copies_max:
            node_id, _ = self._copies.popitem(last=False)
            self._drop_content(node_id)


def _made_by_server_s(attr: Attr) -> float:
    """Return how long a directory holds that the server makes and does not lease, such as `home`."""
    return attr.valid_s if attr.node_id >> 63 and attr.type is NodeType.DIRECTORY else 0.0
