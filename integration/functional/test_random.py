"""Random calls of root and two users in a mount with the server's numbers, and in a directory of this machine.

`integration.test_mount_posix` makes the same calls in a mount of a file system in memory; here the server takes part.
"""

import random

import pytest

from integration.functional.places import Both
from integration.test_mount_posix import STEPS, TEAM, UMASKS, USERS, a_call, acting_as, outcome, seen

SEEN_EVERY = 10


@pytest.mark.parametrize("seed", [101, 102])
def test_it_does_what_a_local_directory_does(numeric: Both, seed: int) -> None:
    chance = random.Random(seed)
    numeric.do(lambda root: root.chmod(0o777))
    for step in range(STEPS):
        user, umask = chance.choice(USERS), chance.choice(UMASKS)
        groups = [TEAM] if chance.random() < 0.5 else []
        words, call = a_call(chance)
        found = []
        for root in (numeric.mount, numeric.plain):
            with acting_as(user, groups, umask):
                found.append(outcome(call, root))
        assert (step, words, user, groups, found[0]) == (step, words, user, groups, found[1])
        if step % SEEN_EVERY == 0:
            assert (step, words, seen(numeric.mount)) == (step, words, seen(numeric.plain))
