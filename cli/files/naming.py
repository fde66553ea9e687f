"""How users name files: of a datacenter as /pfs/<dc>/…, `-` for stdin or stdout, all others of this machine."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from cli.errors import OF_ALL
from cli.files import remote
from pfs.errors import Kind, PfsError
from pfs.path import join, split, to_absolute
from pfs.protocol.parcels import FOLDER

if TYPE_CHECKING:
    from pfs.client.web import WebClient

ROOT = "/pfs/"
STANDARD = "-"
PATTERN = frozenset("*?[")


class Connect(Protocol):
    """Gives a client of a datacenter."""

    def __call__(self, dc: str | None, /) -> "AbstractContextManager[WebClient]": ...


def is_remote(text: str) -> bool:
    """Tell whether a path is one of a datacenter."""
    return text.startswith(ROOT)


def place(text: str) -> tuple[str, str]:
    """Return the datacenter that a path is of, and the path there.

    Raises:
        PfsError: INVALID for one of this machine.
    """
    if not is_remote(text):
        raise PfsError(Kind.INVALID, f"{text} is of this machine; a path of a datacenter begins with {ROOT}<dc>/")
    datacenter, _, path = text.removeprefix(ROOT).partition("/")
    path = "/".join(part for part in path.split("/") if part)  # who puts paths together may write // between parts
    split(path)
    return datacenter, path


@contextmanager
def about(text: str, *others: str) -> Iterator[None]:
    """Let what is refused in the block say what it was about, where it names neither that nor one of the others."""
    try:
        yield
    except PfsError as error:
        names_one = error.path or any(each in error.message for each in (text, *others))
        if names_one or error.kind in OF_ALL:
            raise
        raise PfsError(error.kind, f"{text}: {error.message}") from None


def names_a_folder(text: str) -> bool:
    """Tell whether a path says that a folder is meant."""
    return text.endswith("/")


def matching(connect: Connect, text: str) -> list[str]:
    """Return what a path with the patterns of a shell stands for; one that is there as it is written is itself.

    Raises:
        PfsError: NOT_FOUND when it stands for nothing.
    """
    if not is_remote(text) or PATTERN.isdisjoint(text):
        return [text]
    datacenter, path = place(text)
    with connect(datacenter) as client:
        found = _matching(client, path)
    if not found:
        raise PfsError(Kind.NOT_FOUND, f"{text} stands for no file")
    return [to_absolute(each, datacenter) for each in found]


def _matching(client: "WebClient", path: str) -> list[str]:
    if PATTERN.isdisjoint(path) or remote.look(client, path) is not None:
        return [path]
    parent, _, pattern = path.rpartition("/")
    found = []
    for folder in _matching(client, parent):
        top = remote.look(client, folder)
        if top is not None and top.kind == FOLDER:
            names = sorted(str(entry["name"]) for entry in client.list(folder))
            found += [join(folder, name) for name in names if fnmatchcase(name, pattern) and name[0] != "."]
    return found
