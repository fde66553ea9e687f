"""The judge over launches: images by their full names, the most that a task gets, and the words of a refusal."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.node.policy import Policy, capped, judge
from jobd.node.runtime import Launch

LAUNCH = Launch("17.1.0.0", ("true",), {}, "/", "h", image="python:3.11", cpus=2.0, memory_bytes=4 << 30)
GIB = 1 << 30


def said(policy: Policy, **changes: object) -> str:
    return judge(policy, replace(LAUNCH, **changes), "n0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(), True),
        (Policy(images=("python",)), True),
        (Policy(registries=("docker.io",)), True),
        (Policy(images=("python:3.11",)), False),
    ],
)
def test_a_digest_counts_only_where_all_of_an_image_are_allowed(policy: Policy, kept: bool) -> None:
    pinned = f"python@sha256:{'a' * 64}"
    assert capped(policy, replace(LAUNCH, pinned=pinned), GIB).pinned == (pinned if kept else None)


def test_without_a_policy_everything_goes_as_it_came() -> None:
    assert said(Policy()) == ""
    # but for a disk that somebody would fill
    assert capped(Policy(), LAUNCH, GIB) == replace(LAUNCH, disk_bytes=100 * GIB)
    assert capped(Policy(disk_bytes=GIB), LAUNCH, GIB).disk_bytes == GIB


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("python", "python:3.11"),
        ("python", "python@sha256:aa"),
        ("python:3.*", "docker.io/library/python:3.11"),
        ("docker.io/*", "team/x"),
        ("registry.example.org/team/*", "registry.example.org/team/a/b:1"),
        ("*.example.org/x", "eu.example.org/x"),
        ("*", "reg:5000/x"),
        ("x@sha256:aa", "x:1@sha256:aa"),
    ],
)
def test_a_pattern_allows(pattern: str, image: str) -> None:
    assert said(Policy(images=(pattern,)), image=image) == ""


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("python", "evil.org/python"),
        ("python", "evil.org/library/python"),
        ("python:3.11", "python:3.12"),
        ("python:3.11", "python"),
        # a digest counts, and the tag before it does not
        ("python:3.11", "python:3.11@sha256:aa"),
        ("x@sha256:aa", "x@sha256:bb"),
        ("x@sha256:aa", "x:1"),
        ("registry.example.org/team/*", "registry.example.org/team2/x"),
        ("registry.example.org/team/*", "registry.example.org.evil.org/team/x"),
        ("*.example.org/x", "evil.org/a.example.org/x"),
        ("pytho?", "python"),
        ("pytho[n]", "python"),
    ],
)
def test_a_pattern_does_not_allow(pattern: str, image: str) -> None:
    assert said(Policy(images=(pattern,)), image=image) != ""


def test_a_registry_allows_all_that_comes_from_it() -> None:
    policy = Policy(registries=("registry.example.org", "*.corp"), images=("python:3.11",))
    for image in ("registry.example.org/a/b", "eu.corp/x", "python:3.11"):
        assert said(policy, image=image) == ""
    assert said(policy, image="registry.example.org.evil/x")


def test_a_refusal_says_what_is_allowed() -> None:
    policy = Policy(images=("registry.example.org/team/*",), registries=("quay.io",))
    allowed = "allowed: quay.io/*, registry.example.org/team/*"
    assert said(policy) == f"the policy of node n0 allows no image from docker.io; {allowed}"
    assert said(policy, image="registry.example.org/x") == (
        f"the policy of node n0 does not allow the image registry.example.org/x:latest; {allowed}"
    )
    assert said(Policy(images=())).endswith("allows no image from docker.io; allowed: none")
    assert said(Policy(images=tuple(f"a{i}" for i in range(9))), image="x").endswith("library/a4, …")


def test_jobs_without_an_image_can_be_kept_out() -> None:
    assert said(Policy(images=()), image=None) == ""
    assert said(Policy(sandbox=False), image=None) == "the policy of node n0 lets no job run without an image; name one"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(cpus=1.5), "gives a process at most 1.5 CPUs, and this one asks for 2"),
        (Policy(memory_bytes=GIB), "gives a process at most 1GiB of memory, and this one asks for 4GiB"),
        (Policy(shm_bytes=GIB), "gives a process at most 1GiB of shared memory, and this one asks for 2GiB"),
    ],
)
def test_more_than_the_most_is_refused(policy: Policy, words: str) -> None:
    assert said(policy, shm_bytes=2 * GIB) == f"the policy of node n0 {words}"


def test_the_most_itself_is_allowed() -> None:
    assert said(Policy(cpus=2.0, memory_bytes=4 * GIB, shm_bytes=GIB), shm_bytes=GIB) == ""


def test_who_asks_for_nothing_gets_the_most() -> None:
    policy = Policy(cpus=8.0, memory_bytes=GIB, shm_bytes=GIB // 2, processes=100)
    plain = replace(LAUNCH, cpus=None, memory_bytes=None)
    found = capped(policy, plain, GIB)
    assert (found.cpus, found.memory_bytes, found.shm_bytes, found.processes) == (8.0, GIB, GIB // 2, 100)
    assert capped(replace(policy, shm_bytes=4 * GIB), plain, GIB).shm_bytes == GIB
    assert capped(policy, replace(plain, cpus=1.0, processes=7), GIB).cpus == 1.0
    assert capped(policy, replace(plain, processes=7), GIB).processes == 7


def test_the_engine_is_told_the_name_that_was_judged() -> None:
    # the engine would take this one for the beginning of an image's id
    assert (
        capped(Policy(registries=("*",)), replace(LAUNCH, image="cafe"), GIB).image == "docker.io/library/cafe:latest"
    )
    assert capped(Policy(), replace(LAUNCH, image="cafe"), GIB).image == "cafe"


_LIMITS = st.none() | st.integers(1, 8)


@given(_LIMITS, _LIMITS, _LIMITS, _LIMITS, _LIMITS, _LIMITS)
def test_no_task_gets_more_than_the_policy_says(
    cpus: int | None,
    memory: int | None,
    shm: int | None,
    of_cpus: int | None,
    of_memory: int | None,
    of_shm: int | None,
) -> None:
    policy = Policy(cpus=cpus, memory_bytes=memory, shm_bytes=shm)
    launch = replace(LAUNCH, cpus=of_cpus, memory_bytes=of_memory, shm_bytes=of_shm)
    if judge(policy, launch, "n0"):
        return
    found = capped(policy, launch, 3)
    for most, got in ((cpus, found.cpus), (memory, found.memory_bytes), (shm, found.shm_bytes)):
        assert most is None or (got is not None and got <= most)
