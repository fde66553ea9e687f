"""Single values of a spec: names; what the readers make of the rest is pinned in scripts/spec."""

import pytest

from jobd.spec.values import name_problem


@pytest.mark.parametrize("name", ["a", "A", "0a", "a.b_c-d", "x" * 63, "by", "byte-1"])
def test_names(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["", "17", "by-state", "-a", ".a", "_a", "a b", "a/b", "x" * 64, "é", "a\n"])
def test_refused_names(name: str) -> None:
    assert name_problem(name)
