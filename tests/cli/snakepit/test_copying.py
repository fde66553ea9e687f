"""What the server refuses of a file names the file, as it was typed; what is wrong with the server names none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cli.snakepit import copying, files
from cli.snakepit.copying import Manner
from pfs.errors import Kind, PfsError
from tests.cli.snakepit.pits import FILES, Tree

WHY = "you may read this, not change it"


class Refusing(Tree):
    """A pit that refuses all that is asked of some paths.

    Attributes:
        refused: how these paths begin.
        error: what is said then.
    """

    def __init__(self, *refused: str, kind: Kind = Kind.DENIED) -> None:
        super().__init__(FILES)
        self.refused = refused
        self.error = PfsError(kind, WHY)

    def check(self, path: str) -> None:
        if path.startswith(self.refused):
            raise self.error

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        self.check(f"list {path}")
        return super().list(path, each)

    def stream(self, path: str, start: int = 0) -> Any:
        self.check(f"stream {path}")
        return super().stream(path, start)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").write_text("print(1)")

    def send(client: Refusing, path: str, source: object, transfer: object) -> None:
        client.check(f"send {path}")

    monkeypatch.setattr(copying, "send", send)


def push(client: Any, entity: str, path: str) -> None:
    copying.push(client, entity, path, "here", Manner())


def pull(client: Any, entity: str, path: str) -> None:
    copying.pull(client, entity, path, "got", Manner())


def cat(client: Any, entity: str, path: str) -> None:
    copying.pull(client, entity, path, None, Manner())


def ls(client: Any, entity: str, path: str) -> None:
    files.print_folder(client, entity, path, as_json=False)


CASES: list[tuple[Callable[[Any, str, str], None], str, str, str, str]] = [
    (push, "send ", "home", "x", "x: "),
    (push, "send ", "home", "data", "data/here: "),
    (push, "list ", "home", "data/x", "data/x: "),
    (pull, "stream ", "home", "notes.txt", "notes.txt: "),
    (pull, "list ", "home", "notes.txt", "notes.txt: "),
    (cat, "stream ", "home", "data/a", "data/a: "),
    (ls, "list ", "home", "data", "data: "),
    (ls, "list home/me/data", "home", "data", "data: "),
    (ls, "list ", "group:a", "", "group:a: "),
]


@pytest.mark.parametrize(("act", "refused", "entity", "path", "named"), CASES)
def test_a_refusal_names_the_file(
    act: Callable[[Any, str, str], None], refused: str, entity: str, path: str, named: str
) -> None:
    with pytest.raises(PfsError) as error:
        act(cast("Any", Refusing(refused)), entity, path)
    assert (error.value.kind, str(error.value)) == (Kind.DENIED, f"{named}{WHY}")


@pytest.mark.parametrize("kind", [Kind.UNREACHABLE, Kind.UNAUTHENTICATED])
@pytest.mark.parametrize("act", [push, pull, cat, ls])
def test_what_is_wrong_with_the_server_names_no_file(
    act: Callable[[Any, str, str], None], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.resuming.TRIES", 1)
    with pytest.raises(PfsError) as error:
        act(cast("Any", Refusing("list ", "stream ", "send ", kind=kind)), "home", "notes.txt")
    assert (error.value.kind, str(error.value)) == (kind, WHY)
