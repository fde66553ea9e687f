"""What a node tells of its machine."""

import os

import pytest
import trio

from jobd.node.attrs import machine_attrs, offer, own_address, parse_cpuinfo, parse_meminfo

INTEL = """processor\t: 0
model name\t: Intel(R) Core(TM) i7-6700HQ CPU @ 2.60GHz
flags\t\t: fpu vme de
power management:

processor\t: 1
model name\t: another
"""


def test_the_first_processor_counts() -> None:
    expected = {"cpuModel": "Intel(R) Core(TM) i7-6700HQ CPU @ 2.60GHz", "cpuFlags": "fpu vme de"}
    assert parse_cpuinfo(INTEL) == expected


def test_other_architectures_tell_less() -> None:
    assert parse_cpuinfo("processor : 0\nFeatures\t: fp asimd\n") == {"cpuModel": "", "cpuFlags": "fp asimd"}
    assert parse_cpuinfo("") == {"cpuModel": "", "cpuFlags": ""}


def test_memory_is_told_as_the_kernel_writes_it() -> None:
    assert parse_meminfo("MemTotal:        8156872 kB\nMemFree: 1 kB\n") == "8156872 kB"
    assert parse_meminfo("") == ""


def test_this_machine_tells_everything() -> None:
    attrs = machine_attrs("6.7")
    names = ["cpuHostname", "cpuCount", "cpuModel", "cpuFlags", "cpuMem", "kernelVersion", "gradientNodeVersion"]
    assert list(attrs) == names
    assert attrs["cpuCount"] == len(os.sched_getaffinity(0))
    assert str(attrs["cpuMem"]).endswith(" kB")
    assert attrs["gradientNodeVersion"] == "6.7"


def test_a_node_offers_all_that_it_has_unless_told_otherwise() -> None:
    everything = offer(None, None, 64)
    assert everything["offerCpus"] == float(len(os.sched_getaffinity(0)))
    assert isinstance(everything["offerMemory"], int)
    assert everything["offerMemory"] > 1 << 20
    assert offer(1.5, 1 << 30, 8) == {"offerCpus": 1.5, "offerMemory": 1 << 30, "maxProcesses": 8}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8470", "127.0.0.1"),
        ("https://127.0.0.7", "127.0.0.1"),
        ("http://[::1]:8470", "::1"),
        ("http://nowhere.invalid:1", ""),
    ],
)
def test_a_node_knows_its_address_on_the_way_to_the_server(url: str, address: str) -> None:
    assert trio.run(own_address, url) == address
