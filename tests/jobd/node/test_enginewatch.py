"""An engine under watch: what is said of one that is silent, broken or gone, and that what it can do is asked anew."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from jobd.node.engine import Engine, EngineSilent
from jobd.node.enginewatch import EngineWatch
from jobd.node.runtime import RuntimeAway
from tests.jobd.node.server import eventually

Run = Callable[[Callable[[], Awaitable[None]]], None]


class FakeEngine:
    """An engine that answers as it is told to.

    Attributes:
        status: what it answers to all; "" for nothing.
        infos: what it has told of itself, by count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = "200 OK"
        self.infos = 0
        self._listeners: list[trio.SocketStream] = []

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        self.path.unlink(missing_ok=True)
        with trio.socket.socket(trio.socket.AF_UNIX) as door:
            await door.bind(str(self.path))
            door.listen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._answer, [trio.SocketListener(door)])
                yield
                nursery.cancel_scope.cancel()

    async def reload(self) -> None:
        """Say that the settings were read anew."""
        for listener in self._listeners:
            await listener.send_all(_chunk(b'{"Type": "daemon", "Action": "reload"}\n'))

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                data = await stream.receive_some()
                if not data:
                    return
                asked += data
            await self._tell(asked.split(b" ")[1].partition(b"?")[0].decode(), stream)

    async def _tell(self, path: str, stream: trio.SocketStream) -> None:
        if not self.status:
            await trio.sleep_forever()
        head = f"HTTP/1.1 {self.status}\r\nConnection: close\r\n".encode()
        if not self.status.startswith("200"):
            await stream.send_all(head + b'\r\n{"message": "it is broken"}')
        elif path.endswith("/events"):
            await stream.send_all(head + b"Transfer-Encoding: chunked\r\n\r\n")
            self._listeners.append(stream)
            await stream.receive_some()
            self._listeners.remove(stream)
        elif path.endswith("/info"):
            self.infos += 1
            await stream.send_all(head + b"\r\n" + json.dumps({"number": self.infos}).encode())
        else:
            await stream.send_all(head + b"\r\nOK")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.fixture
def fake(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path / "sock")


@asynccontextmanager
async def engine_of(fake: FakeEngine) -> AsyncIterator[Engine]:
    engine = Engine(f"unix://{fake.path}")
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobd.node.enginewatch.LISTEN_AGAIN_FIRST_S", 0.001)
    monkeypatch.setattr("jobd.node.enginewatch.KNOCK_EVERY_S", 0.001)


def test_what_is_wrong_with_an_engine_is_said_and_nothing_asks_it_until_it_is_well(
    run: Run, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unasked(client: object) -> object:
        raise AssertionError

    async def main() -> None:
        async with engine_of(fake) as engine:
            watch = EngineWatch(engine, {})
            where = f"the container engine at unix://{fake.path}"
            await watch.look()
            assert str(engine.trouble) == f"{where} does not answer (No such file or directory)"
            async with fake.up():
                fake.status = "500 Internal Server Error"
                await watch.look()
                assert str(engine.trouble) == f"{where} answers 500 Internal Server Error it is broken"
                with pytest.raises(RuntimeAway, match="it is broken"):
                    await engine.call(unasked)
                monkeypatch.setattr("jobd.node.engine.KNOCK_TIMEOUT_S", 0.01)
                fake.status = ""
                await watch.look()
                assert str(engine.trouble) == f"{where} has not answered within 0.01 s"
                with pytest.raises(EngineSilent):
                    await engine.call(unasked)
                monkeypatch.setattr("jobd.node.engine.KNOCK_TIMEOUT_S", 5.0)
                fake.status = "200 OK"
                await watch.look()
                assert engine.trouble is None

    run(main)


def test_what_an_engine_can_do_is_asked_anew_when_it_comes_back_and_when_it_has_read_its_settings(
    run: Run, fake: FakeEngine
) -> None:
    async def main() -> None:
        async with engine_of(fake) as engine, trio.open_nursery() as nursery:
            watch = EngineWatch(engine, {"number": 0})
            nursery.start_soon(watch.run)
            told: Callable[[], object] = lambda: watch.info["number"]  # noqa: E731
            assert told() == 0
            async with fake.up():
                await eventually(lambda: told() == 1)
                await fake.reload()
                await eventually(lambda: told() == 2)
            await eventually(lambda: engine.trouble is not None)
            assert told() == 2
            async with fake.up():
                await eventually(lambda: told() == 3)
                await eventually(lambda: engine.trouble is None)
                nursery.cancel_scope.cancel()
            assert watch.times_asked == 3

    run(main)
