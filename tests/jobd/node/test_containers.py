"""What an engine is told of a container, and what is understood of what it tells of itself."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import docker
import pytest

from jobd.node.docker import container_configuration, swarm_of
from jobd.node.networks import Joined, settled, subnets
from jobd.node.runtime import Launch

LAUNCH = Launch("17.1.0.0", ("sh", "-c", "true"), {"A": "1"}, "/work", "digits-17-0", image="i", uid=7, gid=8)
GPUS = replace(LAUNCH, gpus=("GPU-1",))


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    # nothing is asked of an engine
    client = docker.APIClient(base_url="tcp://127.0.0.1:9", version="1.43")
    yield client
    client.close()


def host(client: docker.APIClient, launch: Launch, info: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    configuration = container_configuration(client, launch, Joined("pfs"), info or {})
    assert isinstance(configuration["host_config"], dict)
    return configuration["host_config"]


def test_gpus_are_asked_for_by_uuid_where_the_engine_can_give_them(client: docker.APIClient) -> None:
    nvidia: dict[str, Any] = {"Runtimes": {"nvidia": {}}}
    cdi = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"}]}
    assert host(client, GPUS, nvidia)["DeviceRequests"] == [{"DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]}]
    assert host(client, GPUS, cdi)["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1"]}]
    for launch, info in ((GPUS, {"Runtimes": {"runc": {}}}), (LAUNCH, nvidia)):
        assert not host(client, launch, info).get("DeviceRequests")


def test_shared_memory_is_as_large_as_asked_for(client: docker.APIClient) -> None:
    assert host(client, LAUNCH)["ShmSize"] == 1 << 30
    assert host(client, replace(LAUNCH, shm_bytes=8 << 30))["ShmSize"] == 8 << 30


def test_fellows_are_known_by_name_from_the_start(client: docker.APIClient) -> None:
    gang = replace(LAUNCH, network="pfs-17-1")
    joined = Joined("pfs-17-1-x", {"digits-17-0": "198.18.0.2", "digits-17-1": "198.18.0.3"})
    made = container_configuration(client, gang, joined, {})
    assert made["host_config"]["NetworkMode"] == "pfs-17-1-x"
    assert made["host_config"]["ExtraHosts"] == ["digits-17-1:198.18.0.3"]
    endpoint = {"Aliases": ["digits-17-0"], "IPAMConfig": {"IPv4Address": "198.18.0.2"}}
    assert made["networking_config"]["EndpointsConfig"] == {"pfs-17-1-x": endpoint}


def test_the_engines_settle_addresses_across_machines_and_of_who_is_alone(client: docker.APIClient) -> None:
    over = container_configuration(client, replace(LAUNCH, network="o", overlay=True), Joined("o"), {})
    assert over["networking_config"]["EndpointsConfig"] == {"o": {"Aliases": ["digits-17-0"]}}
    alone = container_configuration(client, LAUNCH, Joined("pfs"), {})
    assert alone["networking_config"]["EndpointsConfig"] == {"pfs": {}}


@pytest.mark.parametrize(("hosts", "prefix"), [(2, 25), (125, 25), (126, 24), (500, 23)])
def test_a_gangs_network_has_room_for_it_and_is_none_that_anybody_routes(hosts: int, prefix: int) -> None:
    places = list(subnets("pfs-17-1-x", hosts))
    assert len(set(places)) == len(places) > 10
    assert all(place.prefixlen == prefix and place.subnet_of(IPv4Network("198.18.0.0/15")) for place in places)
    assert list(subnets("pfs-17-1-x", hosts)) == places
    names = [(f"digits-17-{index}", "") for index in range(hosts)]
    addresses = [IPv4Address(address) for address in settled(names, places[0]).values()]
    first, last = places[0][1], places[0][-1]
    assert len(set(addresses)) == hosts
    assert all(first < address < last for address in addresses)


INGRESS: list[Mapping[str, Any]] = [{"Id": "b1", "Name": "bridge"}, {"Id": "s1", "Name": "ingress", "Ingress": True}]


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({}, ("", False)),
        ({"Swarm": {"LocalNodeState": "inactive"}}, ("", False)),
        ({"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}, ("s1", True)),
        ({"Swarm": {"LocalNodeState": "active", "ControlAvailable": False}}, ("s1", False)),
        ({"Swarm": {"LocalNodeState": "pending", "ControlAvailable": False}}, ("", False)),
    ],
)
def test_a_swarm_has_one_name_on_all_its_machines(info: Mapping[str, Any], found: tuple[str, bool]) -> None:
    assert swarm_of(info, INGRESS) == found
