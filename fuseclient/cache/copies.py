"""What a mount knows of a datacenter's nodes without asking, and for how long that holds.

Of a node that is its attributes; of a directory its names, all of them; of a small file its content; and with all that
the way from a path to a node. There may be hundreds of thousands of nodes, of almost all of which only the attributes
are known, and hold until further notice: so that is all that is kept of such a one.

A leased copy holds until the server takes the lease back (`broken`), or until the mount itself changes the node
(`touch`). An answer that was asked for before that came, and arrives after it, is not kept: each question notes
what was broken while it was under way (`Question`). Whether leases hold at all, in time, is the caller's business:
when they do not (`lapse`), what is known is still there as a memory of how things were, and is looked at as of
`REMEMBERED_S`, when all that was ever told still held. What this mount itself has changed since then has the size that
it has made, and the times that it had before.

Programs that go through a tree list the same directories again and again: what was put together for that is given again
as it is, until anything that was known before changes, anywhere. That is seldom while they do so.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from pfs.api import Attr, Content, Entry, NodeType

COPIES_MAX = 180_000
CONTENT_BYTES_MAX = 64 * 1024 * 1024
LISTED_MAX = 20_000  # entries, of all listings that are kept as they were given
FOR_EVER = float("inf")
REMEMBERED_S = -1.0


@dataclass(slots=True, eq=False)
class _Names:
    """All names of a directory, and until when they hold; of a leased one for ever."""

    names: dict[str, int]
    until_s: float


@dataclass(slots=True, eq=False)
class Question:
    """A question under way, and what was broken while its block asked."""

    asked: "set[Question]" = field(default_factory=set)  # those under way
    broken: set[int] = field(default_factory=set)
    everything: bool = False

    def __enter__(self) -> "Question":
        self.asked.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.discard(self)

    def holds(self, node_id: int) -> bool:
        """Tell whether what the answer says of the node is still so."""
        return not self.everything and node_id not in self.broken


class Unknown(Exception):
    """It has to be asked for."""


class Copies:
    """The copies of one datacenter's nodes.

    Args:
        copies_max: more than these are not kept: those that were learned first go.
        content_bytes_max: the same for the contents of small files: those that were used least recently go.
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
        self._attrs: dict[int, Attr] = {}
        self._until_s: dict[int, float] = {}  # until when attributes hold that do not for ever
        self._directories: dict[int, _Names] = {}
        self._contents: OrderedDict[int, bytes] = OrderedDict()
        self._content_bytes = 0
        self._listings: dict[int, Sequence[Entry]] = {}
        self._listed = 0
        self._questions: set[Question] = set()
        self.root: int | None = None

    def __len__(self) -> int:
        return len(self._attrs)

    def leased(self) -> int:
        """Count the nodes whose attributes hold until the server takes the lease back."""
        return sum(attr.leased for attr in self._attrs.values())

    def question(self) -> Question:
        """Note what is broken while the block asks."""
        return Question(self._questions)

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
        attr = self._attrs.get(node_id)
        return None if attr is None or now_s >= self._until_s.get(node_id, FOR_EVER) else attr

    def listing(self, node_id: int, now_s: float) -> Sequence[Entry] | None:
        """Return what stands in a directory; None when a part of that is not known."""
        if (given := self._listings.get(node_id)) is not None:
            return given
        names = self.names(node_id, now_s)
        if names is None:
            return None
        entries, lasting = [], self._directories[node_id].until_s == FOR_EVER
        for name, child in names.items():
            attr = self.attr(child, now_s)
            if attr is None:
                return None
            entries.append(Entry(name, attr))
            lasting = lasting and child not in self._until_s
        if lasting and self._listed + len(entries) <= LISTED_MAX:
            self._listings[node_id] = entries
            self._listed += len(entries)
        return entries

    def content(self, node_id: int) -> bytes | None:
        """Return all bytes of a small file."""
        content = self._contents.get(node_id)
        if content is not None:
            self._contents.move_to_end(node_id)
        return content

    def names(self, node_id: int, now_s: float) -> dict[str, int] | None:
        """Return the names of a directory; None when they are not known."""
        known = self._directories.get(node_id)
        return None if known is None or now_s >= known.until_s else known.names

    def last_attr(self, node_id: int) -> Attr | None:
        """Return the attributes of a node as they were last, though they need not hold any more."""
        return self._attrs.get(node_id)

    def child(self, node_id: int, name: str) -> int | None:
        """Return what a name in a directory leads to; None where that is nothing, or not known."""
        known = self._directories.get(node_id)
        return None if known is None else known.names.get(name)

    def small_after(self, node_id: int, name: str, count: int, size_max: int) -> list[str]:
        """Return the files behind `name` in a directory, or all with "": small ones whose content is not known."""
        known = self._directories.get(node_id)
        found: list[str] = []
        walk = iter(known.names.items() if known is not None else ())
        for each, _ in walk if name else ():
            if each == name:
                break
        for each, child in walk:
            if len(found) >= count:
                break
            attr = self._attrs.get(child)
            if attr is None or child in self._contents:
                continue
            if attr.type is NodeType.FILE and attr.size <= size_max:
                found.append(each)
        return found

    def is_directory(self, node_id: int) -> bool:
        """Tell whether a node is a directory, or may be one."""
        attr = self._attrs.get(node_id)
        return attr is None or attr.type is NodeType.DIRECTORY

    def is_leased(self, node_id: int) -> bool:
        """Tell whether the server speaks before it lets the node change."""
        attr = self._attrs.get(node_id)
        return attr is not None and attr.leased

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
        if attr.node_id in self._attrs:
            self._altered()
        self._hold(attr, until_s)
        if len(self._attrs) > self._copies_max:
            self._make_room()

    def relearn(self, attr: Attr) -> None:
        """Keep what a change of this mount has made of a node whose lease it holds."""
        if attr.node_id in self._attrs:
            self._altered()
            self._hold(attr, FOR_EVER)

    def learn_listing(self, question: Question, parent: int, entries: Sequence[Entry], now_s: float) -> None:
        """Keep a directory's names, and the attributes that came with them."""
        for entry in entries:
            self.learn(question, entry.attr, now_s)
        above = self._attrs.get(parent)
        if above is None or not question.holds(parent):
            return
        until_s = FOR_EVER if above.leased else now_s + _made_by_server_s(above)
        if until_s > now_s:
            self._altered()
            self._directories[parent] = _Names({entry.name: entry.attr.node_id for entry in entries}, until_s)

    def learn_empty(self, question: Question, node_id: int) -> None:
        """Note that a directory, which this mount has just made, has no names."""
        if question.holds(node_id) and self.is_leased(node_id):
            self._altered()
            self._directories[node_id] = _Names({}, FOR_EVER)

    def learn_content(self, question: Question, content: Content, now_s: float) -> None:
        """Keep the bytes of a small file."""
        self.learn(question, content.attr, now_s)
        node_id = content.attr.node_id
        if question.holds(node_id) and self.is_leased(node_id) and not self._is_dirty(node_id):
            self.relearn_content(node_id, content.data)

    def relearn_content(self, node_id: int, data: bytes) -> None:
        """Keep all bytes that this mount has given to a small file whose lease it holds."""
        if node_id in self._attrs:
            self._drop_content(node_id)
            self._contents[node_id] = data
            self._content_bytes += len(data)
            while self._content_bytes > self._content_bytes_max:
                self._drop_content(next(iter(self._contents)))

    def adopt(self, former: int, attr: Attr) -> None:
        """Note that a node which this mount had given a number of its own has got the server's."""
        self._note(former)
        if former not in self._attrs:
            return
        names, content = self._directories.get(former), self._contents.get(former)
        self._drop(former)
        self._drop(attr.node_id)
        self._hold(attr, FOR_EVER if attr.leased else REMEMBERED_S)
        if names is not None:
            self._directories[attr.node_id] = names
        if content is not None and attr.leased:
            self.relearn_content(attr.node_id, content)

    # ---- unlearning

    def broken(self, nodes: Iterable[int]) -> None:
        """The server takes leases back: nothing that is known of these nodes holds any more."""
        for node_id in nodes:
            self._note(node_id)
            self._drop(node_id)

    def touch(self, node_id: int) -> None:
        """This mount has changed a node: its attributes and content have to be asked for again, not its names."""
        self._note(node_id)
        self._altered()
        self._drop_content(node_id)
        if node_id in self._attrs:
            self._until_s[node_id] = 0.0

    def wrote(self, node_id: int, end: int) -> None:
        """This mount has written to a file, up to `end`."""
        self.touch(node_id)
        attr = self._attrs.get(node_id)
        if attr is not None and attr.size < end:
            self._attrs[node_id] = replace(attr, size=end)

    def guess(self, node_id: int, attr: Attr, until_s: float) -> None:
        """Answer with `attr` for a moment: what a change of this mount has most likely made of the node."""
        if (known := self._attrs.get(node_id)) is not None:
            self._altered()
            self._hold(attr if attr.leased == known.leased else replace(attr, leased=known.leased), until_s)

    def set_name(self, parent: int, name: str, node_id: int | None) -> None:
        """This mount has made a name lead to a node, or nowhere."""
        known = self._directories.get(parent)
        if known is None:
            return
        self._altered()
        if node_id is None:
            known.names.pop(name, None)
        else:
            known.names[name] = node_id

    def forget_names(self, node_id: int) -> None:
        """The names of a directory have to be asked for again."""
        self._note(node_id)
        self._altered()
        self._directories.pop(node_id, None)

    def lapse(self) -> None:
        """Nothing holds any more: the server may not be able to speak."""
        for question in self._questions:
            question.everything = True

    def forget_all(self) -> None:
        """Nothing is known any more."""
        self.lapse()
        self._altered()
        self._attrs.clear()
        self._until_s.clear()
        self._directories.clear()
        self._contents.clear()
        self._content_bytes = 0
        self.root = None

    def _altered(self) -> None:
        """Something that was known is no more, or is different now."""
        if self._listings:
            self._listings.clear()
            self._listed = 0

    def _note(self, node_id: int) -> None:
        for question in self._questions:
            question.broken.add(node_id)

    def _hold(self, attr: Attr, until_s: float) -> None:
        self._attrs[attr.node_id] = attr
        if until_s == FOR_EVER:
            self._until_s.pop(attr.node_id, None)
        else:
            self._until_s[attr.node_id] = until_s

    def _drop(self, node_id: int) -> None:
        self._altered()
        self._drop_content(node_id)
        self._attrs.pop(node_id, None)
        self._until_s.pop(node_id, None)
        self._directories.pop(node_id, None)

    def _drop_content(self, node_id: int) -> None:
        content = self._contents.pop(node_id, None)
        if content is not None:
            self._content_bytes -= len(content)

    def _make_room(self) -> None:
        for node_id in list(islice(self._attrs, 1 + self._copies_max // 16)):  # looking for the first takes a while
            self._drop(node_id)


def _made_by_server_s(attr: Attr) -> float:
    """Return how long a directory holds with its names that the server makes and does not lease, such as `home`."""
    made = attr.node_id >> 63 and attr.type is NodeType.DIRECTORY and not attr.volatile
    return attr.valid_s if made else 0.0
