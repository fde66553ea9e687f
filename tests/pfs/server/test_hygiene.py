"""What errors tell, whatever goes wrong: nothing of how the server is made, where its files lie, or what it knows.

Beside this, every error that leaves a server in any quick test is looked at (tests/conftest.py).
"""

import logging
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.exc import OperationalError

from pfs.api import Attr, OpenFile, OpenFlags
from pfs.client.filesystem import open_filesystem
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.server.routes import STATUS_OF_KIND
from pfs.tree.virtual import File
from tests.pfs.served import datacenter, told, web
from tests.pfs.world import OPERATIONS, World

Run = Callable[[Callable[[], Awaitable[None]]], None]
SECRET = "pfs1.aHR0cDovLzEyNy4wLjAuMTo4NDcw.zq3nF8mXkQ2vT7bLw5yR9cJd"
PLACE = "/srv/pfs/server/pfs.sqlite"
DEFECTS: dict[str, Exception] = {
    "os": FileNotFoundError(2, "No such file or directory", PLACE),
    "denied": PermissionError(13, "Permission denied", PLACE),
    "sql": OperationalError("SELECT password FROM user WHERE name = ?", {"name": SECRET}, Exception(PLACE)),
    "key": KeyError(SECRET),
    "type": TypeError(f"'NoneType' object has no attribute of {PLACE}"),
    "group": ExceptionGroup(PLACE, [ValueError(SECRET)]),
    "text": UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, PLACE),
}
FORBIDDEN = (SECRET, PLACE, "srv", "sqlite", "SELECT", "NoneType", "Error", "Traceback", 'File "', ".py", "/root")


class Failing(File):
    """Whoever looks at it meets an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def attr(self, subject: Subject) -> Attr:
        raise self._error

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        raise self._error


def harmless(text: str) -> bool:
    return not any(word in text for word in FORBIDDEN)


@pytest.mark.parametrize("name", DEFECTS)
def test_what_a_defect_is_about_stands_in_the_log_alone(
    name: str, run: Run, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.root.nodes = {**world.root.nodes, "failing": Failing(DEFECTS[name])}
    messages: list[str] = []

    async def main() -> None:
        async with web(world) as site:
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                response = await site.ask(method, "failing")
                assert harmless(response.text + str(response.headers)), response.text
            assert told(await site.ask("GET", "failing")) == (500, "internal")
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            for ask in (OPERATIONS["getattr"], OPERATIONS["setattr"], OPERATIONS["open"], OPERATIONS["create"]):
                with pytest.raises(PfsError) as caught:
                    await ask(fs, "failing")
                messages.append(caught.value.message)

    run(main)
    assert [message for message in messages if not harmless(message)] == []
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert logged
    numbers = [record.getMessage().split()[1] for record in logged]
    assert len(set(numbers)) == len(numbers)
    assert {message.partition("the number ")[2][:12] for message in messages} <= set(numbers)


def test_every_kind_of_error_comes_through_http_and_a_channel_in_its_own_words(run: Run, world: World) -> None:
    nodes = {kind.value: Failing(PfsError(kind, f"the words for {kind}")) for kind in Kind}
    world.root.nodes = {**world.root.nodes, **nodes}

    async def main() -> None:
        async with web(world) as site:
            for kind in Kind:
                response = await site.ask("GET", kind.value)
                assert told(response) == (STATUS_OF_KIND[kind], kind.value)
                assert response.json()["error"]["message"] == f"the words for {kind}"
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            for kind in Kind:
                with pytest.raises(PfsError, match=f"the words for {kind}") as caught:
                    await fs.getattr(kind.value)
                assert caught.value.kind is kind

    run(main)


def test_no_operation_on_any_path_tells_where_the_servers_files_lie(run: Run, world: World) -> None:
    paths = (
        "home/ann/none",
        "home/bob/x",
        "home/ann/d/../x",
        "shared/x",
        "job/17/out/x",
        "home/ann/" + "n" * 300,
        "x\0",
    )
    messages: list[str] = []

    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            for path in paths:
                for ask in OPERATIONS.values():
                    try:
                        await ask(fs, path)
                    except PfsError as error:
                        messages.append(f"{error.message} {error.path}")

    run(main)
    assert len(messages) > len(paths) * len(OPERATIONS) / 2
    assert [message for message in messages if str(world.path) in message or not harmless(message)] == []
