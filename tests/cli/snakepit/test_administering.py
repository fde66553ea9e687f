"""`pit add`, `set` and `passwd` where a password would be read on its way."""

import io
from collections.abc import Callable

import pytest

from cli.snakepit import administering
from cli.snakepit.connection import Where
from pfs.errors import PfsError
from tests.cli.snakepit.pits import FILES, Tree


@pytest.mark.parametrize(
    "command",
    [
        lambda client: administering.add(client, "user:bob", []),
        lambda client: administering.change(client, "user:ann", ["admin=yes"]),
        lambda client: administering.change(client, "me", ["password=four words that nobody has"]),
        lambda client: administering.change_password(client, None),
    ],
)
def test_no_password_is_asked_for_or_sent_without_tls(
    command: Callable[[Tree], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("four words that nobody has\n" * 5))
    client = Tree(FILES)
    client.where = Where("http://pit.example.org", None)
    with pytest.raises(PfsError, match="has no TLS"):
        command(client)
    assert client.written == []
