"""What holders have is what their jobs have, in whatever order they were told of; plans are in scripts/scheduler."""

from hypothesis import given
from hypothesis import strategies as st

from jobd.scheduling.quotas import JobLimits, JobUse, Quotas
from pfs.quota import GROUP

USERS, GROUPS = ("ann", "bob", "eve"), ("ml", "nlp")

uses = st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, 3)), max_size=8)
members = st.dictionaries(st.sampled_from(USERS), st.sets(st.sampled_from(GROUPS)).map(frozenset))


@given(uses, members, uses, members)
def test_a_group_has_what_its_members_have_whoever_they_are_now(
    first: list[tuple[str, int]],
    before: dict[str, frozenset[str]],
    second: list[tuple[str, int]],
    now: dict[str, frozenset[str]],
) -> None:
    quotas = Quotas()
    quotas.set({GROUP + "ml": JobLimits(gpus=1)}, before)
    for user, gpus in first:
        quotas.add(user, JobUse(1, gpus))
    quotas.set({}, now)
    for user, gpus in second:
        quotas.add(user, JobUse(1, gpus))
    for user, gpus in first[:3]:
        quotas.add(user, JobUse(1, gpus).less())
    left = first[3:] + second
    for user in USERS:
        mine = [gpus for each, gpus in left if each == user]
        assert quotas.used(user) == JobUse(len(mine), sum(mine))
    for group in GROUPS:
        theirs = [gpus for each, gpus in left if group in now.get(each, ())]
        assert quotas.used(GROUP + group) == JobUse(len(theirs), sum(theirs))


def test_who_waits_for_a_limit_is_asked_again_when_something_ends_that_counts_for_it() -> None:
    quotas = Quotas()
    teams = {"ann": frozenset({"ml"}), "bob": frozenset({"ml"}), "eve": frozenset({"nlp"}), "dan": frozenset({"nlp"})}
    quotas.set({GROUP + "ml": JobLimits(running=1), "eve": JobLimits(gpus=1)}, teams)
    assert {user: set(quotas.fellows(user)) for user in ("ann", "eve", "dan")} == {
        "ann": {"ann", "bob"},
        "eve": {"eve"},
        "dan": {"dan"},
    }
