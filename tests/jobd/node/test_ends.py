"""How a task ended is said in words that are true."""

import pytest

from jobd.node.ends import exit_of
from jobd.node.runtime import Exit


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, ""),
        (1, ""),
        (126, "a program could not be executed"),
        (127, "a program was not found"),
        (128, ""),
        (129, ""),  # also what git says when it is not understood
        (134, "killed by SIGABRT"),
        (137, "killed by SIGKILL"),
        (139, "killed by SIGSEGV"),
        (143, "killed by SIGTERM"),
        (255, ""),
    ],
)
def test_a_code_is_put_in_words(code: int, reason: str) -> None:
    assert exit_of(code) == Exit(code, reason)


def test_what_is_known_besides_counts_more() -> None:
    assert exit_of(127, "no such directory") == Exit(127, "no such directory")
    assert exit_of(137, out_of_memory=True) == Exit(137, "killed: out of memory")
    assert exit_of(1, out_of_memory=True) == Exit(1, "killed: out of memory")


def test_who_did_without_a_child_that_was_killed_ended_well() -> None:
    assert exit_of(0, out_of_memory=True) == Exit(0)
