"""What keeps tasks in the engine's own network apart, and when it is not trusted to."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from jobd.node import ownbridge, wall
from jobd.node.ownbridge import OwnBridge, can_be_walled, name_servers, names_are_served

OPTIONS = {"com.docker.network.bridge.name": "docker0", "com.docker.network.bridge.enable_icc": "true"}
COMES: Mapping[str, Any] = {
    "Id": "first",
    "Driver": "bridge",
    "EnableIPv6": False,
    "Options": OPTIONS,
    "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
}
WITHOUT_TRAFFIC = {**COMES, "Options": {**OPTIONS, "com.docker.network.bridge.enable_icc": "false"}}


class World:
    """An engine and a kernel."""

    def __init__(self) -> None:
        self.network: Mapping[str, Any] | None = COMES
        self.here = True
        self.stands = False
        self.trouble: OSError | None = None
        self.asked: list[str] = []
        self.bridge = OwnBridge(self._find, self._is_here)

    async def _find(self) -> Mapping[str, Any] | None:
        self.asked.append("find")
        await trio.sleep(0.1)
        return self.network

    async def _is_here(self) -> bool:
        self.asked.append("here")
        return self.here

    def hold(self, bridge: str) -> bool:
        assert bridge == "docker0"
        if self.trouble:
            raise self.trouble
        put_up, self.stands = not self.stands, True
        return put_up


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    made = World()
    monkeypatch.setattr(wall, "hold", made.hold)
    monkeypatch.setattr(wall, "interfaces", lambda: {"lo", "docker0"})
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(ownbridge, "RESOLVERS", (tmp_path / "resolv.conf",))
    return made


def apart(world: World) -> str:
    return trio.run(world.bridge.kept_apart_by, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_engine_as_it_comes_is_given_a_wall(world: World) -> None:
    assert apart(world) == "a wall"
    assert world.stands


def test_the_owners_own_rules_take_none(world: World) -> None:
    world.network = WITHOUT_TRAFFIC
    assert apart(world) == "its rules"
    assert not world.stands
    assert world.asked == ["find"]


@pytest.mark.parametrize(
    "change",
    [
        {"network": None},
        {"network": {**COMES, "EnableIPv6": True}},
        {"here": False},
        {"trouble": PermissionError(1, "Operation not permitted")},
    ],
)
def test_without_a_wall_tasks_stay_away_for_good(world: World, change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        setattr(world, name, value)

    async def main() -> None:
        assert await world.bridge.kept_apart_by() == "nothing"
        asked = len(world.asked)
        await trio.sleep(1000)
        assert await world.bridge.kept_apart_by() == "nothing"
        assert len(world.asked) == asked

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_where_the_machines_name_server_is_its_own_tasks_stay_away(world: World) -> None:
    ownbridge.RESOLVERS[0].write_text("nameserver 127.0.0.1\n")
    assert apart(world) == "nothing"
    world.network = WITHOUT_TRAFFIC
    assert apart(world) == "nothing"


def test_the_engine_is_asked_once_for_many_at_once_and_again_after_a_while(world: World) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(world.bridge.kept_apart_by)
        assert world.asked == ["find", "here"]
        await trio.sleep(ownbridge.TRUST_S)
        assert await world.bridge.kept_apart_by() == "a wall"
        assert world.asked == ["find", "here", "find"]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_engine_that_was_started_again_may_be_elsewhere(world: World) -> None:
    async def main() -> None:
        assert await world.bridge.kept_apart_by() == "a wall"
        world.network, world.here = {**COMES, "Id": "second"}, False
        await trio.sleep(ownbridge.TRUST_S)
        assert await world.bridge.kept_apart_by() == "nothing"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_wall_is_looked_at_before_each_start(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        assert await world.bridge.kept_apart_by() == "a wall"
        assert not caplog.messages
        world.stands = False
        assert await world.bridge.kept_apart_by() == "a wall"
        assert world.stands
        assert caplog.messages == ["somebody took down the wall between containers; it stands again"]
        world.trouble = PermissionError(1, "Operation not permitted")
        assert await world.bridge.kept_apart_by() == "nothing"
        assert caplog.records[-1].levelno == logging.ERROR

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_guard_puts_it_up_when_the_kernel_tells_of_a_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changes:
        def __init__(self) -> None:
            self._send, self._receive = trio.open_memory_channel[None](1)

        def __enter__(self) -> "Changes":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def tell(self) -> None:
            self._send.send_nowait(None)

        async def next(self) -> None:
            await self._receive.receive()

    changes = Changes()
    monkeypatch.setattr(wall, "Changes", lambda: changes)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.bridge.guard)
            await trio.sleep(1)
            assert world.stands, "before any task"
            world.stands = False
            changes.tell()
            await trio.sleep(1)
            assert world.stands
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_guard_of_a_daemon_that_may_not_look_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def changes() -> wall.Changes:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(wall, "Changes", changes)
    trio.run(world.bridge.guard)
    assert not world.stands


def test_a_bridge_that_leads_anywhere_else_takes_no_wall() -> None:
    assert can_be_walled(COMES)
    way_out = {"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.0.0.9"}}
    for change in (
        {"Options": {**OPTIONS, "com.docker.network.bridge.name": "br0"}},
        {"Options": None},
        {"Driver": "overlay"},
        {"IPAM": {"Config": [way_out]}},
    ):
        assert not can_be_walled({**COMES, **change})


@pytest.mark.parametrize(
    ("first", "second", "served"),
    [
        ("nameserver 192.0.2.53\n", None, True),
        ("# nameserver 127.0.0.1\nnameserver 127.0.0.1\nnameserver 192.0.2.53\noptions edns0\n", None, True),
        ("nameserver 127.0.0.1\n", "nameserver 192.0.2.53\n", False),
        ("nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n", True),
        ("nameserver 127.0.0.53\n", None, False),
        ("nameserver ::1\nnameserver 2001:db8::53\nnameserver\n", None, False),
        ("search example.org\n", None, False),
        (None, "nameserver 192.0.2.53\n", False),
    ],
)
def test_name_servers_that_containers_reach(
    tmp_path: Path, first: str | None, second: str | None, served: bool
) -> None:
    files = tmp_path / "first", tmp_path / "second"
    for file, text in zip(files, (first, second), strict=True):
        if text is not None:
            file.write_text(text)
    assert names_are_served(files) == served


def test_comments_are_no_name_servers() -> None:
    assert name_servers("nameserver 1.1.1.1 # the first\n;nameserver 2.2.2.2\n\tnameserver\t3.3.3.3\n") == [
        "1.1.1.1",
        "3.3.3.3",
    ]
