"""What an engine is told of a container, and what is understood of what it tells of itself."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import docker
import pytest

from jobd.imagelists import Side
from jobd.node.containers import (
    container_configuration,
    log_options,
    may_have_quotas,
    swarm_of,
    with_lists,
    written_at,
)
from jobd.node.networks import Joined, settled, subnets
from jobd.node.ownbridge import keeps_apart
from jobd.node.runtime import Launch
from jobd.node.spool import LINE_BYTES

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


def test_lists_stand_beside_what_the_image_says_of_them_and_all_else_in_its_place(client: docker.APIClient) -> None:
    env, sides = {"A": "1", "LIBS": "/lib", "PYTHONPATH": "/pkg"}, {"LIBS": Side.BEHIND, "PYTHONPATH": Side.BEFORE}
    launch = replace(LAUNCH, env=env, extended={**sides, "NEVER": Side.BEHIND})
    for image_env, libs, path in (
        (("PATH=/bin", "A=2", "PYTHONPATH=/opt/a:/opt/b=c", "NEVER=x"), "/lib", "/pkg:/opt/a:/opt/b=c"),
        (("LIBS=/opt/a:/opt/b=c", "PYTHONPATH="), "/opt/a:/opt/b=c:/lib", "/pkg"),
        (("LIBS=", "PYTHONPATH"), "/lib", "/pkg"),
        ((), "/lib", "/pkg"),
    ):
        made = container_configuration(client, with_lists(launch, image_env), Joined("pfs"), {})
        assert made["environment"] == {"A": "1", "LIBS": libs, "PYTHONPATH": path}
    assert with_lists(LAUNCH, ("A=2",)) == LAUNCH


def test_gpus_are_asked_for_by_uuid_where_the_engine_can_give_them(client: docker.APIClient) -> None:
    nvidia: dict[str, Any] = {"Runtimes": {"nvidia": {}}}
    cdi = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"}]}
    assert host(client, GPUS, nvidia)["DeviceRequests"] == [{"DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]}]
    assert host(client, GPUS, cdi)["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1"]}]
    for launch, info in ((GPUS, {"Runtimes": {"runc": {}}}), (LAUNCH, nvidia)):
        assert not host(client, launch, info).get("DeviceRequests")


def test_a_container_gives_nobody_rights_but_root_those_that_images_need(client: docker.APIClient) -> None:
    for launch in (LAUNCH, GPUS, replace(LAUNCH, network="pfs-17-1", processes=100_000)):
        found = host(client, launch)
        assert (found["CapDrop"], found.get("CapAdd")) == (["ALL"], None)
        # neither the machine's namespaces nor its devices, and no way to ask for them
        assert not found.get("Privileged")
        assert found["SecurityOpt"] == ["no-new-privileges:true"]
        assert not {"PidMode", "IpcMode", "UTSMode", "UsernsMode", "Devices", "CgroupParent"} & set(found)
        assert found["NetworkMode"] != "host"
        assert found["PidsLimit"] == 4096
    for uid in (0, None):
        added = host(client, replace(LAUNCH, uid=uid, gid=uid))["CapAdd"]
        assert not {"SYS_ADMIN", "SYS_PTRACE", "NET_RAW", "MKNOD", "SYS_CHROOT", "NET_ADMIN"} & set(added)
        assert {"CHOWN", "SETUID", "SETGID"} <= set(added)


def test_cpus_and_memory_are_limited_and_an_init_buries_the_dead(client: docker.APIClient) -> None:
    found = host(client, replace(LAUNCH, cpus=1.5, memory_bytes=1 << 30))
    assert (found["NanoCpus"], found["Memory"], found["MemorySwap"]) == (1_500_000_000, 1 << 30, 1 << 30)
    assert found["Init"] is True
    assert not {"NanoCpus", "Memory"} & set(host(client, LAUNCH))


def test_shared_memory_is_as_large_as_asked_for(client: docker.APIClient) -> None:
    assert host(client, LAUNCH)["ShmSize"] == 1 << 30
    assert host(client, replace(LAUNCH, shm_bytes=8 << 30))["ShmSize"] == 8 << 30


@pytest.mark.parametrize("line_bytes", [1, 2, 60, 16 * 1024, 16 * 1024 + 1, 1 << 20])
def test_the_engine_keeps_in_one_file_all_that_is_kept(client: docker.APIClient, line_bytes: int) -> None:
    kept_bytes = 1 << 30
    # of a line the engine writes down 29 bytes more at most, and 100 of each 16 KiB of a longer one
    engine_line = line_bytes + 29 + line_bytes // (16 * 1024) * 100
    written = kept_bytes // (line_bytes + LINE_BYTES) * engine_line
    options = log_options(kept_bytes)
    assert host(client, LAUNCH)["LogConfig"]["Type"] == "local"
    assert written <= int(options["max-size"]) <= kept_bytes * 1.02
    # and the server has reached its cap when no more is kept
    assert len(b"[2026-01-31 09:30:00] [prepare] ") >= LINE_BYTES
    assert (options["max-file"], options["compress"]) == ("2", "false")


def test_a_limit_of_the_disk_is_told_where_the_engines_storage_may_keep_it(client: docker.APIClient) -> None:
    launch = replace(LAUNCH, disk_bytes=1 << 30)
    quota = container_configuration(client, launch, Joined("pfs"), {}, has_quota=True)["host_config"]
    assert quota["StorageOpt"] == {"size": "1073741824"}
    assert "StorageOpt" not in host(client, launch)
    for driver, backing, may in (
        ("overlay2", "xfs", True),
        ("overlay2", "extfs", False),
        ("btrfs", "", True),
        ("overlayfs", "", False),
    ):
        assert may_have_quotas({"Driver": driver, "DriverStatus": [["Backing Filesystem", backing]]}) == may
    assert not may_have_quotas({})


def test_a_container_writes_into_its_layer_and_the_volumes_of_its_image() -> None:
    mounts = [{"Type": "bind", "Source": "/home"}, {"Type": "volume", "Source": "/var/lib/docker/volumes/x/_data"}]
    told = {"GraphDriver": {"Data": {"UpperDir": "/upper"}}, "Mounts": mounts}
    assert written_at(told) == ["/upper", "/var/lib/docker/volumes/x/_data"]
    assert written_at({"GraphDriver": {"Data": None}}) == []


def test_where_a_container_writes_is_known_from_its_mounts_where_the_engine_does_not_tell() -> None:
    line = "overlay rw,lowerdir=/s/1/fs:/s/2/fs,upperdir=/s/3/fs,workdir=/s/3/work"
    mounts = f"730 600 0:69 / / rw,relatime master:2 - overlay {line}\n731 730 0:7 / /x rw - overlay {line}x\n"
    assert written_at({}, mounts) == ["/s/3/fs"]
    assert written_at({"GraphDriver": {"Data": {"UpperDir": "/upper"}}}, mounts) == ["/upper"]
    assert written_at({}, "730 600 0:69 / / rw - btrfs none rw\n731 730 0:7 / /x rw - overlay " + line) == []


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


ICC = "com.docker.network.bridge.enable_icc"
APART: Mapping[str, Any] = {"Driver": "bridge", "EnableIPv6": False, "Options": {ICC: "false"}}


def test_the_engines_own_network_is_used_where_it_says_that_it_keeps_containers_apart() -> None:
    assert keeps_apart(APART)
    no_word: list[Mapping[str, Any]] = [{**APART, "Options": options} for options in (None, {}, {ICC: "true"})]
    # its rules do not hold what goes by the new addresses
    for network in (None, *no_word, {**APART, "EnableIPv6": True}, {**APART, "Driver": "null"}):
        assert not keeps_apart(network)


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


def test_the_groups_of_its_owner_are_those_of_a_container(client: docker.APIClient) -> None:
    assert host(client, replace(LAUNCH, gids=(2_000_000_001, 2_000_000_002)))["GroupAdd"] == [
        "2000000001",
        "2000000002",
    ]
    assert not host(client, LAUNCH).get("GroupAdd")
