"""Which network a task is in, and where the engine's bridges are."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import docker
import pytest
import trio

from jobd.node import ownbridge, wall
from jobd.node.containers import container_configuration
from jobd.node.engine import NOT_FOUND, Engine, Refusal
from jobd.node.networks import ENGINES_OWN, SHARED, Joined, Networks, attachment
from jobd.node.runtime import Launch

ALONE = Launch("17.1.0.0", ("true",), {}, "/work", "digits-17-0", image="i", uid=7, gid=8)
OTHER = Launch("18.1.0.0", ("true",), {}, "/work", "digits-18-0", image="i", uid=7, gid=8)
OWN = {
    "Id": "e" * 64,
    "Driver": "bridge",
    "Options": {"com.docker.network.bridge.name": "docker0"},
    "IPAM": {"Config": [{"Gateway": "172.17.0.1"}]},
}


class FakeEngine:
    """One that knows networks only.

    Attributes:
        made: the names of all that were ever made.
        interfaces: those of the machine that it is on.
    """

    def __init__(self) -> None:
        self.networks: dict[str, Mapping[str, Any]] = {ENGINES_OWN: OWN}
        self.made: list[str] = []
        self.interfaces = ["lo", "docker0"]
        self.refuses = False

    async def ask(self, path: str) -> Mapping[str, Any]:
        await trio.lowlevel.checkpoint()
        try:
            return self.networks[path.removeprefix("/networks/")]
        except KeyError:
            raise Refusal(NOT_FOUND, "no such network") from None

    async def call(self, function: Callable[["FakeEngine"], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return function(self)

    def create_network(self, name: str, driver: str, labels: Mapping[str, str], **_: Any) -> None:
        if self.refuses:
            raise Refusal(500, "no")
        number = f"{len(self.made):064x}"[::-1]
        self.networks[name] = {"Id": number, "Name": name, "Driver": driver, "Labels": labels}
        self.made.append(name)
        self.interfaces.append(f"br-{number[:12]}")

    def remove_network(self, name: str) -> None:
        if self.networks.pop(name, None) is None:
            raise Refusal(NOT_FOUND, "no such network")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    made = FakeEngine()
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(ownbridge, "RESOLVERS", (tmp_path / "resolv.conf",))
    monkeypatch.setattr(wall, "hold", lambda _: False)
    monkeypatch.setattr(wall, "interfaces", lambda: set(made.interfaces))
    return made


def joined(engine: FakeEngine, *launches: Launch) -> list[Joined]:
    networks = Networks(cast(Engine, engine), "x")

    async def main() -> list[Joined]:
        found = []
        for launch in launches:
            networks.use(networks.name(launch), launch.task_id)
            found.append(await networks.make(launch))
        return found

    return trio.run(main)


def test_tasks_without_fellows_are_behind_the_wall_each_with_an_address_of_its_own(engine: FakeEngine) -> None:
    one, two = joined(engine, ALONE, OTHER)
    assert (one.name, two.name) == (ENGINES_OWN, ENGINES_OWN)
    assert len({one.hardware, two.hardware}) == 2
    assert all(each.hardware.startswith("02:70:66:") for each in (one, two))
    # one bridge was made to see where it is, and is gone
    assert len(engine.made) == 1
    assert list(engine.networks) == [ENGINES_OWN]


def test_on_an_engine_elsewhere_they_share_a_network_that_is_made(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wall, "interfaces", lambda: {"lo", "docker0", "br-0123456789ab"})
    assert joined(engine, ALONE, OTHER) == [Joined(SHARED)] * 2
    assert sorted(engine.networks) == [ENGINES_OWN, SHARED]
    assert len(engine.made) == 2


def test_where_there_is_no_such_bridge_at_all_none_is_made_to_see(engine: FakeEngine) -> None:
    engine.interfaces = ["lo"]
    assert joined(engine, ALONE) == [Joined(SHARED)]
    assert engine.made == [SHARED]


def test_where_no_bridge_can_be_made_to_see_it_is_not_known(engine: FakeEngine) -> None:
    engine.networks[SHARED] = {"Id": "s" * 64}
    engine.refuses = True
    assert joined(engine, ALONE) == [Joined(SHARED)]


def test_tasks_that_were_over_give_their_addresses_back(engine: FakeEngine) -> None:
    networks = Networks(cast(Engine, engine), "x")

    async def main() -> None:
        found = []
        for _ in range(2):
            networks.use(SHARED, ALONE.task_id)
            found.append((await networks.make(ALONE)).hardware)
            await networks.leave(ALONE.task_id)
        assert found[0] == found[1]

    trio.run(main)


def test_the_address_is_told_as_old_and_as_new_engines_read_it() -> None:
    place = Joined(ENGINES_OWN, hardware="02:70:66:00:00:01")
    assert attachment(ALONE, place) == {"EndpointsConfig": {ENGINES_OWN: {"MacAddress": "02:70:66:00:00:01"}}}
    # nothing is asked of an engine
    client = docker.APIClient(base_url="tcp://127.0.0.1:9", version="1.43")
    try:
        told = container_configuration(client, ALONE, place, {})
        made = client.create_container_config(**told)
        assert made["MacAddress"] == "02:70:66:00:00:01"
        assert container_configuration(client, ALONE, Joined(SHARED), {})["mac_address"] is None
    finally:
        client.close()
