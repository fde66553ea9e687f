"""Rules for images, as a node tells them and a server hears them; what a pattern covers is in `node/test_policy`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.imagerules import ImageRules, heard, told

patterns = st.none() | st.lists(st.text("ab*.:/@?[-", min_size=1), max_size=3).map(tuple)


@given(patterns, patterns)
def test_what_is_told_is_heard(images: tuple[str, ...] | None, registries: tuple[str, ...] | None) -> None:
    rules = ImageRules(images, registries)
    assert heard(told(rules)) == rules


def test_a_node_that_tells_nothing_forbids_nothing() -> None:
    assert heard({"cpuCount": 4}) == ImageRules()
    assert told(ImageRules()) == {}
    assert ImageRules().allow("anything/at:all")


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        (ImageRules(images=()), "none"),
        (ImageRules(("python:3.11",), ("r.example.org",)), "r.example.org/*, docker.io/library/python:3.11"),
        (ImageRules(registries=tuple("abcdef")), "a/*, b/*, c/*, d/*, e/*, …"),
    ],
)
def test_what_is_allowed_is_said_in_full_names(rules: ImageRules, allowed: str) -> None:
    assert rules.allowed == allowed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("r.example.org/x", True), ("python:3.11", True), ("python:3.12", False), ("r.example.com/x", False)],
)
def test_what_one_of_both_allows_is_allowed(name: str, allowed: bool) -> None:
    assert ImageRules(("python:3.11",), ("r.example.org",)).allow(name) is allowed
