"""The names of images, as engines read them."""

import pytest

from jobd.imagename import image_of, registry_of


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.11", "docker.io/library/python:3.11"),
        ("team/x", "docker.io/team/x:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/team/x:1", "docker.io/team/x:1"),
        ("localhost/x", "localhost/x:latest"),
        ("reg:5000/x:1", "reg:5000/x:1"),
        ("Registry.example.org/a/b", "registry.example.org/a/b:latest"),
        ("x:1@sha256:aa", "docker.io/library/x@sha256:aa"),
    ],
)
def test_an_image_is_known_by_what_the_engine_understands(name: str, full: str) -> None:
    assert str(image_of(name)) == full


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("http://Registry.example.org:5000", "registry.example.org:5000"),
        ("registry.example.org/team", "registry.example.org"),
    ],
)
def test_a_registry_is_known_by_its_host(address: str, name: str) -> None:
    assert registry_of(address) == name
