"""The wall: put up where it does not stand, and never taken for standing where it does not."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.node import nftables, wall

WORDS = "containers of pfs jobs reach no other container"


class Kernel:
    """One that keeps rules, unless it refuses or forgets them."""

    def __init__(self) -> None:
        self.rules: list[str] = []
        self.refuses = 0
        self.forgets = False
        self.told = 0

    def ask(self, question: bytes) -> list[str]:
        if self.refuses:
            raise OSError(self.refuses, "no")
        if question == nftables.rules_of(wall.TABLE, wall.CHAIN):
            return self.rules
        self.told += 1
        # whoever sends to one behind the wall is kept out, and not only its answers in
        for place in (0, 6):
            assert nftables.drop_where(place, bytes.fromhex("027066"), WORDS) in question
        if not self.forgets:
            self.rules = [WORDS] * 2
        return []


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(wall, "_ask", lambda _, question: made.ask(question))
    monkeypatch.setattr(wall, "_SETTINGS", tmp_path)
    (tmp_path / "docker0").mkdir()
    (tmp_path / "docker0/proxy_arp_pvlan").write_text("0\n")
    return made


def test_it_is_put_up_once_and_again_when_any_of_it_is_gone(kernel: Kernel) -> None:
    assert wall.hold("docker0")
    assert not wall.hold("docker0")
    for left in ([], kernel.rules[:1], [*kernel.rules, "of somebody else"]):
        kernel.rules = left
        assert wall.hold("docker0")
        assert len(kernel.rules) == 2
    assert kernel.told == 4


def test_where_it_does_not_stand_afterwards_it_is_none(kernel: Kernel) -> None:
    kernel.forgets = True
    with pytest.raises(OSError, match="not supported"):
        wall.hold("docker0")
    kernel.refuses = errno.EPERM
    with pytest.raises(PermissionError):
        wall.hold("docker0")


def test_there_is_none_where_the_machine_leads_round_it(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "docker0/proxy_arp_pvlan").write_text("1\n")
    with pytest.raises(OSError, match="passes on what comes by docker0"):
        wall.hold("docker0")
    with pytest.raises(FileNotFoundError):
        wall.hold("docker1")
    assert kernel.told == 0


@given(st.lists(st.text(), max_size=20), st.text())
def test_addresses_are_behind_the_wall_and_nobody_has_two(tasks: list[str], task: str) -> None:
    taken: set[str] = set()
    for name in tasks:
        found = wall.address(name, taken)
        assert found not in taken
        taken.add(found)
    assert all(len(found) == 17 and found.startswith("02:70:66:") for found in taken)
    first = wall.address(task, ())
    assert wall.address(task, {first}) != first
    assert wall.address(task, ()) == first


def test_after_the_last_address_comes_the_first() -> None:
    last = wall.address("50251391", ())
    assert last == "02:70:66:ff:ff:ff"
    assert wall.address("50251391", {last}) == "02:70:66:00:00:00"
