"""Looking at files of a datacenter and changing their names: what `ls`, `mv`, `rm`, `rmdir` and `mkdir` do."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import click

from cli.errors import going_on
from cli.files import remote
from cli.files.naming import Connect, about, matching, names_a_folder, place
from cli.files.plan import Node
from cli.output import printable
from pfs.errors import Kind, PfsError
from pfs.path import join, to_absolute
from pfs.protocol.parcels import FOLDER, LINK, Parcel, Verb

TYPES = {FOLDER: "directory", LINK: "symlink"}
Noted = Callable[[str], None]  # is told the path of each that was changed


def list_all(
    connect: Connect,
    texts: Sequence[str],
    *,
    deep: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    names: bool = False,
) -> int:
    """Print what is in directories, a line for each: when it was changed, what it is, its size, its path.

    Above them stands which path that was, as in PaddleCloud's client.

    Args:
        deep: also what is in those below.
        as_json: print all of it as JSON.
        quiet: print paths alone.
        names: print names alone, without the directories that they are in.

    Returns:
        The exit status.
    """
    found: list[dict[str, object]] = []

    def show(text: str) -> None:
        has_heading = as_json or quiet or names
        for each in matching(connect, text):
            nodes = list(_listed(connect, each, deep=deep))  # what cannot be listed has no heading
            if not has_heading:
                click.echo(f"{printable(text)} :")
                has_heading = True
            for path, node in nodes:
                row = {"type": TYPES.get(node.kind, "file"), "size": node.size, "mtime_ns": node.mtime_ns}
                found.append({"path": path, **row})
                if names and not as_json:
                    click.echo(printable(path.rpartition("/")[2]))
                elif not as_json:
                    click.echo(printable(path if quiet else _line(path, node)))

    status = going_on(texts, show)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    return status


def _listed(connect: Connect, text: str, *, deep: bool) -> Iterator[tuple[str, Node]]:
    datacenter, path = place(text)
    with connect(datacenter) as client:
        top, nodes = remote.below(client, path, **({} if deep else {"deep": 0}))
        if top is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        if top.kind != FOLDER:
            nodes = {"": top}
        elif not deep:
            nodes = {str(each["name"]): _node(each) for each in client.list(path)}
    for name, node in sorted(nodes.items()):
        yield to_absolute(join(path, name) if name else path, datacenter), node


def _node(entry: dict[str, object]) -> Node:
    kinds = {type_: kind for kind, type_ in TYPES.items()}
    return Node(kinds.get(str(entry["type"]), "f"), int(str(entry["size"])), int(str(entry["mtime_ns"])))


def _line(path: str, node: Node) -> str:
    changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(node.mtime_ns // 10**9))
    kind = node.kind if node.kind in (FOLDER, LINK) else "f"
    return f"{changed}  {kind}  {node.size:>10}  {path}"


def move_all(
    connect: Connect, sources: Sequence[str], target: str, *, keeps: bool, noted: Callable[[str, str], None]
) -> int:
    """Give files or directories another name; several, or into a directory, under their own.

    Args:
        keeps: what has the name already stays, and so does what would get it.
        noted: is told the old and the new path of each.

    Returns:
        The exit status.
    """
    datacenter, new = place(target)
    named = _named(connect, sources)
    with connect(datacenter) as client:
        top = remote.look(client, new)
        into = names_a_folder(target) or (top is not None and top.kind == FOLDER)
        if len(named) > 1 and not into:
            raise PfsError(Kind.NOT_DIR, f"{target}: dest should be a directory")

        def move(source: str) -> None:
            other, path = place(source)
            if other != datacenter:
                hint = "are of two datacenters; copy it by way of this machine"
                raise PfsError(Kind.INVALID, f"{source} and {target} {hint}")
            to = join(new, path.rpartition("/")[2]) if into else new
            if keeps and remote.look(client, to) is not None:
                return
            with about(source):
                client.rename(path, to)
            noted(source, to_absolute(to, datacenter))

        return going_on(named, move)


def _named(connect: Connect, texts: Iterable[str]) -> list[str]:
    return [each for text in texts for each in matching(connect, text)]


def remove_all(connect: Connect, texts: Sequence[str], *, deep: bool, noted: Callable[[str, bool], None]) -> int:
    """Remove files, and with `deep` directories with all that is in them; return the exit status.

    Args:
        noted: is told the path of each, and whether that was meant itself, and not only something above it.
    """

    def remove(text: str) -> None:
        for each in matching(connect, text):
            for gone in _removed(connect, each, deep=deep):
                noted(gone, gone == each)

    return going_on(texts, remove)


def _removed(connect: Connect, text: str, *, deep: bool) -> Iterator[str]:
    """Remove something; yield what is gone."""
    datacenter, path = place(text)
    with connect(datacenter) as client, about(text):
        top, nodes = remote.below(client, path, **({} if deep else {"deep": 0}))
        if top is None:
            raise PfsError(Kind.NOT_FOUND, f"{text}: no such file or directory")
        if top.kind == FOLDER and not deep:
            raise PfsError(Kind.INVALID, f"{text}: can't del directory; -r removes it with all that is in it")
        if top.kind == FOLDER and not _is_job(path):
            inner = sorted(nodes, reverse=True)  # what is inner first
            refused = remote.send(client, path, ((_gone(each, nodes[each]), b"") for each in inner))
            if refused:
                raise refused[0]
            yield from (to_absolute(join(path, each), datacenter) for each in inner)
        client.remove(path)
    yield text


def _is_job(path: str) -> bool:
    """Tell whether a path is a job's, which the server removes as a whole."""
    return path.startswith("jobs/") and path.count("/") == 1


def _gone(path: str, node: Node) -> Parcel:
    if node.kind == FOLDER:
        return Parcel(Verb.GONE_FOLDER, path)
    return Parcel(Verb.GONE, path, node.size, mtime_ns=node.mtime_ns)


def remove_folders(connect: Connect, texts: Sequence[str], noted: Noted) -> int:
    """Remove empty directories, and jobs that are over; return the exit status."""

    def remove(text: str) -> None:
        datacenter, path = place(text)
        with connect(datacenter) as client, about(text):
            top = remote.look(client, path)
            if top is not None and top.kind != FOLDER:
                raise PfsError(Kind.INVALID, f"{text} is no directory; paddle pfs rm removes it")
            client.remove(path)
        noted(text)

    return going_on(texts, remove)


def make_all(connect: Connect, texts: Sequence[str], noted: Noted) -> int:
    """Make directories, with those above them that are not there; return the exit status."""

    def make(text: str) -> None:
        datacenter, path = place(text)
        with connect(datacenter) as client:
            if refused := remote.send(client, path, [(Parcel(Verb.FOLDER, ""), b"")]):
                raise PfsError(refused[0].kind, f"{text}: {refused[0].message}")
        noted(text)

    return going_on(texts, make)
