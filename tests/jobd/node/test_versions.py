"""Versions of what runs containers: what is told of them, and which are warned of."""

import pytest

from jobd.node.versions import ATTRIBUTES, versions_in, warnings

ANSWER = {
    "Version": "28.5.1",
    "Components": [
        {"Name": "Engine", "Version": "28.5.1", "Details": {}},
        {"Name": "containerd", "Version": "v1.7.28"},
        {"Name": "runc", "Version": "1.3.0"},
        {"Name": "docker-init", "Version": "0.19.0"},
    ],
}


def test_an_engine_tells_its_parts() -> None:
    assert versions_in(ANSWER) == {
        "dockerVersion": "28.5.1",
        "containerdVersion": "v1.7.28",
        "runcVersion": "1.3.0",
    }


@pytest.mark.parametrize("answer", [None, {}, {"Components": None}, {"Components": [1, {}, {"Name": "runc"}]}, "x"])
def test_one_that_tells_nothing_is_none_the_worse(answer: object) -> None:
    assert versions_in(answer) == {}


def test_what_has_known_holes_is_named_with_the_version_that_has_not() -> None:
    assert [text.partition(":")[0] for text in warnings(versions_in(ANSWER))] == [
        "containerd v1.7.28 has known ways out of containers, which 1.7.29 has not",
        "runc 1.3.0 has known ways out of containers, which 1.3.3 has not",
    ]


@pytest.mark.parametrize(
    ("name", "old", "good"),
    [
        (
            "docker",
            ["19.03.12", "20.10.24+dfsg1", "25.0.2", "26.1.4", "27.1.0"],
            ["26.1.5", "27.1.1", "27.2", "29.0.0-rc.1"],
        ),
        ("containerd", ["1.4.13~ds1", "1.7.28", "v2.0.6", "2.1.4"], ["1.7.29", "v2.0.7", "2.1.5", "2.2.0", "3.0"]),
        ("runc", ["1.0.0-rc95", "1.1.12", "1.2.7", "1.3.2"], ["1.2.8", "1.3.3", "1.4.0", "2.0.0", "", "unknown"]),
    ],
)
def test_what_is_old(name: str, old: list[str], good: list[str]) -> None:
    for version in old:
        assert list(warnings({ATTRIBUTES[name]: version})) != [], version
    for version in good:
        assert list(warnings({ATTRIBUTES[name]: version})) == [], version
