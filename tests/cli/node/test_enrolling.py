"""What `gradient-node` does with a join token: it joins once, and knows of it whatever was lost on the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.node.enrolling import joined_key
from jobd.node.ownkey import ASKED, NAME, read_own_key
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, make_join_token, make_key

URL = "https://dc1:8470"
TOKEN, OTHER = make_join_token(URL, "one"), make_join_token(URL, "two")


class Server:
    """Knows join tokens and keys, as a server does; may fall silent before or after it has understood."""

    def __init__(self) -> None:
        self.tokens, self.keys = {TOKEN, OTHER}, set[str]()
        self.machines = set[str]()
        self.asked: list[dict[str, Any]] = []
        self.silent = ""

    def __call__(self, url: str, key: str) -> "Server":
        assert url == URL
        self.shown = key
        return self

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, url: str, content: bytes) -> None:
        asked = json.loads(content)
        self.asked.append(asked)
        if self.silent == "before":
            raise PfsError(Kind.UNREACHABLE, "silence")
        if fingerprint(self.shown) in self.keys:
            return
        if self.shown not in self.tokens:
            raise PfsError(Kind.UNAUTHENTICATED, "unknown")
        if asked["machine"] in self.machines:
            raise PfsError(Kind.EXISTS, "it has one")
        self.tokens.remove(self.shown)
        self.keys.add(asked["key"])
        self.machines.add(asked["machine"])
        if self.silent == "after":
            raise PfsError(Kind.UNREACHABLE, "silence")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def join(server: Server, tmp_path: Path) -> Callable[[str], str]:
    return lambda given: joined_key(given, URL, tmp_path, machine="m1", name="n1", web=server)  # type: ignore[arg-type]


def test_a_key_is_used_as_it_is(server: Server, join: Callable[[str], str], tmp_path: Path) -> None:
    key = make_key(URL, "any")
    assert join(key) == key
    assert server.asked == []
    assert list(tmp_path.iterdir()) == []


def test_a_machine_joins_once_and_uses_its_own_key_from_then_on(
    server: Server, join: Callable[[str], str], tmp_path: Path
) -> None:
    key = join(TOKEN)
    assert server.asked == [{"key": fingerprint(key), "machine": "m1", "name": "n1"}]
    assert TOKEN not in key
    assert join(TOKEN) == key
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("silent", ["before", "after"])
def test_an_answer_that_is_lost_loses_nothing(server: Server, join: Callable[[str], str], silent: str) -> None:
    server.silent = silent
    with pytest.raises(PfsError, match="silence"):
        join(TOKEN)
    server.silent = ""
    assert fingerprint(join(TOKEN)) in server.keys
    assert len(server.keys) == 1


def test_a_token_that_somebody_else_used_is_good_no_more(
    server: Server, join: Callable[[str], str], tmp_path: Path
) -> None:
    server.tokens.clear()
    with pytest.raises(PfsError, match="make another on the server with: jobd join-token") as caught:
        join(TOKEN)
    assert caught.value.kind is Kind.DENIED  # another start would not help
    assert read_own_key(tmp_path) is None


def test_a_machine_that_has_a_good_key_keeps_it(server: Server, join: Callable[[str], str], tmp_path: Path) -> None:
    key = join(TOKEN)
    assert join(OTHER) == key
    assert OTHER in server.tokens


def test_a_machine_whose_key_was_taken_back_joins_anew(
    server: Server, join: Callable[[str], str], tmp_path: Path
) -> None:
    before = join(TOKEN)
    server.keys.clear()
    server.machines.clear()
    key = join(OTHER)
    assert key != before
    assert join(OTHER) == key
    assert not (tmp_path / ASKED).exists()
